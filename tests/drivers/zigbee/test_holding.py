"""Appliances that are held by their level or setpoint: told, known to the plan, given back, and their householders."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from hub.core.records import EventRecorded, RetainedSet, SubscriptionAdded, SubscriptionRemoved
from tests.drivers.zigbee.radio import PLUG, PLUG_IEEE, Emulator, HubSide, short_directory, until

PLUG_CLIENT = "zb-" + PLUG_IEEE
HEATER = {
    "kind": "zcl", "ieee": PLUG_IEEE, "name": "heater", "manufacturer": "Sinope Technologies", "model": "TH1123ZB",
    "endpoints": {"1": {"in": {
        "0x0000": {}, "0x0201": {"0x0000": ["29", 2050], "0x0012": ["29", 2100]}, "0x0B04": {"0x050B": ["29", 1250]},
    }}},
}  # fmt: skip


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


def test_a_charger_is_held_and_let_go_by_itself() -> None:
    charger = {
        "kind": "zcl", "ieee": PLUG_IEEE, "name": "charger", "manufacturer": "Amina Distribution AS",
        "model": "amina S",
        "endpoints": {"10": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}, "0x0008": {"0x0000": ["20", 32]}}}},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [charger, PLUG | {"ieee": "000d6f0000000009"}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("state", "power")
                assert await hub.link.limit(PLUG_CLIENT, 7000.0, 1.0) == 10 * 3 * 230
                assert (await radio.device("charger"))["commands"][-1][:3] == [10, 8, 0]
                assert (await radio.device("charger"))["commands"][-1][3].startswith("0a")
                row = await radio.until("it to be let go", "charger", lambda row: len(row["commands"]) == 2)
                assert row["commands"][-1][3].startswith("20")
                # A limit below the least that it can be held to never switches it off.
                assert await hub.link.limit(PLUG_CLIENT, 0.0, 300.0) == 6 * 3 * 230
                with pytest.raises(ValueError, match="cannot be held"):
                    await hub.link.limit("zb-000d6f0000000009", 100.0, 1.0)

                # Let go and held again before the answer to the first has come: the last word counts.
                await asyncio.gather(hub.link.limit(PLUG_CLIENT, None, 0.0), hub.link.limit(PLUG_CLIENT, 7000.0, 300.0))
                assert [command[3][:2] for command in (await radio.device("charger"))["commands"][3:]] == ["20", "0a"]

        async def after_the_hub() -> None:
            """The hub went while the charger was held: the next one lets it go."""
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                row = await radio.until("it to be let go", "charger", lambda row: len(row["commands"]) == 6)
                assert row["commands"][-1][3].startswith("20")

        run(scenario())
        run(after_the_hub())


def test_who_can_be_held_is_announced_with_its_class_and_says_what_it_obeys() -> None:
    charger = HEATER | {"manufacturer": "Amina Distribution AS", "model": "amina S", "endpoints": {
        "10": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}, "0x0008": {"0x0000": ["20", 32]}}}}}  # fmt: skip
    with short_directory() as place, Emulator(place, [charger, PLUG | {"ieee": "000d6f0000000009"}]) as radio:

        async def scenario() -> None:
            seen: list[Any] = []
            async with HubSide(radio.tty, place / "data") as hub:
                hub.link.observed = seen.extend
                await hub.open()
                await until("it to be announced", lambda: seen)
                about, listens = seen
                assert json.loads(about.payload) == {
                    "class": "ev-charger", "nominal_w": 22080, "minimum_w": 4140, "never_off": True,
                }  # fmt: skip
                assert about[:1] == (f"about/{PLUG_CLIENT}",)
                assert listens == SubscriptionAdded(PLUG_CLIENT, f"control/{PLUG_CLIENT}", 0)
                await hub.quantities("power")  # the plug's, which cannot be held and is not announced
                assert await hub.link.limit(PLUG_CLIENT, 7000.0, 300.0, 22080.0) == 6900
                assert (PLUG_CLIENT, "limit", "6900") in hub.readings
                assert await hub.link.limit(PLUG_CLIENT, 999_999.0, 2.0, 22080.0) is None, (
                    "more than it draws is no limit"
                )
                assert seen[2:] == [EventRecorded("adapter.limit_cleared", {"client": PLUG_CLIENT})]
            assert seen[-1] == SubscriptionRemoved(PLUG_CLIENT, f"control/{PLUG_CLIENT}")

        run(scenario())


def _setpoint(row: dict[str, Any]) -> Any:
    return row["values"]["1:0201:0012"]


async def _turn_the_knob(radio: Emulator, setpoint: int) -> None:
    """As its householder does, or the heater itself; in 0.01 degrees Celsius."""
    await radio.ask("attribute", device="heater", endpoint=1, cluster=0x0201, attribute=0x0012, value=setpoint)


async def _held_by(hub: HubSide) -> None:
    """The heater, once it reports by itself."""
    await hub.open()
    await hub.quantities("setpoint", "power")
    await until("its reports", lambda: hub.link.appliances()[0]["polled"] == [])
    await hub.link.limit(PLUG_CLIENT, 0.0, 300.0, 1500.0)


def test_a_heater_is_set_back_and_given_its_warmth_again() -> None:
    with short_directory() as place, Emulator(place, [HEATER]) as radio:

        async def scenario() -> None:
            seen: list[Any] = []
            async with HubSide(radio.tty, place / "data") as hub:
                hub.link.observed = seen.extend
                await hub.open()
                await until("it to be announced", lambda: seen)
                assert seen[0] == RetainedSet(f"about/{PLUG_CLIENT}", b'{"class": "heater"}', 0)
                await hub.link.limit(PLUG_CLIENT, 0.0, 1.0, 1500.0)
                assert _setpoint(await radio.device("heater")) == 1800, "three degrees: a dead hub leaves no room cold"
                await radio.until("its own setpoint", "heater", lambda row: _setpoint(row) == 2100)
                await until("its word", lambda: EventRecorded("adapter.limit_cleared", {"client": PLUG_CLIENT}) in seen)
                await hub.link.limit(PLUG_CLIENT, 0.0, 300.0, 1500.0)
                await hub.link.limit(PLUG_CLIENT, 0.0, 300.0, 1500.0)  # renewed: not three degrees more
                assert _setpoint(await radio.device("heater")) == 1800

        async def after_the_hub() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await radio.until("its own setpoint", "heater", lambda row: _setpoint(row) == 2100)

        run(scenario())
        run(after_the_hub())


def test_a_householder_who_turns_the_knob_meanwhile_has_the_last_word() -> None:
    with short_directory() as place, Emulator(place, [HEATER | {"habits": {"report_s": 1}}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await _held_by(hub)
                await _turn_the_knob(radio, 2250)
                await until("the opt-out", lambda: ("limit.opted_out", {"client": PLUG_CLIENT}) in hub.events)
                await hub.link.limit(PLUG_CLIENT, None, 0.0)
                assert _setpoint(await radio.device("heater")) == 2250

        run(scenario())


def test_a_householder_who_turns_the_knob_while_the_hub_is_away_has_the_last_word() -> None:
    with short_directory() as place, Emulator(place, [HEATER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("setpoint")
                await hub.link.limit(PLUG_CLIENT, 0.0, 300.0, 1500.0)
                assert _setpoint(await radio.device("heater")) == 1800
            await _turn_the_knob(radio, 2250)

        async def after_the_hub() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await until("the opt-out", lambda: ("limit.opted_out", {"client": PLUG_CLIENT}) in hub.events)
                assert _setpoint(await radio.device("heater")) == 2250

        run(scenario())
        run(after_the_hub())


def test_a_heater_that_rounds_its_setpoint_is_given_its_warmth_again() -> None:
    with short_directory() as place, Emulator(place, [HEATER | {"habits": {"report_s": 1}}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await _held_by(hub)
                await _turn_the_knob(radio, 1820)
                await until(
                    "its report", lambda: any(r[1] == "setpoint" and r[2].startswith("18.2") for r in hub.readings)
                )
                await hub.link.limit(PLUG_CLIENT, None, 0.0)
                assert _setpoint(await radio.device("heater")) == 2100
                assert not [event for event in hub.events if event[0] == "limit.opted_out"]

        run(scenario())


def test_a_room_that_is_cold_already_is_left_alone() -> None:
    cold = HEATER | {"endpoints": {"1": {"in": {"0x0000": {}, "0x0201": {"0x0012": ["29", 1200]}}}}}
    with short_directory() as place, Emulator(place, [cold]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("setpoint")
                await hub.link.limit(PLUG_CLIENT, 0.0, 300.0, 1500.0)
                assert _setpoint(await radio.device("heater")) == 1200

        run(scenario())
