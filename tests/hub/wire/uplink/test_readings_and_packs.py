"""Exact decimals, packs to the letter of the contract, events that are listed."""

import random
import zlib
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.uplink.event import EVENTS, UnknownEvent, decode_event, encode_event
from hub.wire.uplink.pack import MAX_PACK_BYTES, BadPack, decode_pack, deflate_pack, encode_pack, inflate_pack
from hub.wire.uplink.pack_form import PackForm
from hub.wire.uplink.reading import (
    BadReading,
    Reading,
    flags_in_words,
    format_decimal,
    is_quantity,
    parse_decimal,
    parse_payload,
)
from tests.harness.operator import dumps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0", (0, 0)), (b"230.1", (2301, -1)), (b"-7", (-7, 0)), (b"+5", (5, 0)), (b".5", (5, -1)), (b"5.", (5, 0)),
        (b"-0.050", (-50, -3)), (b"007", (7, 0)), (b"9" * 18, (10**18 - 1, 0)),
    ],
)  # fmt: skip
def test_a_decimal_is_kept_exactly(text: bytes, value: tuple[int, int]) -> None:
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    "text", [b"", b".", b"-", b"1e3", b"1,5", b" 1", b"1 ", b"0x10", b"nan", b"inf", b"1_000", b"9" * 19, "٣".encode()]
)
def test_what_is_no_decimal_is_refused(text: bytes) -> None:
    with pytest.raises(BadReading):
        parse_decimal(text)


def test_buffered_samples_say_how_long_ago() -> None:
    assert parse_payload(b"90:1.5,0.5:2,0:-3") == [(90_000, 15, -1), (500, 2, 0), (0, -3, 0)]
    for bad in (b"1:", b":1", b"-1:2", b"1:2,", b"1:2:3", b"99999999:1", b",".join([b"1:1"] * 65)):
        with pytest.raises(BadReading):
            parse_payload(bad)


@given(st.integers(-(10**17), 10**17), st.integers(-6, 0))
def test_decimals_survive_a_round_trip(mantissa: int, exponent: int) -> None:
    again, scale = parse_decimal(format_decimal(mantissa, exponent).encode())
    assert Fraction(again) * Fraction(10) ** scale == Fraction(mantissa) * Fraction(10) ** exponent


def test_quantities_are_one_topic_level() -> None:
    assert is_quantity("power") and is_quantity("a.b-c_9")
    assert not any(map(is_quantity, ("", "a/b", "a b", "+", "x" * 33)))


def test_a_pack_by_hand() -> None:
    """The example is computed by hand from design 3.3, not with the code under test."""
    readings = [
        Reading("a", "power", 1000, 50, 0),
        Reading("b", "voltage", 1005, 2301, -1),
        Reading("a", "power", 1010, 47, 0),
        Reading("a", "power", 1020, 47, 0, 1),
    ]
    assert cbor2.loads(encode_pack(readings)) == {
        0: 1,
        1: 1000,
        2: [["a", "power", 0, [0, 10], [50, -3]], ["b", "voltage", -1, [5], [2301]], ["a", "power", 0, [20], [47], 1]],
    }


def test_mixed_exponents_share_a_series() -> None:
    pack = encode_pack([Reading("a", "voltage", 0, 230, 0), Reading("a", "voltage", 1, 2301, -1)])
    assert cbor2.loads(pack)[2] == [["a", "voltage", -1, [0, 1], [2300, 1]]]


reading = st.builds(
    Reading,
    st.sampled_from(["boiler", "zb-000d6f0000000001", "meter"]),
    st.sampled_from(["power", "energy", "voltage"]),
    st.integers(0, 2**42),
    st.integers(-(10**12), 10**12),
    st.integers(-9, 0),
    st.sampled_from([0, 1, 2, 3]),
)


@given(st.lists(reading, min_size=1, max_size=60))
def test_a_pack_holds_every_reading_exactly(readings: list[Reading]) -> None:
    def facts(rows: list[Reading]) -> Counter[tuple[object, ...]]:
        return Counter(
            (r.client_id, r.quantity, r.t_ms, Fraction(r.mantissa) * Fraction(10) ** r.exponent, r.flags) for r in rows
        )

    decoded = decode_pack(encode_pack(readings))
    assert facts(decoded) == facts(readings)
    for client in {r.client_id for r in readings}:
        for key in {(r.quantity, r.flags) for r in readings}:
            one = [r.t_ms for r in readings if (r.client_id, (r.quantity, r.flags)) == (client, key)]
            same = [r.t_ms for r in decoded if (r.client_id, (r.quantity, r.flags)) == (client, key)]
            assert sorted(one) == sorted(same)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_pack_or_bad_pack(data: bytes) -> None:
    try:
        decode_pack(data)
    except BadPack:
        pass


@pytest.mark.parametrize(
    "document",
    [
        [], {}, {0: 2, 1: 0, 2: []}, {0: 1, 1: "0", 2: []}, {0: 1, 1: 0, 2: [1]},
        {0: 1, 1: 0, 2: [["a", "b", 0, [0], [1, 2]]]},
        {0: 1, 1: 0, 2: [["a", "b", 0, [0], [True]]]}, {0: 1, 1: 0, 2: [["a", 5, 0, [0], [1]]]},
        {0: 1, 1: 0, 2: [["a", "b", 0, [0], [1.5]]]}, {0: 1, 1: 0, 2: [["a", "b", 0, [0], [1], "x"]]},
    ],
)  # fmt: skip
def test_a_wrong_pack_is_refused(document: object) -> None:
    with pytest.raises(BadPack):
        decode_pack(dumps(document))


