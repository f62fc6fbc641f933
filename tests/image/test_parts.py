"""The image's parts that need no build: boards, layout, locks, archives, the boot script."""

import ast
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy.image import papers
from deploy.image.board import Board, board_names, load_board
from deploy.image.boot import environment
from deploy.image.bundle import bundle_manifest
from deploy.image.debs import (
    Package,
    changes,
    left_out,
    lock_path,
    lock_warnings,
    packages_of,
    read_lock,
    seeds,
    token_lock_path,
    token_seeds,
)
from deploy.image.disk import ENV_BYTES, ENV_OFFSETS, GROUP, MIB, fw_env_config, layout, make_disk, uboot_settings
from deploy.image.drop import COPY_OFFSET, DATA_OFFSET, DROP_OFFSET, find_data, pack, put_drop
from deploy.image.elf import missing_libraries, needed_libraries, read_dynamic
from deploy.image.initramfs import Cpio, Verity, load_order
from deploy.image.licences import origin_of, write_texts
from deploy.image.qemu import Machine
from deploy.image.root import system_conf
from deploy.image.shell import BuildError, run
from deploy.image.signing import given_keys, make_test_keys
from deploy.image.sources import debian_sources
from deploy.image.tokens import MODULES, check_token, put_token, take_aside
from deploy.image.wheels import requirements_for

REPOSITORY = Path(__file__).resolve().parents[2]
BOARDS = [load_board(name) for name in board_names()]


def by_name(board: Board) -> str:
    return board.name


# Boards and the medium


def test_the_boards_of_the_issue_are_there() -> None:
    assert {"qemu-virt-armhf", "qemu-virt-arm64", "imx6ul-evk"} <= set(board_names())


