"""Two hundred appliances for a simulated week: `python -m tests.drivers.zigbee.week --days 7`; one line of JSON.

Hub and emulated radio share one loop whose clock jumps to whatever is due next. The line between them is a TCP
connection to ourselves, which has delivered when `send` returns; a pseudo-terminal has not.
"""

import argparse
import asyncio
import json
import selectors
import time
from pathlib import Path
from typing import Any

# How far the clock goes at once, and how long it stands still while a thread has something to do.
_JUMP_MOST_S, _BREATH_S = 60.0, 0.01
DAY_S = 86_400.0
DEVICE = Path(__file__).parents[2] / "emulators/devices/ledvance-plug.json"


class JumpingClock(selectors.DefaultSelector):
    """A selector that moves the clock instead of sleeping. `time.monotonic` is this clock from `install` on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.busy = 0  # what threads have in hand: the clock waits for it

    def install(self) -> None:
        time.monotonic = lambda: self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self.busy or timeout is None:
            return super().select(_BREATH_S)
        self.now += min(timeout, _JUMP_MOST_S)
        return super().select(0)


class PatientLoop(asyncio.SelectorEventLoop):
    """Counts what its threads have in hand."""

    def __init__(self, clock: JumpingClock) -> None:
        super().__init__(clock)
        self._clock = clock

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> Any:
        self._clock.busy += 1
        future = super().run_in_executor(executor, function, *arguments)
        future.add_done_callback(lambda _future: self._done())
        return future

    def _done(self) -> None:
        self._clock.busy -= 1


def count_the_databases_thread(clock: JumpingClock) -> None:
    """aiosqlite has a thread of its own for each connection."""
    import aiosqlite

    execute = aiosqlite.core.Connection._execute

    async def counted(self: Any, *arguments: Any, **more: Any) -> Any:
        clock.busy += 1
        try:
            return await execute(self, *arguments, **more)
        finally:
            clock.busy -= 1

    aiosqlite.core.Connection._execute = counted  # type: ignore[method-assign]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def live(clock: JumpingClock, number: int, report_s: float, days: float) -> dict[str, Any]:
    from tests.drivers.zigbee.radio import HubSide, short_directory
    from tests.emulators import home
    from tests.emulators.bench import Bench
    from tests.emulators.ezsp.air import Air
    from tests.emulators.ezsp.ncp import Ncp
    from tests.emulators.ezsp.nv import NonVolatile
    from tests.emulators.line import TcpLine

    device = json.loads(DEVICE.read_text("utf-8"))["device"]
    rows = [device | {"ieee": f"00155f01{n:08x}", "name": f"p{n}"} for n in range(number)]
    for n, row in enumerate(rows):  # one in twenty takes no configuration, and is polled
        row["habits"] = {"configurable": False} if n % 20 == 0 else {"report_s": report_s}
    air = Air([home.build(row, 0.0) for row in rows])
    bench = Bench(Ncp(NonVolatile(bytes.fromhex("eeffc00000000001")), air))
    line = TcpLine("127.0.0.1", 0, bench.received)
    bench.attach(line)
    await line.plug()
    with short_directory() as place:
        async with HubSide(Path("/"), place / "data", path=f"socket://{line.where}") as hub:
            polled = {f"zb-{row['ieee']}" for row in rows[::20]}
            taken = {"reported": 0, "polled": 0}

            def take(client: str, _quantity: str, _text: str) -> None:
                taken["polled" if client in polled else "reported"] += 1

            hub.link.reading = take
            await _virtual(lambda: hub.status["state"] == "up")
            await hub.link.permit(254)
            await _virtual(lambda: sum(a.is_told for a in hub.link._appliances._by_ieee.values()) == number)
            await asyncio.sleep(3600)
            # From here on it is an ordinary week.
            began, reports, before = clock.now, _reports(air), dict(taken)
            unicasts, broadcasts = air.counters.get("unicasts", 0), air.counters.get("broadcasts", 0)
            ends, resident = clock.now + days * DAY_S, [resident_bytes()]
            while clock.now < ends:
                await asyncio.sleep(min(DAY_S / 4, ends - clock.now))
                resident.append(resident_bytes())
            await asyncio.sleep(10)
            hours = (clock.now - began) / 3600
            said = {
                "days": round((clock.now - began) / DAY_S, 2),
                "reports": _reports(air) - reports,
                "readings_of_reports": taken["reported"] - before["reported"],
                "readings_of_polls": taken["polled"] - before["polled"],
                "lost": air.counters.get("uplink_lost", 0) + air.counters.get("overrun", 0),
                "malformed": hub.status["malformed"],
                "dropped": sum(row["dropped"] or 0 for row in hub.link.appliances()),
                "unicasts_an_hour": round((air.counters["unicasts"] - unicasts) / hours),
                "broadcasts_an_hour": round((air.counters.get("broadcasts", 0) - broadcasts) / hours, 2),
                "resident_mib": [round(value / (1 << 20), 1) for value in resident],
                "conditions": sorted(hub.conditions()),
                "resets": hub.status["resets"],
                "states": sorted({row["state"] for row in hub.link.appliances()}),
                "cpu_s": round(time.process_time()),
            }
    bench.stop()
    await line.unplug()
    return said


def _reports(air: Any) -> int:
    return sum(device.reports for device in air.devices.values())


async def _virtual(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.5)  # it costs nothing on this clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--report-s", type=float, default=900.0)
    arguments = parser.parse_args()
    clock = JumpingClock()
    clock.install()
    loop = PatientLoop(clock)
    count_the_databases_thread(clock)
    try:
        said = loop.run_until_complete(live(clock, arguments.number, arguments.report_s, arguments.days))
    finally:
        loop.close()
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
