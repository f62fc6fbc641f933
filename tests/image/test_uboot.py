"""U-Boot alone in QEMU, on a medium whose slots hold nothing that starts: it never needs the partition table, never
turns at full speed, and writes to the medium a bounded number of times.

Its clock runs faster than ours: each instruction counts for a microsecond (`-icount`), and a pause of ten minutes is
over after some seconds.
"""

import dataclasses
import re
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.image.board import load_board
from deploy.image.boot import build_uboot, device_tree, join_trust, trust
from deploy.image.disk import ENV_BYTES, ENV_OFFSETS, GROUP, fw_env_config, make_disk
from deploy.image.qemu import Machine
from deploy.image.signing import make_test_keys
from tests.harness.waiting import wait_for
from tests.image.bare_board import CACHE
from tests.image.console import Console
from tests.image.harm import write_random

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with U-Boot, its device tree, and a medium."""
    out = tmp_path_factory.mktemp("built")
    board = load_board("qemu-virt-armhf")
    uboot = build_uboot(board, CACHE)
    control = device_tree(board, out, out / "control.dtb")
    trust(control, make_test_keys(out / "keys"))
    join_trust(board, uboot, control, out)
    nothing = out / "nothing"
    nothing.write_bytes(b"\xd0\x0d\xfe\xed" + bytes(4092))  # the magic of a FIT, and no FIT
    make_disk(board, nothing, nothing, out, out / "disk.img")
    return out


class Loader:
    """A board that never comes further than U-Boot."""

    def __init__(self, built: Path, folder: Path) -> None:
        self.folder = folder
        self.machine = dataclasses.replace(Machine(load_board("qemu-virt-armhf"), built, folder))
        self.machine.make()
        self.console = Console(folder / "console.sock", folder / "console.log")
        self._qemu: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        mark = self.console.mark()
        words = self.machine.command(f"socket,path={self.console.path}")
        with (self.folder / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen([*words, "-icount", "shift=10,sleep=off"], stdout=log, stderr=log)
        return mark

    def stop(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def wait_pauses(self, mark: int, count: int) -> list[str]:
        """Wait until so many pauses have begun; what was tried and waited for, in order."""

        def told() -> list[str]:
            return re.findall(r"^(slot \w|no slot left to try|again in \d+ s)", self.console.since(mark), re.MULTILINE)

        wait_for("pauses", lambda: sum(word.startswith("again") for word in told()) >= count, 240, 0.2)
        return told()

    def environment(self) -> dict[str, str]:
        """The newer copy of those that are whole."""
        copies = []
        with self.machine.disk.open("rb") as disk:
            for offset in ENV_OFFSETS:
                disk.seek(offset)
                copies.append(disk.read(ENV_BYTES))
        whole = [copy for copy in copies if zlib.crc32(copy[5:]) == int.from_bytes(copy[:4], "little")]
        newest = max(whole, key=lambda copy: copy[4])
        lines = newest[5:].split(b"\0\0")[0].split(b"\0")
        return dict(line.decode().split("=", 1) for line in lines)


@pytest.fixture
def loader(built: Path, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(built, tmp_path)
    yield loader
    loader.stop()
    loader.console.close()


def test_what_never_starts_is_tried_ever_more_rarely(loader: Loader) -> None:
    told = loader.wait_pauses(loader.start(), 13)
    first = [*["slot A", "again in 1 s"] * 3, *["slot B", "again in 1 s"] * 3]
    assert told[:12] == first
    rounds = [(told[at + 1], told[at + 2 : at + 6]) for at, word in enumerate(told) if word == "no slot left to try"]
    assert [pause for pause, _ in rounds] == ["again in 10 s", "again in 60 s", "again in 600 s"]
    assert rounds[0][1] == ["slot A", "again in 1 s", "slot B", "again in 1 s"]
    # A round writes three times, and takes ten minutes: 432 times a day.
    assert loader.environment()["BOOT_ROUND"] == "3"


def test_a_slot_that_was_good_again_begins_anew(loader: Loader) -> None:
    seal(loader, BOOT_ORDER="A B", BOOT_A_LEFT="3", BOOT_B_LEFT="0", BOOT_ROUND="3")
    loader.wait_pauses(loader.start(), 1)
    assert loader.environment()["BOOT_ROUND"] == "0"


@pytest.mark.parametrize("sector", [0, 1])
def test_no_partition_table_is_needed(loader: Loader, sector: int) -> None:
    with loader.machine.disk.open("r+b") as disk:
        disk.seek(sector * 512)
        disk.write(bytes(512))
    mark = loader.start()
    assert loader.wait_pauses(mark, 1)[0] == "slot A"
    assert "MMC read: dev # 0, block # 24576, count 8 ... 8 blocks read: OK" in loader.console.since(mark)


def test_a_card_has_its_turn_when_no_slot_is_left(loader: Loader) -> None:
    """Its partition table is of no more account than the disk's."""
    card = loader.folder / "card.img"
    with card.open("wb") as file:
        file.truncate(loader.machine.disk.stat().st_size)
    loader.machine = dataclasses.replace(loader.machine, card=card)
    seal(loader, BOOT_ORDER="A B", BOOT_A_LEFT="0", BOOT_B_LEFT="0", BOOT_ROUND="0")
    mark = loader.start()
    assert loader.wait_pauses(mark, 1) == ["no slot left to try", "slot A", "again in 10 s"]
    said = loader.console.since(mark)
    assert "the card in mmc 1" in said and "MMC read: dev # 1, block # 24576, count 8 ... 8 blocks read: OK" in said


