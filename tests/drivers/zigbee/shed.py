"""How long it takes until so many plugs are off: each told by itself, and by a group. In a process of its own:

    python -m tests.drivers.zigbee.shed --plugs 60

By turns, in the same run, on an emulated radio at 115,200 baud in another process. A line of JSON for each turn: from
the order to the last relay, and to the last proof; frames on the air each way, bytes on the line, the hub's processor
time.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from drivers.zigbee.switch_group import MEMBERS_MOST
from drivers.zigbee.switching import FILE
from tests.drivers.zigbee.radio import Emulator, HubSide, short_directory, until

BAUD = 115_200
GROUP = 0x4D48
TURNS = ("alone", "group") * 3
SETTLE_S = 5.0


def plugs(number: int) -> list[dict[str, Any]]:
    return [
        {
            "kind": "plug",
            "ieee": f"000d6f0000{n:06x}",
            "name": f"p{n}",
            "appliance": "plain",
            "groups": [GROUP] if n <= MEMBERS_MOST else [],
        }
        for n in range(1, number + 1)
    ]


def record(rows: list[dict[str, Any]]) -> str:
    places = [f"{row['ieee']}:1" for row in rows[:MEMBERS_MOST]]
    kept = {"group": GROUP, "wanted": places, "may": dict.fromkeys(places, True), "retired": {}}
    clear = [f"{row['ieee']}:1" for row in rows[MEMBERS_MOST:]]
    return json.dumps({"group": kept | {"clear": clear, "refused": [], "foreign": []}})


async def reporting(hub: HubSide, number: int) -> None:
    def all_do() -> bool:
        return sum("state" in row["quantities"] for row in hub.link.appliances()) == number

    await until("all to report", all_do, 300)


async def turn(radio: Emulator, hub: HubSide, rows: list[dict[str, Any]], on: bool) -> dict[str, Any]:
    before, cpu = await radio.ask("counters"), time.process_time()
    began = time.monotonic()
    await asyncio.gather(*(hub.link.switch(f"zb-{row['ieee']}", on) for row in rows))
    proved_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    after = await radio.ask("counters")
    devices = (await radio.ask("devices"))["devices"]
    assert {device["on"] for device in devices} == {on}
    air = {
        name: after["air"].get(name, 0) - before["air"].get(name, 0) for name in ("unicasts", "broadcasts", "uplink")
    }
    line = {way: after["line"][way] - before["line"][way] for way in after["line"]}
    last_s = max(device["switched_at"] for device in devices) - began
    return {"last_s": round(last_s, 2), "proved_s": round(proved_s, 2), **air, **line, "cpu_s": round(cpu_s, 2)}


async def scenario(number: int) -> None:
    rows = plugs(number)
    with short_directory() as place, Emulator(place, rows, baud=BAUD) as radio:
        async with HubSide(radio.tty, place / "data") as hub:
            await hub.up()
            await hub.link.permit(254)
            await reporting(hub, number)
            await until(
                "all to be told", lambda: not any(map(hub.link._appliances.is_owed, hub.status["devices"])), 300
            )
        on = True
        for way in TURNS:
            (place / "data" / FILE).write_text(record(rows) if way == "group" else "{}")
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await reporting(hub, number)
                await until("quiet", lambda: not any(map(hub.link._appliances.is_owed, hub.status["devices"])), 300)
                await asyncio.sleep(SETTLE_S)
                on = not on
                print(json.dumps({"plugs": number, "way": way} | await turn(radio, hub, rows, on)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugs", type=int, default=60)
    asyncio.run(scenario(parser.parse_args().plugs))


if __name__ == "__main__":
    main()
