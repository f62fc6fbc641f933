"""What runs before Linux: U-Boot, built from Debian's source with our fragments, and the signed FIT it accepts."""

import hashlib
import os
import re
import shutil
from pathlib import Path

from deploy.image.board import BOARDS, Board
from deploy.image.debs import LOCKS, Apt, sha256_of
from deploy.image.disk import SECTOR, find_partition, uboot_settings
from deploy.image.shell import BuildError, run
from deploy.image.signing import Signing

HERE = Path(__file__).parent
_UBOOT = HERE / "uboot"
_LOCK = LOCKS / "uboot.lock"


def uboot_version() -> str:
    """The locked version of U-Boot."""
    return next(line for line in _LOCK.read_text().splitlines() if not line.startswith("#"))


def fetch_uboot(board: Board, cache: Path) -> Path:
    """The folder with U-Boot's source as Debian has it: the locked version, each file compared with its SHA-256."""
    version, *rest = [line for line in _LOCK.read_text().splitlines() if not line.startswith("#")]
    files = {name: sha256 for sha256, name in (line.split() for line in rest)}
    folder = cache / "uboot"
    folder.mkdir(parents=True, exist_ok=True)
    if any(not (folder / name).is_file() for name in files):
        suites = ("bookworm", "bookworm-updates")
        Apt(board.architecture, cache / "apt-source", suites).source("u-boot", version, folder)
    for name, sha256 in files.items():
        if sha256_of(folder / name) != sha256:
            raise BuildError(f"{folder / name}: its SHA-256 is not the lock's; delete it and build again")
    return folder


def _source(board: Board, cache: Path) -> Path:
    """U-Boot's unpacked source."""
    folder, version = fetch_uboot(board, cache), uboot_version()
    tree = folder / f"u-boot-{version}"
    if not tree.is_dir():
        fresh = folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        run(["dpkg-source", "--no-check", "-x", folder / f"u-boot_{version}.dsc", fresh])
        fresh.rename(tree)
    return tree


def environment(board: Board) -> str:
    """U-Boot's whole default environment for a board, comments left out."""
    common = (_UBOOT / "hub.env").read_text().splitlines()
    own = [f"{name}={value}" for name, value in sorted(board.uboot["env"].items())]
    for name in ("A", "B"):
        kernel = find_partition(board.disk["size_mb"], f"kernel-{name}")
        own.append(f"kernel_{name}={kernel.start // SECTOR:x}")
    own.append(f"kernel_blocks={kernel.size // SECTOR:x}")
    return "".join(f"{line}\n" for line in [*own, *common] if line and not line.startswith("#"))


def build_uboot(board: Board, cache: Path) -> Path:
    """The folder of a built U-Boot. Built once for each state of its source, fragments and environment."""
    fragments = [_UBOOT / "hub.config", *(_UBOOT / name for name in board.uboot["fragments"])]
    settings = "".join(path.read_text() for path in fragments) + uboot_settings()
    return _build(board, cache, board.name, settings, environment(board), _UBOOT / "hub.h", board.uboot["images"])


def build_open_uboot(board: Board, cache: Path) -> Path:
    """The folder of the U-Boot that the board's own defconfig makes, with a prompt and `fuse`: for the factory's bench
    (hab/bench.py), which loads it over USB while the chip is open. Never for a medium."""
    settings = "CONFIG_CMD_FUSE=y\n"
    return _build(board, cache, f"{board.name}-open", settings, None, None, ["SPL", "u-boot.img"])


def _build(
    board: Board, cache: Path, name: str, settings: str, env_text: str | None, header: Path | None, images: list[str]
) -> Path:
    """Once for each state of what goes in. settings: Kconfig lines beyond the defconfig; env_text: the whole default
    environment, else U-Boot's own; header: included before everything."""
    tree = _source(board, cache)
    state = hashlib.sha256((settings + (env_text or "")).encode() + _LOCK.read_bytes())
    state.update(header.read_bytes() if header else b"")
    state.update(" ".join([board.uboot["defconfig"], *board.uboot["make"], *images]).encode())
    out = cache / "uboot" / f"{name}-{state.hexdigest()[:12]}"
    if (out / "done").is_file():
        return out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if env_text is not None:
        (out / "hub.env").write_text(env_text)
        settings += f'CONFIG_DEFAULT_ENV_FILE="{out.absolute()}/hub.env"\n'
    # Its own time, not the image's: one U-Boot serves many releases.
    env = {"SOURCE_DATE_EPOCH": "0", "CROSS_COMPILE": board.architecture.cross}
    make = ["make", "-s", "-C", tree.absolute(), f"O={out.absolute()}"]
    make += [f"KCPPFLAGS=-include {header.absolute()}"] if header else []
    make += board.uboot["make"] if header else []
    run([*make, board.uboot["defconfig"]], env=env)
    with (out / ".config").open("a") as config:
        config.write(settings)
    run([*make, "olddefconfig"], env=env)
    _compare(out / ".config", settings)
    run([*make, f"-j{os.cpu_count() or 1}", *images], env=env)
    (out / "done").touch()
    return out


