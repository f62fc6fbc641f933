"""`python -m tests.powercut --images 10000 --seed 1`: the long form of tests/powercut/test_images.py."""

import argparse
import tempfile
import time
from pathlib import Path

from tests.harness.memory import scratch
from tests.powercut.images import judge_all
from tests.powercut.recording import record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400, help="what each of the four lives does")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="meterhub-powercut-", dir=scratch()))
    ops = record(folder, lives=4, steps=arguments.steps)
    print(f"{len(ops)} operations recorded", flush=True)
    begun = time.monotonic()
    # Some moments leave nothing new to be cut, so a few more are asked for.
    judged = judge_all(ops, arguments.images * 51 // 50, arguments.seed, folder)
    print(f"{judged.total()} images in {time.monotonic() - begun:.0f} s, all sound: {dict(judged)}")
    if judged.total() < arguments.images:
        raise SystemExit(f"fewer than {arguments.images}: let the lives be longer (--steps)")


if __name__ == "__main__":
    main()
