"""Mirrors for meters that sleep: the codec byte by byte, and meters out of data behind the emulated radio."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee.mirrors import FILE, Mirror
from hub.wire.zigbee import mirror, zcl
from tests.drivers.zigbee.radio import HubSide, bench_with, short_directory, until
from tests.emulators import home
from tests.emulators.ezsp.sleeping_meter import SleepingMeter

METERS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).resolve().parents[2] / "emulators/meters").glob("*.json"))
}
GAS_IEEE = METERS["gas"]["device"]["ieee"]
UTC = 1_900_000_000.0


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


def meter(name: str, **habits: Any) -> SleepingMeter:
    entry = json.loads(json.dumps(METERS[name]["device"]))
    entry["habits"] |= habits
    device = home.build(entry, 0.0)
    assert isinstance(device, SleepingMeter)
    return device


def record(attribute: int, kind: int, value: int, size: int) -> zcl.Record:
    return zcl.Record(attribute, kind, value.to_bytes(size, "little"))


GAS = {
    mirror.UNIT: record(mirror.UNIT, 0x30, 1, 1),
    mirror.MULTIPLIER: record(mirror.MULTIPLIER, 0x22, 1, 3),
    mirror.DIVISOR: record(mirror.DIVISOR, 0x22, 1000, 3),
    mirror.DEVICE_TYPE: record(mirror.DEVICE_TYPE, 0x30, 1, 1),
    mirror.SUMMATION: record(mirror.SUMMATION, 0x25, 12345, 6),
}


def test_the_commands_byte_by_byte() -> None:
    assert mirror.is_of_meter(0x0702, b"\x09\x21\x01") and mirror.is_of_meter(0x0702, b"\x19\x21\x02")
    assert not mirror.is_of_meter(0x0702, b"\x01\x21\x01"), "a client's GetProfile response has that number"
    assert not mirror.is_of_meter(0x0701, b"\x09\x21\x01") and not mirror.is_of_meter(0x0702, b"\x09\x21")
    assert mirror.request_mirror_response(0x21, 0x0B) == b"\x11\x21\x01\x0b\x00"
    assert mirror.request_mirror_response(0x21, None) == b"\x11\x21\x01\xff\xff"
    assert mirror.mirror_removed(0x22, 0x0B) == b"\x11\x22\x02\x0b\x00"
    assert mirror.report_response(0x23, 1) == b"\x11\x23\x09\x01" + bytes(4)
    assert mirror.notification_of(b"\1\0\0\0" + b"\x08\x07\0" + b"\1\2") == mirror.Notification(True, 2)
    assert mirror.notification_of(bytes(8)) is None
    asked = mirror.read_response(b"\x00\x31\x00\x00\x03\x99\x99", GAS)
    assert asked == b"\x18\x31\x01" + b"\x00\x03\x00\x30\x01" + b"\x99\x99\x86"
    assert mirror.interface_records(has_room=True)[0x0011].number == 1
    assert mirror.interface_records(has_room=False)[0x0011].number == 0


def test_a_reading_is_as_old_as_the_meter_says() -> None:
    held = Mirror(0x0B)
    held.take(list(GAS.values()))
    assert held.reading(UTC) == ("meter-gas", "volume", "12.345")
    for ago_s, text in ((1800, "1800:12.345"), (0, "12.345"), (-60, "12.345"), (90_000, "12.345")):
        held.take([record(mirror.SNAPSHOT_TIME, 0xE2, int(UTC - ago_s) - 946_684_800, 4)])
        reading = held.reading(UTC)
        assert reading is not None and reading[2] == text
    assert held.reading(None) == ("meter-gas", "volume", "12.345"), "nobody knows when that was"


@given(st.integers(0, 0xFFFF), st.binary(max_size=90))
def test_any_bytes_are_taken_or_left_alone(cluster: int, frame: bytes) -> None:
    if mirror.is_read(cluster, frame):
        assert len(mirror.read_response(frame, GAS)) <= 3 + 16 * 14
    if mirror.is_of_meter(cluster, frame):
        mirror.notification_of(frame[3:])
    held = Mirror(0x0B)
    held.take(zcl.report(frame))
    held.reading(UTC)
    assert Mirror(0x0B, json.loads(json.dumps(held.to_record()))).to_record() == held.to_record()


@pytest.mark.parametrize("name", METERS)
def test_a_meter_is_read_through_its_mirror(name: str) -> None:
    row = METERS[name]

    async def scenario() -> None:
        with short_directory() as place:
            device = meter(name)
            async with bench_with(place / "tty", device), HubSide(place / "tty", place / "data") as hub:
                await hub.open()
                if "withheld" in row:
                    await until("it to be said", lambda: "adapter.withheld" in hub.names())
                    said = next(fields for event, fields in hub.events if event == "adapter.withheld")
                    assert said == {"client": f"zb-{device.ieee[::-1].hex()}", "quantity": "volume",
                                    "reason": row["withheld"]}  # fmt: skip
                    reports = device.reports
                    await until("it to be said again", lambda: device.reports > reports + 2)
                    assert hub.names().count("adapter.withheld") == 1 and not hub.readings
                    assert list(hub.status["mirrors"].values()) == [row["withheld"]]
                    return
                client, quantity, texts = row["expect"]
                await until("all of it", lambda: len({text for *_, text in hub.readings}) == len(texts))
                assert {reading[:2] for reading in hub.readings} == {(client, quantity)}
                assert list(dict.fromkeys(text for *_, text in hub.readings)) == texts
                await until("its answers", lambda: device.answers)
                assert set(device.answers) == {row.get("answered", "0a00")} and hub.status["refused"] == 0
                assert list(hub.status["mirrors"].values()) == [client] and device.mirror == 0x0B
                assert device.asked == 0, "it is not asked what it will say by itself"

    run(scenario())


def test_what_a_meter_said_once_outlives_the_hub_and_the_mirror_its_removal_of() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            device = meter("gas-facts-once")
            async with bench_with(place / "tty", device) as bench:
                async with HubSide(place / "tty", place / "data") as hub:
                    await hub.open()
                    await until("a reading", lambda: hub.readings)
                asked = device.asked
                async with HubSide(place / "tty", place / "data") as hub:
                    await hub.up()
                    await until("a reading without a word more", lambda: hub.readings)
                    assert hub.readings[0] == ("meter-gas", "volume", "1234567.90")
                    assert device.asked == asked, "who sleeps is asked nothing"
                    device.give_up()
                    bench.ncp.air.speak(device, asyncio.get_running_loop().time())
                    bench.changed()
                    await until("it to be removed", lambda: device.removed)
                    assert device.removed == [0x0B] and "mirrors" not in hub.status
                assert json.loads((place / "data" / FILE).read_text()) == {}

    run(scenario())


def test_a_hub_without_a_memory_takes_a_meter_up_where_it_reports_to() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            device = meter("gas", endpoint=0x0C)
            async with bench_with(place / "tty", device), HubSide(place / "tty", place / "data") as hub:
                await hub.open()
                await until("a reading", lambda: hub.readings)
                assert hub.readings[0][0] == "meter-gas"

    run(scenario())


def test_a_fourth_meter_has_no_mirror_and_a_second_one_of_a_kind_no_name() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            devices = [meter(name) for name in ("gas", "water", "gas-digits")]
            async with bench_with(place / "tty", *devices) as bench, HubSide(place / "tty", place / "data") as hub:
                await hub.open()
                await until("three mirrors", lambda: len(hub.status.get("mirrors", {})) == 3)
                await until("one to be withheld", lambda: "adapter.withheld" in hub.names())
                said = next(fields for event, fields in hub.events if event == "adapter.withheld")
                assert said["reason"] == "another meter is meter-gas already"
                first = next(texts for texts in ({"5.000", "5.001", "5.250"}, {"1.234", "1.235"})
                             if any(reading[2] in texts for reading in hub.readings))  # fmt: skip
                late = meter("heat")
                bench.ncp.air.devices[late.ieee] = late
                bench.ncp.air.join(late, asyncio.get_running_loop().time())
                bench.changed()
                await until("it to be told", lambda: late.refused)
                gas = {text for client, _, text in hub.readings if client == "meter-gas"}
                assert gas <= first and late.mirror is None

    run(scenario())


def test_a_name_that_the_meters_port_tells_is_no_mirrors() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            device = meter("gas")
            async with bench_with(place / "tty", device), HubSide(place / "tty", place / "data") as hub:
                hub.link.is_taken = lambda client: client == "meter-gas"
                await hub.open()
                await until("it to be withheld", lambda: "adapter.withheld" in hub.names())
                assert not hub.readings

    run(scenario())


def test_who_does_not_use_the_link_key_is_no_meter() -> None:
    async def scenario() -> None:
        with short_directory() as place:
            device = meter("gas", unencrypted=True)
            async with bench_with(place / "tty", device), HubSide(place / "tty", place / "data") as hub:
                await hub.open()
                await until("it to be refused", lambda: hub.status["refused"] > 2)
                assert device.mirror is None and "mirrors" not in hub.status and not hub.readings

    run(scenario())
