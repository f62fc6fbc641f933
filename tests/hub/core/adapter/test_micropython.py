# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter's modules under the official MicroPython port, which runs in node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.npm import install

HERE = Path(__file__).parent / "micropython"
ROOT = Path(__file__).parents[4]
INSTALLED = ROOT / ".cache" / "micropython"

# Bytes of heap on this 32-bit port, from source. A regression guard, about a tenth above what was measured.
CODEC_HEAP = 29_000
CLIENT_HEAP = 23_000

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: no MicroPython to run on")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """The port in the version that package.json pins; installed anew only when that file changes."""
    install(HERE / "package.json", INSTALLED)


def run(script: str) -> str:
    command = ["node", str(HERE / "run.mjs"), str(INSTALLED), str(ROOT / "hub"), script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("script", ["vectors.py", "conversation.py"])
def test_it_behaves_the_same(script: str) -> None:
    assert run(script) == "ok"


def test_it_fits() -> None:
    codec, client = [int(size) for size in run("heap.py").split()]
    assert codec < CODEC_HEAP
    assert client < CLIENT_HEAP
