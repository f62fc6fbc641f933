"""P1 and P2 against sudden death: nothing acknowledged is lost, nothing doubled, numbers stay gap-free."""

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hub.wire.uplink.pack import decode_pack
from tests.store.helpers import WAIT_S, every, payload_of, seal_all, started

# Takes samples first..., says which were acknowledged, seals and sends in between.
CHILD = """
import sys
from pathlib import Path
from tests.store.helpers import Answers, batch, sample, started
store = started(Path(sys.argv[1]), group_window_s=0.001)
first = int(sys.argv[2])
def done(number, error):
    if error is None:
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
print("ready", flush=True)
for number in range(first, first + 100_000):
    store.commit(batch(number, sample(value=number), seen=1), done)
    if number % 7 == 0:
        pack = store.seal_pack(5).result()
        if pack is not None and number % 2:
            store.delivered("readings", pack.epoch, pack.number)
    if number % 13 == 0:
        store.append("receipts", 61, b"%d" % number).result()
"""


def life_and_death(data_dir: Path, first: int, lines: int) -> list[int]:
    """Run a hub until it has acknowledged so many samples, then kill it; what it acknowledged."""
    command = [sys.executable, "-c", CHILD, str(data_dir), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.readlines()
    # The last line may be cut off: then it was not heard.
    return [int(line) for line in said if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(10))
def test_kill(tmp_path: Path, seed: int) -> None:
    data_dir, chance = tmp_path / "data", random.Random(seed)
    acknowledged: list[int] = []
    for life in range(2):
        acknowledged += life_and_death(data_dir, life * 1_000_000, chance.randrange(1, 400))
    store = started(data_dir)
    assert store.epoch == 1 and store.status()["salvaged"] == 0
    seal_all(store)
    packs, receipts = every(store, "readings"), every(store, "receipts")
    store.close(WAIT_S)
    assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))
    assert [receipt.number for receipt in receipts] == list(range(1, len(receipts) + 1))
    taken = Counter(reading.mantissa for pack in packs for reading in decode_pack(payload_of(pack)))
    assert set(taken.values()) == {1}
    assert set(acknowledged) <= set(taken)
    assert list(taken) == sorted(taken)
