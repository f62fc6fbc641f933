"""P9: whatever bytes of the files are damaged, the hub opens, takes, seals and answers."""

import os
import random
from pathlib import Path

import pytest

from hub.core import records as r
from hub.wire.uplink.pack import decode_pack
from tests.store.helpers import WAIT_S, batch, commit, payload_of, power_cut, sample, seal_all, started, take
from tests.store.home import Home
from tests.store.test_custody import SESSION
from tests.store.test_salvage import overwrite


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a hub that lost its power with something in each table, in the WAL, and rows of both forms."""
    data_dir = tmp_path_factory.mktemp("victim") / "data"
    home = Home([1000.0])
    store = started(data_dir, monotonic=home.monotonic)
    home.report(store, 5000, 20)
    store.close()
    store = started(data_dir)
    assert commit(store, batch(0, changes=[SESSION, r.RetainedSet("price", b"{}", 1)])) is None
    take(store, *range(1, 200))
    seal_all(store, 30)
    store.delivered("readings", 1, 1).result(WAIT_S)
    store.close()
    store = started(data_dir)
    take(store, *range(200, 260))
    cut = power_cut(data_dir, data_dir.parent / "cut")
    store.close()
    return cut


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_keeps_the_hub_from_working(victim: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data_dir = power_cut(victim, tmp_path / "data")
    for _ in range(chance.choice((1, 3, 20))):
        path = data_dir / chance.choice(("hub.db", "hub.db", "hub.db-wal", "epoch"))
        size = path.stat().st_size
        if chance.random() < 0.2:
            os.truncate(path, chance.randrange(size + 1))
        else:
            overwrite(path, chance.randrange(size + 1), chance.randbytes(chance.choice((1, 1, 64, 4096))))
    store = started(data_dir)
    assert commit(store, batch(1, sample(value=424242), seen=1)) is None
    seal_all(store)
    sent = store.unsent("readings", 0, 0, 1000).result(WAIT_S)
    assert 424242 in [reading.mantissa for pack in sent for reading in decode_pack(payload_of(pack))]
    found = store.readings(limit=1 << 20).result(WAIT_S)
    assert 424242 in [reading.mantissa for reading in found]
    store.close()
    again = started(data_dir)
    assert again.status()["salvaged"] == 0
    assert again.append("receipts", 61, b"").result(WAIT_S).epoch == again.epoch
    again.close()
