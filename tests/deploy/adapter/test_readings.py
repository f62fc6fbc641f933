# SPDX-License-Identifier: GPL-3.0-or-later
"""The buffer: order, bounds, thinning, and payloads that the hub's own parser reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.adapter.readings import SIZE, Ring, payload_of, to_mantissa, to_text
from hub.wire.uplink.reading import parse_decimal, parse_payload

POWER, ENERGY = 1, 2
BYTES = 53


def filled(capacity: int, *rows: tuple[int, int]) -> Ring:
    """Rows of (topic id, when); the value is the time."""
    ring = Ring(capacity)
    for topic_id, at in rows:
        ring.add(topic_id, at, at, 0)
    return ring


def drained(ring: Ring, now: int) -> dict[int, list[int]]:
    """topic id: when each of its readings was taken, as the hub would understand it."""
    times: dict[int, list[int]] = {}
    while len(ring):
        topic_id, records = ring.take(now, BYTES)
        payload = payload_of(records, now)
        assert len(payload) <= BYTES
        for ago_ms, mantissa, exponent in parse_payload(payload):
            assert mantissa * 10**exponent == now - ago_ms / 1000
            times.setdefault(topic_id, []).append(now - ago_ms // 1000)
    return times


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 3))
def test_numbers_are_read_back(mantissa: int, decimals: int) -> None:
    got, exponent = parse_decimal(to_text(mantissa, decimals).encode())
    assert got * 10.0**exponent == pytest.approx(mantissa * 10.0**-decimals)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**31, 1e30])
def test_what_is_no_number_is_no_reading(value: float) -> None:
    with pytest.raises(ValueError):
        to_mantissa(value, 0)


def test_a_reading_of_now_is_a_bare_number() -> None:
    ring = filled(4, (POWER, 100))
    assert payload_of(ring.take(100, BYTES)[1], 100) == b"100"


def test_a_payload_takes_one_quantity_oldest_first() -> None:
    ring = filled(9, *[(topic_id, at) for at in (10, 20, 30) for topic_id in (POWER, ENERGY)])
    topic_id, records = ring.take(40, BYTES)
    assert (topic_id, payload_of(records, 40)) == (POWER, b"30:10,20:20,10:30")
    assert len(ring) == 3


def test_what_was_put_back_comes_first_again() -> None:
    ring = filled(3, (POWER, 1), (POWER, 2))
    _, records = ring.take(2, BYTES)
    ring.add(POWER, 3, 3, 0)
    ring.put_back(records)
    assert drained(ring, 3) == {POWER: [1, 2, 3]}
    assert ring.dropped == 0


def test_putting_back_into_a_full_ring_makes_room() -> None:
    ring = filled(4, (POWER, 1), (POWER, 2))
    _, records = ring.take(2, BYTES)
    for at in (3, 4, 5, 6):
        ring.add(POWER, at, at, 0)
    ring.put_back(records)
    times = drained(ring, 6)[POWER]
    assert times == sorted(times) and times[0] == 1 and times[-1] == 6
    assert len(times) + ring.dropped == 6


@given(st.lists(st.sampled_from([POWER, ENERGY, 5]), max_size=200), st.integers(2, 40))
def test_a_full_ring_thins_its_past_and_counts(topics: list[int], capacity: int) -> None:
    ring = filled(capacity, *[(topic_id, at) for at, topic_id in enumerate(topics)])
    assert len(ring) == min(len(topics), len(ring)) and len(ring) <= capacity
    assert len(ring) + ring.dropped == len(topics)
    times = drained(ring, len(topics))
    for topic_id, kept in times.items():
        taken = [at for at, other in enumerate(topics) if other == topic_id]
        assert kept == sorted(set(kept) & set(taken))
    if topics:
        assert max(at for kept in times.values() for at in kept) == len(topics) - 1, "the newest is never dropped"


def test_a_long_outage_keeps_its_beginning_in_coarse_steps() -> None:
    ring = filled(60, *[(topic_id, at) for at in range(1000) for topic_id in (POWER, ENERGY)])
    times = drained(ring, 1000)
    assert set(times) == {POWER, ENERGY}
    assert times[POWER][0] < 100, "the oldest hour is not simply gone"
    assert times[POWER][-10:] == list(range(990, 1000)), "the newest are all there"


def test_what_the_hub_would_refuse_for_its_age_is_not_sent() -> None:
    ring = filled(4, (POWER, 0), (POWER, 90 * 86400))
    assert drained(ring, 90 * 86400) == {POWER: [90 * 86400]}
    assert ring.dropped == 1
    ring = filled(4, (POWER, 0))
    assert ring.take(90 * 86400, BYTES) == (0, b"")
    assert len(ring) == 0


def test_the_buffer_is_eleven_bytes_a_reading() -> None:
    ring = filled(2, (POWER, 1), (POWER, 2))
    assert len(ring.take(2, BYTES)[1]) == 2 * SIZE
