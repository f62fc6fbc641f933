"""Many appliances switched at once on an emulated radio: whom a group reaches, whom not, and who is told by himself."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.radio import ApsFrame
from drivers.zigbee.switching import AT_LEAST, FILE
from tests.drivers.zigbee.radio import Emulator, HubSide, short_directory, until
from tests.emulators.faults import GROUP_FAULTS, GroupFault

GROUP = 0x4D48
HOMES_OWN = 0x0003
ON_OFF, GROUPS = 0x0006, 0x0004
NUMBER = 8
PLUGS = [
    {"kind": "plug", "ieee": f"000d6f00000001{n:02x}", "name": f"p{n}", "appliance": "plain"} for n in range(NUMBER)
]
LAMP = {
    "kind": "zcl", "ieee": "000d6f0000000200", "name": "lamp", "manufacturer": "Z", "model": "Lamp",
    "groups": [HOMES_OWN],
    "endpoints": {"1": {"type": 0x101, "in": {
        "0x0000": {}, "0x0004": {}, "0x0006": {"0x0000": ["10", 1]}, "0x0008": {"0x0000": ["20", 254]},
    }}},
}  # fmt: skip


def run(work: Coroutine[Any, Any, None], limit_s: float = 120) -> None:
    async def limited() -> None:
        async with asyncio.timeout(limit_s):
            await work

    asyncio.run(limited())


def client(row: dict[str, Any]) -> str:
    return f"zb-{row['ieee']}"


def in_group(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"groups": [GROUP, HOMES_OWN]} for row in rows]


def remember(data_dir: Path, rows: Iterable[dict[str, Any]], clear: Iterable[dict[str, Any]] = ()) -> None:
    """What an earlier life of the hub kept of its group."""
    places = [f"{row['ieee']}:1" for row in rows]
    record = {
        "group": GROUP, "wanted": places, "may": dict.fromkeys(places, True), "refused": [], "foreign": [],
        "clear": [f"{row['ieee']}:1" for row in clear], "retired": {},
    }  # fmt: skip
    (data_dir / FILE).write_text(json.dumps({"group": record}))


class Switched:
    """The hub, and each frame of On/Off and Groups that it sends."""

    def __init__(self, hub: HubSide) -> None:
        self.hub = hub
        self.frames: list[ApsFrame] = []
        hub.link.tap = self._tap

    def _tap(self, way: str, frame: ApsFrame) -> None:
        if way == "out" and frame.data[0] & 1 and frame.cluster in (ON_OFF, GROUPS):
            self.frames.append(frame)

    def told(self) -> list[str]:
        """Who was told by a unicast to switch itself."""
        return sorted({f"zb-{frame.ieee}" for frame in self.frames if frame.cluster == ON_OFF and frame.ieee})

    def group_commands(self) -> list[int]:
        return [frame.nwk for frame in self.frames if frame.cluster == ON_OFF and not frame.ieee]

    async def all(self, rows: Iterable[dict[str, Any]], on: bool) -> None:
        self.frames.clear()
        await asyncio.gather(*(self.hub.link.switch(client(row), on) for row in rows))

    async def ready(self, number: int) -> None:
        await self.hub.up()
        await until("all to report", lambda: len(self.reporting()) == number, 60)

    def reporting(self) -> list[str]:
        return [row["client"] for row in self.hub.link.appliances() if "state" in row["quantities"]]


async def states(radio: Emulator) -> dict[str, bool]:
    return {row["name"]: row["on"] for row in (await radio.ask("devices"))["devices"] if "on" in row}


async def life_before(radio: Emulator, data_dir: Path, number: int) -> None:
    """The hub's first life: a network is formed, all join it."""
    async with HubSide(radio.tty, data_dir) as hub:
        await hub.open()
        await Switched(hub).ready(number)
        for row in (await radio.ask("devices"))["devices"]:
            if row["kind"] == "plug":
                await radio.until("reporting", row["name"], lambda row: len(row["reporting"]) == 5)


