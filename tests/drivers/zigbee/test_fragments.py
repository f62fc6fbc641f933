"""Messages in fragments: put together whatever the radio's version; and when bellows needs no help any more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import bellows.ezsp
import pytest
from bellows.exception import PayloadTooLongError
from bellows.zigbee.application import ControllerApplication
from zigpy import types as t
from zigpy.exceptions import DeliveryError

from drivers.zigbee import fragments
from drivers.zigbee.application import Application
from drivers.zigbee.frames import zcl_answer
from tests.drivers.zigbee.radio import ADAPTER_IEEE, HubSide, Speaker, bench_with, short_directory, until

PROFILE, CLUSTER, ENDPOINT = 0xC53A, 0x4D51, 0xE9
LONG = bytes(range(170))


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


async def arrives(version: int, *, timeout_s: float = 20.0) -> bool:
    """Whether a message of three fragments reaches the hub."""
    with short_directory() as place:
        speaker = Speaker(ADAPTER_IEEE)
        async with (
            bench_with(place / "tty", speaker, version=version) as bench,
            HubSide(place / "tty", place / "data") as hub,
        ):
            await hub.open()
            await until("it to join", lambda: hub.status["devices"])
            speaker.say(b"\x02\x16")
            bench.changed()
            await until("it to be heard", lambda: hub.arrived)
            speaker.transmit_fragments(PROFILE, CLUSTER, ENDPOINT, ENDPOINT, LONG)
            speaker.say(b"\x02\x16")
            bench.changed()
            try:
                await until("the message", lambda: LONG in [data for _, data in hub.arrived], timeout_s)
            except AssertionError:
                return False
            return True


@pytest.mark.parametrize("version", [8, 13, 14, 18])
def test_a_message_in_fragments_arrives_whole(version: int) -> None:
    async def scenario() -> None:
        assert await arrives(version)

    run(scenario())


def test_bellows_still_cannot_do_it_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this fails, bellows puts fragments together for EZSP 14: take drivers/zigbee/fragments.py out."""
    handler = bellows.ezsp.EZSP._BY_VERSION[14]
    plain = next(base for base in handler.__mro__ if base.__module__.startswith("bellows"))
    monkeypatch.setitem(bellows.ezsp.EZSP._BY_VERSION, 14, plain)

    async def scenario() -> None:
        assert not await arrives(14, timeout_s=3.0)

    run(scenario())


async def sends(version: int, size: int, most_bytes: int, send: Callable[..., Any]) -> list[bytes]:
    """What a device that takes so many bytes hears of a message and two more at once: `send(application, packet)`."""
    with short_directory() as place:
        speaker = Speaker(ADAPTER_IEEE, most_bytes=most_bytes)
        async with (
            bench_with(place / "tty", speaker, version=version),
            HubSide(place / "tty", place / "data") as hub,
        ):
            await hub.open()
            application: Any = hub.link._supervisor.application

            def is_known() -> bool:
                device = application.device_of(ADAPTER_IEEE)
                return device is not None and device.is_initialized

            await until("its interview", is_known)
            to = t.AddrModeAddress(t.AddrMode.NWK, application.device_of(ADAPTER_IEEE).nwk)
            packet = zcl_answer(to, (PROFILE, CLUSTER, ENDPOINT, ENDPOINT), 1, bytes(range(size)))
            await send(application, packet)
            await asyncio.gather(*(send(application, packet) for _ in range(2)))
            return list(speaker.heard)


@pytest.mark.parametrize(("version", "size"), [(8, 170), (13, 170), (13, 120), (13, 83), (14, 170), (18, 170)])
def test_a_long_message_goes_out_in_fragments(version: int, size: int) -> None:
    async def scenario() -> None:
        heard = await sends(version, size, 255, Application.send_packet)
        assert heard == [bytes(range(size))] * 3, "one after the other: a device has memory for one"

    run(scenario())


def test_what_fits_a_frame_is_none_and_who_takes_no_more_is_sent_none() -> None:
    async def scenario() -> None:
        assert len(await sends(13, 82, 255, Application.send_packet)) == 3
        for size in (83, 170):
            with pytest.raises(DeliveryError, match="MESSAGE_TOO_LONG"):
                await sends(13, size, 82, Application.send_packet)

    run(scenario())


def test_bellows_still_sends_none_by_itself() -> None:
    """When this fails, bellows sends fragments: take the half of drivers/zigbee/fragments.py out that does."""

    async def scenario() -> None:
        with pytest.raises(DeliveryError, match="MESSAGE_TOO_LONG"):
            await sends(13, 90, 255, ControllerApplication.send_packet)

    run(scenario())


def test_a_fragment_is_left_out_of_the_command_that_does_several_in_one() -> None:
    prepared = fragments.one_by_one(lambda **fields: fields)
    assert prepared(data=b"short")["data"] == b"short"
    with pytest.raises(PayloadTooLongError):
        prepared(data=next(fragments.LongMessage(LONG).parts()))


def test_a_message_that_never_ends_is_forgotten_after_its_last_fragment_and_no_other() -> None:
    async def scenario() -> None:
        manager = fragments.Fragments()
        add: Callable[..., Any] = manager.handle_incoming_fragment
        place = {"sender_nwk": 1, "aps_sequence": 2, "profile_id": 3, "cluster_id": 4, "fragment_count": 3}
        add(**place, fragment_index=0, payload=b"a")
        first = next(iter(manager._cleanup_timers.values()))
        add(**place, fragment_index=1, payload=b"b")
        assert first.cancelled(), "it would end a later message of the same number"
        assert add(**place, fragment_index=2, payload=b"c")[:2] == (True, b"abc") and not manager._cleanup_timers

    run(scenario())
