"""`kill -9` and power cuts at every step of a command's life, on the real store (promise P5).

The steps are enumerated; after each the database is copied as it lies on the disk (what a power cut would leave),
opened again, and lived to the end, the broker bringing the command again where nobody had acknowledged it. Each time
the receipts have to tell the same true story, once, in an unbroken chain.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.core.control.controller import Controller, ControlSettings
from hub.core.control.records import Journal, Step
from hub.core.records import RetainedSet, Sample, SubscriptionAdded
from hub.wire.keys.operators import parse_operators
from hub.wire.uplink.envelope import FileSigner, open_envelope, seal
from hub.wire.uplink.receipt import broken_links, decode_receipt
from store import Sealed, Store
from tests.harness.operator import Operator, cti_of
from tests.hub.core.control.desk import Book
from tests.store.helpers import WAIT_S

UTC = 1_800_000_000.0
OPERATOR = Operator("grid")
SIGNER = FileSigner(Operator("hub").key, b"12345678")
KEY = SIGNER._key.public_key()


class Life:
    """One hub's life on one data_dir: real store, real controller, the clock in our hands."""

    def __init__(self, place: Path, now: float, broker: list[bytes]) -> None:
        def sealer(lane: str, epoch: int, number: int, kind: int | str, payload: bytes, extra: Any) -> bytes:
            return seal(SIGNER, "MTR-1", epoch, lane, number, kind, payload, extra)

        self.place, self.now, self.broker = place, now, broker
        self.store = Store(place, seal=sealer)
        self.store.start()
        self.controller = Controller(
            "MTR-1", parse_operators(OPERATOR.toml), now, settings=ControlSettings(), random=lambda: 0.5, book=Book("")
        )
        assert self.controller.restore(self.store.control_state().result(WAIT_S), now) == []
        self.controller.set_clock(UTC, True, now)
        self.step: Step | None = None
        self.journal: Journal | None = None
        self.given: list[tuple[str, str]] = []

    def hear_home(self) -> None:
        about = RetainedSet("about/boiler", b'{"class":"water-heater","nominal_w":2000}', 1)
        self.controller.observe([], [about, SubscriptionAdded("boiler", "control/boiler", 1)], self.now)
        self.controller.observe([Sample("boiler", "power", self.now, 2000, 0)], [], self.now)

    def appliance_obeys(self) -> None:
        self.controller.observe([Sample("boiler", "power", self.now, 0, 0)], [], self.now)
        self.controller.handle_timer(self.now)

    def judge(self) -> None:
        self.step = self.controller.command(self.broker[0], self.now)

    def make_durable(self) -> None:
        assert self.step is not None
        self.commit(self.step.journal)

    def commit(self, journal: Journal) -> None:
        sealed: list[Sealed] = self.store.commit_control(journal).result(WAIT_S)
        for receipt, message in zip(journal.receipts, sealed, strict=True):
            if receipt.re in journal.answered:
                self.controller.answered.put(receipt.re, message.epoch, message.number, journal.answered[receipt.re])

    def take_effect(self) -> None:
        assert self.step is not None
        self.step.apply(self.now)
        self.given += [(client, order.text) for client, order in self.controller.take_orders()]

    def acknowledge(self) -> None:
        self.broker.pop(0)

    def take(self) -> None:
        self.journal = self.controller.take_journal()

    def write(self) -> None:
        if self.journal is not None:
            self.commit(self.journal)
            self.journal = None

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.controller.handle_timer(self.now)
        self.controller.take_orders()

    def live_to_the_end(self) -> None:
        self.hear_home()
        while self.broker:
            self.judge()
            self.make_durable()
            self.take_effect()
            self.acknowledge()
        for _ in range(70):
            self.take()
            self.write()
            self.appliance_obeys()
            self.wait(1.0)
        self.take()
        self.write()

    def receipts(self) -> list[tuple[Any, bytes]]:
        found = self.store.unsent("receipts", 0, 0, 1000).result(WAIT_S)
        return [(decode_receipt(open_envelope(m.body, lambda _kid: KEY).payload), m.body) for m in found]


def limit() -> bytes:
    return OPERATOR.command("limit", {"watts": 1000, "duration": 30}, iat=int(UTC), exp=int(UTC + 3600))


def switch() -> bytes:
    args = {"client": "boiler", "on": False, "duration": 30}
    return OPERATOR.command("switch", args, iat=int(UTC), exp=int(UTC + 3600))


STEPS: list[tuple[str, Callable[[Life], None]]] = [
    ("the command has arrived", Life.hear_home),
    ("it is judged", Life.judge),
    ("what it comes to is durable", Life.make_durable),
    ("it has taken effect, orders are out", Life.take_effect),
    ("the broker has its acknowledgement", Life.acknowledge),
    ("what follows is known", Life.take),
    ("what follows is durable", Life.write),
    ("the appliance has done as it was told", Life.appliance_obeys),
    ("that is known", Life.take),
    ("that is durable", Life.write),
    ("its time is over", lambda life: life.wait(31.0)),
    ("that is known", Life.take),
    ("that is durable", Life.write),
]


@pytest.mark.parametrize("off_s", [0.0, 3.0, 600.0], ids=("at once", "soon", "after its end"))
@pytest.mark.parametrize("upto", range(len(STEPS) + 1), ids=["nothing", *(name for name, _ in STEPS)])
@pytest.mark.parametrize("command", [limit, switch], ids=("limit", "switch"))
def test_a_cut_at_any_step_changes_no_story(
    command: Callable[[], bytes], upto: int, off_s: float, tmp_path: Path
) -> None:
    message = command()
    broker = [message]
    before = Life(tmp_path / "before", 0.0, broker)
    for _, act in STEPS[:upto]:
        act(before)
    shutil.copytree(before.place, tmp_path / "after")  # as a power cut would leave it
    before.store.close()
    after = Life(tmp_path / "after", before.now + off_s, broker)
    after.live_to_the_end()
    receipts = after.receipts()
    after.store.close()
    assert broken_links(receipts) == []
    story = [receipt.status for receipt, _ in receipts if receipt.re == cti_of(message)]
    assert story.count("accepted") == 1 and story[0] == "accepted"
    # Off for all of its time, a limit was never held: then the truth is that it failed.
    end = "failed" if command is limit and upto in range(3, 7) and off_s > 30 else "completed"
    assert story.count(end) == 1 and story[-1] == end
    assert set(story[1:-1]) <= {"applied"} and story.count("applied") <= 1
    assert not after.controller.limits and not after.controller.orders
