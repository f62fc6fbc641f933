"""What a medium does in fifteen years, to the initramfs (deploy/image/initramfs/data.sh): no read error wipes a hub,
none makes a board start for ever. Each test is one board or a copy of one; a start takes ten seconds.
"""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.image.disk import MIB, find_partition
from deploy.image.drop import COPY_OFFSET, DATA_OFFSET, DROP_OFFSET
from deploy.image.shell import run
from tests.harness.waiting import wait_for
from tests.image.bare_board import SECTOR, BareBoard, BareParts, make_parts

pytestmark = pytest.mark.slow

HEADER = b"METERHUB-DATA-1 crypt "
PLACES = (0, COPY_OFFSET)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BareParts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def lived(parts: BareParts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a board that has had its first boot and was switched off in good order."""
    folder = tmp_path_factory.mktemp("lived")
    board = BareBoard(folder, parts)
    board.provision()
    said = board.start()
    assert "the factory's drop is taken" in said or board.facts()["data"] == "partition"
    board.console.ask("echo a reading >/data/meterhub/hub.db; echo 'epoch 7 closed' >/data/meterhub/epoch")
    board.stop()
    board.close()
    return folder


@pytest.fixture
def board(parts: BareParts, lived: Path, tmp_path: Path) -> Iterator[BareBoard]:
    """A board like that one."""
    board = BareBoard(tmp_path, parts)
    for name in ("disk.img", "fuses.img"):
        shutil.copy(lived / name, tmp_path / name)
    yield board
    board.close()


def digest(board: BareBoard) -> str:
    """Of the whole data partition."""
    with board.disk.open("rb") as file:
        file.seek(board.data_at)
        return hashlib.file_digest(file, "sha256").hexdigest()


def assert_is_the_hub_of_before(board: BareBoard) -> None:
    assert board.facts()["data"] == "partition"
    assert board.console.ask("cat /data/meterhub/hub.db") == "a reading"


def assert_from_memory(board: BareBoard, why: str, *, is_known: bool) -> None:
    """The home is served; of the partition nothing was changed."""
    facts = board.facts()
    assert facts["data"] == "memory" and why in facts["data_why"], facts
    assert " /data tmpfs " in board.console.ask("cat /proc/mounts")
    says = "broker.example" if is_known else "nameless, radio /dev/ttyS0"
    assert says in board.console.ask("cat /etc/meterhub/hub.toml")
    # Numbers may be given once: neither the store nor what it remembers of epochs is in memory.
    assert board.console.ask("ls /data/meterhub") == ("network" if is_known else "")


def test_a_first_boot_leaves_two_headers_and_no_drop(lived: Path, parts: BareParts) -> None:
    at = find_partition(parts.board.disk["size_mb"], "data").start
    with (lived / "disk.img").open("rb") as file:
        file.seek(at)
        front = file.read(DATA_OFFSET)
    headers = {front[place : place + 4096] for place in PLACES}
    assert len(headers) == 1 and headers.pop().startswith(HEADER)
    assert not any(front[4096:COPY_OFFSET]), "the drop is erased"


def test_a_blank_partition_without_a_drop_is_no_first_boot(parts: BareParts, tmp_path: Path) -> None:
    board = BareBoard(tmp_path, parts)
    try:
        before = digest(board)
        board.start()
        assert_from_memory(board, "no drop of the factory", is_known=False)
        board.power_off()
        assert digest(board) == before
    finally:
        board.close()


def test_a_drop_that_is_damaged_makes_nothing(parts: BareParts, tmp_path: Path) -> None:
    board = BareBoard(tmp_path, parts)
    try:
        board.provision()
        board.write(DROP_OFFSET + 4096, b"\xff" * 64)
        before = digest(board)
        board.start()
        assert_from_memory(board, "drop is damaged", is_known=False)
        board.power_off()
        assert digest(board) == before
    finally:
        board.close()


@pytest.mark.parametrize("harm", ["once", "for good", "foreign", "zero", "one bit"])
def test_a_header_that_does_not_read_is_had_from_its_copy(board: BareBoard, harm: str) -> None:
    salted = board.read(0, 4096)
    if harm == "once":
        board.bad_once = list(board.sectors(0, 8))
    elif harm == "for good":
        board.bad = list(board.sectors(0, 8))
    else:
        changed = bytearray(salted)
        changed[30] ^= 1
        board.write(0, {"foreign": b"\xa5" * 4096, "zero": bytes(4096), "one bit": bytes(changed)}[harm])
    board.start()
    assert_is_the_hub_of_before(board)
    board.stop()
    assert board.read(0, 4096) == salted, "what was wrong is mended"


def test_a_board_of_before_gets_its_copy(board: BareBoard) -> None:
    text = board.read(0, 4096).split(b"\n")[0].rsplit(b" ", 1)[0] + b" \n"
    board.write(0, text.ljust(4096, b"\0"))
    board.write(COPY_OFFSET, bytes(4096))
    board.start()
    assert_is_the_hub_of_before(board)
    board.stop()
    assert board.read(COPY_OFFSET, 22) == HEADER


@pytest.mark.parametrize("harm", ["unreadable", "foreign", "zero and unreadable"])
def test_without_any_header_the_home_is_served_and_nothing_is_made_anew(board: BareBoard, harm: str) -> None:
    for place in PLACES:
        if harm == "foreign":
            board.write(place, b"another system's\n".ljust(4096, b"\xa5"))
        elif place == 0 and harm == "zero and unreadable":
            board.write(place, bytes(4096))
        else:
            board.bad += board.sectors(place, 8)
    before = digest(board)
    said = board.start()
    assert "the home is served from memory" in said
    assert_from_memory(board, "its header is", is_known=False)
    board.power_off()
    assert digest(board) == before
    board.bad = []
    if harm == "unreadable":  # what was only the bus, or the cold, is over
        board.start()
        assert_is_the_hub_of_before(board)


@pytest.mark.parametrize("sector", [1, 2])
def test_a_partition_table_with_a_bad_block_is_written_anew(board: BareBoard, sector: int) -> None:
    table = _blank(board, sector)
    board.start()
    assert_is_the_hub_of_before(board)
    board.stop()
    with board.disk.open("rb") as file:
        assert file.read(len(table)) == table


def test_no_master_boot_record_is_needed(board: BareBoard) -> None:
    _blank(board, 0)
    board.start()
    assert_is_the_hub_of_before(board)


def _blank(board: BareBoard, sector: int) -> bytes:
    """Zero one sector of the table; what the whole table was."""
    with board.disk.open("r+b") as file:
        table = file.read(34 * SECTOR)
        file.seek(sector * SECTOR)
        file.write(bytes(SECTOR))
    return table


def test_a_medium_that_was_grown_is_found_by_the_tables_copy(parts: BareParts, tmp_path: Path) -> None:
    """Its data partition is longer than the table that the initramfs would write says."""
    board = BareBoard(tmp_path, parts)
    try:
        run(["truncate", "-s", "1G", board.disk])
        run(["sfdisk", "--quiet", "--relocate", "gpt-bak-std", board.disk])
        run(["sfdisk", "--quiet", "-N", "5", board.disk], stdin=b",+\n")
        board.provision()
        board.start()
        size = int(board.console.ask("cat /sys/class/block/nvme0n1p5/size"))
        assert size * SECTOR > 512 * MIB
        board.stop()
        with board.disk.open("r+b") as file:
            file.write(bytes(2 * SECTOR))
        board.start()
        assert int(board.console.ask("cat /sys/class/block/nvme0n1p5/size")) == size
        assert board.facts()["data"] == "partition"
    finally:
        board.close()


def test_a_medium_that_nobody_may_write_still_says_who_the_hub_is(board: BareBoard) -> None:
    board.is_read_only = True
    board.start()
    assert_from_memory(board, "its file system cannot be mended", is_known=True)


def test_a_bad_block_in_the_file_system_is_found_and_left_out(board: BareBoard) -> None:
    """The first mount that meets it ends in a panic, the second as well; then every block is read, the rest used."""
    at = _inode_table(board)
    board.bad = list(board.sectors(DATA_OFFSET + at + 4096, 8))
    assert _starts_until_it_lives(board) <= 3
    assert "broker.example" in board.console.ask("cat /etc/meterhub/hub.toml") or board.facts()["data"] == "memory"


def test_blocks_that_cannot_be_written_do_not_make_a_board_start_for_ever(board: BareBoard) -> None:
    size = board.parts.board.disk["size_mb"] * MIB - board.data_at - DATA_OFFSET
    board.unwritable = [next(iter(board.sectors(DATA_OFFSET + at, 1))) for at in range(4096, size - MIB, MIB // 2)]
    assert _starts_until_it_lives(board) <= 3


def _inode_table(board: BareBoard) -> int:
    """Where group 0's inode table begins, in bytes (bg_inode_table_lo of the first descriptor, block 1)."""
    board.start()
    said = board.console.ask("dd if=/dev/mapper/data bs=1 skip=4104 count=4 2>/dev/null | xxd -p")
    board.stop()
    return 4096 * int.from_bytes(bytes.fromhex(said), "little")


_EVERYTHING = "find /data -type f -exec cat {} + >/dev/null; for i in 1 2 3; do echo $i >/data/f$i; done; sync"


def _starts_until_it_lives(board: BareBoard) -> int:
    """How many starts it takes until all that the data partition has can be looked at, and written to."""
    for number in range(1, 7):
        board.start()
        mark = board.console.mark()
        board.console.send(f"{_EVERYTHING}; echo it-li''ves")
        wait_for("an end", lambda mark=mark: board.is_off or "it-lives" in board.console.since(mark), 120, 0.2)
        if not board.is_off:
            return number
    return 99


@pytest.mark.parametrize("harm", ["a changed block", "a block that cannot be read"])
def test_a_root_that_is_not_whole_gives_its_turn_back(board: BareBoard, harm: str) -> None:
    start = find_partition(board.parts.board.disk["size_mb"], "rootfs-A").start
    blocks = board.parts.rootfs.stat().st_size // 4096
    if harm == "a changed block":
        with board.disk.open("r+b") as file:
            for block in range(0, blocks, 8):
                file.seek(start + block * 4096)
                file.write(b"\xa5" * 64)
    else:
        board.bad = [start // SECTOR + 8 * block for block in range(0, blocks, 2)]
    board.wait_off(board.power_on("A"))
    board.start("B")
    assert_is_the_hub_of_before(board)


def test_a_release_older_than_what_was_accepted_does_not_start(board: BareBoard) -> None:
    said = board.wait_off(board.power_on(index=2))
    assert "rollback index 1, and this board has accepted 2" in said
    board.start(index=1)
    assert_is_the_hub_of_before(board)


def test_nothing_is_loaded_into_a_kernel_that_has_started(board: BareBoard) -> None:
    board.start()
    ask = board.console.ask
    assert ask("cat /proc/sys/kernel/modules_disabled /proc/sys/kernel/kexec_load_disabled").split() == ["1", "1"]
    assert "ermitted" in ask("insmod /bin/busybox 2>&1 || true")
    if ask("mount -t securityfs securityfs /sys/kernel/security; ls /sys/kernel/security/lockdown || true"):
        assert "[integrity]" in ask("cat /sys/kernel/security/lockdown")
