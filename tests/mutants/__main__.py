"""`make mutants`: a score a room, the share of its mutants that its tests notice.

    python -m tests.mutants TOOL_PYTHON [--room NAME ...] [--each N] [--seed N] [--seconds-a-mutant N]

Each mutant is tried in a copy of the tree: nothing here is changed. A room's tests have to be green without a mutant. A
mutant that makes them run too long counts as noticed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# room -> (what is changed, the tests that are to notice). Machines and formats: their tests take seconds.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "wire/mqttsn": (("hub/wire/mqttsn",), ("tests/hub/wire/mqttsn", "tests/hub/core/gateway")),
    "wire/uplink": (("hub/wire/uplink", "hub/wire/schema.py"), ("tests/hub/wire", "tests/hub/core/control")),
    "core/gateway": (("hub/core/gateway",), ("tests/hub/core/gateway", "tests/conformance/test_machine.py")),
    "core/control": (("hub/core/control",), ("tests/hub/core/control",)),
    "core/uplink": (
        ("hub/core/uplink", "hub/core/backoff.py"),
        ("tests/hub/core/uplink", "tests/hub/core/test_backoff.py", "tests/deploy/test_fleet.py"),
    ),
    "core/update": (
        ("hub/core/update",),
        ("tests/hub/core/update", "tests/hub/services/update/test_fetch.py"),
    ),
    "drivers/meter": (("drivers/meter",), ("tests/drivers/meter",)),
    "drivers/zigbee": (
        ("drivers/zigbee/duplicates.py", "drivers/zigbee/contradictions.py", "drivers/zigbee/register.py",
         "drivers/zigbee/scaling.py", "drivers/zigbee/interviews.py", "drivers/zigbee/outbox.py"),
        ("tests/drivers/zigbee/test_machines.py", "tests/drivers/zigbee/test_appliance_machines.py",
         "tests/drivers/zigbee/test_devices.py"),
    ),
    "store": (("store",), ("tests/store",)),
}  # fmt: skip
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:warnings", "-m", "not slow")


def files_of(places: tuple[str, ...]) -> list[Path]:
    """Relative to the root."""
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return [path.relative_to(ROOT) for path in found if path.name != "__init__.py"]


def drawn(tool: str, places: tuple[str, ...], count: int, seed: int) -> list[dict[str, Any]]:
    """Mutants of a room: files are drawn by their number of lines."""
    files = files_of(places)
    sizes = [len((ROOT / file).read_text("utf-8").splitlines()) for file in files]
    chance = random.Random(seed)
    shares: dict[Path, int] = {}
    for file in chance.choices(files, sizes, k=count):
        shares[file] = shares.get(file, 0) + 1
    mutants = []
    for file, share in shares.items():
        command = [tool, str(ROOT / "tests/mutants/make.py"), str(ROOT / file), str(share), str(seed)]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        mutants += [{"file": file, **json.loads(line)} for line in made.stdout.splitlines()]
    return mutants


def notices(tree: Path, tests: tuple[str, ...], within_s: float) -> bool:
    """Whether the tests fail, or do not end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *_OPTIONS, *tests],
        cwd=tree, env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(within_s) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def copy_of_the_tree(folder: Path) -> Path:
    tree = folder / "tree"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            target = tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    return tree


def try_room(tree: Path, tool: str, room: str, count: int, seed: int, within_s: float) -> tuple[int, int]:
    """`(noticed, tried)`; each that lived is told."""
    places, tests = ROOMS[room]
    if notices(tree, tests, 10 * within_s):
        raise SystemExit(f"{room}: its tests are not green without a mutant")
    noticed = tried = 0
    for mutant in drawn(tool, places, count, seed):
        file = tree / mutant["file"]
        before = file.read_text("utf-8")
        file.write_text(mutant["code"], "utf-8")
        try:
            is_noticed = notices(tree, tests, within_s)
        finally:
            file.write_text(before, "utf-8")
        tried += 1
        noticed += is_noticed
        if not is_noticed:
            line = before.splitlines()[mutant["line"] - 1].strip()
            print(f"  lived: {mutant['file']}:{mutant['line']} {mutant['operator']}: {line}", flush=True)
    return noticed, tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("tool", metavar="TOOL_PYTHON", help="the Python that has cosmic-ray")
    parser.add_argument("--room", action="append", choices=ROOMS, help="only this one; may be repeated")
    parser.add_argument("--each", type=int, default=30, help="mutants a room (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds-a-mutant", type=float, default=300, metavar="S")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mh-mutants-") as folder:
        tree = copy_of_the_tree(Path(folder))
        for room in arguments.room or ROOMS:
            noticed, tried = try_room(
                tree, arguments.tool, room, arguments.each, arguments.seed, arguments.seconds_a_mutant
            )
            share = f"{noticed / tried:.0%}" if tried else "none"
            print(f"{room:16} {noticed:3} of {tried:3} noticed, {share}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
