"""Control's loop: uplink -> control machine -> store -> home. It decides nothing; it keeps the order of things.

A command is judged, what it comes to is made durable, only then does it take effect and is the broker told that we have
it. What follows from time (a limit's beginning and end) takes effect at once; its receipts are written after it.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from drivers.clock import monotonic
from hub.core.control.authority import Claimed
from hub.core.control.command_queue import CommandQueue
from hub.core.control.controller import Controller
from hub.core.control.household import LIMIT_SLOT
from hub.core.control.records import JobRequest, Journal, Outcome, Step
from hub.core.gateway.gateway import Gateway
from hub.core.health import Health
from hub.core.liveness import Liveness
from hub.core.order import EVERYTHING, Order
from hub.core.records import Change, EventRecorded, Sample
from hub.services.control.in_hand import InHand
from hub.wire.keys.operators import Operators
from hub.wire.keys.recovery import BadRecovery
from hub.wire.printable import one_line
from store import Sealed

if TYPE_CHECKING:
    from hub.wire.admin import ControlFigures

log = logging.getLogger(__name__)

_AT_ONCE = 8
RETRY_S = 5.0
_TOLD = ("adapter.joined", "adapter.left", "adapter.lost")  # what the journal says of the home
_ON_RADIO = "zb-"  # ClientIds of appliances that speak no MQTT-SN (design 3.2)
_SLACK_S = 60.0  # a commit or a plan takes no longer; waiting for a full disk to clear is told again every 5 s


class ControlStore(Protocol):
    """What it needs of the store."""

    def commit_control(self, journal: Journal) -> "Future[list[Sealed]]":
        """Make one step durable."""


class ControlledHome(Protocol):
    """What it needs of the home's loop. `flush()`: send and hand to the store what the gateway has ready."""

    gateway: Gateway

    def flush(self) -> None: ...


class Holder(Protocol):
    """What it needs of the radio: appliances there that end a limit by themselves."""

    async def limit(
        self, client_id: str, watts: float | None, duration_s: float, nominal_w: float | None = None
    ) -> float | None:
        """Hold one to a power for so long; None lets go. Raises ValueError or ConnectionError."""


class _Entry:
    """A step on its way to the disk, and who waits for it."""

    __slots__ = ("done", "journal")

    def __init__(self, journal: Journal, done: "asyncio.Future[None] | None") -> None:
        self.journal = journal
        self.done = done