def _compare(config: Path, settings: str) -> None:
    """A setting that U-Boot's rules silently drop would be a hole: it is an error."""
    there = set(config.read_text().splitlines())
    names = {line.split("=")[0] for line in there}
    wanted = {re.sub(r"^# (\w+) is not set|=.*$", r"\1", line): line for line in settings.splitlines()}
    for line in wanted.values():  # of a setting that is given twice the last counts
        dropped = line.startswith("CONFIG_") and line not in there
        kept = line.startswith("# CONFIG_") and line.split()[1] in names
        if dropped or kept:
            raise BuildError(f"U-Boot's configuration does not take {line!r}")


def join_trust(board: Board, uboot: Path, control: Path, into: Path) -> dict[str, Path]:
    """The files of U-Boot that are flashed. Where it carries its device tree itself, that is the one with the key."""
    if board.kernel["dtb"] != "qemu":
        make = ["make", "-s", "-C", uboot, f"EXT_DTB={control.absolute()}", f"CROSS_COMPILE={board.architecture.cross}"]
        options = [f"KCPPFLAGS=-include {_UBOOT.absolute()}/hub.h", *board.uboot["make"], *board.uboot["images"]]
        run([*make, *options], env={"SOURCE_DATE_EPOCH": "0"})
    for name in board.uboot["images"]:
        shutil.copy(uboot / name, into / name)
        if (uboot / f"{name}.log").is_file():  # what of it the boot ROM wants signed (hab/csf.py)
            shutil.copy(uboot / f"{name}.log", into / f"{name}.log")
    return {name: into / name for name in board.uboot["images"]}


def device_tree(board: Board, kernel: Path, into: Path) -> Path:
    """The board's device tree: a file of the kernel's package, or what QEMU itself says."""
    if board.kernel["dtb"] != "qemu":
        found = list(kernel.rglob(board.kernel["dtb"]))
        if not found:
            raise BuildError(f"{board.name}: the kernel's package has no {board.kernel['dtb']}")
        shutil.copy(found[0], into)
        return into
    assert board.qemu is not None
    qemu = board.qemu
    machine = f"{qemu['machine']},dumpdtb={into}"
    run([qemu["program"], "-machine", machine, "-cpu", qemu["cpu"], "-smp", str(qemu["smp"]),
         "-m", str(qemu["memory_mb"]), "-display", "none", "-nic", "none"])  # fmt: skip
    source = run(["dtc", "-q", "-I", "dtb", "-O", "dts", into]) + (BOARDS / qemu["device_tree"]).read_text("utf-8")
    run(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", into, "-"], stdin=source.encode())
    return into


def make_fit(
    board: Board, kernel: Path, initramfs: Path, dtb: Path, version: str, signing: Signing, epoch_s: int, into: Path
) -> Path:
    """The signed FIT: kernel, initramfs and device tree under one signature."""
    image = next((kernel / "boot").glob(f"{board.architecture.kernel_image}-*"))
    work = into.parent / "fit"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    compression = "none"
    shutil.copy(image, work / "kernel")
    if board.architecture.name == "arm64":
        # Debian 13's kernel with gzip and an initramfs beside it would not fit its partition.
        run(["zstd", "-q", "-19", "--rm", work / "kernel", "-o", work / "kernel.zst"])
        (work / "kernel.zst").rename(work / "kernel")
        compression = "zstd"
    shutil.copy(initramfs, work / "initramfs")
    shutil.copy(dtb, work / "dtb")
    text = (HERE / "hub.its").read_text()
    for name, value in {
        "VERSION": version, "BOARD": board.name, "ARCH": board.architecture.fit, "COMPRESSION": compression,
        "LOAD": board.kernel["load_address"], "FDT_LOAD": board.kernel["fdt_address"],
    }.items():  # fmt: skip
        text = text.replace(f"@{name}@", value)
    (work / "hub.its").write_text(text)
    env = {"SOURCE_DATE_EPOCH": str(epoch_s), **signing.token_env}
    run(["mkimage", "-f", "hub.its", *signing.mkimage_options(), "-r", into.absolute()], cwd=work, env=env)
    shutil.rmtree(work)
    return into


def trust(control: Path, signing: Signing) -> None:
    """Put the public half of the boot key into U-Boot's own device tree; from then on it takes nothing unsigned."""
    work = control.parent / "trust"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "empty").write_bytes(bytes(64))
    (work / "empty.its").write_text((HERE / "empty.its").read_text())
    options = [*signing.mkimage_options(), "-K", control.absolute(), "-r"]
    run(
        ["mkimage", "-D", "-I dts -O dtb -p 4096", "-f", "empty.its", *options, "empty.fit"],
        cwd=work,
        env=signing.token_env,
    )
    shutil.rmtree(work)
