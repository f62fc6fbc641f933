"""Five seconds of fuzzing, and every datagram of the corpus again."""

import random

from tests.fuzz.__main__ import fuzz
from tests.fuzz.targets import GatewayTarget, corpus, fuzz_decode, fuzz_decode2


def test_the_corpus() -> None:
    target = GatewayTarget(random.Random(1))
    for data in corpus() * 20:
        fuzz_decode(data)
        fuzz_decode2(data)
        target.take(data)


def test_five_seconds() -> None:
    assert fuzz(5.0, seed=20111120) > 1000
