"""Build what is flashed: `python deploy/build.py --board BOARD --version V --out DIR`.

locked packages and wheels -> root file system -> squashfs with dm-verity -> initramfs -> signed FIT -> image of the
medium, signed update, manifest, SBOM. Twice the same input gives twice the same bytes (the update's signature and salt
excepted: RAUC draws them anew). What comes out is described in deploy/README.md.
"""

import argparse
import hashlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy.image import papers
from deploy.image.base import make_base
from deploy.image.board import Board, board_names, load_board
from deploy.image.boot import build_uboot, device_tree, join_trust, make_fit, trust, uboot_version
from deploy.image.bundle import make_bundle
from deploy.image.debs import (
    Package,
    changes,
    fetch,
    left_out,
    lock_path,
    lock_warnings,
    packages_of,
    write_lock,
    write_token_lock,
)
from deploy.image.disk import make_disk
from deploy.image.initramfs import Verity, make_initramfs
from deploy.image.licences import origin_of, write_texts
from deploy.image.root import finish, system_conf, unpack
from deploy.image.shell import BuildError, require_tools, run
from deploy.image.signing import Signing, given_keys, make_test_keys
from deploy.image.squash import make_rootfs
from deploy.image.wheels import fetch_wheels
from deploy.update_index import write_index
from hub.wire.version import VERSION

REPOSITORY = Path(__file__).resolve().parents[1]
UPDATE = "update"  # the folder of OUT that goes to the utility's server as it is


@dataclass
class BuildOrder:
    """One build: what, where, with which keys. epoch_s: UTC seconds, the time every file carries at most."""

    board: Board
    version: str
    out: Path
    cache: Path
    signing: Signing
    epoch_s: int
    console_root: bool
    overlay: Path | None


def build(order: BuildOrder) -> Path:
    """Build everything; return the manifest's file."""
    board, out, work = order.board, order.out, order.out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.environ["SOURCE_DATE_EPOCH"] = str(order.epoch_s)
    for line in lock_warnings(board, datetime.now(UTC).date()):
        _say(f"warning: {line}")
    _say("packages")
    files, wheels = fetch(board, order.cache), fetch_wheels(board.architecture, order.cache)
    _say("root file system")
    root, kernel = work / "root", work / "kernel"
    _unpacked(order, files, root, work)
    _say("the hub into it")
    finish(board, root, files, wheels, version=order.version, epoch_s=order.epoch_s)
    _adapt(order, root)
    _say("squashfs and hash tree")
    rootfs, verity = make_rootfs(root, board.architecture.compression, order.version, order.epoch_s, out / "rootfs.img")
    _say(f"root: {rootfs.stat().st_size / 1e6:.1f} MB")
    for package, path in files.items():
        if package.section != "root":
            run(["dpkg-deb", "-x", path, kernel if package.section == "kernel" else work / package.section])
    initramfs = make_initramfs(
        board,
        root,
        work / "boot/usr/bin/busybox",
        kernel,
        verity,
        order.version,
        order.epoch_s,
        work / "initramfs",
        is_closed=not order.console_root,
    )
    _say(f"initramfs: {initramfs.stat().st_size / 1e6:.1f} MB; U-Boot")
    products = _boot(order, kernel, initramfs, work)
    products["rootfs"] = rootfs
    products |= _media(order, products["fit"], rootfs, work)
    manifest = _papers(order, products, files, wheels, verity)
    shutil.rmtree(work)
    return manifest


def _unpacked(order: BuildOrder, files: dict[Package, Path], root: Path, work: Path) -> None:
    """The unpacked packages, a copy of what an earlier build with the same locks has kept in the cache."""
    name, packages = order.board.name, sorted(package.sha256 for package in files if package.section == "root")
    kept = order.cache / f"unpacked-{name}-{hashlib.sha256(''.join(packages).encode()).hexdigest()[:12]}"
    if not kept.is_dir():
        for old in order.cache.glob(f"unpacked-{name}-*"):
            shutil.rmtree(old)
        unpack(order.board, files, work / "unpacked", work)
        (work / "unpacked").rename(kept)
    run(["cp", "-a", "--reflink=auto", kept, root])


def _adapt(order: BuildOrder, root: Path) -> None:
    (root / "etc/rauc/keyring.pem").write_bytes(order.signing.keyring)
    (root / "etc/rauc/system.conf").write_text(system_conf(order.board, checks_crl=order.signing.has_crl))
    if not order.signing.has_crl:
        _say(f"warning: --keys has no {order.signing.crl_file.name}: no release key can be taken back (signing.revoke)")
    if order.console_root:
        system = root / "etc/systemd/system"
        folder = system / "serial-getty@.service.d"
        folder.mkdir(exist_ok=True)
        tty = order.board.console_tty
        (system / f"multi-user.target.wants/meterhub-console@{tty}.service").unlink()
        getty = system / f"multi-user.target.wants/serial-getty@{tty}.service"
        getty.symlink_to("/usr/lib/systemd/system/serial-getty@.service")
        (folder / "root.conf").write_text(
            "# For tests: whoever holds the serial line is root.\n[Service]\nExecStart=\n"
            "ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I dumb\n"
        )
    if order.overlay is not None:
        shutil.copytree(order.overlay, root, symlinks=True, dirs_exist_ok=True)