def test_a_wrong_board_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"expected one of .*qemu-virt-armhf"):
        load_board("toaster")
    text = (REPOSITORY / "deploy/image/boards/qemu-virt-armhf.toml").read_text()
    for wrong, found in (
        (text.replace("size_mb", "size"), r"\[disk\]: expected exactly the keys card, device, size_mb"),
        (text.replace('"armhf"', '"z80"'), "architecture: expected one of armhf, arm64"),
        (text + "\n[colour]\n", "colour: unknown"),
        (text.replace('"swtpm"', '"chip"'), r"\[token\]: expected modules = \[...\] of softhsm2, swtpm, tpm2;"),
        (text.replace('["softhsm2", "swtpm"]', "[]"), "without a token no table"),
    ):
        (tmp_path / "b.toml").write_text(wrong)
        with pytest.raises(BuildError, match=found):
            load_board("b", tmp_path)


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_nothing_on_the_medium_overlaps(board: Board) -> None:
    partitions = layout(board.disk["size_mb"])
    assert [part.name for part in partitions] == ["kernel-A", "kernel-B", "rootfs-A", "rootfs-B", "data"]
    gpt_bytes = 34 * 512
    ends = gpt_bytes
    for start, size in [
        *((offset, ENV_BYTES) for offset in ENV_OFFSETS),
        *((p.start, p.size) for p in partitions),
    ]:
        assert start >= ends
        ends = start + size
    assert ends <= board.disk["size_mb"] * MIB - gpt_bytes
    size_mb = board.disk["size_mb"]
    assert board.qemu is None or size_mb & (size_mb - 1) == 0, "QEMU's SD card is a power of two"


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_what_is_written_often_shares_an_erase_unit_with_nothing(board: Board) -> None:
    """docs/decisions/environment.md: power that goes during a write may take all of the unit that is written to."""
    end = board.disk["size_mb"] * MIB
    places = {"table": (0, 34 * 512), "the table's copy": (end - 33 * 512, 33 * 512)}
    places |= {f"environment {number}": (offset, ENV_BYTES) for number, offset in enumerate(ENV_OFFSETS)}
    places |= {part.name: (part.start, part.size) for part in layout(board.disk["size_mb"])}
    owner: dict[int, str] = {}
    for name, (start, size) in places.items():
        for unit in range(start // GROUP, (start + size - 1) // GROUP + 1):
            assert owner.setdefault(unit, name) == name, f"{name} lies beside {owner[unit]}"


def test_u_boot_linux_and_the_factory_mean_the_same_environment() -> None:
    kconfig = dict(line.split("=") for line in uboot_settings().splitlines())
    offsets = [int(kconfig[name], 16) for name in ("CONFIG_ENV_OFFSET", "CONFIG_ENV_OFFSET_REDUND")]
    assert offsets == list(ENV_OFFSETS) and int(kconfig["CONFIG_ENV_SIZE"], 16) == ENV_BYTES
    rows = [line.split() for line in fw_env_config("/dev/mmcblk1").splitlines()]
    assert [(name, int(at, 16), int(size, 16)) for name, at, size in rows] == [
        ("/dev/mmcblk1", offset, ENV_BYTES) for offset in ENV_OFFSETS
    ]


def test_a_medium_that_is_too_small_is_refused() -> None:
    with pytest.raises(BuildError, match="leaves 17 MB for data"):
        layout(257)


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_rauc_and_the_layout_mean_the_same_partitions(board: Board) -> None:
    text = system_conf(board)
    assert f"compatible=meterhub-{board.name}\n" in text and "use-bundle-signing-time=true" in text
    names = [part.name for part in layout(board.disk["size_mb"])]
    for slot, number in re.findall(r"\[slot\.(\w+)\.(\d)\]", text):
        index = names.index(f"{slot}-{'AB'[int(number)]}") + 1
        assert f"[slot.{slot}.{number}]\ndevice=/dev/{board.disk['device']}p{index}\n" in text
    assert f"compatible=meterhub-{board.name}\n" in bundle_manifest(board, "1.0.0", 0)


@pytest.mark.skipif(
    not (shutil.which("sfdisk") and shutil.which("mkenvimage")), reason="fdisk, u-boot-tools are not here"
)
def test_the_medium_is_the_same_twice_and_takes_an_identity_once(tmp_path: Path) -> None:
    board = load_board("qemu-virt-armhf")
    fit, rootfs = tmp_path / "fit", tmp_path / "rootfs"
    fit.write_bytes(b"F" * 70_000)
    rootfs.write_bytes(b"R" * 90_000)
    image = make_disk(board, fit, rootfs, tmp_path, tmp_path / "disk.img")
    first = hashlib.sha256(image.read_bytes()).hexdigest()
    make_disk(board, fit, rootfs, tmp_path, image)
    assert hashlib.sha256(image.read_bytes()).hexdigest() == first
    raw = image.read_bytes()
    for part in layout(512):
        wanted = {"k": b"F", "r": b"R", "d": b"\0"}[part.name[0]]
        assert raw[part.start : part.start + 1] == wanted, part.name
    assert b"BOOT_ORDER=A B\0" in raw[ENV_OFFSETS[1] : ENV_OFFSETS[1] + 100]
    start, size = find_data(image)
    assert (start, size) == (layout(512)[-1].start, layout(512)[-1].size)
    with pytest.raises(BuildError, match="expected a device's folder"):
        put_drop(image, tmp_path)
    folder = tmp_path / "device"
    (folder / "etc-meterhub").mkdir(parents=True)
    (folder / "etc-meterhub/hub.toml").write_text("[uplink]\n")
    put_drop(image, folder)
    assert image.read_bytes()[start + DROP_OFFSET :].startswith(b"METERHUB-DROP-1 ")
    with image.open("r+b") as file:
        file.seek(start)
        file.write(b"METERHUB-DATA-1 crypt 00\n")
    with pytest.raises(BuildError, match="has been started already"):
        put_drop(image, folder)
    fit.write_bytes(bytes(17 * MIB))
    with pytest.raises(BuildError, match="do not fit kernel-A"):
        make_disk(board, fit, rootfs, tmp_path, image)


def test_a_drop_is_the_same_twice_and_never_too_big(tmp_path: Path) -> None:
    (tmp_path / "etc-meterhub/ntp").mkdir(parents=True)
    (tmp_path / "etc-meterhub/hub.toml").write_text("[uplink]\n")
    for secret in ("hub.key", "pin", "console"):
        (tmp_path / "etc-meterhub" / secret).write_text("s")
    (tmp_path / "meterhub/tokens").mkdir(parents=True)
    (tmp_path / "meterhub/tokens/key").write_text("k")
    drop = pack(tmp_path)
    assert drop == pack(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(drop[512:])) as archive:
        owners = {member.name: (member.uid, member.gid, member.mode) for member in archive}
    assert owners["etc-meterhub/hub.toml"] == (0, 960, 0o644), "the hub and engineers read it and cannot change it"
    assert owners["etc-meterhub"] == (0, 960, 0o755)
    assert owners["etc-meterhub/hub.key"] == owners["etc-meterhub/pin"] == (0, 960, 0o640)
    assert owners["etc-meterhub/console"] == (0, 962, 0o640), "field-shell compares the code with it"
    assert owners["meterhub/tokens/key"] == (960, 960, 0o640)
    (tmp_path / "etc-meterhub/large").write_bytes(bytes(DATA_OFFSET))
    with pytest.raises(BuildError, match="a drop may have"):
        pack(tmp_path)


# Locks


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_a_lock_has_what_is_asked_for_and_names_no_mirror(board: Board) -> None:
    path = lock_path(board)
    packages = read_lock(path)
    for section, names in seeds(board).items():
        assert set(names) <= {package.name for package in packages if package.section == section}
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.size > 0 for package in packages)
    assert "://" not in path.read_text()
    kernel = [package for package in packages if package.section == "kernel"]
    assert any(re.match(r"linux-image-\d", package.name) for package in kernel), "the kernel itself, not its name alone"


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_a_lock_that_is_old_or_lacks_the_fixes_is_told(board: Board) -> None:
    found = re.search(r"^# resolved (\S+) from", lock_path(board).read_text(), re.MULTILINE)
    assert found, "a lock says when it was made"
    made = date.fromisoformat(found[1])
    fresh, old = lock_warnings(board, made), lock_warnings(board, made + timedelta(days=60))
    assert len([line for line in old if "is 60 days old" in line]) == 1 + bool(board.token)
    assert all("knows nothing of" in line for line in fresh)
    assert set(fresh) <= set(old)