@asynccontextmanager
async def second_life(radio: Emulator, data_dir: Path) -> AsyncIterator[tuple[HubSide, Switched]]:
    """A hub that starts again in a home whose plugs are all in its group."""
    await life_before(radio, data_dir, NUMBER)
    remember(data_dir, PLUGS)
    async with HubSide(radio.tty, data_dir) as hub:
        switched = Switched(hub)
        await switched.ready(NUMBER)
        yield hub, switched


def test_many_are_switched_by_one_frame_and_prove_it() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                for on in (False,):
                    await switched.all(PLUGS, on)
                    assert set((await states(radio)).values()) == {on}
                    assert switched.group_commands() == [GROUP]
                    assert switched.told() == []
                group = hub.status["group"]
                assert group == {
                    "id": f"0x{GROUP:04X}", "members": [client(row) for row in PLUGS], "unconfirmed": 0, "frames": 1,
                }  # fmt: skip

        run(scenario())


@pytest.mark.parametrize("fault", GROUP_FAULTS, ids=lambda fault: fault.name)
def test_whom_the_group_does_not_reach_is_told_by_himself(fault: GroupFault) -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                events = len(hub.events)
                for request in fault.do:
                    await radio.ask(**request)
                async with asyncio.timeout(fault.back_s):
                    await switched.all(PLUGS, False)
                assert set((await states(radio)).values()) == {False}
                assert switched.group_commands() == [GROUP]
                assert set(switched.told()) <= {client(PLUGS[3])}
                assert hub.events[events:] == [] and not hub.conditions(), "nobody is bothered"

        run(scenario())


def test_an_order_that_does_not_mean_a_member_does_not_reach_it() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (_, switched):
                await switched.all(PLUGS[1:], False)
                assert switched.group_commands() == []
                assert await states(radio) == {row["name"]: row is PLUGS[0] for row in PLUGS}
                assert len(switched.told()) == NUMBER - 1

        run(scenario())


def test_one_who_has_not_said_which_groups_he_is_in_stands_in_the_way() -> None:
    """A device that joined just now, perhaps with a group of an earlier life."""
    stranger = PLUGS[0] | {"ieee": "000d6f00000001ff", "name": "new", "groups": [GROUP]}
    with short_directory() as place, Emulator(place, [*in_group(PLUGS), stranger]) as radio:

        async def scenario() -> None:
            await life_before(radio, place / "data", NUMBER + 1)
            remember(place / "data", PLUGS)
            async with HubSide(radio.tty, place / "data") as hub:
                switched = Switched(hub)
                await switched.ready(NUMBER + 1)
                await switched.all(PLUGS, False)
                assert switched.group_commands() == []
                assert (await states(radio))["new"] is True

        run(scenario())


def test_the_newest_order_counts_and_the_others_end() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                one = client(PLUGS[0])
                all_off = [hub.link.switch(client(row), False) for row in PLUGS]
                ended = await asyncio.gather(
                    *all_off, hub.link.switch(one, True), hub.link.switch(one, True), return_exceptions=True
                )
                assert isinstance(ended[0], ConnectionError) and "another order" in str(ended[0])
                assert ended[1:] == [None] * (NUMBER + 1)
                assert await states(radio) == {row["name"]: row is PLUGS[0] for row in PLUGS}
                assert switched.group_commands() == []

        run(scenario())


def test_a_radio_that_goes_in_the_middle_leaves_nobody_waiting() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                orders = asyncio.gather(*(hub.link.switch(client(row), False) for row in PLUGS), return_exceptions=True)
                await until("the command", switched.group_commands)
                await radio.ask("unplug")
                async with asyncio.timeout(60):
                    ended = await orders
                assert all(end is None or isinstance(end, ConnectionError) for end in ended), ended
                await radio.ask("plug")
                await until("it to be back", lambda: hub.status["resets"] == 1 and hub.link.is_up)
                await switched.all(PLUGS, False)
                assert set((await states(radio)).values()) == {False}

        run(scenario())


def test_few_are_told_one_by_one_and_no_group_is_made() -> None:
    with short_directory() as place, Emulator(place, PLUGS[: AT_LEAST - 1]) as radio:

        async def scenario() -> None:
            await life_before(radio, place / "data", AT_LEAST - 1)
            async with HubSide(radio.tty, place / "data") as hub:
                switched = Switched(hub)
                await switched.ready(AT_LEAST - 1)
                await switched.all(PLUGS[: AT_LEAST - 1], False)
                assert switched.group_commands() == [] and "group" not in hub.status
                assert set((await states(radio)).values()) == {False}
                assert not (place / "data" / FILE).exists()

        run(scenario())


