"""The table of the radio's faults: how soon each is noticed, how soon the home is served again once it is mended, as
what it is told. The times are the limits that are waited for; nothing is patched."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

import pytest

from tests.drivers.zigbee.radio import ADAPTER, Emulator, HubSide, short_directory, until


class Fault(NamedTuple):
    """`do` and `undo`: requests of the emulator's control socket (undo None: it mends itself)."""

    name: str
    do: dict[str, Any]
    undo: dict[str, Any] | None
    noticed_s: float
    back_s: float
    condition: str


FAULTS = (
    Fault("it resets by itself", {"do": "reset"}, None, 5, 5, ""),
    Fault("it loses its supply for a moment", {"do": "power-cycle"}, None, 15, 5, ""),
    Fault("it is pulled out", {"do": "unplug"}, {"do": "plug"}, 5, 5, "radio-missing"),
    Fault("it falls silent", {"do": "mute", "layer": "ash"}, {"do": "unmute"}, 15, 5, "radio-silent"),
    Fault("it answers nothing", {"do": "mute", "layer": "ezsp"}, {"do": "unmute"}, 15, 5, "radio-silent"),
    Fault("it refuses every send", {"do": "refuse"}, {"do": "refuse", "status": ""}, 15, 5, "radio-refuses"),
    Fault(
        "it never says what became of a send", {"do": "refuse", "status": "", "swallow": True},
        {"do": "refuse", "status": ""}, 15, 5, "radio-silent",
    ),
)  # fmt: skip


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await work

    asyncio.run(limited())


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed_and_the_home_served_again(fault: Fault) -> None:
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
                assert hub.status["delivered"] == 1.0
                assert {row["delivered"] for row in hub.status["devices"].values()} == {1.0}
                assert hub.status["queue_age_s"] < 5

        run(scenario())