def test_a_new_lock_says_what_it_brings() -> None:
    def package(name: str, version: str) -> Package:
        return Package("root", name, version, "armhf", 1, "0" * 64)

    before = [package("a", "1-1"), package("b", "3.5.9-1~deb13u1"), package("c", "4.3-2"), package("e", "1")]
    after = [package("a", "1-1"), package("b", "3.5.10-1~deb13u2"), package("c", "4.3-2+deb13u1"), package("d", "1")]
    assert changes(before, after) == [
        "b 3.5.9-1~deb13u1 -> 3.5.10-1~deb13u2 (a fix)",
        "c 4.3-2 -> 4.3-2+deb13u1 (a fix)",
        "d is new: 1",
        "e 1 is gone",
    ]


def test_the_files_of_a_start_are_of_this_hub() -> None:
    """deploy/image/startup.list: what is not there any more costs a start's seconds."""
    names = (REPOSITORY / "deploy/image/startup.list").read_text().split("\n")
    ours = [name for name in names if name.partition(".")[0] in ("hub", "drivers", "store")]
    gone = [name for name in ours if not any(
        (REPOSITORY / f"{name.replace('.', '/')}{end}").is_file() for end in (".py", "/__init__.py")
    )]  # fmt: skip
    assert not gone and {"hub.app.daemon", "store.writer", "drivers.zigbee.application"} <= set(ours)


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_a_token_is_locked_and_costs_a_board_without_one_nothing(board: Board) -> None:
    rows = read_lock(token_lock_path(board.architecture))
    for kind, names in token_seeds().items():
        assert set(names) <= {package.name for package in rows if package.section == kind}
    plain = set(packages_of(replace(board, token=())))
    assert plain == set(read_lock(lock_path(board)))
    for kind in MODULES:
        more = [package for package in packages_of(replace(board, token=(kind,))) if package not in plain]
        assert {package.section for package in more} == {"root"}
        names = [package.name for package in [*plain, *more]]
        assert len(names) == len(set(names)), "a package is there once, in one version"
        assert not left_out(replace(board, token=(kind,))) & set(token_seeds()[kind])
    assert set(MODULES) == set(token_seeds()) - {"every"}


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_the_bill_of_materials_names_every_part(board: Board, tmp_path: Path) -> None:
    packages = packages_of(board)
    wheel = tmp_path / "zigpy-2.4.0-py3-none-any.whl"
    wheel.write_bytes(b"any file: its name and hash are what counts")
    bill = papers.sbom(board, "1.0.0", 0, packages, [wheel], "2023.01")
    names = [component["name"] for component in bill["components"]]
    assert {package.name for package in packages} - left_out(board) <= set(names)
    assert ("pkcs11-provider" in names) == ("python3-pykcs11" in names) == bool(board.token)
    assert "dpkg" not in names and "u-boot" in names and "python3-cffi-backend" in names
    refs = [component["bom-ref"] for component in bill["components"]]
    assert len(refs) == len(set(refs))
    assert bill == papers.sbom(board, "1.0.0", 0, packages, [wheel], "2023.01")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not here")
