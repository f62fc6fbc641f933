"""Load control devices: the codec byte by byte, and a relay behind the emulated radio."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee import load_control as lc
from hub.core.records import EventRecorded, RetainedSet, SubscriptionAdded, SubscriptionRemoved
from tests.drivers.zigbee.radio import PLUG, Emulator, HubSide, short_directory, until

RELAY_IEEE = "000d6f0000000004"
RELAY = {"kind": "relay", "ieee": RELAY_IEEE, "name": "relay", "minute_s": 0.5}
CLIENT = "zb-" + RELAY_IEEE


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


def test_an_event_byte_by_byte() -> None:
    """Annex D.2.2.3.1.1: event, classes, group, start, minutes, criticality, offsets, setpoints, load, duty."""
    event = lc.event_of(0x01020304, 1000.0, 0.4)
    assert lc.load_control_event(event, 880.0, 0x21) == (
        b"\x09\x21\x00" + b"\x04\x03\x02\x01" + b"\xff\x0f" + b"\x00" + bytes(4) + b"\x02\x00" + b"\x01" + b"\xff\xff"
        + b"\x00\x80\x00\x80" + b"\x80" + b"\x28" + b"\x00"
    )  # fmt: skip
    assert lc.load_control_event(event, 999.5, 1)[14:16] == b"\x01\x00", "never less than a minute"
    assert lc.cancel_event(7, 2) == b"\x09\x02\x01" + b"\x07\0\0\0" + b"\xff\x0f" + b"\0\0" + bytes(4)


def test_whoever_asks_for_events_gets_the_one_that_holds() -> None:
    event, ask = lc.event_of(9, 100.0, 0.0), b"\x01\x05\x01" + bytes(5)
    assert lc.answers(ask, event, 10.0) == [lc.load_control_event(event, 10.0, 5)]
    for nothing in (None, event._replace(ends_at=9.0)):
        assert lc.answers(ask, nothing, 10.0) == [b"\x18\x05\x0b\x01\x8b"]
    assert lc.answers(b"\x11\x05\x00" + bytes(12), event, 10.0) == [], "it wants no answer"


@given(st.integers(0, 0xFFFF), st.binary(max_size=80))
def test_any_bytes_are_answered_or_left_alone(cluster: int, frame: bytes) -> None:
    if lc.is_of_client(cluster, frame):
        lc.report_of(frame)
        assert all(len(said) >= 5 for said in lc.answers(frame, None, 0.0))


def test_what_a_device_says_that_it_switches_byte_by_byte() -> None:
    """ZCL 2.5.1, 2.5.2; annex D.2.3.2.4: a bitmap, a class a bit."""
    assert lc.read_device_class(7) == b"\x18\x07\x00\x03\x00"
    said = b"\x10\x07\x01\x03\x00\x00\x19"
    assert lc.is_of_client(0x0701, said + b"\x04\x00") and lc.is_device_class(said + b"\x04\x00")
    assert lc.device_class_of(said + b"\x04\x00") == "water-heater"
    assert lc.device_class_of(said + b"\x00\x04") == "ev-charger"
    for unclear in (b"\x06\x00", b"\x00\x02", b"\xff\x0f", b"\x04"):
        assert lc.device_class_of(said + unclear) == "", "several classes, a lamp, all of them, half a word"
    assert lc.device_class_of(b"\x10\x07\x01\x03\x00\x86") == ""


def test_who_says_what_it_is_is_announced_as_an_adapter_would_be() -> None:
    silent = RELAY | {"ieee": "000d6f0000000005", "name": "silent"}
    with short_directory() as place, Emulator(place, [RELAY | {"device_class": 4}, silent, PLUG]) as radio:

        async def scenario() -> None:
            seen: list[Any] = []
            async with HubSide(radio.tty, place / "data") as hub:
                hub.link.observed = seen.extend
                await hub.open()
                await until("both to be asked", lambda: len(hub.link._loads._classes) == 2)
                assert seen == [
                    RetainedSet(f"about/{CLIENT}", b'{"class": "water-heater"}', 0),
                    SubscriptionAdded(CLIENT, f"control/{CLIENT}", 0),
                ], "one that has not said what it is is nobody's to switch off"
                assert await hub.link.limit(CLIENT, 0.0, 300.0, 2000.0) == 0
                await until("its word", lambda: (CLIENT, "limit", "0") in hub.readings)
                await hub.link.limit(CLIENT, None, 0.0)
                await until("its end", lambda: EventRecorded("adapter.limit_cleared", {"client": CLIENT}) in seen)
            assert seen[-1] == SubscriptionRemoved(CLIENT, f"control/{CLIENT}"), "it cannot be reached without a radio"

        run(scenario())


@pytest.mark.parametrize("opts_out", [False, True])
def test_a_relay_obeys_and_lets_go_by_itself(opts_out: bool) -> None:
    with short_directory() as place, Emulator(place, [RELAY | {"opts_out": opts_out}, PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await until("its interview", lambda: hub.link._loads.can_hold(CLIENT))
                with pytest.raises(ValueError, match="no load control"):
                    await hub.link.hold("zb-" + PLUG["ieee"], 0.5, 60.0)  # type: ignore[operator]
                await hub.link.hold(CLIENT, 0.25, 60.0)
                if opts_out:
                    await until("the opt-out", lambda: ("limit.opted_out", {"client": CLIENT}) in hub.events)
                    return
                await radio.until("it to obey", "relay", lambda row: row["duty_cycle"] == 25)
                await radio.until("its own end", "relay", lambda row: row["history"] == [1, 2, 3])
                with pytest.raises(ValueError, match="not known"):
                    await hub.link.limit(CLIENT, 500.0, 600.0)
                assert await hub.link.limit(CLIENT, 500.0, 600.0, nominal_w=2000.0) == 500
                await radio.until("a quarter", "relay", lambda row: row["duty_cycle"] == 25)
                await hub.link.limit(CLIENT, 0.0, 600.0)
                await radio.until("it to obey again", "relay", lambda row: row["duty_cycle"] == 0)
                await hub.link.hold(CLIENT, None, 0.0)
                row = await radio.until("it to be let go", "relay", lambda row: row["duty_cycle"] is None)
                assert row["history"][-1] == 6

        run(scenario())
