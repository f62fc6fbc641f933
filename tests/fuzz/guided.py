"""One door under atheris, in a process of its own: libFuzzer ends it. Started by `python -m tests.fuzz`.

Not imported by anything: atheris has wheels for few interpreters, and instruments what is imported after it.
"""

import resource
import sys
from pathlib import Path

import atheris

NAME, SECONDS, SEED, FOLDER = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])

with atheris.instrument_imports(include=["hub"]):
    from tests.fuzz.doors import MAX_CPU_S, door, seeds_of


def main() -> None:
    """Fuzz until the time is over, or exit as libFuzzer does when something was found."""
    opened = door(NAME)
    inputs = FOLDER / "inputs"
    inputs.mkdir()
    for number, seed in enumerate(seeds_of(NAME)):
        (inputs / f"seed-{number}").write_bytes(seed)

    def take(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF)
        opened.give(data)
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if spent_s > MAX_CPU_S:
            raise AssertionError(f"{spent_s:.1f} s for {len(data)} bytes")

    words = [
        sys.argv[0], str(inputs), f"-max_total_time={SECONDS}", f"-seed={SEED}", f"-max_len={opened.longest}",
        "-timeout=10", "-rss_limit_mb=400", f"-artifact_prefix={FOLDER}/", "-verbosity=0", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(words, take)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