def test_the_bill_says_of_each_part_its_source_and_its_licences(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: libx1\nSource: x (1.2-3)\nVersion: 1:1.2-3+b1\nArchitecture: all\nMaintainer: X <x@example.com>\n"
        "Description: x\n"
    )
    (tree / "usr/share/doc/libx1").mkdir(parents=True)
    says = "License: LGPL-2.1+ or MIT\n\nFiles: a\nLicense: GPL-2+ with OpenSSL exception and BSD-3-clause\n"
    (tree / "usr/share/doc/libx1/copyright").write_text(says)
    file = tmp_path / "libx1.deb"
    run(["dpkg-deb", "--root-owner-group", "-b", tree, file])
    package = Package("root", "libx1", "1:1.2-3+b1", "all", 1, "0" * 64)
    origin = origin_of(package, file)
    assert (origin.source, origin.source_version) == ("x", "1.2-3")
    assert origin.licences == ("BSD-3-clause", "GPL-2+", "LGPL-2.1+", "MIT")
    wheel = tmp_path / "y-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("y-1.0.dist-info/METADATA", "Metadata-Version: 2.4\nName: y\nLicense-Expression: MIT\n")
        archive.writestr("y-1.0.dist-info/licenses/LICENSE", "the text")
    bill = papers.sbom(BOARDS[0], "1.0.0", 0, [package], [wheel], "2023.01", {package: origin})
    parts = {part["name"]: part for part in bill["components"]}
    assert {row["license"]["name"] for row in parts["libx1"]["licenses"]} == set(origin.licences)
    assert parts["y"]["licenses"] == [{"license": {"name": "MIT"}}]
    assert debian_sources(bill) == [("x", "1.2-3")]
    texts = write_texts({package: origin}, [wheel], 0, tmp_path / "licences.tar")
    with tarfile.open(texts) as archive:
        assert archive.getnames() == ["debian/libx1", "python/y/licenses/LICENSE"]


@pytest.mark.parametrize("architecture", sorted({board.architecture for board in BOARDS}, key=lambda a: a.name))
def test_the_wheels_are_the_locks_but_for_named_exceptions(architecture: object) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    pins = set(re.findall(r"^[A-Za-z0-9._-]+==[^ ;]+", lock, re.MULTILINE))
    found = requirements_for(architecture, lock)  # type: ignore[arg-type]
    ours = set(re.findall(r"^[A-Za-z0-9._-]+==[^ ;\\]+", found, re.MULTILINE))
    exceptions = {"armhf": {"cbor2==5.9.0"}, "arm64": set()}[architecture.name]  # type: ignore[attr-defined]
    assert ours - pins == exceptions
    assert {"zigpy", "bellows", "paho-mqtt", "cryptography", "cbor2"} <= {pin.split("==")[0] for pin in ours}
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", found.strip()))


