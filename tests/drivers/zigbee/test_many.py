"""Two hundred appliances on one radio: all are served, and after a start of the hub none has to wait to be asked; a
simulated week of them, and ten minutes on a line of 115,200 baud (`make radio-long`)."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.zigbee.radio import ROOT, Emulator, HubSide, short_directory, until
from tests.drivers.zigbee.week import resident_bytes
from tests.emulators import home
from tests.emulators.bench import Bench
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.line import PtyLine

PLUG = json.loads((Path(__file__).resolve().parents[2] / "emulators/devices/ledvance-plug.json").read_text())["device"]
NUMBER = 200
MEMORY_GROWS_MIB = 4.0


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


@pytest.mark.slow
def test_a_week_of_two_hundred_appliances() -> None:
    """On a clock that jumps. WEEK_DAYS=1 for less of it. What it says goes to the output: run with -s."""
    days = os.environ.get("WEEK_DAYS", "7")
    command = [sys.executable, "-m", "tests.drivers.zigbee.week", "--days", days]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["reports"] > 0 and said["readings_of_reports"] >= said["reports"], "each report is a reading at least"
    assert said["lost"] == said["malformed"] == said["dropped"] == said["resets"] == 0
    assert said["conditions"] == [] and said["states"] == ["active"]
    assert said["unicasts_an_hour"] <= 3600, "one question a second, all appliances together"
    assert said["broadcasts_an_hour"] <= 1
    first, *later = said["resident_mib"]
    assert max(later) - first < MEMORY_GROWS_MIB, said["resident_mib"]


@pytest.mark.slow
def test_ten_minutes_of_two_hundred_appliances_on_a_real_line() -> None:
    """In real time, 20 reports a second at 115,200 baud; figures go to the output. LINE_SECONDS=60 for less."""
    seconds = float(os.environ.get("LINE_SECONDS", "600"))
    rows = [PLUG | {"ieee": f"00155f01{n:08x}", "name": f"p{n}", "habits": {"report_s": 10}} for n in range(NUMBER)]

    async def scenario(radio: Emulator, place: Path) -> None:
        async with HubSide(radio.tty, place / "data") as hub:
            await hub.up()
            await hub.link.permit(254)

            def told() -> bool:
                return sum(appliance.is_told for appliance in hub.link._appliances._by_ieee.values()) == NUMBER

            await until("all to be told what to report", told, 300)
            hub.readings.clear()
            took_s: list[float] = []
            began, cpu = time.monotonic(), time.process_time()
            while time.monotonic() - began < seconds:
                at = time.monotonic()
                await hub.link.switch(f"zb-{rows[len(took_s) % NUMBER]['ieee']}", True)
                took_s.append(time.monotonic() - at)
                await asyncio.sleep(1)
            spent = (time.process_time() - cpu) / (time.monotonic() - began)
            took_s.sort()
            middle, late = took_s[len(took_s) // 2], took_s[len(took_s) * 99 // 100]
            print(json.dumps({
                "seconds": seconds, "readings": len(hub.readings), "commands": len(took_s),
                "p50_ms": round(middle * 1000), "p99_ms": round(late * 1000), "cpu_share": round(spent, 3),
                "resident_mib": round(resident_bytes() / (1 << 20), 1), "delivered": hub.status["delivered_share"],
            }))  # fmt: skip
            assert len({client for client, _, _ in hub.readings}) == NUMBER
            assert not hub.conditions() and not hub.status["malformed"] and not hub.status["resets"]

    with short_directory() as place, Emulator(place, rows, baud=115_200) as radio:
        asyncio.run(scenario(radio, place))
