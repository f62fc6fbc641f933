"""Messages in fragments: put together whatever the radio's version; and when bellows needs no help any more."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import bellows.ezsp
import pytest

from drivers.zigbee import fragments
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