@given(st.lists(reading, min_size=1, max_size=60), st.integers(1, 1000))
def test_times_in_steps_move_by_less_than_one_and_keep_readings_apart(readings: list[Reading], step_ms: int) -> None:
    stepped = PackForm(time_step_ms=step_ms).in_steps(readings)
    assert [r._replace(t_ms=0) for r in stepped] == [r._replace(t_ms=0) for r in readings]
    assert all(0 <= before.t_ms - after.t_ms < step_ms for before, after in zip(readings, stepped, strict=True))

    def places(rows: Sequence[Reading]) -> int:
        return len({(r.client_id, r.quantity, r.t_ms) for r in rows})

    assert places(stepped) == places(readings)


def test_what_is_quicker_than_the_step_keeps_its_milliseconds() -> None:
    quick = [Reading("plug", "power", 1_790_000_000_123 + 40 * n, n, 0) for n in range(5)]
    slow = [Reading("plug", "energy", 1_790_000_000_123 + 1040 * n, n, 0) for n in range(5)]
    assert PackForm(time_step_ms=100).in_steps(quick + slow) == [
        *quick, *(r._replace(t_ms=r.t_ms // 100 * 100) for r in slow)
    ]  # fmt: skip


@pytest.mark.parametrize(("span_s", "most_bytes"), [(60, 3.5), (900, 2.2)])
def test_without_the_noise_of_arrival_a_deflated_pack_is_half_as_large(span_s: int, most_bytes: float) -> None:
    """Ten appliances, each every ten seconds, up to 50 ms late, some watts of noise."""
    chance = random.Random(7)
    readings = [
        Reading(f"appliance-{n}", "power", 1_790_000_000_000 + t * 10_000 + n * 1000 + chance.randrange(50),
                40 * n + int(chance.gauss(0, 4)), 0)
        for t in range(span_s // 10)
        for n in range(10)
    ]  # fmt: skip
    form = PackForm(deflate=True, time_step_ms=100)
    pack, _ = deflate_pack(encode_pack(form.in_steps(readings)))
    assert len(pack) / len(readings) <= most_bytes


def test_sixty_readings_of_ten_appliances_are_small() -> None:
    """P8: at most 6 B of pack per reading. Power and energy of ten appliances, each once a second, for a minute."""
    readings = [
        Reading(f"appliance-{n}", quantity, 1_790_000_000_000 + t * 1000 + n * 17, value + t * 3 + n, 0)
        for t in range(60)
        for n in range(10)
        for quantity, value in (("power", 2000), ("energy", 1_234_567))
    ]
    assert len(encode_pack(readings)) / len(readings) <= 6


def test_events_are_listed_with_their_fields() -> None:
    assert decode_event(encode_event(5, "adapter.lost", {"client": "boiler"})) == {
        "t": 5, "event": "adapter.lost", "client": "boiler",
    }  # fmt: skip
    for name, fields in (("adapter.vanished", {}), ("adapter.lost", {"clinet": "boiler"})):
        with pytest.raises(UnknownEvent):
            encode_event(5, name, fields)
    assert all("." in name for name in EVENTS)


def minute(clients: int = 10) -> list[Reading]:
    return [Reading(f"plug-{i % clients}", "power", 1000 * i, 2000 + i % 7, 0) for i in range(60 * clients)]


def test_a_deflated_pack_says_so_and_reads_as_it_was() -> None:
    pack = encode_pack(minute())
    small, field = deflate_pack(pack)
    assert field == {-65538: "deflate"} and len(small) < 0.6 * len(pack)
    assert inflate_pack({-65538: "deflate"}, small) == pack
    assert inflate_pack({"l": "readings"}, pack) == pack
    assert zlib.decompress(small, -15) == pack, "RFC 1951, which every platform reads"


def test_what_would_not_become_smaller_stays_as_it_is() -> None:
    pack = encode_pack([Reading("a", "power", 1, 2, 0)])
    assert deflate_pack(pack) == (pack, {})


@pytest.mark.parametrize(
    ("how", "payload"),
    [
        (2, b"x"), (True, b"x"), ("deflate", b"x"), (1, b"no stream"), (1, deflate_pack(encode_pack(minute()))[0][:-1]),
        (1, deflate_pack(encode_pack(minute()))[0] + b"more"), (1, deflate_pack(bytes(MAX_PACK_BYTES + 1))[0]),
    ],
    ids=["2", "true", "text", "noise", "cut short", "bytes behind it", "a bomb"],
)  # fmt: skip
def test_what_does_not_inflate_is_said(how: object, payload: bytes) -> None:
    with pytest.raises(BadPack):
        inflate_pack({-65538: how}, payload)


def test_flags_are_told_in_words_each_of_them() -> None:
    assert flags_in_words(0) == "" and flags_in_words(6) == "thinned, implausible"
    assert flags_in_words(7).startswith("clock not synchronised, ")