def test_what_a_token_needs_survives_the_trimming_or_the_build_ends(tmp_path: Path) -> None:
    board, root = replace(load_board("qemu-virt-armhf"), token=("tpm2",)), tmp_path / "root"
    site, lib = root / "site", root / "usr/lib/arm-linux-gnueabihf"
    (site / "PyKCS11").mkdir(parents=True)
    (site / "PyKCS11/__init__.py").touch()
    aside = take_aside(board, site, tmp_path / "aside")
    shutil.rmtree(site)
    site.mkdir()
    put_token(board, root, aside, site)
    assert (site / "PyKCS11/__init__.py").exists() and not aside.exists()
    rules = (root / "usr/lib/udev/rules.d/90-meterhub-tpm.rules").read_text()
    assert 'GROUP="meterhub"' in rules, "the hub may open the chip"
    for file in ("ossl-modules/pkcs11.so", "pkcs11/libtpm2_pkcs11.so"):
        with pytest.raises(BuildError, match=r"\[token\]: the root has no usr/lib"):
            check_token(board, root)
        (lib / file).parent.mkdir(parents=True)
        (lib / file).touch()
    check_token(board, root)
    check_token(replace(board, token=()), tmp_path)


# Archives, libraries, modules


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    def made() -> bytes:
        archive = Cpio()
        archive.add("init", b"#!/bin/sh\n", 0o755)
        archive.add("modules/ext4.ko", b"\0" * 1001)
        return archive.close()

    assert made() == made() and len(made()) % 4 == 0
    if shutil.which("cpio"):
        subprocess.run(["cpio", "-id", "--quiet"], input=made(), cwd=tmp_path, check=True)
        assert (tmp_path / "modules/ext4.ko").stat().st_size == 1001
        assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "k/ext4.ko: k/jbd2.ko k/mbcache.ko k/crc16.ko\nk/jbd2.ko:\nk/mbcache.ko:\nk/crc16.ko:\nk/dm-mod.ko:\n"
        "k/dm-crypt.ko: k/dm-mod.ko\n"
    )
    (tmp_path / "modules.builtin").write_text("k/mmc_block.ko\n")
    order = [path.name for path in load_order(tmp_path, ["dm-crypt", "mmc_block", "ext4", "dm_mod"])]
    assert order.index("dm-mod.ko") < order.index("dm-crypt.ko") and order[-1] == "ext4.ko"
    assert len(order) == len(set(order)) == 6
    with pytest.raises(BuildError, match="has no module nonsense"):
        load_order(tmp_path, ["nonsense"])


def test_libraries_are_found_and_missed(tmp_path: Path) -> None:
    dynamic = read_dynamic(Path(sys.executable).resolve())
    assert dynamic is not None and any(name.startswith("libc.so") for name in dynamic[1])
    assert read_dynamic(Path(__file__)) is None
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/lib").mkdir()
    shutil.copy(Path(sys.executable).resolve(), tmp_path / "usr/bin/python")
    assert any(name.startswith("libc.so") for name in missing_libraries(tmp_path))
    with pytest.raises(KeyError):
        needed_libraries(tmp_path / "usr/bin/python", tmp_path)


def test_the_hash_tree_begins_where_the_data_ends() -> None:
    words = Verity(1000, "ab" * 32, "cd" * 32).table().split()
    assert words[:2] == ["0", "8000"] and words[8:10] == ["1000", "1000"] and words[-1] == "restart_on_corruption"


# The boot script


