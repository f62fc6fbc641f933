"""What happens in the mesh, and what the hub makes of it: a table of faults, each played; what EZSP says of routes."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from drivers.zigbee.settings import DATABASE
from tests.drivers.zigbee.radio import (
    ADAPTER,
    ADAPTER_IEEE,
    PLUG,
    Emulator,
    HubSide,
    Speaker,
    bench_on,
    bench_with,
    short_directory,
    until,
)
from tests.emulators import home
from tests.emulators.ezsp.air import Air, Routed
from tests.emulators.faults import MESH_FAULTS, MeshFault

NEAR, SECOND, SLEEPER = "000d6f0000000011", "000d6f0000000012", "000d6f0000000013"
HOME: list[dict[str, Any]] = [
    {"kind": "plug", "ieee": NEAR, "name": "near", "appliance": {"kind": "plain", "nominal_w": 1200}},
    {"kind": "plug", "ieee": SECOND, "name": "second", "appliance": {"kind": "plain", "nominal_w": 900}},
    ADAPTER | {"hears": [NEAR, SECOND, "hub"], "name": "boiler-1"},
    ADAPTER | {"ieee": SLEEPER, "client_id": "sleeper", "name": "sleeper", "poll_s": 0.5, "hears": ["hub", SECOND]},
]


def run(work: Coroutine[Any, Any, None], seconds: float = 600) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(limited())


async def served(radio: Emulator, name: str, timeout_s: float, more: int = 3) -> None:
    """Until an adapter's publishes are acknowledged: both ways work."""
    before = (await radio.device(name))["totals"]["acknowledged"]
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (await radio.device(name))["totals"]["acknowledged"] < before + more:
        assert asyncio.get_running_loop().time() < deadline, f"{name} was not served again within {timeout_s} s"
        await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("fault", MESH_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_the_mesh_is_mended_or_told(fault: MeshFault) -> None:
    with short_directory() as place, Emulator(place, HOME) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                for name in ("boiler-1", "sleeper"):
                    await served(radio, name, 30)
                events, broadcasts = len(hub.events), (await radio.ask("counters"))["air"].get("broadcasts", 0)
                for request in fault.do:
                    await radio.ask(**request)
                if fault.told:

                    def is_told() -> bool:
                        return fault.told in hub.names()[events:] or fault.told in hub.conditions()

                    await until("it to be told", is_told, fault.noticed_s)
                if fault.seen:
                    await until("it to be counted", lambda: hub.status[fault.seen] > 0, fault.noticed_s)
                for request in fault.undo:
                    await radio.ask(**request)
                for name in ("boiler-1", "sleeper"):
                    await served(radio, name, fault.back_s)
                if fault.undo:  # a share of what was sent lately recovers with what is sent
                    await until("the condition to go", lambda: not hub.conditions(), 180)
                assert not hub.conditions() and hub.status["resets"] == 0
                told = [name for name in hub.names()[events:] if name != fault.told]
                assert told == [], "nobody has left, nobody has joined"
                after = (await radio.ask("counters"))["air"].get("broadcasts", 0)
                assert after - broadcasts <= 1, "the hub does not shout into a network in trouble"

        run(scenario())


@pytest.mark.parametrize("version", [8, 13, 14, 18])
def test_what_the_radio_says_of_routes_and_addresses_harms_nothing(version: int) -> None:
    async def scenario() -> None:
        with short_directory() as place:
            plugs = [home.build(dict(row), 0.0) for row in HOME[:2]]
            async with (
                bench_with(place / "tty", *plugs, version=version) as bench,
                HubSide(place / "tty", place / "data") as hub,
            ):
                await hub.open()
                await hub.quantities("power")
                stack, (near, second) = bench.ncp.stack, plugs
                before = len(hub.events)
                for relays in ((), (second.nwk,), (second.nwk, 0x9999), (0x9999,) * 11):
                    stack.noticed(Routed(near, relays))
                near_nwk = near.nwk
                for name, fields in (
                    ("incomingRouteErrorHandler", {"status": "SOURCE_ROUTE_FAILURE", "id": near_nwk}),
                    ("incomingRouteErrorHandler", {"status": "MANY_TO_ONE_ROUTE_FAILURE", "id": 0x9999}),
                    *(("incomingNetworkStatusHandler", {"error": code, "id": near_nwk}) for code in (*range(20), 0xFE)),
                    ("childJoinHandler", {"index": 0, "joining": 1, "id": near_nwk, "eui": near.ieee, "type": 4}),
                    ("childJoinHandler", {"index": 0, "joining": 0, "id": 0x9999, "eui": near.ieee, "type": 4}),
                    ("idConflictHandler", {"id": 0x9999}),
                    ("stackStatusHandler", {"status": "NETWORK_OPENED"}),
                ):
                    stack.callback(name, **fields)
                bench.changed()
                await until("the conflict to be counted", lambda: hub.status["address_conflicts"] == 1)
                bench.ncp.air.conflict(near, second, asyncio.get_running_loop().time())
                bench.changed()
                await until("the second one", lambda: hub.status["address_conflicts"] == 2)
                await until(
                    "both under their new addresses",
                    lambda: (
                        {row["nwk"] for row in hub.status["devices"].values()}
                        == {f"0x{plug.nwk:04X}" for plug in plugs}
                    ),
                )
                await hub.link.switch(f"zb-{NEAR}", False)
                await hub.link.switch(f"zb-{SECOND}", True)
                assert hub.events[before:] == [] and not hub.conditions() and hub.status["resets"] == 0
                assert {row["state"] for row in hub.link.appliances()} == {"active"}
            assert b"\x99\x99" * 3 not in (place / "data" / DATABASE).read_bytes(), "no route costs flash"

    run(scenario())


def test_the_map_shows_who_is_behind_whom() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            rows = [*HOME[:1], HOME[1] | {"hears": [NEAR]}]
            plugs = [home.build(dict(row), 0.0) for row in rows]
            async with bench_with(place / "tty", *plugs) as bench, HubSide(place / "tty", place / "data") as hub:
                await hub.open()
                await until("the first", lambda: len(hub.link.appliances()) == 1)
                await hub.link.permit(60)  # a router lets in whom it is told to
                bench.changed()
                await until("both", lambda: len(hub.link.appliances()) == 2)
                rows_of_map = {(row["of"], row["neighbour"]) for row in await hub.link.draw()}
                assert (NEAR, SECOND) in rows_of_map and (hub.status["ieee"], NEAR) in rows_of_map
                assert (hub.status["ieee"], SECOND) not in rows_of_map

    run(scenario())


def test_a_sleeping_device_that_checks_in_is_answered() -> None:
    sensor = {
        "kind": "zcl", "ieee": SLEEPER, "name": "sensor", "manufacturer": "Z", "model": "Naps", "poll_s": 0.3,
        "endpoints": {"1": {"type": 0x302, "in": {"0x0000": {}, "0x0020": {}, "0x0402": {"0x0000": ["29", 2150]}}}},
        "habits": {"checks_in_s": 1.0},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [sensor]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("temperature")
                await radio.until("an answer", "sensor", lambda row: row["check_ins"][1][-2:] == [False, False])
                made, answered = (await radio.device("sensor"))["check_ins"]
                assert made - len(answered) <= 2, "it waits for an answer each time, awake"

        run(scenario())


@pytest.mark.parametrize("version", [8, 13, 14, 18])
def test_a_frame_that_somebody_recorded_is_served_once(version: int) -> None:
    """What comes again as it was, the radio drops; what somebody with the network's key seals anew, the hub."""

    async def scenario() -> None:
        with short_directory() as place:
            speaker = Speaker(ADAPTER_IEEE)
            async with (
                bench_with(place / "tty", speaker, version=version) as bench,
                HubSide(place / "tty", place / "data") as hub,
            ):
                await hub.open()
                await until("it to join", lambda: hub.status["devices"])
                speaker.say(b"\x05\x00recorded")
                bench.changed()
                await until("it to be heard", lambda: hub.arrived)
                await asyncio.sleep(0.5)  # its interview has an answer to everything
                speaker.say(b"\x05\x00again")
                bench.changed()
                await until("it once more", lambda: hub.arrived[-1][1] == b"\x05\x00again")
                for resealed in (False, True):
                    bench.ncp.air.replay(speaker, resealed=resealed)
                    bench.changed()
                speaker.say(b"\x05\x00last")
                bench.changed()
                await until("the last one", lambda: hub.arrived[-1][1] == b"\x05\x00last")
                assert [data for _, data in hub.arrived].count(b"\x05\x00again") == 1
                assert bench.ncp.air.counters["uplink_refused"] == 1 and hub.status["duplicates"] == 1

    run(scenario())


def test_a_plug_whose_counter_fell_is_missed_and_served_again_once_it_has_its_keys_anew() -> None:
    with short_directory() as place, Emulator(place, [PLUG | {"name": "kettle"}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("power", "state")
                await hub.link.permit(0)
                await radio.ask("count-back", device="kettle")
                said = len(hub.readings)
                await radio.ask("switch", device="kettle", on=False)
                await until_asked(radio, "uplink_refused")
                assert len(hub.readings) == said, "what cannot be told from a recording is none"
                await hub.link.permit(60)
                await radio.ask("join", device="kettle")

                def is_off() -> bool:
                    return (f"zb-{PLUG['ieee']}", "state", "0") in hub.readings[said:]

                await until("it to be heard again", is_off)

        run(scenario())


async def until_asked(radio: Emulator, counter: str) -> None:
    """Until something of the air was counted."""
    deadline = asyncio.get_running_loop().time() + 30
    while not (await radio.ask("counters"))["air"].get(counter):
        assert asyncio.get_running_loop().time() < deadline, f"nothing counts as {counter}"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("version", [8, 13, 18])
def test_a_sleeping_adapter_that_its_parent_forgot_is_served_again_and_has_not_left(version: int) -> None:
    async def scenario() -> None:
        with short_directory() as place:
            air = Air([home.build(dict(HOME[3]) | {"hears": ["hub"], "period_s": 0.2, "timeout": 1}, 0.0)])
            (sleeper,), air.minute_s = air.devices.values(), 0.5
            async with (
                bench_on(place / "tty", air, version=version),
                HubSide(place / "tty", place / "data") as hub,
            ):
                await hub.open()
                await until("its publishes", lambda: len(hub.arrived) > 3)
                sleeper.powered = False
                await until("it to be forgotten", lambda: sleeper.is_forgotten)
                events, arrived = len(hub.events), len(hub.arrived)
                sleeper.powered = True
                await until("it to be served again", lambda: len(hub.arrived) > arrived + 3)
                assert not sleeper.is_forgotten and hub.events[events:] == [] and not hub.conditions()

    run(scenario())
