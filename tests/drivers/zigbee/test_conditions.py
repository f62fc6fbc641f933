"""Each condition of the radio, brought about by an emulated radio that is so, and gone by itself once that ends."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from drivers.zigbee.supervisor import _SHUTDOWN_S
from tests.drivers.zigbee.radio import ADAPTER, ADAPTER_IEEE, PLUG_IEEE, Emulator, HubSide, short_directory, until
from tests.drivers.zigbee.test_network import FILE, UTC
from tests.harness.witness import came, went


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await work

    asyncio.run(limited())


async def comes(hub: HubSide, code: str, timeout_s: float = 60) -> None:
    await until(f"{code} to come", lambda: came(code, hub.conditions()), timeout_s)


async def goes(hub: HubSide, code: str, timeout_s: float = 60) -> None:
    await until(f"{code} to go", lambda: went(code, hub.conditions()), timeout_s)


@pytest.mark.condition("radio-missing")
def test_a_radio_that_is_pulled_out() -> None:
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await radio.ask("unplug")
                await comes(hub, "radio-missing")
                await radio.ask("plug")
                await goes(hub, "radio-missing")

        run(scenario())


@pytest.mark.parametrize(
    ("fault", "mended", "condition"),
    [
        pytest.param(
            {"do": "mute", "layer": "ash"}, {"do": "unmute"}, "radio-silent",
            marks=pytest.mark.condition("radio-silent"),
        ),
        pytest.param(
            {"do": "refuse"}, {"do": "refuse", "status": ""}, "radio-refuses",
            marks=pytest.mark.condition("radio-refuses"),
        ),
    ],
)  # fmt: skip
def test_a_radio_that_answers_nothing_or_sends_nothing(
    fault: dict[str, Any], mended: dict[str, Any], condition: str
) -> None:
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await radio.ask(**fault)
                await comes(hub, condition)
                await radio.ask(**mended)
                await goes(hub, condition)

        run(scenario())


@pytest.mark.condition("radio-starting")
def test_a_radio_that_starts() -> None:
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await comes(hub, "radio-starting")
                await goes(hub, "radio-starting")
                assert hub.status["state"] == "up"

        run(scenario())


@pytest.mark.condition("radio-other-network")
def test_a_radio_that_brings_another_network() -> None:
    with short_directory() as place:

        async def form(tty: Path, name: str) -> None:
            async with HubSide(tty, place / name, utc=lambda: UTC) as hub:
                await hub.up()
                await until("the snapshot", (place / name / FILE).exists)

        async def meet(tty: Path) -> None:
            async with HubSide(tty, place / "ours") as hub:
                await comes(hub, "radio-other-network")
                await goes(hub, "radio-other-network")
                await hub.up()

        with Emulator(place, []) as radio:
            run(form(radio.tty, "ours"))
        radio.state.unlink()
        with Emulator(place, []) as radio:
            run(form(radio.tty, "theirs"))
            run(meet(radio.tty))


@pytest.mark.condition("radio-database")
def test_a_database_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.zigbee.link._LOOK_FOR_DATABASE_S", 0.5)

    async def scenario(tty: Path, data_dir: Path) -> None:
        async with HubSide(tty, data_dir) as hub:
            await hub.up()
        database = data_dir / "radio.db"
        database.unlink()
        database.mkdir()
        async with HubSide(tty, data_dir) as hub:
            await comes(hub, "radio-database")
            await hub.up()
            database.rmdir()
            await goes(hub, "radio-database")
            await hub.up()
            assert hub.conditions() == set()

    with short_directory() as place, Emulator(place, []) as radio:
        run(scenario(radio.tty, place / "data"))


def test_a_database_that_was_held_for_a_while_is_not_locked_for_ever() -> None:
    """A backup program has it while the radio resets. A life of the radio that ended must not keep it after that."""

    async def form(tty: Path, data_dir: Path) -> None:
        async with HubSide(tty, data_dir) as hub:
            await hub.open()
            await until("the adapter", lambda: hub.status["devices"])

    async def scenario(radio: Emulator, data_dir: Path) -> None:
        with contextlib.closing(
            sqlite3.connect(data_dir / "radio.db", timeout=30.0, isolation_level=None, check_same_thread=False)
        ) as other:
            other.execute("BEGIN IMMEDIATE")
            async with HubSide(radio.tty, data_dir) as hub:
                await hub.up()
                await radio.ask("rejoin", device="boiler-1")  # that is something to write
                await until("its frames", lambda: hub.arrived)
                await radio.ask("reset")
                await until("the reset to be noticed", lambda: hub.status["resets"] == 1)
                await asyncio.sleep(2 * _SHUTDOWN_S)
                other.execute("COMMIT")
                await hub.up()
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")

    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:
        run(form(radio.tty, place / "data"))
        run(scenario(radio, place / "data"))


@pytest.mark.condition("radio-undelivered")
def test_frames_that_are_not_acknowledged() -> None:
    devices = [ADAPTER, ADAPTER | {"ieee": "000d6f0000000003", "client_id": "boiler-2"}]
    with short_directory() as place, Emulator(place, devices) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("a session", "boiler-1", lambda row: row["session"] == "active")
                await radio.until("a session", "boiler-2", lambda row: row["session"] == "active")
                await radio.ask("set", device="boiler-1", powered=False)
                await radio.ask("set", device="boiler-2", powered=False)

                def speaks() -> set[str]:
                    hub.link.send([(("zigbee", ieee), b"\x02\x17") for ieee in (ADAPTER_IEEE, "000d6f0000000003")])
                    return hub.conditions()

                await until("it", lambda: came("radio-undelivered", speaks()), 110)
                await radio.ask("set", device="boiler-1", powered=True)
                await radio.ask("set", device="boiler-2", powered=True)
                await until("it to go", lambda: went("radio-undelivered", speaks()), 110)

        run(scenario())


@pytest.mark.condition("radio-slow")
def test_a_radio_that_carries_less_than_it_is_given() -> None:
    ieees = [f"000d6f00000000{n:02x}" for n in range(0x10, 0x1A)]
    devices = [ADAPTER | {"ieee": ieee, "client_id": f"boiler-{ieee[-2:]}"} for ieee in ieees]
    with short_directory() as place, Emulator(place, devices) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                for ieee in ieees:
                    await radio.until("a session", ieee, lambda row: row["session"] == "active")
                for ieee in ieees:
                    await radio.ask("set", device=ieee, delay_s=1.2)  # there and back: 2.4 s a frame, four at a time

                while not came("radio-slow", hub.conditions()):
                    hub.link.send([(("zigbee", ieee), b"\x02\x17") for ieee in ieees])
                    await asyncio.sleep(0.3)
                for ieee in ieees:
                    await radio.ask("set", device=ieee, delay_s=0.005)
                await goes(hub, "radio-slow")

        run(scenario())


@pytest.mark.condition("adapter-not-interviewed")
def test_an_appliance_that_does_not_say_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # zigpy's patience with a device of which it knows nothing, in seconds.
    monkeypatch.setattr("zigpy.device.APS_REPLY_TIMEOUT_EXTENDED", 0.2)
    deaf = {
        "kind": "zcl", "ieee": PLUG_IEEE, "name": "deaf", "manufacturer": "M", "model": "T", "habits": {"deaf": 5},
        "endpoints": {"1": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}}}},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [deaf]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await comes(hub, "adapter-not-interviewed")
                await goes(hub, "adapter-not-interviewed")

        run(scenario())
