"""python -m tests.fuzz [--seconds N] [--seed S] [--door NAME]: fuzz every door, N seconds in all; keep what breaks one
in the corpus, exit 1. Coverage-guided where atheris is installed (CPython 3.11 to 3.13), by plain mutation
elsewhere."""

import argparse
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from tests.fuzz.doors import DOORS, MAX_BYTES, MAX_CPU_S, bounded, close, door
from tests.fuzz.targets import CORPUS, Found, GatewayTarget, corpus, fuzz_decode, fuzz_decode2, mutated

_ROOT = Path(__file__).resolve().parents[2]


def fuzz(seconds: float, seed: int) -> int:
    """The number of datagrams tried at one gateway that lives on. Raises Found."""
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


def fuzz_door(name: str, seconds: float, seed: int, *, watch_memory: bool = False) -> int:
    """The number of inputs tried at one door by plain mutation, each within MAX_CPU_S and, where it is watched,
    MAX_BYTES of memory. Raises Found."""
    rng = random.Random(seed)
    opened = door(name)
    give = opened.give
    tried, end = 0, time.monotonic() + seconds
    if watch_memory:
        tracemalloc.start()
    try:
        for data in bounded(rng, name, mutated):
            tried += 1
            before = time.process_time()
            if watch_memory:
                tracemalloc.reset_peak()
                held = tracemalloc.get_traced_memory()[0]
            try:
                give(data)
                spent_s = time.process_time() - before
                assert spent_s <= MAX_CPU_S, f"{spent_s:.1f} s of CPU for {len(data)} bytes"
                if watch_memory:
                    taken = tracemalloc.get_traced_memory()[1] - held
                    assert taken <= MAX_BYTES, f"{taken} bytes of memory for {len(data)}"
            except Exception as error:
                raise Found(name, data, error) from error
            if time.monotonic() >= end:
                break
    finally:
        if watch_memory:
            tracemalloc.stop()
        close(opened)
    return tried


def guide(name: str, seconds: float, seed: int) -> str:
    """Fuzz one door under atheris, in a process of its own; what it tried. Raises Found."""
    with tempfile.TemporaryDirectory(prefix="mh-fuzz-") as folder:
        # Behind a shell: the most memory that a process had is told to the one that follows it by fork and exec, so
        # libFuzzer would take what this one holds for the door's own.
        words = [
            "sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-m", "tests.fuzz.guided", name,
            str(max(1, round(seconds))), str(seed), folder,
        ]  # fmt: skip
        # libFuzzer ends the process without a word to Python: what a door lays down lies in our folder.
        surroundings = os.environ | {"TMPDIR": folder}
        done = subprocess.run(
            words, cwd=_ROOT, env=surroundings, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            broke = next((path for path in sorted(Path(folder).glob("*-*")) if path.is_file()), None)
            raise Found(name, broke.read_bytes() if broke else b"", AssertionError(done.stderr[-3000:]))
        figures = dict(
            line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if line.startswith("stat::")
        )
        tried = figures.get("number_of_executed_units", "?").strip()
        peak = figures.get("peak_rss_mb", "?").strip()
        return f"{tried} inputs, guided by coverage; at most {peak} MB in all"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--door", choices=sorted(DOORS), action="append", help="only this one; may be repeated")
    parser.add_argument("--plain", action="store_true", help="by plain mutation though atheris is there")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    is_guided = not arguments.plain and importlib.util.find_spec("atheris") is not None
    print(
        f"seed {seed}{'' if is_guided else ', by plain mutation: atheris is not installed, or not wanted'}", flush=True
    )
    names = arguments.door or list(DOORS)
    share_s = arguments.seconds / (len(names) + (not arguments.door))
    try:
        if not arguments.door:
            print(f"{'a gateway':10} {fuzz(share_s, seed)} datagrams, nothing found", flush=True)
        for name in names:
            what = guide(name, share_s, seed) if is_guided else f"{fuzz_door(name, share_s, seed)} inputs"
            print(f"{name:10} {what}: nothing found", flush=True)
    except Found as found:
        folder = CORPUS / found.door if found.door in DOORS else CORPUS
        folder.mkdir(exist_ok=True)
        kept = folder / f"found-{hashlib.sha256(found.data).hexdigest()[:12]}.hex"
        kept.write_text(found.data.hex() + "\n")
        print(f"{found}\nkept as {kept}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
