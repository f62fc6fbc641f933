"""Which skips are expected: `tests/expected_skips.toml`, each with where it may happen and why. Any other one fails.

A test that is skipped says nothing, and a missing tool skips dozens without a word: so a skip has to be agreed to
beforehand. On a machine that cannot have a tool: METERHUB_ANY_SKIP=1 in the environment lets every skip pass.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _no_loop_device() -> bool:
    """Whether this machine lends no loop device: a container without any, or an ordinary user."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = subprocess.run(["losetup", "--find"], capture_output=True, env={**os.environ, "PATH": path})
    return found.returncode != 0


def _no_new_qemu() -> bool:
    """Whether neither this machine nor `deploy/setup.sh image` has an ARM's QEMU newer than Debian 12's."""
    programs = [str(ROOT / ".cache/qemu/usr/bin/qemu-system-arm"), "qemu-system-arm"]
    said = [
        subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        for program in programs if shutil.which(program)
    ]  # fmt: skip
    return not any(re.search(r"version \d\d", line) for line in said)


# What an entry's `where` may say; each is looked at here, apart from the test's own look.
FACTS: dict[str, Callable[[], bool]] = {
    "anywhere": lambda: True,
    "not root": lambda: os.geteuid() != 0,
    "not root, and systemd has never run": lambda: os.geteuid() != 0 and not Path("/run/systemd").exists(),
    "no loop device": cache(_no_loop_device),
    "no shared cases": lambda: not (ROOT.parent / "shared" / "cases").is_dir(),
    "not x86-64 with Python 3.11": lambda: platform.machine() != "x86_64" or sys.version_info[:2] != (3, 11),
    "older than Python 3.12": lambda: sys.version_info < (3, 12),
    "no PostgreSQL": lambda: not (list(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb")),
    "no VictoriaMetrics": lambda: shutil.which("victoria-metrics") is None,
    "not all engines of the fleet": lambda: (
        not all(
            shutil.which(name)
            for name in ("prometheus", "promtool", "amtool", "prometheus-alertmanager", "haproxy", "victoria-metrics")
        )
    ),
    "no Chromium, or no Playwright": lambda: (
        shutil.which("chromium") is None or importlib.util.find_spec("playwright") is None
    ),
    "no chrony": lambda: not Path("/usr/sbin/chronyd").exists(),
    "no QEMU of 10 or newer": cache(_no_new_qemu),
    "no image was built": lambda: not (ROOT / "build").is_dir(),
}


@dataclass(frozen=True, slots=True)
class Expected:
    """One entry. `tests`: how the node ids begin; `reason`: a regular expression that the skip's own words match."""

    tests: tuple[str, ...]
    reason: str
    where: str
    why: str

    def covers(self, test: str, reason: str) -> bool:
        return test.startswith(self.tests) and bool(re.search(self.reason, reason)) and FACTS[self.where]()


def load(file: Path) -> list[Expected]:
    """The list. Raises KeyError or TypeError where an entry lacks a key, has one too many or names an unknown fact."""
    entries = [Expected(**{**row, "tests": tuple(row["tests"])}) for row in tomllib.loads(file.read_text())["skip"]]
    for entry in entries:
        FACTS[entry.where]
        if not entry.why:
            raise TypeError(f"{entry.tests}: no reason why it may be skipped")
    return entries


def objection(expected: list[Expected], test: str, reason: str) -> str:
    """Why this skip must not be; empty where it may."""
    if os.environ.get("METERHUB_ANY_SKIP") == "1" or any(entry.covers(test, reason) for entry in expected):
        return ""
    return (
        f"skipped: {reason}\n"
        "No entry of tests/expected_skips.toml expects that here. What is missing on this machine? `deploy/setup.sh "
        "test` installs what it can; METERHUB_ANY_SKIP=1 lets it pass where that cannot be had."
    )
