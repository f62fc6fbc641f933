"""The table of the radio's faults: how soon each is noticed, how soon the home is served again once it is mended, as
what it is told. The times are the limits that are waited for; nothing is patched."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.drivers.zigbee.radio import ADAPTER, Emulator, HubSide, short_directory, until
from tests.emulators.faults import LINE_FAULTS, RADIO_FAULTS, LineFault, RadioFault


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await work

    asyncio.run(limited())


@pytest.mark.slow
@pytest.mark.parametrize("fault", RADIO_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed_and_the_home_served_again(fault: RadioFault) -> None:
    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("a session", "boiler-1", lambda row: row["session"] == "active")
                await radio.ask(**fault.do)
                await until("the fault to be noticed", lambda: hub.status["resets"] == 1, fault.noticed_s)
                if fault.undo is not None:
                    await until("the condition", lambda: hub.conditions() == {fault.condition}, 15)
                    await asyncio.sleep(3)  # it lasts
                    await radio.ask(**fault.undo)
                await until("it to be back", lambda: hub.link.is_up, fault.back_s)
                assert not hub.conditions()
                arrived = len(hub.arrived)
                await until("traffic", lambda: len(hub.arrived) > arrived)
                assert hub.names().count("radio.down") == 1 and hub.names().count("radio.up") == 2, "told once each"

        run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("fault", LINE_FAULTS, ids=lambda fault: fault.name)
def test_a_bad_line_is_mended_and_nobody_notices(fault: LineFault) -> None:
    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("a session", "boiler-1", lambda row: row["session"] == "active")
                await radio.ask("line", **fault.do)
                before = (await radio.device("boiler-1"))["totals"]["acknowledged"]
                acknowledged = before + 15
                await radio.until("traffic", "boiler-1", lambda row: row["totals"]["acknowledged"] >= acknowledged)
                assert hub.status["resets"] == 0 and not hub.conditions()
                assert len(set(hub.arrived)) == len(hub.arrived), "the line does not double a message"

        run(scenario())


@pytest.mark.slow
def test_a_line_that_is_held_with_xoff_is_served_again() -> None:
    """XOFF that is never taken back: the terminal goes on at the next byte from the radio (IXANY), or the line is
    opened anew; which of them depends on what was under way."""
    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("a session", "boiler-1", lambda row: row["session"] == "active")
                for _ in range(3):
                    before = (await radio.device("boiler-1"))["totals"]["acknowledged"]
                    await radio.ask("line", xoff=True)
                    served = before + 5
                    await radio.until("traffic", "boiler-1", lambda row, n=served: row["totals"]["acknowledged"] >= n)

        run(scenario())


def test_a_radio_that_resets_again_and_again_is_told_as_that() -> None:
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                for resets in range(1, 6):
                    await hub.up()
                    await radio.ask("reset")
                    await until("the reset to be noticed", lambda n=resets: hub.status["resets"] == n)
                await hub.up()
                assert hub.conditions() == {"radio-unstable"}
                assert hub.status["resets_last_hour"] == 5
                assert hub.names().count("radio.unstable") == 1 and hub.names().count("radio.down") == 2

        run(scenario())


def test_what_gets_through_is_counted() -> None:
    with short_directory() as place, Emulator(place, [ADAPTER | {"period_s": 1}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("acknowledgements", "boiler-1", lambda row: row["totals"]["acknowledged"] >= 4)
                assert hub.status["delivered_share"] == 1.0
                assert {row["delivered_share"] for row in hub.status["devices"].values()} == {1.0}
                assert hub.status["queue_age_s"] < 5

        run(scenario())
