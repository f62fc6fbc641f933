"""A machine that is too slow to look does not take its radio for dead, and what failed is told by its cause."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import bellows.ash
import bellows.ezsp.protocol
import bellows.zigbee.application
import pytest

import drivers.zigbee.application  # noqa: F401  (the limits are set with it)
from drivers.zigbee.patience import patient_timeout
from tests.drivers.zigbee.radio import Emulator, HubSide, short_directory


def busy(loop: asyncio.AbstractEventLoop, times: int, each_s: float) -> None:
    """Keep the loop from looking: again and again, with a moment in between in which it can."""
    if times:
        time.sleep(each_s)
        loop.call_later(0.01, busy, loop, times - 1, each_s)


# The limits of the radio's stack are the driver's too.
LIMITS = [bellows.ash, bellows.ezsp.protocol, bellows.zigbee.application]


@pytest.mark.parametrize("module", LIMITS, ids=lambda module: module.__name__)
def test_only_time_in_which_the_loop_looked_counts(module: Any) -> None:
    async def scenario(limit: Callable[[float], Any]) -> bool:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        loop.call_later(0.6, answer.set_result, None)
        loop.call_soon(busy, loop, 1, 0.5)  # the answer is there 0.1 s after it, half a limit later
        try:
            async with limit(0.4):
                await answer
        except TimeoutError:
            return False
        return True

    assert asyncio.run(scenario(module.asyncio_timeout)) and not asyncio.run(scenario(asyncio.timeout))


def test_a_limit_ends_all_the_same() -> None:
    async def scenario(limit_s: float) -> None:
        async with patient_timeout(limit_s):
            await asyncio.sleep(3600)

    for limit_s in (0.3, 0.0, -1.0):
        with pytest.raises(TimeoutError):
            asyncio.run(scenario(limit_s))


@pytest.mark.slow
def test_why_the_network_was_not_opened_is_told() -> None:
    """The radio goes in the middle: the cause is that, not what came of shutting the window."""
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await radio.ask("mute", layer="ezsp")
                with pytest.raises(ValueError, match="did not open the network: no answer"):
                    await hub.link.permit(5)
                assert hub.status["permit_s"] == 0

        asyncio.run(scenario())
