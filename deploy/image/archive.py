"""What an image is built from, kept: `python -m deploy.image.archive BOARD OUT`.

OUT gets every locked Debian package of the board (its tokens', the kernel's and the initramfs' too), U-Boot's source,
the wheels, the locks themselves and SHA256SUMS (`sha256sum -c`). Mirrors drop what has been superseded; years later
`deploy/build.py --cache OUT` builds from it, and asks no mirror. Run twice it fetches what is missing and checks all.
"""

import argparse
import shutil
import sys
from pathlib import Path

from deploy.image.board import Board, board_names, load_board
from deploy.image.boot import fetch_uboot
from deploy.image.debs import fetch, lock_path, sha256_of, token_lock_path
from deploy.image.shell import BuildError
from deploy.image.wheels import fetch_wheels

_SUMS = "SHA256SUMS"


def archive(board: Board, out: Path) -> int:
    """Fill the folder, in the shape of a build's cache; how many files it has. Raises BuildError."""
    out.mkdir(parents=True, exist_ok=True)
    fetch(board, out)
    fetch_wheels(board.architecture, out)
    fetch_uboot(board, out)
    locks = out / "locks"
    locks.mkdir(exist_ok=True)
    for lock in (lock_path(board), token_lock_path(board.architecture), lock_path(board).with_name("uboot.lock")):
        if lock.is_file():
            shutil.copy(lock, locks / lock.name)
    return write_sums(out)


def write_sums(out: Path) -> int:
    """SHA256SUMS of all that is kept; what apt and builds have put beside it is not."""
    files = [path for folder in ("debs", "locks", "uboot", "wheels-*") for path in out.glob(f"{folder}/*")]
    files = sorted(path for path in files if path.is_file())
    (out / _SUMS).write_text("".join(f"{sha256_of(path)}  {path.relative_to(out)}\n" for path in files))
    return len(files)


def main() -> int:
    """Exit status 0, or 1 with what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.archive", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("board", choices=board_names(), metavar="BOARD", help=", ".join(board_names()))
    parser.add_argument("out", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    try:
        count = archive(load_board(arguments.board), arguments.out.absolute())
    except (BuildError, OSError) as error:
        print(f"archive: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {count} files, {_SUMS} beside them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
