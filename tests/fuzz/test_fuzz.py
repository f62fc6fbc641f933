"""Five seconds of fuzzing, and every datagram of the corpus again."""

import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.__main__ import fuzz, fuzz_door, guide
from tests.fuzz.doors import DOORS, close, door, seeds_of
from tests.fuzz.targets import Found, GatewayTarget, corpus, fuzz_decode, fuzz_decode2


def test_the_corpus() -> None:
    target = GatewayTarget(random.Random(1))
    for data in corpus() * 20:
        fuzz_decode(data)
        fuzz_decode2(data)
        target.take(data)


def test_five_seconds() -> None:
    assert fuzz(5.0, seed=20111120) > 1000


@pytest.mark.parametrize("name", DOORS)
def test_a_door(name: str) -> None:
    """Each seed, what once broke it, and a second of mutations, with a bound on the CPU and memory of each."""
    opened = door(name)
    for data in seeds_of(name):
        opened.give(data)
    close(opened)
    assert fuzz_door(name, 1.0, seed=20111120, watch_memory=True) > 20


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this interpreter")
def test_a_door_guided_by_coverage_finds_what_is_planted(tmp_path: Path) -> None:
    """The harness itself: it runs, and it would say so if it found something."""
    assert "guided by coverage" in guide("readings", 2, seed=1)
    with pytest.raises(Found):
        guide("no-such-door", 1, seed=1)
