"""The signed update: a RAUC bundle in the verity format with the kernel's FIT and the root file system."""

import os
import shutil
from pathlib import Path

from deploy.image.board import Board
from deploy.image.root import system_conf
from deploy.image.shell import run
from deploy.image.signing import Signing


def bundle_manifest(board: Board, version: str, epoch_s: int) -> str:
    """RAUC's manifest of an update."""
    return (
        f"[update]\ncompatible={board.compatible}\nversion={version}\nbuild={epoch_s}\n\n[bundle]\nformat=verity\n\n"
        "[image.kernel]\nfilename=kernel.img\n\n[image.rootfs]\nfilename=rootfs.img\n"
    )


def make_bundle(
    board: Board, fit: Path, rootfs: Path, version: str, signing: Signing, epoch_s: int, work: Path, into: Path
) -> Path:
    """Write the bundle. Its images are already compressed: the bundle's own squashfs is not."""
    content = work / "bundle"
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir()
    (content / "manifest.raucm").write_text(bundle_manifest(board, version, epoch_s))
    shutil.copy(fit, content / "kernel.img")
    os.link(rootfs, content / "rootfs.img")
    into.unlink(missing_ok=True)
    arguments = "--mksquashfs-args=-comp gzip -noI -noD -noF -noX -all-root -no-xattrs"
    # rauc verifies what it signed, with the hub's own rules but this machine's path of the keyring.
    conf = work / "rauc.conf"
    keyring = work / "keyring.pem"
    keyring.write_bytes(signing.keyring)
    rules = system_conf(board, checks_crl=signing.has_crl)
    conf.write_text(rules.replace("path=/etc/rauc/keyring.pem", f"path={keyring}"))
    env = {"SOURCE_DATE_EPOCH": str(epoch_s), **signing.token_env}
    run(["rauc", f"--conf={conf}", *signing.rauc_options(keyring), "bundle", arguments, content, into], env=env)
    shutil.rmtree(content)
    return into
