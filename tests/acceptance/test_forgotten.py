"""P5 over the loss of the database: what was commanded before it is not obeyed twice."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.memory import folder_in_memory
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

PAGE = 2048
PRICE = {"currency": "GBP", "steps": [[1_800_000_000, 3600, 0.28]]}


@pytest.fixture
def operator() -> Operator:
    return Operator("grid")


@pytest.fixture
def hub(make_hub: Callable[..., Hub], control_point: ControlPoint, operator: Operator, tmp_path: Path) -> Iterator[Hub]:
    file = write_operators(tmp_path / "operators.toml", operator)
    with folder_in_memory() as folder:
        hub = make_hub(control__operators_file=str(file), hub__data_dir=str(folder / "data"))
        hub.data_dir = folder / "data"
        hub.start().wait_uplink()
        yield hub
        hub.kill()


def reasons(control_point: ControlPoint, command: bytes) -> Any:
    return control_point.receipt(cti_of(command), "refused")["reason"]


def test_a_lost_database_lets_no_old_command_pass(hub: Hub, control_point: ControlPoint, operator: Operator) -> None:
    command = operator.command("price", PRICE)
    control_point.send(command)
    wait_for("it to be obeyed", lambda: "completed" in control_point.receipts(cti_of(command)))
    epoch = hub.status()["epoch"]
    hub.kill()
    for file in hub.data_dir.glob("hub.db*"):
        file.write_bytes(bytes(file.stat().st_size))
    hub.start()
    hub.wait_uplink()
    assert hub.status()["epoch"] > epoch
    control_point.send(command)
    wait_for("the refusal", lambda: "refused" in control_point.receipts(cti_of(command)))
    assert reasons(control_point, command) == "replayed"
    assert control_point.receipts(cti_of(command)).count("completed") == 1


def test_a_lost_folder_lets_no_old_command_pass(hub: Hub, control_point: ControlPoint, operator: Operator) -> None:
    """Nothing at home says that there ever was another database; the broker does."""
    command = operator.command("price", PRICE)
    control_point.send(command)
    wait_for("it to be obeyed", lambda: "completed" in control_point.receipts(cti_of(command)))
    epoch = hub.status()["epoch"]
    hub.kill()
    shutil.rmtree(hub.data_dir)
    hub.start().wait_uplink()
    assert hub.status()["epoch"] > epoch
    control_point.send(command)
    wait_for("the refusal", lambda: "refused" in control_point.receipts(cti_of(command)))
    assert reasons(control_point, command) == "replayed"
    assert control_point.receipts(cti_of(command)).count("completed") == 1
    told = [event for event in control_point.books.events if event["event"] == "store.salvaged"]
    assert len(told) == 1 and f"epoch {epoch}" in told[0]["reason"]


def test_damage_met_while_the_hub_runs_makes_it_forget_nothing(
    hub: Hub, control_point: ControlPoint, operator: Operator, broker: Broker
) -> None:
    command = operator.command("price", PRICE)
    control_point.send(command)
    wait_for("it to be obeyed", lambda: "completed" in control_point.receipts(cti_of(command)))
    broker.stop()
    epoch = hub.status()["epoch"]
    adapter = UdpAdapter(hub.udp_port, "meter-1")
    assert adapter.connect() == 0
    digits = random.Random(1)  # what nothing makes smaller
    for _ in range(4000):
        samples = ",".join(f"{ago}:{digits.randrange(10**17)}" for ago in range(64, 0, -1))
        assert adapter.publish(0x0001, samples.encode()) == 0
    # Beyond what SQLite has in memory everything is damaged, behind its back.
    with (hub.data_dir / "hub.db").open("r+b") as file:
        pages = os.fstat(file.fileno()).st_size // PAGE
        assert pages > 400, "too little to be more than the cache holds"
        file.seek(60 * PAGE)
        file.write(b"\xff" * PAGE * (pages - 100))
    hub.ask("readings", client="nobody")
    wait_for("the new epoch", lambda: hub.status()["epoch"] > epoch)
    wait_for("a round of the watch", lambda: "store-salvaged" in hub.conditions())
    hub.kill()
    broker.start()
    hub.start()
    hub.wait_uplink()
    fresh = operator.command("price", PRICE)
    control_point.send(fresh)
    wait_for("a new one to be obeyed at once", lambda: "completed" in control_point.receipts(cti_of(fresh)))
    again = operator.command("price", PRICE, ctr=operator.ctr - 1)
    control_point.send(again)
    wait_for("an old counter to be refused", lambda: "refused" in control_point.receipts(cti_of(again)))
    assert reasons(control_point, again) == "replayed"