def test_a_member_that_does_not_say_that_it_left_costs_the_group_its_number() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                await radio.ask("set", device="p3", powered=False)
                answer = await hub.link.remove(PLUGS[3]["ieee"])
                assert answer["told"] is False
                assert hub.status["group"]["id"] != f"0x{GROUP:04X}"
                assert hub.status["group"]["members"] == []
                others = [row for row in PLUGS if row is not PLUGS[3]]
                await switched.all(others, False)
                assert switched.group_commands() == [], "there is another group, and nobody is in it yet"
            kept = json.loads((place / "data" / FILE).read_text())["group"]
            assert kept["group"] != GROUP and str(GROUP) in kept["retired"]

        run(scenario())


def test_who_is_removed_leaves_the_group_first() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            async with second_life(radio, place / "data") as (hub, switched):
                switched.frames.clear()
                await hub.link.remove(PLUGS[3]["ieee"])
                assert [frame.ieee for frame in switched.frames if frame.cluster == GROUPS] == [PLUGS[3]["ieee"]]
                assert hub.status["group"]["id"] == f"0x{GROUP:04X}", "it is out, so the number is good"
                others = [row for row in PLUGS if row is not PLUGS[3]]
                assert hub.status["group"]["members"] == [client(row) for row in others]
                await switched.all(others, False)
                assert switched.group_commands() == [GROUP]

        run(scenario())


@pytest.mark.parametrize("text", [None, "{", json.dumps({"group": {"group": GROUP}})])
def test_a_record_that_is_lost_or_damaged_is_no_group(text: str | None) -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:

        async def scenario() -> None:
            await life_before(radio, place / "data", NUMBER)
            if text is not None:
                (place / "data" / FILE).write_text(text)
            async with HubSide(radio.tty, place / "data") as hub:
                switched = Switched(hub)
                await switched.ready(NUMBER)
                await switched.all(PLUGS, False)
                assert switched.group_commands() == []
                assert len(switched.told()) == NUMBER
                await until("another group", lambda: "group" in hub.status)
                assert hub.status["group"]["id"] != f"0x{GROUP:04X}"

        run(scenario())


def test_another_network_has_no_group() -> None:
    with short_directory() as place, Emulator(place, in_group(PLUGS)) as radio:
        (place / "data").mkdir()
        remember(place / "data", PLUGS)

        async def scenario() -> None:
            await life_before(radio, place / "data", NUMBER)  # which forms it
            assert json.loads((place / "data" / FILE).read_text()) == {}
            async with HubSide(radio.tty, place / "data") as hub:
                switched = Switched(hub)
                await switched.ready(NUMBER)
                assert "group" not in hub.status

        run(scenario())


@pytest.mark.slow
def test_those_who_were_switched_together_become_a_group() -> None:
    """In real time: half a minute of quiet, then a question every two seconds."""
    with short_directory() as place, Emulator(place, [*PLUGS, LAMP]) as radio:

        async def scenario() -> None:
            await life_before(radio, place / "data", NUMBER + 1)
            async with HubSide(radio.tty, place / "data") as hub:
                switched = Switched(hub)
                await switched.ready(NUMBER + 1)
                await switched.all([*PLUGS, LAMP], True)
                assert switched.group_commands() == [], "never at the moment of the order"
                await until("members", lambda: len(hub.status.get("group", {}).get("members", [])) == NUMBER, 120)
                assert hub.status["group"]["members"] == [client(row) for row in PLUGS], "a lamp has its level"
                assert not [
                    frame for frame in switched.frames
                    if frame.cluster == GROUPS and frame.ieee == LAMP["ieee"] and frame.data[2] != 0x02
                ], "what the home's remotes made is left alone"  # fmt: skip
                await switched.all([*PLUGS, LAMP], False)
                assert len(switched.group_commands()) == 1
                assert switched.told() == [client(LAMP)]
                assert set((await states(radio)).values()) == {False}

        run(scenario(), 240)