@pytest.mark.parametrize("board", BOARDS, ids=by_name)
def test_the_boot_script_is_whole(board: Board) -> None:
    lines = environment(board).splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    assert len(variables) == len(lines), "a variable is given twice"
    called = {name for value in variables.values() for name in re.findall(r"\brun (\w+)", value)}
    assert called - {"try_"} <= set(variables)
    assert variables["bootcmd"].endswith("; reset"), "no prompt may ever be reached"
    assert variables["bootdelay"] == "-2"
    # A card is the last resort, and never the disk itself; which one it is nobody outside can say.
    assert variables["start"].endswith("run rest; fi") and variables["rest"].endswith("run recover")
    assert [name for name, value in variables.items() if "run recover" in value] == ["rest"]
    partitions = {part.name: part for part in layout(board.disk["size_mb"])}
    for slot in "AB":
        assert int(variables[f"kernel_{slot}"], 16) * 512 == partitions[f"kernel-{slot}"].start
    assert int(variables["kernel_blocks"], 16) * 512 == partitions["kernel-A"].size
    assert variables["card"] != variables["dev"] and board.disk["card"] != board.disk["device"]
    # What comes from the medium is cleaned before it is a word of the shell.
    assert variables["choose"].startswith('setexpr BOOT_ORDER gsub "[^AB ]" " ";')
    flags = (REPOSITORY / "deploy/image/uboot/hub.h").read_text()
    assert '"BOOT_ORDER:sw,BOOT_A_LEFT:dw,BOOT_B_LEFT:dw,BOOT_ROUND:dw,HUB_INDEX:dw"' in flags


# The data partition's header


def judged(partition: Path, work: Path) -> str:
    """What the initramfs makes of a partition's two headers; in QEMU with real read errors: test_damage.py."""
    script = (REPOSITORY / "deploy/image/initramfs/data.sh").read_text().replace("/tmp/", f"{work}/")
    (work / "data.sh").write_text(script)
    lines = f'. {work}/data.sh\nRETRY_S=0\nDATA={partition}\nfind_header\necho "$found"'
    return subprocess.run(["sh", "-c", lines], capture_output=True, text=True, check=True).stdout.strip()


def header(salt: str, mode: str = "crypt", word: str | None = None) -> bytes:
    check = hashlib.sha256(f"{mode} {salt}".encode()).hexdigest()[:16]
    return f"METERHUB-DATA-1 {mode} {salt} {check if word is None else word}\n".encode().ljust(4096, b"\0")


_SALT, _OTHER = "5a" * 32, "a5" * 32
_BLANK, _FOREIGN = bytes(4096), b"LUKS\xba\xbe * ".ljust(4096, b"\xff")


@pytest.mark.parametrize(
    ("first", "copy", "found"),
    [
        (header(_SALT), header(_SALT), f"header crypt {_SALT}"),
        (header(_SALT, "plain"), _BLANK, f"header plain {_SALT}"),
        (header(_SALT, word=""), _BLANK, f"header crypt {_SALT}"),  # of the first releases
        (_BLANK, header(_SALT), f"header crypt {_SALT}"),
        (_FOREIGN, header(_SALT), f"header crypt {_SALT}"),
        (header(_SALT, word="0" * 16), header(_OTHER), f"header crypt {_OTHER}"),
        (_BLANK, _BLANK, "blank"),
        (_BLANK, _FOREIGN, "its header is blank, the header's copy foreign"),
        (_FOREIGN, _BLANK, "its header is foreign, the header's copy blank"),
        (b"\n".ljust(4096, b"\0"), _BLANK, "its header is foreign, the header's copy blank"),
        (header(_SALT[:-2]), _BLANK, "its header is foreign, the header's copy blank"),
        (header(_SALT, "none"), _BLANK, "its header is foreign, the header's copy blank"),
        (_BLANK, b"short", "its header is blank, the header's copy unreadable"),
    ],
)
def test_only_what_is_blank_twice_is_blank(tmp_path: Path, first: bytes, copy: bytes, found: str) -> None:
    partition = tmp_path / "partition"
    partition.write_bytes(first.ljust(COPY_OFFSET, b"\0") + copy)
    assert judged(partition, tmp_path) == found


