"""Two hundred appliances on one radio: all are served, and after a start of the hub none has to wait to be asked."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.drivers.zigbee.radio import HubSide, short_directory, until
from tests.emulators import home
from tests.emulators.bench import Bench
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.line import PtyLine

PLUG = json.loads((Path(__file__).resolve().parents[2] / "emulators/devices/ledvance-plug.json").read_text())["device"]
NUMBER = 200


async def live(place: Path, air: Air, nv: NonVolatile, *, first: bool) -> None:
    bench = Bench(Ncp(nv, air))
    line = PtyLine(place / "tty", bench.received)
    bench.attach(line)
    await line.plug()
    bench.changed()
    try:
        async with HubSide(place / "tty", place / "data") as hub:
            await hub.up()
            if first:
                await hub.link.permit(254)

            def told() -> bool:
                return sum(appliance.is_told for appliance in hub.link._appliances._by_ieee.values()) == NUMBER

            await until("all to be told what to report", told, 120)
            hub.readings.clear()
            await until("a report of each", lambda: len({client for client, _, _ in hub.readings}) == NUMBER, 40)
            assert not hub.conditions() and not hub.status["malformed"]
    finally:
        bench.stop()
        await line.unplug()


@pytest.mark.slow
def test_two_hundred_appliances_are_served_and_known_again() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            rows = [
                PLUG | {"ieee": f"00155f01{n:08x}", "name": f"p{n}", "habits": {"report_s": 10}} for n in range(NUMBER)
            ]
            air, nv = Air([home.build(row, 0.0) for row in rows]), NonVolatile(bytes.fromhex("eeffc00000000001"))
            await live(place, air, nv, first=True)
            await live(place, air, nv, first=False)

    asyncio.run(scenario())
