"""The table of deploy/fleet/README.md is what the calculation gives, and the calculation is plausible."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.fleet.capacity import Habits, needs

ROOT = Path(__file__).resolve().parents[2]


def capacity(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.fleet.capacity", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_page_has_the_table_of_today() -> None:
    assert capacity().stdout in (ROOT / "deploy/fleet/README.md").read_text("utf-8")


def test_needs_grow_with_the_fleet_and_a_hubs_own_do_not() -> None:
    small, large = needs(50_000, Habits()), needs(5_000_000, Habits())
    assert (small.brokers, large.brokers) == (1, 100)
    assert large.readings_a_second == 100 * small.readings_a_second
    assert small.air_a_month == large.air_a_month and small.broker_memory == large.broker_memory
    assert needs(50_001, Habits()).brokers == 2
    assert large.cores == large.brokers + math.ceil(1.5 * large.writers)
    assert large.kept < large.book_a_year, "rows of 90 days, and the packs of a year, are less than rows of a year"
    assert large.cost_a_year > 12 * 15 * large.cores


@pytest.mark.parametrize("words", [["0"], ["1", "--pack-s", "0"], ["1", "--readings-a-second", "-1"]])
def test_nonsense_is_one_line_of_advice(words: list[str]) -> None:
    refused = capacity(*words)
    assert refused.returncode == 2 and "expected at least one hub" in refused.stderr