def test_what_cannot_be_read_is_not_blank(tmp_path: Path) -> None:
    """The first bytes of a process's memory answer as a bad block does: EIO."""
    assert judged(Path("/proc/self/mem"), tmp_path) == "its header is unreadable, the header's copy unreadable"


def test_u_boot_takes_nothing_unsigned() -> None:
    settings = (REPOSITORY / "deploy/image/uboot/hub.config").read_text().splitlines()
    for wanted in (
        "CONFIG_FIT_SIGNATURE=y",
        "CONFIG_ENV_WRITEABLE_LIST=y",
        "CONFIG_ENV_APPEND=y",
        "CONFIG_BOOTDELAY=-2",
    ):
        assert wanted in settings
    for banned in ("LEGACY_IMAGE_FORMAT", "CMD_BOOTZ", "CMD_BOOTI", "CMD_GO", "NET", "USB", "EFI_LOADER"):
        assert f"# CONFIG_{banned} is not set" in settings


# Keys


def test_keys_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"release-ca\.pem, release\.pem, release\.key, boot\.key, boot\.crt missing"):
        given_keys(tmp_path, None)
    made = make_test_keys(tmp_path / "keys")
    assert made.is_for_tests and given_keys(tmp_path / "keys", None).folder == tmp_path / "keys"
    before = (tmp_path / "keys/boot.key").read_bytes()
    assert make_test_keys(tmp_path / "keys").is_for_tests and (tmp_path / "keys/boot.key").read_bytes() == before
    token = given_keys(tmp_path / "keys", "pkcs11:token=meterhub")
    assert token.mkimage_options() == ["-N", "pkcs11", "-k", "token=meterhub"]
    assert "--key=pkcs11:token=meterhub;object=release;type=private" in token.rauc_options(tmp_path / "keyring.pem")


def test_qemu_is_given_what_the_board_says(tmp_path: Path) -> None:
    machine = Machine(load_board("qemu-virt-armhf"), tmp_path, tmp_path / "run")
    words = machine.command("stdio", "127.0.0.1:5000")
    assert words[0] == "qemu-system-arm" and "socket,id=radio,host=127.0.0.1,port=5000,reconnect=1" in words
    with pytest.raises(BuildError, match="is not emulated"):
        Machine(load_board("imx6ul-evk"), tmp_path, tmp_path).command("stdio")


def test_what_make_was_told_stays_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make image BOARD=... VERSION=...` must not give U-Boot's own make another board and version."""
    for name in ("BOARD", "VERSION", "MAKEFLAGS"):
        monkeypatch.setenv(name, "ours")
    assert run(["sh", "-c", "echo ${BOARD-} ${VERSION-} ${MAKEFLAGS-}"]).strip() == ""


# The board's shell scripts

SCRIPTS = sorted(
    path
    for pattern in (
        "deploy/image/initramfs/*", "deploy/image/files/usr/lib/meterhub/*", "deploy/image/files/usr/bin/*",
        "deploy/systemd/*", "deploy/field/*",
    )
    for path in REPOSITORY.glob(pattern)
    if path.is_file() and (path.suffix == ".sh" or path.read_bytes().startswith((b"#!/bin/sh", b"#!/bin/busybox sh")))
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_of_the_board_is_read_to_its_end(script: Path) -> None:
    """Half of these run once in fifteen years, when something is wrong: no start would find their slips."""
    for shell in ("dash", "busybox"):
        words = [found, *(["sh"] if shell == "busybox" else [])] if (found := shutil.which(shell)) else ["sh"]
        done = subprocess.run([*words, "-n", str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(SCRIPTS) >= 8


def test_a_program_of_the_board_is_python() -> None:
    folders = ("deploy/image/files/usr", "deploy/field", "deploy/systemd")
    files = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*")) if path.is_file()]
    programs = [path for path in files if path.read_bytes().startswith(b"#!/usr/bin/python3")]
    assert len(programs) >= 3
    for program in programs:
        ast.parse(program.read_text(), str(program))
