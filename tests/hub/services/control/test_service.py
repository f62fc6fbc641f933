"""The control loop under a flood: who is refused on arrival, who waits for whom."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from drivers.clock import monotonic, utc_ms
from hub.core.control.command_queue import CommandQueue
from hub.core.control.controller import Controller, ControlSettings
from hub.core.control.records import Journal
from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig
from hub.core.health import Health
from hub.services.control.service import ControlService
from hub.wire.keys.operators import parse_operators
from store import Sealed
from tests.harness.operator import Operator, cti_of
from tests.hub.core.control.desk import Book


class Disk:
    """A store whose commits are done when it is told so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Journal, Future[list[Sealed]]]] = []
        self.receipts: list[tuple[bytes | None, str]] = []

    def commit_control(self, journal: Journal) -> "Future[list[Sealed]]":
        done: Future[list[Sealed]] = Future()
        self.waiting.append((journal, done))
        return done

    def go(self) -> None:
        waiting, self.waiting = self.waiting, []
        for journal, done in waiting:
            self.receipts += [(receipt.re, receipt.status) for receipt in journal.receipts]
            done.set_result([Sealed("receipts", 1, n, 0, b"") for n, _ in enumerate(journal.receipts, 1)])


class Home:
    """A home without appliances."""

    def __init__(self) -> None:
        self.gateway = Gateway(GatewayConfig(), monotonic())

    def flush(self) -> None:
        pass


def run(scene: Callable[[ControlService, Disk], Coroutine[Any, Any, None]], *operators: Operator) -> None:
    """Play a scene with a control service whose clock is trusted."""

    async def play() -> None:
        book = Book("\n".join(operator.toml for operator in operators))
        settings = ControlSettings()
        control = Controller("MTR-1", book.read(None), monotonic(), settings=settings, random=random.random, book=book)
        control.set_clock(utc_ms() / 1000 - monotonic(), True, monotonic())
        control.take_journal()  # by which clock it reckons
        disk = Disk()

        async def job(request: Any) -> Any:
            raise AssertionError(request)

        service = ControlService(control, disk, Home(), Health(), resend=lambda *_: True, job=job)
        running = asyncio.create_task(service.run())
        try:
            await scene(service, disk)
        finally:
            running.cancel()

    asyncio.run(play())


