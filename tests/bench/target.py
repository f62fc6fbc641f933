"""The board's libraries beside this machine's: the same benches by turns, in two environments.

`.venv/bin/python -m tests.bench.target [ROUNDS]`, after `make setup-test`. The board's environment is that of
`make test-target` (deploy/target.sh): Debian's Python and the very versions of armhf, where cbor2 is pure Python. Both
run on this machine's processor: what is compared is the software alone. Medians of the rounds; a ratio above 1 says
that the board's takes more.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / ".cache" / "target"


class Figure(NamedTuple):
    """A figure of one bench. `read`: takes it from what the bench prints with `--json`."""

    name: str
    bench: tuple[str, ...]
    read: Callable[[Any], float]
    shape: str


_UPLINK = ("uplink",)
_GATEWAY = ("gateway", "--clients", "1", "100", "--seconds", "3")
_FORWARD = ("forward", "--clients", "1", "100", "--seconds", "3")
_LIMIT = ("limit", "--commands", "500")
FIGURES = (
    Figure("a backlog of readings, µs of processor each", _UPLINK, lambda found: found["cpu_us_per_reading"], "{:.2f}"),
    Figure("the same, MiB resident at most", _UPLINK, lambda found: found["rss_max_bytes"] / 2**20, "{:.1f}"),
    Figure(
        "the home's side, 1 client, CPU s per 10,000", _GATEWAY, lambda found: found[0]["cpu_s_per_10000"], "{:.2f}"
    ),
    Figure("the same, 100 clients", _GATEWAY, lambda found: found[1]["cpu_s_per_10000"], "{:.3f}"),
    Figure("raw forwards, 1 client, CPU s per 10,000", _FORWARD, lambda found: found[0]["cpu_s_per_10000"], "{:.2f}"),
    Figure("the same, 100 clients", _FORWARD, lambda found: found[1]["cpu_s_per_10000"], "{:.2f}"),
    Figure("a load limit to the order, p50 ms", _LIMIT, lambda found: found["p50_ms"], "{:.2f}"),
)


def measure(python: Path, bench: tuple[str, ...]) -> Any:
    """One run of a bench under that Python. Raises CalledProcessError."""
    done = subprocess.run(
        [python, "-m", "hub", "bench", *bench, "--json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    subprocess.run(["deploy/target.sh", str(TARGET)], cwd=ROOT, check=True)
    pythons = (Path(sys.executable), TARGET / "bin" / "python")
    found: dict[tuple[str, ...], tuple[list[Any], list[Any]]] = {figure.bench: ([], []) for figure in FIGURES}
    for _ in range(rounds):
        for bench, both in found.items():
            for python, runs in zip(pythons, both, strict=True):
                runs.append(measure(python, bench))
    print("| figure | machine's libraries | the board's | ratio |\n|---|---|---|---|")
    for figure in FIGURES:
        machine, board = (statistics.median(map(figure.read, runs)) for runs in found[figure.bench])
        print(
            f"| {figure.name} | {figure.shape.format(machine)} | {figure.shape.format(board)} | {board / machine:.2f} |"
        )


if __name__ == "__main__":
    main()
