"""The chain below U-Boot: what is signed for an i.MX6UL's boot ROM, judged as the ROM does, and a chip's fuses.

No chip was here. The writer of command files (csf.py) and their reader (rom.py) share no line.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.image.board import load_board
from deploy.image.boot import build_open_uboot
from deploy.image.hab import fuses
from deploy.image.hab.__main__ import main, sign
from deploy.image.hab.csf import IMAGES, MOST_BYTES, Block, blocks_of, sign_image
from deploy.image.hab.keys import HabKeys, make_keys
from deploy.image.hab.rom import judge
from deploy.image.shell import BuildError
from tests.emulators.imx_bench import BenchBoard, Chip
from tests.image.bare_board import CACHE
from tests.image.hsm import PIN, URI, import_keys

_ENGINE = list(Path("/usr/lib").glob("*/engines-3/pkcs11.so"))
_SPL, _UBOOT = 0x00907400, 0x877FFFC0
_CSF_BYTES = 0x2060


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> HabKeys:
    return make_keys(tmp_path_factory.mktemp("hab") / "keys", bits=2048)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> HabKeys:
    return make_keys(tmp_path_factory.mktemp("strangers") / "keys", bits=2048)


def vector_table(own: int, entry: int, dcd: int, boot_data: int, csf: int) -> bytes:
    words = (entry, 0, dcd, boot_data, own, csf, 0)
    return b"\xd1\x00\x20\x40" + b"".join(word.to_bytes(4, "little") for word in words)


def made_up_spl(entry: int = _SPL + 0x100) -> bytes:
    """A vector table, boot data, a device configuration, and what stands for code."""
    size = 0x1000
    front = vector_table(_SPL, entry, _SPL + 0x40, _SPL + 0x20, _SPL + size)
    front += _SPL.to_bytes(4, "little") + (size + _CSF_BYTES).to_bytes(4, "little") + bytes(4)
    front = front.ljust(0x40, b"\0") + bytes.fromhex("d2000440")
    return front.ljust(0x100, b"\0") + bytes(at % 251 for at in range(size - 0x100))


def made_up_uboot() -> bytes:
    """A U-Boot image with the vector table behind it."""
    at = 0x2000
    header = bytes.fromhex("27051956") + bytes(8) + (at - 64 + _CSF_BYTES).to_bytes(4, "big")
    header += (_UBOOT + 64).to_bytes(4, "big") * 2
    body = header.ljust(64, b"\0") + bytes(at % 241 for at in range(at - 64))
    return body + vector_table(_UBOOT + at, _UBOOT + 64, 0, 0, _UBOOT + at + 32)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What U-Boot's build leaves, with its logs."""
    folder = tmp_path_factory.mktemp("build")
    for name, image, address in (("SPL", made_up_spl(), _SPL), ("u-boot-ivt.img", made_up_uboot(), _UBOOT)):
        (folder / name).write_bytes(image)
        (folder / f"{name}.log").write_text(
            f"Image Type:   Freescale IMX Boot Image\nHAB Blocks:   0x{address:08x} 0x00000000 0x{len(image):08x}\n"
            "DCD Blocks:   0x00910000 0x0000002c 0x00000004\n"
        )
    return folder


@pytest.fixture(scope="module")
def signed(build: Path, keys: HabKeys) -> list[bytes]:
    """SPL and U-Boot."""
    return [file.read_bytes() for file in sign(build, keys, 1)]


def changed(image: bytes, at: int, mask: int = 1) -> bytes:
    return image[:at] + bytes((image[at] ^ mask,)) + image[at + 1 :]


def command_file(image: bytes) -> int:
    """Where it begins: behind what is signed."""
    return image.index(b"\xd4\x00\x48\x42")


def test_what_is_signed_starts_and_as_soon_as_one_byte_is_another_it_does_not(
    signed: list[bytes], keys: HabKeys
) -> None:
    for image in signed:
        assert judge(image, keys.fuse_words) == []
        end = command_file(image)
        edges = [0, 1, 3, 4, 8, 0x1F, 0x20, 0x2B, 0x40, 0x43, end - 32, end - 12, end - 1]
        for at in {*edges, *range(0, end, 61)}:
            assert judge(changed(image, at), keys.fuse_words), f"byte {at:#x} is another, and it starts"
        for at in range(end, end + 0x48):
            assert judge(changed(image, at, 0x40), keys.fuse_words), f"byte {at - end:#x} of the commands is another"
        for size in (0, 3, 31, 64, end - 1, end, end + 0x48, end + 0x600):
            assert judge(image[:size], keys.fuse_words), f"{size} bytes of it start"