async def until(what: str, condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError(what)


def test_strangers_are_refused_while_a_commit_is_on_its_way() -> None:
    grid, stranger = Operator("grid"), Operator("nobody")

    async def scene(service: ControlService, disk: Disk) -> None:
        acknowledged: list[str] = []
        service.command(grid.command("limit", {"watts": 3000, "duration": 60}), lambda: acknowledged.append("grid"))
        await until("the commit", lambda: len(disk.waiting) == 1)
        for _ in range(300):
            message = stranger.command("limit", {"watts": 1, "duration": 60})
            service.command(message, lambda: acknowledged.append("stranger"))
            service.command(b"\xd2\x84", lambda: acknowledged.append("nothing"))
        # Twenty are worth an answer, and wait for the disk as every answer does; the rest waits for nobody.
        assert len(acknowledged) == 600 - 20
        assert "grid" not in acknowledged
        disk.go()
        await until("the limit", lambda: "grid" in acknowledged)
        await until("their receipts on the way", lambda: bool(disk.waiting))

    run(scene, grid)


def test_a_flood_in_one_operators_name_makes_no_other_wait() -> None:
    grid, honest = Operator("grid"), Operator("honest")
    forger = Operator("grid")

    async def scene(service: ControlService, disk: Disk) -> None:
        judged: list[str] = []
        for _ in range(500):
            service.command(forger.command("limit", {"watts": 1, "duration": 60}), lambda: judged.append("forged"))
        limit = honest.command("limit", {"watts": 3000, "duration": 60})
        service.command(limit, lambda: judged.append("honest"))
        genuine = grid.command("limit", {"watts": 4000, "duration": 60})
        service.command(genuine, lambda: judged.append("grid"))
        while len(judged) < 502:
            disk.go()
            await asyncio.sleep(0)
        assert judged.index("honest") < 5, "behind one or two of the flood, for it came in another's name"
        assert judged[-1] == "grid", "the operator whose name is used waits, and is heard"
        disk.go()
        await until("both accepted", lambda: {cti_of(limit), cti_of(genuine)} <= {re for re, _ in disk.receipts})

    run(scene, grid, honest)


def test_a_limit_does_not_wait_for_the_receipts_of_what_nobody_signed() -> None:
    grid, honest, forger = Operator("grid"), Operator("honest"), Operator("grid")

    async def scene(service: ControlService, disk: Disk) -> None:
        service.command(grid.command("limit", {"watts": 4000, "duration": 60}), lambda: None)
        await until("its commit", lambda: len(disk.waiting) == 1)
        acknowledged: list[str] = []
        for _ in range(20):  # as many as are worth an answer
            service.command(
                forger.command("limit", {"watts": 1, "duration": 60}), lambda: acknowledged.append("forged")
            )
        service.command(honest.command("limit", {"watts": 3000, "duration": 60}), lambda: acknowledged.append("honest"))
        disk.go()
        commits = []
        while len(acknowledged) < 21:
            commits += [len(journal.receipts) for journal, _ in disk.waiting]
            disk.go()
            await asyncio.sleep(0)
        assert acknowledged[0] == "honest", "twenty commits of forged ones before it are as many fsyncs"
        assert len([count for count in commits if count]) <= 3, "and one fsync is enough for all of them"

    run(scene, grid, honest)


def test_limits_begin_and_end_while_a_command_waits_for_the_disk() -> None:
    """Promise P4: a disk that is full for days must not keep anybody from power for so long."""
    grid, other = Operator("grid"), Operator("other")

    async def scene(service: ControlService, disk: Disk) -> None:
        async def accepted(by: Operator, watts: int, start: float, duration: float) -> None:
            done: list[bool] = []
            args = {"watts": watts, "start": start, "duration": duration}
            service.command(by.command("limit", args), lambda: done.append(True))
            while not done:
                disk.go()
                await asyncio.sleep(0.001)

        t = utc_ms() / 1000
        await accepted(grid, 3000, t, 1.5)
        await accepted(other, 4000, t + 1, 60)
        assert service.status()["watts"] == 3000
        acknowledged: list[bool] = []
        price = {"currency": "GBP", "steps": [[1_800_000_000, 3600, 0.28]]}
        service.command(other.command("price", price), lambda: acknowledged.append(True))
        await until("the first to end, and the second to hold", lambda: service.status()["watts"] == 4000)
        assert disk.waiting and not acknowledged, "the disk was not full: the test tests nothing"
        while not acknowledged:
            disk.go()
            await asyncio.sleep(0.001)

    run(scene, grid, other)


def test_an_operator_removed_while_its_command_waits_is_a_stranger() -> None:
    grid, honest = Operator("grid"), Operator("honest")

    async def scene(service: ControlService, disk: Disk) -> None:
        answered: list[bytes] = []
        late = grid.command("limit", {"watts": 1, "duration": 60})
        service.command(late, lambda: answered.append(late))
        service.use_operators(parse_operators(honest.toml))
        for _ in range(20):
            disk.go()
            await asyncio.sleep(0.001)
        assert (cti_of(late), "refused") in disk.receipts
        assert answered == [late]

    run(scene, grid, honest)


def test_the_inbox_keeps_the_order_of_each_and_turns_between_them() -> None:
    inbox: CommandQueue[int] = CommandQueue()
    for kid, item in (("a", 1), ("a", 2), ("a", 3), ("b", 10), ("c", 20), ("b", 11)):
        inbox.put(kid, item)
    taken = []
    while inbox:
        taken.append(inbox.take())
    assert taken == [1, 10, 20, 2, 11, 3]
