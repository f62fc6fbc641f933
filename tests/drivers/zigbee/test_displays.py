"""Smart Energy displays: what they are answered (a machine), and one behind the emulated radio."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee import messaging
from drivers.zigbee.smart_energy import (
    CURRENCIES,
    NO_PRICES,
    PRICE,
    TIME,
    PriceStep,
    PriceTable,
    announcement,
    answers,
    is_question,
)
from tests.drivers.zigbee.radio import Emulator, HubSide, short_directory

NOW = 1_790_000_000.0
ZCL_NOW = (int(NOW) - 946_684_800).to_bytes(4, "little")
TABLE = PriceTable("GBP", (PriceStep(NOW - 600, 1800, 0.2815), PriceStep(NOW + 1200, 1800, 0.07)), 7)
CURRENT, SCHEDULED = b"\x01\x21\x00\x01", b"\x01\x22\x01\x00\x00\x00\x00\x00"
DISPLAY_IEEE = "000d6f0000000003"
DISPLAY = {"kind": "display", "ieee": DISPLAY_IEEE, "name": "display"}


def test_the_current_price_byte_by_byte() -> None:
    """Annex D.4.2.4.1: header, provider, label, event, now, unit, currency, digits, tiers, start, minutes, price."""
    [said] = answers(PRICE, CURRENT, TABLE, NOW)
    start = (int(NOW) - 600 - 946_684_800).to_bytes(4, "little")
    assert said == (
        b"\x19\x21\x00" + bytes(4) + b"\x00" + b"\x07\0\0\0" + ZCL_NOW + b"\x00" + (826).to_bytes(2, "little")
        + b"\x40\x00" + start + b"\x1e\x00" + (2815).to_bytes(4, "little")
    )  # fmt: skip
    assert announcement(TABLE, NOW, 0x21) == said


def test_scheduled_prices_begin_where_they_are_asked_for_and_are_as_many_as_asked_for() -> None:
    assert len(answers(PRICE, SCHEDULED, TABLE, NOW)) == 2
    later = b"\x01\x22\x01" + (int(NOW) + 1500 - 946_684_800).to_bytes(4, "little") + b"\x00"
    assert [said[-4:] for said in answers(PRICE, later, TABLE, NOW)] == [b"\x07\0\0\0"]
    assert len(answers(PRICE, SCHEDULED[:-1] + b"\x01", TABLE, NOW)) == 1


@pytest.mark.parametrize(
    ("table", "t"), [(TABLE, None), (NO_PRICES, NOW), (TABLE, NOW + 1e6), (TABLE, NOW - 1000)],
    ids=["no clock", "no prices", "all over", "not yet"],
)  # fmt: skip
def test_without_a_price_that_applies_the_answer_is_not_found(table: PriceTable, t: float | None) -> None:
    assert answers(PRICE, CURRENT, table, t) == [b"\x18\x21\x0b\x00\x8b"]
    assert announcement(table, t, 1) is None


def test_the_time_is_told_from_a_trustworthy_clock_alone() -> None:
    ask = b"\x00\x05\x00\x00\x00\x01\x00\x02\x00"
    assert answers(TIME, ask, NO_PRICES, NOW) == [
        b"\x18\x05\x01" + b"\x00\x00\x00\xe2" + ZCL_NOW + b"\x01\x00\x00\x18\x01" + b"\x02\x00\x86"
    ]
    assert answers(TIME, ask, NO_PRICES, None) == [
        b"\x18\x05\x01" + b"\x00\x00\x00\xe2\xff\xff\xff\xff" + b"\x01\x00\x00\x18\x00" + b"\x02\x00\x86"
    ]


@pytest.mark.parametrize(
    ("price", "value", "digits"),
    [(0.2815, 2815, 4), (28.0, 28, 0), (0.0, 0, 0), (-0.05, 0, 0), (1e-12, 0, 9), (4.2e9, 4_200_000_000, 0)],
)
def test_a_price_is_exact_where_a_display_can_show_it(price: float, value: int, digits: int) -> None:
    [said] = answers(PRICE, CURRENT, TABLE._replace(steps=(PriceStep(NOW, 60, price),)), NOW)
    assert (int.from_bytes(said[-4:], "little"), said[3 + 4 + 1 + 4 + 4 + 1 + 2] >> 4) == (value, digits)


def test_an_unknown_currency_is_none_and_an_unknown_command_is_refused() -> None:
    assert "XXX" not in CURRENCIES
    [said] = answers(PRICE, CURRENT, TABLE._replace(currency="XXX"), NOW)
    assert said[17:19] == (999).to_bytes(2, "little")
    assert answers(PRICE, b"\x01\x30\x55", TABLE, NOW) == [b"\x18\x30\x0b\x55\x81"]
    assert answers(PRICE, b"\x11\x30\x02" + bytes(13), TABLE, NOW) == [], "an acknowledgement that wants no answer"


@given(
    st.sampled_from([TIME, PRICE, 0x0006]), st.binary(max_size=80), st.one_of(st.none(), st.floats(0, 6e9)),
    st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(1, 1e9), st.floats(-1e6, 1e6)), max_size=5),
)  # fmt: skip
def test_any_bytes_are_answered_or_left_alone(
    cluster_id: int, frame: bytes, t: float | None, steps: list[tuple[float, float, float]]
) -> None:
    table = PriceTable("EUR", tuple(PriceStep(*step) for step in steps), 1)
    if is_question(cluster_id, frame):
        for said in answers(cluster_id, frame, table, t):
            assert 3 <= len(said) <= 80, "one frame on the air each"
            assert said[1] == frame[1]


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


@pytest.mark.parametrize("version", [8, 13, 14])
def test_a_display_finds_the_hub_and_shows_what_the_utility_says(version: int) -> None:
    with short_directory() as place, Emulator(place, [DISPLAY], version) as radio:

        async def scenario() -> None:
            trusted = False
            async with HubSide(radio.tty, place / "data", utc=lambda: time.time() if trusted else None) as hub:
                await hub.open()
                now = time.time()
                hub.link.tell_prices("GBP", [(now - 60, 3600, 0.2815), (now + 3540, 1800, 0.07)], 7)
                row = await radio.until("an answer without a clock", "display", lambda row: row["not_found"])
                assert row["price"] is None and row["time"] is None
                trusted = True
                row = await radio.until("price and time", "display", lambda row: row["price"] and row["time"])
                assert row["price"] == {"per_kwh": 0.2815, "currency": 826, "event": 7, "minutes": 60}
                assert abs(row["time"] - time.time()) < 60 and row["time_status"] == 1
                row = await radio.until("what comes", "display", lambda row: len(row["scheduled"]) == 2)
                assert row["scheduled"][1] == [int(now) + 3540, 7]
                event = 7
                while not (row := await radio.device("display"))["unasked"]:  # once its interview is over
                    event += 1
                    hub.link.tell_prices("GBP", [(now - 60, 3600, event / 100)], event)
                    await asyncio.sleep(0.2)
                assert row["price"]["per_kwh"] == row["price"]["event"] / 100
                assert row["unencrypted"] == 0, "Smart Energy wants the link key"

        run(scenario())


def test_a_message_byte_by_byte() -> None:
    """Annex D.5.2.3.1.1: identifier, control, start, minutes, text; D.5.2.3.2.1."""
    message = messaging.DisplayText(0x01020304, "Keep to 5 W", 1000.0)
    shown = b"\x09\x21\x00" + b"\x04\x03\x02\x01" + b"\x08" + bytes(4) + b"\x02\x00" + b"\x0bKeep to 5 W"
    assert messaging.display_message(message, 880.0, 0x21) == shown
    assert messaging.display_message(message._replace(ends_at=None), 0.0, 1)[12:14] == b"\xff\xff"
    assert messaging.cancel_message(7, 2) == b"\x09\x02\x01" + b"\x07\0\0\0" + b"\x08"
    long = messaging.display_message(message._replace(text="\u00e9" * 60), 0.0, 1)
    assert len(long) <= 73 and long[15:].decode() == "\u00e9" * 29, "no half characters"
    assert messaging.answers(b"\x01\x21\x00", message, 880.0) == [shown]
    assert messaging.answers(b"\x01\x05\x00", message, 1000.0) == [b"\x18\x05\x0b\x00\x8b"]
    assert messaging.answers(b"\x11\x05\x01" + bytes(8), message, 0.0) == []
    assert messaging.answers(b"\x01\x05\x09", message, 0.0) == [b"\x18\x05\x0b\x09\x81"]


@given(st.integers(0, 0xFFFF), st.binary(max_size=80))
def test_any_bytes_to_the_messaging_cluster_are_answered_or_left_alone(cluster_id: int, frame: bytes) -> None:
    if messaging.is_question(cluster_id, frame):
        message = messaging.DisplayText(1, "m", None)
        assert all(3 <= len(said) <= 73 for said in messaging.answers(frame, message, 0.0))


def test_a_display_reads_the_limit_until_it_is_over() -> None:
    with short_directory() as place, Emulator(place, [DISPLAY]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                hub.link.tell_limit(3000.0, 7, 600.0)
                row = await radio.until("the limit", "display", lambda row: row["message"])
                assert row["message"] == {"id": 7, "text": "Your home is limited to 3000 W", "minutes": 10}
                identifier, unasked = 7, row["messages_unasked"]
                while (await radio.device("display"))["messages_unasked"] <= unasked:  # once its interview is over
                    identifier += 1
                    hub.link.tell_limit(2500.0, identifier, None)
                    await asyncio.sleep(0.2)
                row = await radio.device("display")
                assert row["message"]["text"] == "Your home is limited to 2500 W" and row["message"]["minutes"] is None
                hub.link.tell_limit(None, identifier + 1, None)
                await radio.until("its end", "display", lambda row: row["message"] is None)
                assert hub.status["displays"]["messages_told"] >= 1 and not row["unencrypted"]

        run(scenario())
