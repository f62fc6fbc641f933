"""`python -m deploy.image.hab VERB ...`: see the package."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.image import hab
from deploy.image.board import load_board
from deploy.image.boot import build_open_uboot
from deploy.image.hab.bench import START_S, Bench, BenchError, BenchRecord, Console
from deploy.image.hab.csf import IMAGES, blocks_of, sign_image
from deploy.image.hab.fuses import CLOSING, script, srk_fuses
from deploy.image.hab.keys import HabKeys, make_keys
from deploy.image.hab.rom import judge
from deploy.image.shell import BuildError

_BAUDRATE = 115200


def sign(build: Path, keys: HabKeys, root: int) -> list[Path]:
    """Both images of a build, signed under one of the four roots, and judged as the ROM will. Raises BuildError."""
    signed = {}
    for log, (name, out) in IMAGES.items():
        block = blocks_of(build / log)
        image = sign_image((build / name).read_bytes(), block, keys, root)
        events = judge(image, keys.fuse_words)
        if events:
            raise BuildError(f"{build / name}: the ROM would not start it: {events[0]}")
        signed[build / out] = image
    for file, image in signed.items():
        file.write_bytes(image)
    return list(signed)


def _keys(words: argparse.Namespace) -> int:
    make_keys(words.keys)
    print(f"{words.keys}: four roots; private/passphrase opens all of them: keep it elsewhere")
    return 0


def _sign(words: argparse.Namespace) -> int:
    for file in sign(words.build, HabKeys(words.keys, words.sign_uri), words.root):
        print(file)
    return 0


def _judge(words: argparse.Namespace) -> int:
    status = 0
    for file in words.files:
        events = judge(file.read_bytes(), HabKeys(words.keys).fuse_words, words.revoked)
        print(f"{file}: {events[0] if events else 'starts on a closed chip'}")
        status |= bool(events)
    return status


def _fuses(words: argparse.Namespace) -> int:
    roots = HabKeys(words.keys).fuse_words
    if words.json:
        print(json.dumps([fuse._asdict() for fuse in [*srk_fuses(roots), *CLOSING]], indent=1))
    else:
        print(script(roots), end="")
    return 0


def _loader(words: argparse.Namespace) -> int:
    built = build_open_uboot(load_board("imx6ul-evk"), words.cache)
    words.out.mkdir(parents=True, exist_ok=True)
    for name in ("SPL", "u-boot.img"):
        shutil.copy(built / name, words.out / name)
        print(words.out / name)
    return 0


def _bench(visit: Callable[[Bench], None]) -> Callable[[argparse.Namespace], int]:
    def done(words: argparse.Namespace) -> int:
        import serial

        with serial.serial_for_url(words.port, baudrate=_BAUDRATE, timeout=0.2) as port:
            visit(Bench(Console(port, words.start_s), HabKeys(words.keys).fuse_words, BenchRecord(words.record), print))
        return 0

    return done


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 with what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.image.hab", description=(hab.__doc__ or "").split("\n\n")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("keys", help="make the four roots and what signs below them")
    made.add_argument("keys", type=Path)
    made.set_defaults(run=_keys)
    signed = verbs.add_parser("sign", help="sign SPL and U-Boot of a build")
    signed.add_argument("build", type=Path)
    signed.add_argument("keys", type=Path)
    signed.add_argument("--root", type=int, default=1, help="which of the four (default: 1)")
    signed.add_argument("--sign-uri", metavar="URI", help="pkcs11:token=NAME, with objects CSF1, IMG1, ...")
    signed.set_defaults(run=_sign)
    judged = verbs.add_parser("judge", help="what the ROM would say of signed images")
    judged.add_argument("keys", type=Path)
    judged.add_argument("files", type=Path, nargs="+", metavar="FILE")
    judged.add_argument("--revoked", type=int, default=0, metavar="BITS", help="SRK_REVOKE of the chip (default: 0)")
    judged.set_defaults(run=_judge)
    blown = verbs.add_parser("fuses", help="what is blown, in order")
    blown.add_argument("keys", type=Path)
    blown.add_argument("--json", action="store_true")
    blown.set_defaults(run=_fuses)
    loader = verbs.add_parser("loader", help="an open U-Boot with a prompt, to be loaded over USB")
    loader.add_argument("out", type=Path)
    loader.add_argument("--cache", type=Path, default=Path("build/cache"), help="as deploy/build.py's")
    loader.set_defaults(run=_loader)
    for name, visit, text in (
        ("burn", Bench.burn, "the chip's secret and the roots' hash, at an open U-Boot's prompt"),
        ("see", Bench.see, "note its signed start; switch the board on after this"),
        ("close", Bench.close, "close the chip, at an open U-Boot's prompt: no way back"),
        ("check", Bench.check, "look at a closed chip's start; switch the board on after this"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("keys", type=Path)
        verb.add_argument("--port", required=True, help="the board's console: a device, or socket://HOST:PORT")
        verb.add_argument("--record", type=Path, default=Path("hab-record.jsonl"), help="what was seen of each chip")
        verb.add_argument("--start-s", type=float, default=START_S, help="how long a start may take (default: 120)")
        verb.set_defaults(run=_bench(visit))
    words = parser.parse_args(arguments)
    try:
        return int(words.run(words))
    except (BuildError, BenchError, OSError) as error:
        print(f"hab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
