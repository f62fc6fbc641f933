"""Who judges what a release is signed with: U-Boot's own code, built as a program, and RAUC with the hub's rules."""

import subprocess
from pathlib import Path

from deploy.image.board import Board
from deploy.image.root import system_conf

_UBOOT = Path(__file__).resolve().parents[2] / "build/cache/uboot"


def uboot_judges() -> list[Path]:
    """deploy/build.py makes them on the way."""
    return sorted(_UBOOT.glob("*/tools/fit_check_sign"))


def is_accepted(fit: Path, control: Path) -> bool:
    """Whether U-Boot with this device tree would start it."""
    words = [str(uboot_judges()[-1]), "-f", str(fit), "-k", str(control)]
    return subprocess.run(words, capture_output=True).returncode == 0


def rauc_info(board: Board, bundle: Path, keyring: Path, work: Path) -> "subprocess.CompletedProcess[str]":
    """What RAUC says of an update where `keyring` is the hub's."""
    conf = work / f"rauc-{keyring.stem}.conf"
    has_crl = b"X509 CRL" in keyring.read_bytes()
    rules = system_conf(board, checks_crl=has_crl)
    conf.write_text(rules.replace("path=/etc/rauc/keyring.pem", f"path={keyring}"))
    words = ["rauc", f"--conf={conf}", "info", "--output-format=json", str(bundle)]
    return subprocess.run(words, capture_output=True, text=True)
