"""What a board needs whose key is held in a token: OpenSSL's provider, PyKCS11, a PKCS#11 module, access to the chip.

Which packages that is says packages.toml ([token]); what else a kind of token needs lies in tokens/KIND/, a folder that
is copied over the root.
"""

import shutil
from pathlib import Path

from deploy.image.board import Board
from deploy.image.shell import BuildError

HERE = Path(__file__).parent / "tokens"
_PYKCS11 = "PyKCS11"
_PROVIDER = "usr/lib/*/ossl-modules/pkcs11.so"
# Where a module has to be found when everything superfluous has been thrown out.
MODULES = {
    "softhsm2": "usr/lib/softhsm/libsofthsm2.so",
    "tpm2": "usr/lib/*/pkcs11/libtpm2_pkcs11.so",
    "swtpm": "usr/lib/*/pkcs11/libtpm2_pkcs11.so",
}


def take_aside(board: Board, site: Path, aside: Path) -> Path:
    """Keep Debian's PyKCS11: it is there for every architecture, which its wheels are not. The rest of `site` goes."""
    if board.token:
        aside.mkdir()
        (site / _PYKCS11).rename(aside / _PYKCS11)
    return aside


def put_token(board: Board, root: Path, aside: Path, site: Path) -> None:
    """What was kept comes back, and each kind of token has its files."""
    if board.token:
        (aside / _PYKCS11).rename(site / _PYKCS11)
        aside.rmdir()
    for kind in board.token:
        if (HERE / kind).is_dir():
            shutil.copytree(HERE / kind, root, dirs_exist_ok=True)


def check_token(board: Board, root: Path) -> None:
    """Raise BuildError when the key could not be used: a module or the provider did not come so far."""
    for pattern in [_PROVIDER, *(MODULES[kind] for kind in board.token)] if board.token else []:
        if not any(path.resolve().is_file() for path in root.glob(pattern)):
            raise BuildError(f"{board.name}: [token]: the root has no {pattern}")