def _boot(order: BuildOrder, kernel: Path, initramfs: Path, work: Path) -> dict[str, Path]:
    board, out = order.board, order.out
    uboot = build_uboot(board, order.cache)
    dtb = device_tree(board, kernel, work / "board.dtb")
    control = out / "control.dtb"
    shutil.copy(dtb if board.kernel["dtb"] == "qemu" else uboot / "dts/dt.dtb", control)
    trust(control, order.signing)
    products = {"control": control} | join_trust(board, uboot, control, out)
    fit = make_fit(board, kernel, initramfs, dtb, order.version, order.signing, order.epoch_s, out / "kernel.fit")
    return products | {"fit": fit}


def _media(order: BuildOrder, fit: Path, rootfs: Path, work: Path) -> dict[str, Path]:
    board, out = order.board, order.out
    _say("image and update")
    image = make_disk(board, fit, rootfs, work, out / "disk.img")
    shutil.rmtree(out / UPDATE, ignore_errors=True)
    (out / UPDATE).mkdir()
    update = out / UPDATE / f"{board.compatible}-{order.version}.raucb"
    make_bundle(board, fit, rootfs, order.version, order.signing, order.epoch_s, work, update)
    index = write_index(update)
    base = make_base(update, index, fit, rootfs, out / "base.tar")
    return {"disk": image, "update": update, "update_index": index, "base": base}


def _papers(
    order: BuildOrder, products: dict[str, Path], files: dict[Package, Path], wheels: list[Path], verity: Verity
) -> Path:
    board, out = order.board, order.out
    gone = left_out(board)
    origins = {package: origin_of(package, path) for package, path in files.items() if package.name not in gone}
    bill = papers.sbom(board, order.version, order.epoch_s, list(files), wheels, uboot_version(), origins)
    products["licences"] = write_texts(origins, wheels, order.epoch_s, out / "licences.tar")
    products["sbom"] = papers.write_json(bill, out / "sbom.cdx.json")
    document = papers.manifest(
        board, order.version, order.epoch_s, products, out=out,
        root_hash=verity.root_hash, test_keys=order.signing.is_for_tests, console=order.console_root,
    )  # fmt: skip
    return papers.write_json(document, out / "manifest.json")


_began = time.monotonic()


def _say(text: str) -> None:
    print(f"{time.monotonic() - _began:6.1f} s  {text}", flush=True)


def _epoch_s() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or run(["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy/build.py", description=__doc__.splitlines()[0])
    parser.add_argument("--board", required=True, choices=board_names(), metavar="BOARD", help=", ".join(board_names()))
    parser.add_argument("--version", default=VERSION, help="of the image (default: the hub's, %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for what is built (default: build/BOARD)")
    parser.add_argument(
        "--keys", type=Path, help="folder with the release's keys and certificates (default: test keys)"
    )
    parser.add_argument(
        "--sign-uri", help='production keys in a token: "pkcs11:token=NAME"; --keys has the certificates'
    )
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "build/cache", help="for downloads and U-Boot")
    parser.add_argument("--console-root", action="store_true", help="for tests: a root shell on the serial console")
    parser.add_argument("--overlay", type=Path, help="for tests: a folder copied over the finished root")
    parser.add_argument(
        "--without", action="append", default=[], metavar="SUITE",
        help="with --lock: a suite whose index this machine's mirror does not have whole; the lock says so",
    )  # fmt: skip
    parser.add_argument(
        "--lock", action="store_true", help="resolve the board's packages anew, write the lock, and stop"
    )
    return parser


def _lock(board: Board, cache: Path, without: list[str]) -> int:
    """Make the locks anew, and say what that brings."""
    before = packages_of(board) if lock_path(board).is_file() else []
    today = datetime.now(UTC).date()
    print(write_lock(board, cache, today, without))
    if board.token:
        print(write_token_lock(board, cache, today, without))
    for line in changes(before, packages_of(board)) or ["nothing has changed"]:
        print(f"  {line}")
    return 0


def main() -> int:
    """Exit status 0, 1 with what is wrong, or 2 for wrong usage."""
    arguments = _parser().parse_args()
    out = (arguments.out or REPOSITORY / "build" / arguments.board).absolute()
    try:
        board = load_board(arguments.board)
        if arguments.lock:
            return _lock(board, arguments.cache, arguments.without)
        require_tools((f"{board.architecture.cross}gcc", board.architecture.compiler_package))
        out.mkdir(parents=True, exist_ok=True)
        if arguments.sign_uri and not arguments.keys:
            raise BuildError("--sign-uri: --keys is needed, too: the folder with release-ca.pem and release.pem")
        keys = (
            given_keys(arguments.keys.absolute(), arguments.sign_uri)
            if arguments.keys
            else make_test_keys(out / "keys")
        )
        manifest = build(
            BuildOrder(
                board, arguments.version, out, arguments.cache.absolute(), keys, _epoch_s(), arguments.console_root,
                arguments.overlay,
            )
        )  # fmt: skip
    except BuildError as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    _say(f"done: {manifest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
