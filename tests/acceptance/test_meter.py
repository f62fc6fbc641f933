"""The meter's own register port: its readings reach the control point, it has a say in the plan, its loss is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulators.meter import Meter
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.waiting import wait_for


def _seen(control_point: ControlPoint) -> dict[str, float]:
    return {q: value for client, q, _, value, _ in control_point.books.readings if client == "meter"}


@pytest.mark.parametrize("protocol", ["p1", "iec62056-21"])
def test_its_registers_are_readings(
    protocol: str, make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", protocol, power_w=-420).start()
    hub = make_hub(meter__path=str(meter.link), meter__protocol=protocol).start()
    wait_for("power and energy", lambda: {"power", "energy"} <= set(_seen(control_point)))
    seen = _seen(control_point)
    assert seen["power"] == -420 and seen["energy"] in (777777, 12345678)
    assert hub.status()["meter"]["state"] == "up"
    assert "meter    up" in hub.cli("status").stdout
    if protocol == "iec62056-21":
        assert [rate for _, rate in meter.heard[:2]] == [300, 300], "asked and acknowledged at 300 baud"
    hub.stop()
    meter.stop()


def test_a_cable_pulled_out_is_told_and_put_back_is_found(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", "p1")
    hub = make_hub(meter__path=str(meter.link), meter__protocol="p1").start()
    wait_for("the condition", lambda: "meter-missing" in hub.conditions())
    meter.start()
    wait_for("it to be up", lambda: hub.status()["meter"]["state"] == "up")
    assert "meter-missing" not in hub.conditions()
    meter.stop()
    wait_for("its loss", lambda: hub.status()["meter"]["state"] == "missing")
    meter.start()
    wait_for("it to be up again", lambda: hub.status()["meter"]["state"] == "up")
    named = [event["event"] for event in hub.ask("events")]
    assert named.count("meter.up") == 2 and named.count("meter.lost") == 1
    hub.stop()
    meter.stop()


def test_the_meters_word_counts_when_a_limit_is_judged(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    operator = Operator("grid")
    operators = write_operators(tmp_path / "operators.toml", operator)
    meter = Meter(tmp_path / "tty", "p1", power_w=3000).start()
    settings = {"meter__path": str(meter.link), "meter__protocol": "p1", "control__operators_file": str(operators)}
    hub = make_hub(**settings).start()
    hub.wait_uplink()
    wait_for("its word", lambda: hub.ask("limits")["household"]["household_w"] == 3000)
    command = operator.command("limit", {"watts": 2000, "duration": 600})
    control_point.send(command)
    cti = cti_of(command)
    wait_for("the command", lambda: "accepted" in control_point.receipts(cti))
    assert "applied" not in control_point.receipts(cti), "nobody obeys, and the meter shows it"
    meter.power_w = 1500
    wait_for("the limit to be kept", lambda: "applied" in control_point.receipts(cti))
    assert control_point.receipt(cti, "applied")["detail"]["household_w"] == 1500
    hub.stop()
    meter.stop()


def test_a_register_that_reads_0_reaches_the_control_point_marked_as_implausible(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", "p1").start()
    hub = make_hub(meter__path=str(meter.link)).start()
    wait_for("its registers", lambda: "energy" in _seen(control_point))
    meter.energy_wh = (0, 0)
    wait_for("the fall", lambda: any(row["flags"] & 4 for row in hub.ask("readings", client="meter")))
    meter.energy_wh = (123456, 654321)
    hub.wait_uplink()

    def packed() -> dict[str, set[tuple[float, int]]]:
        found: dict[str, set[tuple[float, int]]] = {}
        for client, quantity, _, value, flags in control_point.books.readings:
            if client == "meter":
                found.setdefault(quantity, set()).add((value, flags & 4))
        return found

    wait_for("it to be packed", lambda: (0.0, 4) in packed().get("energy", set()))
    assert (777777.0, 0) in packed()["energy"] and not any(flag for _, flag in packed()["power"])
    hub.stop()
    meter.stop()


def test_an_engineer_sees_what_is_at_the_port(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", "p1", power_w=1234)
    hub = make_hub(meter__path=str(meter.link), meter__protocol="auto").start()
    assert hub.cli("meter").returncode == 1, "nothing is there yet"
    meter.start()
    wait_for("it to be up", lambda: hub.status()["meter"]["state"] == "up")
    shown = hub.cli("meter")
    assert shown.returncode == 0
    for text in ("EMU5\\2METER0001", "E0001", "p1 (found)", "115200 8N1", "a checksum of the telegram", "meter-gas"):
        assert text in shown.stdout
    for row in ("power 1234 W", "energy.t2 654321 Wh", "volume 12.345 m3", "1-0:32.7.0 230.1 V"):
        assert row in " ".join(shown.stdout.split())
    assert "1-0:1.8.1(000123.456*kWh)" in shown.stdout, "the last telegram, raw"
    answer = hub.ask("meter")
    assert answer["quantities"]["power"] == "1234" and answer["registers"]["1-0:1.8.1"]["value"] == "123456"
    in_status = str(hub.status()["meter"])
    assert "1234" not in in_status and "E0001" not in in_status, "status goes into bundles"
    hub.stop()
    meter.stop()


def test_a_key_that_is_none_is_said_in_one_line(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    key_file = tmp_path / "meter.key"
    hub = make_hub(meter__path="/dev/ttyS2", meter__key_file=str(key_file))
    for content, mode, says in (
        (None, 0, "No such file"),
        ("not a key", 0o640, "32 hexadecimal digits"),
        ("00" * 16, 0o644, "others may read"),
    ):
        if content is not None:
            key_file.write_text(content)
            key_file.chmod(mode)
        refused = hub.cli("check-config")
        assert refused.returncode == 2 and says in refused.stderr
        assert refused.stderr.count("\n") == 1 and "meter.key_file" in refused.stderr
        assert "not a key" not in refused.stderr
    key_file.chmod(0o600)
    assert hub.cli("check-config").returncode == 0


def test_a_meter_that_was_exchanged_is_told_to_the_utility_and_not_in_a_bundle(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "tty", "p1").start()
    hub = make_hub(meter__path=str(meter.link)).start()
    wait_for("its registers", lambda: "energy" in _seen(control_point))
    meter.number, meter.energy_wh = "4530303032", (12, 30)
    wait_for("the event", lambda: any(event["event"] == "meter.replaced" for event in hub.ask("events")))
    [event] = [event for event in hub.ask("events") if event["event"] == "meter.replaced"]
    assert (event["old_number"], event["new_number"]) == ("E0001", "E0002")
    assert event["last_registers"]["energy"] == "777777" and event["first_registers"]["energy"] == "42"
    wait_for("the new one's registers", lambda: _seen(control_point)["energy"] == 42)
    bundle = tmp_path / "bundle.tar.gz"
    assert hub.cli("bundle", "--out", str(bundle)).returncode == 0
    kept = (
        hub.cli("events", "--bundle", str(bundle), "--json").stdout + hub.cli("status", "--bundle", str(bundle)).stdout
    )
    assert "meter.replaced" in kept
    assert not any(secret in kept for secret in ("777777", "E0001", "E0002"))
    hub.stop()
    meter.stop()