@pytest.mark.parametrize("unit", [0, *(offset // GROUP for offset in ENV_OFFSETS)])
def test_an_erase_unit_that_is_lost_takes_no_counter_with_it(loader: Loader, unit: int) -> None:
    """Power goes in the middle of a write, and with it all that shares the flash's unit: the table, or one copy."""
    seal(loader, BOOT_ORDER="B A", BOOT_A_LEFT="3", BOOT_B_LEFT="2", BOOT_ROUND="1", HUB_INDEX="7")
    write_random(loader.machine.disk, unit * GROUP, GROUP)
    told = loader.wait_pauses(loader.start(), 3)
    assert told[:6] == ["slot B", "again in 1 s", "slot B", "again in 1 s", "slot A", "again in 1 s"]
    assert loader.environment()["HUB_INDEX"] == "7", "an older release would start again"


def test_what_comes_from_the_medium_is_no_program(loader: Loader) -> None:
    seal(loader, BOOT_ORDER="A;echo owned; B", BOOT_A_LEFT="1;echo owned", BOOT_B_LEFT="1", BOOT_ROUND="-9",
         HUB_INDEX="0 init=/bin/sh", pause="0", kernel_A="0", bootcmd="echo owned")  # fmt: skip
    mark = loader.start()
    loader.wait_pauses(mark, 3)
    assert not re.search(r"^owned", loader.console.since(mark), re.MULTILINE)
    kept = loader.environment()
    assert kept["HUB_INDEX"] == "0" and kept["kernel_A"] == "6000" and kept["pause"] == "1"


def test_what_a_good_slot_has_reached_is_raised_and_never_lowered(loader: Loader) -> None:
    """The unit's script with the real fw_setenv; U-Boot keeps what it wrote."""
    config, facts = loader.folder / "fw_env.config", loader.folder / "board"
    config.write_text(fw_env_config(str(loader.machine.disk)))
    script = Path(__file__).resolve().parents[2] / "deploy/systemd/raise-index"
    for index, wanted in ((0, "0"), (3, "3"), (2, "3")):
        facts.write_text(f"slot=A\nimage=1.0.0\nindex={index}\n")
        subprocess.run([script, facts, config], check=True)
        assert loader.environment()["HUB_INDEX"] == wanted
    loader.wait_pauses(loader.start(), 2)
    assert loader.environment()["HUB_INDEX"] == "3"


def seal(loader: Loader, **variables: str) -> None:
    """Write both copies of the environment, as whoever holds the board can."""
    text = loader.folder / "env.txt"
    text.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    made = loader.folder / "env.bin"
    subprocess.run(["mkenvimage", "-r", "-s", str(ENV_BYTES), "-o", made, text], check=True)
    with loader.machine.disk.open("r+b") as disk:
        for offset in ENV_OFFSETS:
            disk.seek(offset)
            disk.write(made.read_bytes())