def test_only_the_roots_of_the_fuses_count_and_one_that_is_taken_back_does_not(
    signed: list[bytes], build: Path, keys: HabKeys, strangers: HabKeys
) -> None:
    for image in signed:
        assert judge(image, strangers.fuse_words) == ["the roots are not those of the fuses"]
        assert judge(image, [0] * 8) == ["the roots are not those of the fuses"]
        assert judge(image, keys.fuse_words, revoked=0b0001) == ["root 1 is taken back"]
    second = [file.read_bytes() for file in sign(build, keys, 2)]
    assert [judge(image, keys.fuse_words, revoked=0b0001) for image in second] == [[], []]
    with pytest.raises(BuildError, match="expected 1 to 4"):
        sign(build, keys, 5)


def test_a_signature_is_of_one_image_and_of_its_keys(signed: list[bytes], keys: HabKeys, strangers: HabKeys) -> None:
    spl = made_up_spl()
    block = Block(_SPL, 0, len(spl))
    other = sign_image(changed(spl, 0x200), block, keys, 1)
    end = command_file(signed[0])
    assert judge(spl[:end] + other[end:], keys.fuse_words) == ["image: it is not what was signed"]
    theirs = sign_image(spl, block, strangers, 1)
    table = len(keys.table)
    assert judge(theirs[: end + 0x48] + keys.table + theirs[end + 0x48 + table :], keys.fuse_words)
    unsigned_entry = made_up_spl(entry=_SPL + 0x1000)  # into the command file: whatever stands there would run
    assert judge(sign_image(unsigned_entry, block, keys, 1), keys.fuse_words) == ["entry point: it is not signed"]
    part = Block(_SPL, 0, len(spl) - 4)
    assert judge(sign_image(spl, part, keys, 1), keys.fuse_words), "it looks for its commands behind all of it"
    front = Block(_SPL + 0x100, 0, len(spl) - 0x100)
    assert judge(sign_image(spl, front, keys, 1), keys.fuse_words), "the vector table is not signed"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_lies_on_the_medium_the_reader_answers(
    signed: list[bytes], keys: HabKeys, data: st.DataObject
) -> None:
    image = bytearray(data.draw(st.sampled_from(signed)))
    end = command_file(bytes(image))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(end, len(image) - 1), st.integers(0, 255)), max_size=8)):
        image[at] = byte
    cut = data.draw(st.integers(0, len(image)))
    assert all(isinstance(event, str) for event in judge(bytes(image[:cut]), keys.fuse_words))
    assert judge(data.draw(st.binary(max_size=200)), keys.fuse_words)


def test_keys_are_made_once_and_fit_into_what_u_boot_leaves(keys: HabKeys, signed: list[bytes]) -> None:
    with pytest.raises(BuildError, match="nothing was changed"):
        make_keys(keys.folder)
    assert all((keys.folder / "private" / name).stat().st_mode & 0o077 == 0 for name in ("SRK1.pem", "passphrase"))
    assert b"ENCRYPTED" in (keys.folder / "private/SRK1.pem").read_bytes()
    for image in signed:
        assert len(image) - command_file(image) == MOST_BYTES
    with pytest.raises(BuildError, match="expected a folder made by `hab keys`"):
        _ = HabKeys(keys.folder / "none").table


def test_a_build_that_is_not_there_or_another_is_said(build: Path, keys: HabKeys, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="build the board first"):
        sign(tmp_path, keys, 1)
    for name in ("SPL", "u-boot-ivt.img"):
        (tmp_path / name).write_bytes((build / name).read_bytes())
        (tmp_path / f"{name}.log").write_text("Image Type: another\n")
    with pytest.raises(BuildError, match="has no line"):
        sign(tmp_path, keys, 1)
    (tmp_path / "SPL.log").write_text("HAB Blocks:   0x00907400 0x00000000 0x00100000\n")
    with pytest.raises(BuildError, match="of another image"):
        sign(tmp_path, keys, 1)
    for name in ("SPL", "u-boot-ivt.img"):
        size = len((build / name).read_bytes())
        (tmp_path / f"{name}.log").write_text(f"HAB Blocks:   0x00000000 0x00000000 0x{size:08x}\n")
    with pytest.raises(BuildError, match="the ROM would not start it"):
        sign(tmp_path, keys, 1)
    assert not (tmp_path / "SPL-signed").exists()


@pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not _ENGINE, reason="not here: softhsm2 libengine-pkcs11-openssl"
)
def test_a_token_signs_as_a_file_does(
    keys: HabKeys, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = tmp_path / "opened"
    opened.mkdir()
    names = ["CSF3", "IMG3"]
    for name in names:
        private = keys.folder / "private"
        words = [
            "openssl",
            "pkcs8",
            "-topk8",
            "-nocrypt",
            "-in",
            private / f"{name}.pem",
            "-out",
            opened / f"{name}.key",
        ]
        subprocess.run([*words, "-passin", f"file:{private / 'passphrase'}"], check=True)
    for variable, value in import_keys(tmp_path / "hsm", opened, names).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    assert PIN
    certificates = tmp_path / "only"
    shutil.copytree(keys.folder / "certs", certificates / "certs")
    files = sign(build, HabKeys(certificates, URI), 3)
    assert [judge(file.read_bytes(), keys.fuse_words) for file in files] == [[], []]


# Fuses


def test_the_boards_secret_lies_where_nothing_else_reads() -> None:
    board = load_board("imx6ul-evk")
    found = re.fullmatch(r"nvmem:imx-ocotp0:(\d+)", board.data["secret"])
    assert found and int(found[1]) == fuses.nvmem_offset(*fuses.SECRET)
    assert board.data["key_bytes"] <= 4 * fuses.SECRET_WORDS
    bank, word = fuses.SECRET
    secret = {8 * bank + word + number for number in range(fuses.SECRET_WORDS)}
    for what, ((bank, word), count) in fuses.MAP.items():
        assert not secret & {8 * bank + word + number for number in range(count)}, f"the secret is in {what}"
    # Linux's own cells of this chip: where the first Ethernet address is, and a cell behind the gap.
    assert fuses.nvmem_offset(4, 2) == 0x88 and fuses.nvmem_offset(6, 0) == 4 * 64


def test_what_closes_the_chip_comes_last_and_after_everything_was_seen(
    keys: HabKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuses", str(keys.folder)]) == 0
    text = capsys.readouterr().out
    commands = re.findall(r"^fuse prog -y (\d) (\d) (0x[0-9a-f]{8})", text, re.MULTILINE)
    assert [int(value, 16) for bank, _, value in commands if bank == "3"] == keys.fuse_words
    assert commands[-1] == ("0", "6", "0x00000002")
    assert text.index("No HAB Events Found") < text.index("SRK_LOCK") < text.index("SEC_CONFIG")


# The bench


class Station:
    """The programs as a person at the bench types them."""

    def __init__(self, folder: Path, keys: HabKeys, board: BenchBoard) -> None:
        self.keys, self.board = keys, board
        self.record = folder / "record.jsonl"

    def __call__(self, verb: str, *more: str) -> int:
        self.board.switch("medium" if verb in ("see", "check") else "usb")
        words = ["--port", self.board.port, "--record", str(self.record)]
        return main([verb, str(self.keys.folder), *words, *more])


@pytest.fixture
def station(tmp_path: Path, keys: HabKeys, signed: list[bytes]) -> Iterator[Callable[..., Station]]:
    boards = []

    def make(chip: Chip, medium: list[bytes] | None = None) -> Station:
        boards.append(BenchBoard(chip, signed if medium is None else medium))
        return Station(tmp_path, keys, boards[-1])

    yield make
    for board in boards:
        board.close()


def secret_of(chip: Chip) -> list[int]:
    return [chip.fuses.get((8, word), 0) for word in range(8)]


def test_a_board_is_burnt_seen_closed_and_starts(
    station: Callable[..., Station], keys: HabKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    chip = Chip(0x1234_5678_9ABC_DEF0)
    bench = station(chip)
    assert bench("close") == 1, "not burnt"
    assert bench("burn") == 0
    assert [chip.fuses[(3, word)] for word in range(8)] == keys.fuse_words
    first = secret_of(chip)
    assert 0 not in first and len(set(first)) == 8 and chip.fuses[(0, 0)] == 0x8000
    assert bench("close") == 1
    assert "was not seen to start" in capsys.readouterr().err and (0, 6) not in chip.fuses
    assert bench("burn") == 0 and secret_of(chip) == first, "once more changes nothing"
    assert bench("see") == 0 and bench("close") == 0
    assert chip.fuses[(0, 6)] == 0x00D0000A and chip.fuses[(0, 0)] == 0xC000
    assert bench("check") == 0
    said = capsys.readouterr().out
    assert "chip 123456789abcdef0 is closed, and starts" in said
    assert not any(f"{word:08x}" in said + bench.record.read_text() for word in first), "the secret is told to nobody"


@pytest.mark.parametrize("harm", ["unsigned", "changed", "another's"])
def test_a_board_whose_start_had_an_event_is_never_closed(
    station: Callable[..., Station],
    signed: list[bytes],
    strangers: HabKeys,
    harm: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spl, uboot = signed
    if harm == "unsigned":
        medium = [spl, made_up_uboot()]
    elif harm == "changed":
        medium = [spl, changed(uboot, 0x300)]
    else:
        plain = made_up_spl()
        medium = [sign_image(plain, Block(_SPL, 0, len(plain)), strangers, 1), uboot]
    chip = Chip(7)
    bench = station(chip, medium)
    assert bench("burn") == 0
    assert bench("see") == 1 and "noted events" in capsys.readouterr().err
    assert bench("close") == 1 and (0, 6) not in chip.fuses
    assert not bench.record.exists()


def test_what_was_seen_of_one_board_closes_no_other(station: Callable[..., Station]) -> None:
    first, other = Chip(1), Chip(2)
    seen, unseen = station(first), station(other)
    assert seen("burn") == seen("see") == unseen("burn") == 0
    assert unseen("close") == 1 and (0, 6) not in other.fuses
    assert seen("close") == 0


def test_a_chip_with_another_hash_or_a_word_that_takes_nothing_is_left_open(
    station: Callable[..., Station], keys: HabKeys, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = Chip(3, {(3, 0): ~keys.fuse_words[0] & 0xFFFFFFFF})
    assert station(foreign)("burn") == 1 and "another roots' hash" in capsys.readouterr().err
    assert secret_of(foreign) == [0] * 8
    bad = Chip(4, stuck={(3, 5)})
    bench = station(bad)
    assert bench("burn") == 1 and "it did not take" in capsys.readouterr().err
    assert bench("see") == 1 and bench("close") == 1 and (0, 6) not in bad.fuses


@pytest.mark.parametrize("blows", [3, 8, 12])
def test_power_that_goes_while_fuses_are_blown_is_made_good(
    station: Callable[..., Station], keys: HabKeys, blows: int
) -> None:
    chip = Chip(5, blows_left=blows)
    bench = station(chip)
    assert bench("burn") == 1
    kept = [word for word in secret_of(chip) if word]
    chip.blows_left = None
    assert bench("burn") == 0
    assert [chip.fuses[(3, word)] for word in range(8)] == keys.fuse_words
    assert [word for word in secret_of(chip) if word][: len(kept)] == kept and 0 not in secret_of(chip)
    chip.blows_left = 2
    assert bench("see") == 0 and bench("close") == 1
    chip.blows_left = None
    assert bench("close") == 0 and bench("check") == 0


def test_a_closed_board_is_said_to_be_one(station: Callable[..., Station], capsys: pytest.CaptureFixture[str]) -> None:
    bench = station(Chip(6))
    assert bench("check") == 1, "open"
    assert bench("burn") == bench("see") == bench("close") == 0
    capsys.readouterr()
    assert bench("burn") == bench("close") == 1, "over USB, too, a closed chip takes nothing unsigned"
    bench.board.medium = [made_up_spl(), made_up_uboot()]
    assert bench("check", "--start-s", "1") == 1 and "did not start" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_build_flashes_is_signed_and_starts(evk_release: Path, tmp_path: Path) -> None:
    """The board's own SPL and U-Boot, with keys of the length that a factory has; every kilobyte of both is tried."""
    keys = make_keys(tmp_path / "keys")
    for file, log in zip(sign(evk_release, keys, 1), IMAGES):
        image, block = file.read_bytes(), blocks_of(evk_release / log)
        for at in range(0, block.length, 1021):
            assert judge(changed(image, at, 0x80), keys.fuse_words), f"{log}: byte {at:#x} is another, and it starts"
        assert judge((evk_release / IMAGES[log][0]).read_bytes(), keys.fuse_words), "unsigned"


@pytest.mark.slow
def test_the_benchs_u_boot_has_fuses_and_a_prompt(tmp_path: Path) -> None:
    assert main(["loader", str(tmp_path), "--cache", str(CACHE)]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {"SPL", "u-boot.img"}
    configuration = (build_open_uboot(load_board("imx6ul-evk"), CACHE) / ".config").read_text().splitlines()
    assert {"CONFIG_CMD_FUSE=y", 'CONFIG_SYS_PROMPT="=> "'} <= set(configuration)