class ControlService:
    """Drives one Controller. Everything runs on the event loop.

    `resend(lane, epoch, first, last)`: let the uplink send sealed messages again. `job(request)`: do what a command
    asks for.
    """

    def __init__(
        self,
        controller: Controller,
        store: ControlStore,
        home: ControlledHome,
        health: Health,
        *,
        resend: Callable[[str, int, int, int], bool],
        job: Callable[[JobRequest], Awaitable[Outcome]],
        liveness: Liveness | None = None,
        in_hand: InHand | None = None,
    ) -> None:
        self.controller = controller
        self._store = store
        self._home = home
        self._health = health
        self._resend = resend
        self._job = job
        self._vitals = liveness or Liveness(monotonic)
        self._in_hand = in_hand
        self._wake = asyncio.Event()
        self._inbox: CommandQueue[tuple[bytes, Callable[[], None]]] = CommandQueue()
        self._recoveries: deque[tuple[bytes, asyncio.Future[list[str]]]] = deque()
        self._entries: deque[_Entry] = deque()
        # Refusals of what nobody signed, and the acknowledgements that wait for them: few, for there is a budget.
        self._refused = Journal()
        self._refused_acks: list[Callable[[], None]] = []
        self._has_entries = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None  # while the loop waits for the disk
        self._holder: Holder | None = None
        self._held: dict[str, Order] = {}  # of appliances on the radio: the newest order, until it is carried out
        self.counters = {"commands": 0}
        self.on_price: Callable[[], None] = lambda: None  # other prices, or another step of them, apply
        self.on_limit: Callable[[], None] = lambda: None  # the household must keep to something else
        self.on_orders: Callable[[], None] = lambda: None  # for measurements: orders have just gone out

    # Input

    def command(self, message: bytes, acknowledge: Callable[[], None]) -> None:
        """A message of a command topic. `acknowledge` is called once it is durable what became of it.

        What comes in nobody's name is refused here and now, whatever else is under way; the rest waits for its turn, as
        the bytes it came in: to take it apart once more costs a tenth of its signature, to keep the parts five times
        the memory.
        """
        self.counters["commands"] += 1
        try:
            opened = self._open(message)
        except Exception:
            self._fault(message)
            acknowledge()
            return
        if isinstance(opened, Claimed):
            self._inbox.put(opened.kid, (message, acknowledge))
            self._wake.set()
        elif opened.is_nothing:
            acknowledge()
        else:
            self._refuse(opened, acknowledge)

    def _open(self, message: bytes) -> Claimed | Step:
        if self._in_hand is None:
            return self.controller.open(message, monotonic())
        if self._in_hand.is_poison(message):
            log.error("a command of %d bytes ended this hub more than once: it is refused", len(message))
            return self.controller.poison(message, monotonic())
        opened = self.controller.open(message, monotonic())
        self._in_hand.done()
        return opened

    def _fault(self, message: bytes) -> None:
        # Our own fault: without an acknowledgement it would come again and again, so it is acknowledged and told.
        log.exception("internal error while judging a command of %d bytes", len(message))
        self._health.raise_condition("internal-error", "a command could not be judged; see the journal")

    async def recover(self, message: bytes) -> list[str]:
        """Put a list of operators in force that the manufacturer signed; its kids, once it is durable. In turn with
        commands. Raises BadRecovery where it is refused: then nothing has changed."""
        done: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._recoveries.append((message, done))
        self._wake.set()
        return await done

    async def _recover(self, message: bytes, done: "asyncio.Future[list[str]]") -> None:
        try:
            step = self.controller.recover(message, monotonic())
        except BadRecovery as error:
            self.controller.counters[f"recovery.{error.reason}"] += 1
            log.warning("local recovery: refused: %s", error)
            done.set_exception(error)
            return
        await self._made_durable(step.journal)
        self._guard(step.apply)
        self._flush()
        log.warning("local recovery: the manufacturer's list of operators is in force")
        if not done.done():
            done.set_result(sorted(self.controller.authority.operators))

    def observed(self, samples: list[Sample], changes: list[Change]) -> None:
        """What the gateway took up; called by the bridge as it hands it to the store."""
        for change in changes:
            if isinstance(change, EventRecorded) and change.event in _TOLD:
                log.info("%s: %s", change.event, one_line(str(change.fields.get("client", ""))))
        self._guard(lambda now: self.controller.observe(samples, changes, now))
        self._flush()

    def orders_sent(self, orders: list[tuple[str, Order]]) -> None:
        """Orders that went on the air; called by the bridge."""
        self._guard(lambda now: self.controller.orders_sent(orders, now))

    def use_operators(self, operators: Operators) -> None:
        """Other operators from now on."""
        self._guard(lambda now: self.controller.use_operators(operators, now))
        self._flush()
        self._wake.set()

    def set_clock(self, offset_s: float, is_trusted: bool) -> None:
        """UTC - monotonic, and whether to believe it."""
        if is_trusted:
            self.controller.follow_clock(offset_s)
        self._guard(lambda now: self.controller.set_clock(offset_s, is_trusted, now))
        self._flush()
        self._wake.set()

    def forget(self) -> None:
        """A database turned out to be lost, and with it the counters of commands obeyed."""
        self._guard(self.controller.forget)
        self._flush()

    # Loops

    async def run(self) -> None:
        """Judge commands one by one and keep time, for as long as the hub runs."""
        writing = asyncio.create_task(self._write(), name="control-journal")
        try:
            for request in list(self.controller.jobs.values()):
                self._begin(request)
            while True:
                self._wake.clear()
                self._guard(self.controller.handle_timer)
                self._flush()
                if self._recoveries:
                    await self._recover(*self._recoveries.popleft())
                    continue
                if self._inbox:
                    await self._take_some()
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._until_due_s())
        finally:
            for task in [writing, *self._running]:
                task.cancel()

    def _until_due_s(self) -> float:
        """How long to wait for what time brings next."""
        delay_s = max(0.01, self.controller.get_timer(monotonic()) - monotonic())
        self._vitals.expect("control", delay_s + _SLACK_S)
        return delay_s

    async def _take_some(self) -> None:
        """Judge what waits until one of them comes to something: what is refused without a word changes nothing, so
        that time need not be looked at after each. The home has its turn in between."""
        for _ in range(_AT_ONCE):
            if not self._inbox or await self._take(*self._inbox.take()):
                break
        await asyncio.sleep(0)

    async def _take(self, message: bytes, acknowledge: Callable[[], None]) -> bool:
        """Judge one; False: it changed nothing."""
        self._vitals.expect("control", _SLACK_S)
        try:
            step = self._judge(message)
        except Exception:
            self._fault(message)
            acknowledge()
            return True
        if step.is_nothing:
            acknowledge()
            return False
        if step.is_of_nobody:
            self._refuse(step, acknowledge)
            return False
        if step.journal:
            await self._made_durable(step.journal)
        self._guard(step.apply)
        acknowledge()
        self._flush()
        self._follow(step)
        return True

    def _judge(self, message: bytes) -> Step:
        if self._in_hand is None:
            return self.controller.command(message, monotonic())
        if self._in_hand.is_poison(message):
            return self.controller.poison(message, monotonic())
        step = self.controller.command(message, monotonic())
        self._in_hand.done()
        return step

    def _follow(self, step: Step) -> None:
        for epoch, number in step.resend:
            self._resend("receipts", epoch, number, number)
        if step.request is not None:
            self._begin(step.request)

    def _begin(self, request: JobRequest) -> None:
        task = asyncio.create_task(self._run_job(request), name=f"job-{request.op}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run_job(self, request: JobRequest) -> None:
        try:
            status, reason, detail, journal = await self._job(request)
        except Exception as error:
            log.exception("%s failed", request.op)
            status, reason, detail, journal = "failed", "internal-error", {"text": repr(error)[:200]}, None
        self._guard(lambda now: self.controller.finished(request.cti, status, now, reason, detail, journal))
        self._flush()
        self._wake.set()

    # Output

    def _flush(self) -> None:
        """Hand on what the machine wants: orders and notices to the home, steps to the disk."""
        now = monotonic()
        orders = self.controller.take_orders()
        notices = self.controller.bulletin.take_notices()
        gateway = self._home.gateway
        for client_id, order in orders:
            if self._holder is not None and client_id.startswith(_ON_RADIO):
                self._give_radio(client_id, order)
            elif not gateway.give_order(client_id, order, now):
                log.info("%s does not listen to its orders", client_id)
        for notice in notices:
            gateway.publish(notice.topic, notice.payload, now, qos=0, retain=notice.retain)
            if notice.topic == "price":
                self.on_price()
            elif notice.topic == "home/limit" and notice.retain:
                watts = notice.payload.decode()
                log.info("the household is held %s", f"to {watts} W" if watts else "no longer")
                self.on_limit()
        if orders or notices:
            self._home.flush()
        if orders:
            self.on_orders()
        journal = self.controller.take_journal()
        if journal is not None:
            self._enqueue(journal, None)

    def use_radio(self, holder: Holder) -> None:
        """Orders to appliances that speak no MQTT-SN go here from now on."""
        self._holder = holder

    def _give_radio(self, client_id: str, order: Order) -> None:
        is_busy = client_id in self._held
        self._held[client_id] = order
        if not is_busy:
            task = asyncio.create_task(self._hold(client_id), name=f"hold-{client_id}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _hold(self, client_id: str) -> None:
        """Carry out the newest order to an appliance on the radio; a limit that does not reach it is tried again."""
        try:
            while True:
                order = self._held[client_id]
                is_over = await self._carry_out(client_id, order)
                if self._held[client_id] is order:
                    if is_over:
                        return
                    await asyncio.sleep(RETRY_S)
        finally:
            del self._held[client_id]

    async def _carry_out(self, client_id: str, order: Order) -> bool:
        """False: it is worth another try."""
        assert self._holder is not None
        now = monotonic()
        watts, duration_s = None, 0.0
        if order.slot == LIMIT_SLOT and order.until is not None:
            watts, duration_s = float(order.text.split()[1]), order.until - now
            if duration_s < 1:
                return True
        elif order.slot != EVERYTHING:
            log.warning("%s is held by limits alone, not by %r", client_id, order.slot)
            return True
        try:
            nominal_w = self.controller.household.appliance(client_id).nominal_w
            await self._holder.limit(client_id, watts, duration_s, nominal_w)
        except ValueError as error:
            log.warning("%s: %s", client_id, error)
            return True
        except ConnectionError as error:
            log.info("%s: %s", client_id, error)
            return watts is None  # a limit that is not taken back ends by itself
        # Its word that it obeys may be here before the frame's acknowledgement: it was sent when it was begun.
        self._guard(lambda _now: self.controller.orders_sent([(client_id, order)], now))
        return True

    def _refuse(self, step: Step, acknowledge: Callable[[], None]) -> None:
        """What nobody signed is answered when no operator's step waits for the disk, and all of it in one commit."""
        self._refused.add(step.journal)
        self._refused_acks.append(acknowledge)
        self._has_entries.set()

    def _durable(self, journal: Journal) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(journal, done)
        return done

    async def _made_durable(self, journal: Journal) -> None:
        """Wait for a step to be durable. Time goes on meanwhile: a disk that is full for days keeps no limit from its
        end, and no silent operator's from being let go."""
        done = self._durable(journal)
        self._keep_time()
        try:
            await done
        finally:
            if self._timer is not None:
                self._timer.cancel()
        self._vitals.expect("control", _SLACK_S)

    def _keep_time(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._until_due_s(), self._pass_time)

    def _pass_time(self) -> None:
        self._guard(self.controller.handle_timer)
        self._flush()
        self._keep_time()

    def _enqueue(self, journal: Journal, done: "asyncio.Future[None] | None") -> None:
        self._entries.append(_Entry(journal, done))
        self._has_entries.set()

    async def _write(self) -> None:
        """Steps reach the disk in the order in which they were taken; one that does not is tried until it does."""
        while True:
            self._vitals.expect("control-journal", math.inf)
            await self._has_entries.wait()
            while self._entries or self._refused:
                if not self._entries:
                    await self._write_refused()
                    continue
                entry = self._entries[0]
                sealed = await self._commit(entry.journal)
                self._entries.popleft()
                for receipt, message in zip(entry.journal.receipts, sealed, strict=True):
                    kid = entry.journal.answered.get(receipt.re or b"")
                    if receipt.re is not None and kid is not None:
                        self.controller.answered.put(receipt.re, message.epoch, message.number, kid)
                _log_receipts(entry.journal)
                if entry.done is not None and not entry.done.done():
                    entry.done.set_result(None)
            self._has_entries.clear()

    async def _write_refused(self) -> None:
        journal, self._refused = self._refused, Journal()
        acks, self._refused_acks = self._refused_acks, []
        await self._commit(journal)
        _log_receipts(journal)
        for acknowledge in acks:
            acknowledge()

    async def _commit(self, journal: Journal) -> list[Sealed]:
        while True:
            self._vitals.expect("control-journal", RETRY_S + _SLACK_S)
            try:
                return await asyncio.wrap_future(self._store.commit_control(journal))
            except Exception as error:
                log.error("a step of control is not durable yet: %s", error)
                await asyncio.sleep(RETRY_S)

    def _guard(self, act: Callable[[float], None]) -> None:
        try:
            act(monotonic())
        except Exception:
            log.exception("internal error in control")
            self._health.raise_condition("internal-error", "control; see the journal")

    def status(self) -> "ControlFigures":
        """The `limit` part of the status, and the figures of control."""
        now = monotonic()
        return {**self.controller.status(now), "counters": {**self.counters, **self.controller.counters}}


def _log_receipts(journal: Journal) -> None:
    for receipt in journal.receipts:
        cti = "unknown" if receipt.re is None else receipt.re.hex()
        log.info("command %s: %s%s", cti, receipt.status, f" ({receipt.reason})" if receipt.reason else "")
