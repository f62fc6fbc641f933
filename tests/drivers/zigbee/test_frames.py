"""Frames in and out of the tunnel, one by one: the emulated radio runs in the test's own loop."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.drivers.zigbee.radio import NATIVE, HubSide, Speaker, bench_with, short_directory, until
from tests.emulators.bench import Bench

IEEE = "000d6f00000000aa"
OTHER = "000d6f00000000bb"
PEER = ("zigbee", IEEE)
HOME_AUTOMATION_ON_OFF = (0x0104, 0x0006, 0x01)

Scenario = Callable[[HubSide, Bench, Path], Awaitable[None]]


def with_speakers(scenario: Scenario, *speakers: Speaker, version: int = 13) -> None:
    """Run a scenario on a network that these devices have joined."""

    async def main() -> None:
        with short_directory() as place:
            async with (
                asyncio.timeout(60),
                bench_with(place / "tty", *speakers, version=version) as bench,
                HubSide(place / "tty", place / "data") as hub,
            ):
                hub.answers = False
                await hub.open()
                bench.changed()
                await until("everybody to join", lambda: len(hub.status["devices"]) == len(speakers))
                await scenario(hub, bench, place)

    asyncio.run(main())


@pytest.mark.parametrize("version", [8, 13, 14])
def test_sixty_bytes_and_no_more(version: int) -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        longest = bytes(range(60))
        hub.link.send([(PEER, longest + b"!"), (PEER, longest)])
        await until("the frame", lambda: speaker.heard)
        assert list(speaker.heard) == [longest]
        assert hub.status["too_long"] == hub.status["dropped"] == 1
        speaker.say(longest)
        bench.changed()
        await until("the answer", lambda: hub.arrived == [(PEER, longest)])
        assert hub.link.max_bytes == 60

    with_speakers(scenario, speaker, version=version)


def test_order_is_kept_and_one_wake_up_is_one_batch() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        frames = [bytes((3, 0x17, n)) for n in range(20)]
        hub.link.send([(PEER, frame) for frame in frames])
        await until("all of them", lambda: list(speaker.heard) == frames)
        for frame in frames:
            speaker.say(frame)
        bench.changed()
        await until("all of them", lambda: hub.arrived == [(PEER, frame) for frame in frames])

    with_speakers(scenario, speaker)


def test_a_frame_that_comes_twice_counts_once() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        speaker.say(b"\x02\x16", sequence=7)
        speaker.say(b"\x02\x16", sequence=7)
        speaker.say(b"\x02\x17", sequence=7)
        speaker.say(b"\x02\x16", sequence=8)
        bench.changed()
        await until("three frames", lambda: hub.status["duplicates"] + len(hub.arrived) == 4)
        assert [data for _, data in hub.arrived] == [b"\x02\x16", b"\x02\x17", b"\x02\x16"]

    with_speakers(scenario, speaker)


def test_a_short_address_that_changed_in_silence_is_looked_up() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        speaker.nwk = speaker.nwk ^ 0x0101
        asked = bench.ncp.counters.get("sendBroadcast", 0)
        for n in range(3):
            speaker.say(bytes((3, 0x17, n)))
        bench.changed()
        await until("what was held", lambda: len(hub.arrived) == 3)
        assert hub.arrived == [(PEER, bytes((3, 0x17, n))) for n in range(3)]
        assert hub.status["devices"][IEEE]["nwk"] == f"0x{speaker.nwk:04X}"
        assert bench.ncp.counters.get("sendBroadcast", 0) == asked
        hub.link.send([(PEER, b"\x02\x17")])
        await until("the answer", lambda: speaker.heard)

    with_speakers(scenario, speaker)


def test_a_device_that_rejoins_is_the_same_peer() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        before = speaker.nwk
        bench.ncp.air.rejoin(speaker, asyncio.get_running_loop().time())
        bench.changed()
        await until("the new address", lambda: hub.status["devices"][IEEE]["nwk"] == f"0x{speaker.nwk:04X}")
        assert speaker.nwk != before
        speaker.say(b"\x02\x17")
        bench.changed()
        await until("the frame", lambda: hub.arrived == [(PEER, b"\x02\x17")])
        hub.link.send([(PEER, b"\x02\x16")])
        await until("the answer", lambda: list(speaker.heard) == [b"\x02\x16"])

    with_speakers(scenario, speaker)


def test_a_short_address_that_somebody_else_has_now() -> None:
    first, second = Speaker(IEEE), Speaker(OTHER)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        taken = first.nwk
        first.powered = False
        second.nwk = taken
        second.announce()
        second.say(b"\x02\x17")
        bench.changed()
        await until("the frame", lambda: hub.arrived)
        assert hub.arrived == [(("zigbee", OTHER), b"\x02\x17")]
        hub.link.send([(PEER, b"\x02\x16")])  # nobody knows where that one is
        await until("it to be dropped", lambda: hub.status["dropped"] == 1)
        assert not second.heard

    with_speakers(scenario, first, second)


def test_who_merely_speaks_is_no_member_and_who_joins_is() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, place: Path) -> None:
        await hub.link.close()
        async with HubSide(place / "tty", place / "other") as fresh:  # the same radio, a hub that knows nobody
            fresh.answers = False
            await fresh.up()
            queries = bench.ncp.counters.get("lookupEui64ByNodeId", 0)
            for n in range(30):
                speaker.say(bytes((3, 0x17, n)))
                bench.changed()
                await asyncio.sleep(0.01)
            await until("the refusal", lambda: fresh.status["refused"] == 1)
            await until("every frame to be dropped", lambda: fresh.status["dropped"] >= 30)
            assert fresh.arrived == [] and fresh.status["devices"] == {}
            assert bench.ncp.counters.get("lookupEui64ByNodeId", 0) == queries + 1
            await fresh.link.permit(30)
            speaker.say(b"\x02\x17")
            bench.changed()
            await until("another refusal", lambda: fresh.status["refused"] == 2)
            assert fresh.arrived == [], "it has the key from elsewhere: an open window is not for it"
            bench.ncp.air.join(speaker, asyncio.get_running_loop().time())
            bench.changed()
            await until("the join", lambda: IEEE in fresh.status["devices"])
            speaker.say(b"\x02\x18")
            bench.changed()
            await until("the frame", lambda: (PEER, b"\x02\x18") in fresh.arrived)

    with_speakers(scenario, speaker)


def test_garbage_raises_nothing_and_stops_nothing() -> None:
    speaker = Speaker(IEEE)
    places = [HOME_AUTOMATION_ON_OFF, (0x0109, 0x0702, 1), (0xC05E, 0x1000, 1), (0x0000, 0x8002, 0), NATIVE]
    payloads = [b"", b"\x00", b"\xff\xff", b"\x18\x01", b"\x18\x01\x0a", b"\x07\x0c\x00\x00\x01\x00hi", b"\xff" * 60]

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        for place in places:
            for payload in payloads:
                speaker.say(payload, place=place)
                speaker.say(payload, place=place, dst_ep=0)
        bench.changed()
        speaker.say(b"\x02\x17")
        bench.changed()
        await until("the good frame", lambda: (PEER, b"\x02\x17") in hub.arrived)
        assert hub.status["state"] == "up" and hub.status["resets"] == 0
        assert hub.status["malformed"] > 0
        assert {data for _, data in hub.arrived} == {*payloads, b"\x02\x17"} - {b""}

    with_speakers(scenario, speaker)


def test_a_device_out_of_reach_holds_nobody_up_and_costs_no_memory() -> None:
    far, near = Speaker(IEEE), Speaker(OTHER)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        far.in_range = False
        hub.link.send([(PEER, bytes((3, 0x17, n))) for n in range(100)])
        hub.link.send([(("zigbee", OTHER), bytes((3, 0x17, n))) for n in range(10)])
        await until("the one in reach", lambda: len(near.heard) == 10, timeout_s=2.0)
        await until("a failure", lambda: hub.status["failed"] >= 1)
        assert hub.status["dropped"] >= 60 and hub.status["waiting"] <= 32
        assert hub.status["retries"] >= 1
        hub.link.send([(("zigbee", "0000000000000000"), b"\x02\x17"), (("zigbee", "nonsense"), b"\x02\x17")])

    with_speakers(scenario, far, near)


def test_lives_of_the_radio_leave_nothing_behind() -> None:
    speaker = Speaker(IEEE)

    async def scenario(hub: HubSide, bench: Bench, _place: Path) -> None:
        lives = []
        for resets in range(1, 4):
            lives.append(weakref.ref(hub.link._supervisor.application))
            hub.link._supervisor._backoff.reset()
            bench.ncp.reset(asyncio.get_running_loop().time(), 3)
            bench.changed()
            await until("a new life", lambda n=resets: hub.status["resets"] == n)
            await hub.up()
            hub.arrived.clear()
            speaker.say(bytes((3, 0x17, resets)))
            bench.changed()
            await until("traffic", lambda n=resets: hub.arrived == [(PEER, bytes((3, 0x17, n)))])
        # What an interview waited for may hold a life for some seconds more.
        await until("them to be gone", lambda: gc.collect() is not None and not any(life() for life in lives))

    with_speakers(scenario, speaker)
