"""The decisions about appliances without a radio: scales, registers, budgets, zones, interviews, what is kept."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee import exceptions
from drivers.zigbee.appliance import Shape, ZclAppliance
from drivers.zigbee.budget import BURST, CALM_S, MUTED_ONE_IN_S, ONE_IN_S, ReportBudget
from drivers.zigbee.channel import ClusterPlace, ZclReading
from drivers.zigbee.delivery import UNSTABLE_RESETS, UNSTABLE_WITHIN_S, Deliveries, Resets
from drivers.zigbee.ias import Zone
from drivers.zigbee.interviews import PACE, Interviews
from drivers.zigbee.kept import FILE, RecordsFile
from drivers.zigbee.register import MOST_WH_PER_H, EnergyRegister
from drivers.zigbee.scaling import bcd, doubt_of
from hub.wire.zigbee import zcl

ROOT = Path(__file__).resolve().parents[3]
ELECTRICAL, METERING = ClusterPlace(1, 0x0B04), ClusterPlace(1, 0x0702)
SHAPE = {1: Shape(0x0104, 0x51, frozenset((0x0000, 0x0006, 0x0702, 0x0B04)))}


def uint(attribute: int, value: int, size: int = 2) -> zcl.Record:
    return zcl.Record(attribute, 0x20 + size - 1, value.to_bytes(size, "little"))


def sint(attribute: int, value: int, size: int = 2) -> zcl.Record:
    return zcl.Record(attribute, 0x28 + size - 1, value.to_bytes(size, "little", signed=True))


def plug(**described: Any) -> ZclAppliance:
    appliance = ZclAppliance("00" * 8)
    appliance.describe(described.get("manufacturer", "M"), described.get("model", "T"), SHAPE, sleepy=False)
    return appliance


POWER_PAIR = [uint(0x0604, 1), uint(0x0605, 10)]


@given(st.binary(max_size=90))
def test_any_report_is_read_or_left_alone(body: bytes) -> None:
    for record in zcl.report(body):
        assert record.number is None or isinstance(record.text, str | None)
    parsed = zcl.parse(body)
    assert parsed is None or len(zcl.default_response(parsed[0])) in (5, 7)


def test_a_value_is_invalid_as_its_own_type_has_it() -> None:
    assert uint(0, 0xFFFF).number is None and uint(0, 0xFFFF, 4).number == 0xFFFF
    assert sint(0, -0x8000).number is None and sint(0, -0x8000, 4).number == -0x8000
    assert zcl.Record(0, 0x39, b"\x00\x00\xc0\x7f").number is None, "not a number"
    assert zcl.Record(0, 0x10, b"\xff").number is None and zcl.Record(0, 0x42, b"\x02ab").number is None


def test_a_pair_that_says_nothing_is_no_scale() -> None:
    assert doubt_of(1, 1000) == doubt_of(None, 1000) == doubt_of(10255, 39321) == ""
    for pair in ((1, None), (None, None), (0, 1), (1, 0), (1, 512)):
        assert doubt_of(*pair)
    assert bcd(0x123456) == 123456 and bcd(0x12A) is None and bcd(-0x12) is None


def test_a_value_before_its_divisor_is_withheld_and_after_it_is_not() -> None:
    appliance = plug()
    assert appliance.take(ELECTRICAL, [sint(0x050B, 50)], 0.0) == []
    assert appliance.withheld == {"power": "its divisor is not known"} and appliance.refused == {"scale": 1}
    appliance.take(ELECTRICAL, POWER_PAIR, 1.0)
    assert appliance.take(ELECTRICAL, [sint(0x050B, 50)], 2.0) == [ZclReading("power", "5.0")]
    assert appliance.withheld == {}


def test_the_better_source_silences_the_other_while_it_speaks() -> None:
    appliance = plug()
    scales = [uint(0x0301, 1, 3), uint(0x0302, 1000, 3), zcl.Record(0x0300, 0x30, b"\0")]
    assert appliance.take(METERING, [*scales, sint(0x0400, 70, 3)], 0.0) == [ZclReading("power", "70")]
    assert appliance.take(ELECTRICAL, [*POWER_PAIR, sint(0x050B, 701)], 1.0) == [ZclReading("power", "70.1")]
    assert appliance.take(METERING, [sint(0x0400, 71, 3)], 2.0) == []
    assert appliance.take(METERING, [sint(0x0400, 72, 3)], 3700.0) == [ZclReading("power", "72")], "it fell silent"


def test_what_does_not_report_is_polled_until_a_report_proves_it() -> None:
    appliance = plug()
    appliance.take(ELECTRICAL, [*POWER_PAIR, sint(0x050B, 50)], 0.0)
    assert appliance.to_poll(ELECTRICAL, 1.0) == [0x050B]
    appliance.take(ELECTRICAL, [sint(0x050B, 51)], 5.0, reported=True)
    assert appliance.to_poll(ELECTRICAL, 6.0) == []
    assert appliance.to_poll(ELECTRICAL, 1000.0) == [0x050B], "its report is late"
    appliance.polled(ELECTRICAL, 1000.0)
    assert appliance.poll_due(ELECTRICAL) == 1010.0
    for _ in range(12):
        appliance.polled(ELECTRICAL, 2000.0, answered=False)
    assert appliance.poll_due(ELECTRICAL) == 2000 + 1800, "patience has an end"


def test_a_record_brings_all_back_and_a_damaged_one_does_no_harm() -> None:
    appliance = plug()
    appliance.take(ELECTRICAL, [*POWER_PAIR, sint(0x050B, 50)], 0.0)
    appliance.settle(0.0)
    record = json.loads(json.dumps(appliance.to_record()))
    again = ZclAppliance("00" * 8, record)
    again.describe(None, None, SHAPE, sleepy=False)
    assert again.take(ELECTRICAL, [sint(0x050B, 60)], 1.0, reported=True) == [ZclReading("power", "6.0")]
    assert again.model == "T"
    for key in record:
        for damage in (None, 7, "x", [], {"1": 2}):
            broken = ZclAppliance("00" * 8, record | {key: damage})
            broken.describe(None, None, SHAPE, sleepy=False)
            broken.take(ELECTRICAL, [*POWER_PAIR, sint(0x050B, 60)], 1.0)


def test_the_file_of_records_survives_damage(tmp_path: Path) -> None:
    kept = RecordsFile(tmp_path)
    kept.write({"00": {"read": True}})
    assert RecordsFile(tmp_path).records == {"00": {"read": True}}
    for damage in ("", "[", "[]", '{"00": 7}'):
        (tmp_path / FILE).write_text(damage)
        assert RecordsFile(tmp_path).records == {}


def test_a_register_runs_over_its_end_and_a_spike_is_held_back() -> None:
    register = EnergyRegister()
    values = [(2**48 - 2, True), (3, True), (4, True), (2**32, False), (5, True)]
    for n, (raw, good) in enumerate(values):
        assert register.accepts(raw, 48, 1.0, float(n)) is good
    assert not register.accepts(90_000_000, 48, 1.0, 10.0) and register.accepts(90_000_001, 48, 1.0, 11.0)
    assert register.accepts(90_000_001 + 3 * MOST_WH_PER_H, 48, 1.0, 11.0 + 3 * 3600.0), "three hours pass"


@given(st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=30))
def test_no_two_accepted_values_are_further_apart_than_a_supply_allows(values: list[int]) -> None:
    register = EnergyRegister()
    for n, raw in enumerate(values):
        register.accepts(raw, 48, 1.0, float(n))
    last = values[-1]
    assert register.accepts(last, 48, 1.0, 100.0) or register.accepts(last, 48, 1.0, 101.0), "what stays is believed"


def test_a_babbler_is_muted_and_heard_again() -> None:
    budget = ReportBudget()
    passed = sum(budget.admits("power", n / 10) for n in range(3000))
    assert passed <= BURST + 300 / ONE_IN_S and budget.is_muted(300.0) and budget.dropped == 3000 - passed
    assert budget.admits("power", 300.0 + MUTED_ONE_IN_S)
    assert not budget.is_muted(301.0 + CALM_S)
    good = ReportBudget()
    assert all(good.admits(quantity, n * 4.0) for n in range(1000) for quantity in ("power", "energy", "state"))


def test_alarms_are_told_when_they_begin_and_when_they_end() -> None:
    leak = Zone(0x002A)
    assert [leak.take(status) for status in (0, 1, 1, 5, 4, 0)] == [
        [], ["leak"], [], ["tamper"], ["leak is over"], ["tamper is over"],
    ]  # fmt: skip
    door = Zone(0x0015)
    assert door.take(1) == [] and door.quantity == "contact" and door.reading(1) == "1"
    assert Zone(0x015).take(8) == ["battery low"]


def test_interviews_are_owed_until_they_succeed() -> None:
    interviews = Interviews()
    assert interviews.failed("a", 0.0) and not interviews.failed("a", 10.0)
    assert interviews.take_due(10.0) == [] and interviews.take_due(10.0 + PACE.ceiling_s(1)) == ["a"]
    assert interviews.take_due(10.0 + PACE.ceiling_s(1)) == [], "it is being asked"
    assert interviews.take_due(10.0 + PACE.ceiling_s(1) + PACE.cap_s) == ["a"], "and again, if nothing came of it"
    assert interviews.failing() == ["a"]
    interviews.succeeded("a")
    assert interviews.failing() == [] and interviews.failed("a", 99.0), "a new trouble is told"


def test_shares_and_resets_forget() -> None:
    deliveries, resets = Deliveries(), Resets()
    for n in range(200):
        deliveries.count("a", delivered=n >= 100)
    assert deliveries.all.sent == 200 and (deliveries.all.share or 0) > 0.8 and deliveries.share_of("b") is None
    for n in range(UNSTABLE_RESETS):
        assert not resets.is_unstable(n)
        resets.count(float(n))
    assert resets.is_unstable(5.0) and not resets.is_unstable(UNSTABLE_WITHIN_S + 10)


def test_the_table_of_exceptions_says_only_what_is_understood() -> None:
    rows = tomllib.loads((ROOT / "drivers/zigbee/exceptions.toml").read_text())["device"]
    known = {"manufacturer", "model", "endpoint", "device_type", "reads", "scale", "lies", "either", "unit", "factor",
             "analog", "skip", "skip_endpoints", "moves", "poll", "limit",
             "software_below"}  # fmt: skip
    pairs = {"power", "voltage", "current", "total_power", "metering", "heating_demand"}
    for row in rows:
        assert set(row) <= known and {"manufacturer", "model", "endpoint"} & set(row), row
        for key in ("scale", "lies", "either", "reads"):
            assert set(row.get(key, {})) <= pairs, row
        for multiplier, divisor in [*row.get("scale", {}).values(), *row.get("lies", {}).values()]:
            assert multiplier > 0 and divisor > 0, row
        # Of a version that is not known the row's factors are withheld; nothing else of it would be.
        assert "software_below" not in row or row.keys() == {"manufacturer", "model", "software_below", "factor"}
    assert exceptions.of("nobody", "nothing", {1: 0x51}, {}) == exceptions.Exceptions()


@pytest.mark.parametrize("said", ["innr", "INNR ", "innr\0"])
def test_a_name_is_known_however_it_is_padded(said: str) -> None:
    assert exceptions.of(said, "SP 234", {}, {}).scale["metering"] == (1, 100)


def test_the_version_of_its_software_tells_its_scale_and_an_upgrade_another() -> None:
    place, shape = ClusterPlace(1, 0x0001), {1: Shape(0x0104, 0x0820, frozenset((0x0000, 0x0001)))}
    remote = ZclAppliance("00" * 8)
    remote.describe("IKEA of Sweden", "TRADFRI remote control", shape, sleepy=True)
    assert remote.unsure_places() == [place]
    assert not remote.take(place, [uint(0x0021, 77, 1)], 0.0) and "battery" in remote.withheld
    remote.has_software("2.3.079")
    assert remote.take(place, [uint(0x0021, 77, 1)], 1.0) == [ZclReading("battery", "77")] and not remote.withheld
    again = ZclAppliance("00" * 8, json.loads(json.dumps(remote.to_record())))
    again.describe(None, None, shape, sleepy=True)
    assert again.take(place, [uint(0x0021, 76, 1)], 2.0) == [ZclReading("battery", "76")]
    again.has_software("24.4.5")
    assert again.take(place, [uint(0x0021, 76, 1)], 3.0) == [ZclReading("battery", "38.0")]


@pytest.mark.parametrize(
    ("version", "is_old"),
    [("2.3.088", True), ("1.0.024", True), ("2.4.5", False), ("2.4.011", False), ("24.4.5", False), ("3", False)],
)
def test_versions_are_compared_number_by_number(version: str, is_old: bool) -> None:
    found = exceptions.of("IKEA of Sweden", "Remote Control N2", {}, {}, version)
    assert ("battery" in found.factor) == is_old and found.by_software and not found.unsure


def test_until_its_version_is_known_nothing_is_and_without_one_it_is_as_the_specification_says() -> None:
    for version in (None, "", "n/a"):
        found = exceptions.of("IKEA of Sweden", "KADRILJ roller blind", {}, {}, version)
        assert found.unsure == ({"battery"} if version is None else set()) and not found.factor
