"""python -m tests.fuzz [--seconds N] [--seed S]: fuzz every target; keep what breaks one in the corpus, exit 1."""

import argparse
import hashlib
import random
import sys
import time

from tests.fuzz.targets import CORPUS, Found, GatewayTarget, corpus, fuzz_decode, fuzz_decode2, mutated


def fuzz(seconds: float, seed: int) -> int:
    """The number of datagrams tried. Raises Found."""
    rng = random.Random(seed)
    tried = 0
    target = GatewayTarget(rng)
    end = time.monotonic() + seconds
    for data in mutated(rng, corpus()):
        tried += 1
        try:
            fuzz_decode(data)
            fuzz_decode2(data)
            target.take(data)
        except Exception as error:
            raise Found(type(error).__name__, data, error) from error
        if tried % 1000 == 0 and time.monotonic() >= end:
            break
    return tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    try:
        tried = fuzz(arguments.seconds, seed)
    except Found as found:
        name = "found-" + hashlib.sha256(found.data).hexdigest()[:12] + ".hex"
        (CORPUS / name).write_text(found.data.hex() + "\n")
        print(f"{found}\nkept as {CORPUS / name}", file=sys.stderr)
        return 1
    print(f"{tried} datagrams, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
