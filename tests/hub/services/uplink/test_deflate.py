"""uplink.deflate: what goes over the line is smaller, and everybody who reads packs reads it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cbor2
import pytest

from deploy.pki import DevelopmentAuthority
from hub.headend.inbox import Inbox
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

READINGS = 200


@pytest.fixture
def world(tmp_path: Path, authority: DevelopmentAuthority) -> Iterator[tuple[Callable[..., Hub], ControlPoint]]:
    broker = Broker(tmp_path / "broker", authority).start()
    control_point = ControlPoint(authority.directory, broker.port)
    hubs: list[Hub] = []

    def make(**settings: object) -> Hub:
        hubs.append(Hub(tmp_path / "hub", authority, broker.port, **settings))
        return hubs[-1].start()

    yield make, control_point
    for hub in hubs:
        hub.kill()
    control_point.stop()
    broker.stop()


def send(hub: Hub, values: range) -> None:
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for first in range(values.start, values.stop, 25):  # buffered, so that a pack has many however slow this machine is
        samples = ",".join(f"{first + 25 - value}:{value}" for value in range(first, first + 25))
        assert adapter.publish(0x0001, samples.encode()) == 0
    adapter.close()


def headers(control_point: ControlPoint) -> list[dict[object, object]]:
    with control_point.lock:
        bodies = [body for (_, _, lane, _), body in control_point.books.messages.items() if lane == "readings"]
    return [cbor2.loads(cbor2.loads(body).value[0]) for body in bodies]


def test_a_hub_deflates_only_when_it_is_told_to_and_every_reader_reads_both(
    world: tuple[Callable[..., Hub], ControlPoint], authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    make, control_point = world
    operator = Operator("grid")
    settings = {"control__operators_file": str(write_operators(tmp_path / "operators.toml", operator))}
    hub = make(uplink__pack_interval_s=3, **settings)
    send(hub, range(READINGS))
    wait_for("the plain ones", lambda: len(control_point.values()) == READINGS)
    assert headers(control_point) and not any(-65538 in header for header in headers(control_point)), "not by default"
    assert hub.stop() == 0
    hub = make(uplink__pack_interval_s=3, uplink__deflate=True, **settings)
    send(hub, range(READINGS, 2 * READINGS))
    wait_for("the deflated ones", lambda: len(control_point.values()) == 2 * READINGS)
    assert any(header.get(-65538) == "deflate" for header in headers(control_point))
    assert sorted(control_point.values()) == list(range(2 * READINGS)) and not control_point.faults
    # The hub's own history, an answer to `read`, and our head-end.
    assert len(hub.ask("readings", limit=10_000)) == 2 * READINGS
    command = operator.command("read", {"from": 0, "to": 4_000_000_000})
    control_point.send(command)
    wait_for("the answer", lambda: "completed" in control_point.receipts(cti_of(command)))
    wait_for("its pack", lambda: bool(control_point.books.answers))
    assert control_point.books.answers[0][0][-65538] == "deflate"
    inbox = Inbox([authority.directory / "hub.pem"])
    found = [inbox.receive(topic, body) for topic, body in list(control_point.raw.queue)]
    assert not [received.fault for received in found if received.fault]
    taken = [r.mantissa for received in found if received.kind == "readings" for r in received.readings]
    assert sorted(set(taken)) == list(range(2 * READINGS))


def test_a_command_that_turns_it_on_is_in_force_at_once(
    world: tuple[Callable[..., Hub], ControlPoint], authority: DevelopmentAuthority, tmp_path: Path
) -> None:
    make, control_point = world
    operator = Operator("grid")
    operators = write_operators(tmp_path / "operators.toml", operator)
    hub = make(uplink__pack_interval_s=3, control__operators_file=str(operators))
    hub.wait_uplink()
    command = operator.command("config", {"set": {"uplink.deflate": True, "uplink.time_step_ms": 500}})
    control_point.send(command)
    wait_for("the change", lambda: "completed" in control_point.receipts(cti_of(command)))
    send(hub, range(READINGS))
    kettle = UdpAdapter(hub.udp_port, "kettle")
    assert kettle.connect() == 0 and kettle.publish(0x0001, b"9:1,6:2,3:3") == 0
    kettle.close()
    wait_for("the readings", lambda: len(control_point.values()) == READINGS + 3)
    assert any(header.get(-65538) == "deflate" for header in headers(control_point)), "without a restart"
    inbox = Inbox([authority.directory / "hub.pem"])
    found = [inbox.receive(topic, body) for topic, body in list(control_point.raw.queue)]
    readings = [reading for received in found if received.kind == "readings" for reading in received.readings]
    assert [r.t_ms % 500 for r in readings if r.client_id == "kettle"] == [0, 0, 0]
