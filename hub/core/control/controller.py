"""Control: a machine that believes no one without a signature, and lets go of everything in time.

Commands, what the home says and `now` go in; steps to make durable (`Journal`), orders for appliances, publishes for
the home and one deadline come out. No I/O, no clock. A command takes effect in two parts: `command` says what it would
change, and `Step.apply` changes it once that is durable; what follows from time alone takes effect at once, because
letting go must not wait for a disk.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hub.core.allowance import Allowance
from hub.core.control.answered import Answered
from hub.core.control.appliance_orders import ApplianceOrder, decode_appliance_order
from hub.core.control.authority import MAX_AHEAD_S, Accepted, AnsweredBefore, Authority, Claimed, CommandRefused
from hub.core.control.bulletin import Bulletin
from hub.core.control.generation import Generation
from hub.core.control.household import ORDER_S, Held, Household, lifting
from hub.core.control.limits import ACTIVE, EXPORT, IMPORT, OVER, Keeping, Limit, LimitTable, decode_limit, step
from hub.core.control.operations import OPERATIONS, Unable
from hub.core.control.records import (
    ANSWERED,
    BEAT,
    CLOCK,
    CTR,
    FAIRNESS,
    FORGOT,
    JOB,
    LIMIT,
    OPERATORS,
    OPERATORS_BEFORE,
    ORDER,
    RECOVERED,
    JobRequest,
    Journal,
    Step,
)
from hub.core.control.recovery import OperatorRecovery
from hub.core.control.trial import ListTrial, OperatorBook
from hub.core.control.watch import AUTONOMOUS, FAILSAFE_MIN_S, INIT, LIMITED, Watch
from hub.core.order import NEVER, Order
from hub.core.records import (
    Change,
    EventRecorded,
    RetainedSet,
    Sample,
    SessionChanged,
    SessionRemoved,
    SubscriptionAdded,
    SubscriptionRemoved,
)
from hub.wire.keys.operators import Operators
from hub.wire.mqttsn.topics import matches
from hub.wire.printable import one_line
from hub.wire.uplink.args import BadArgs, check_args
from hub.wire.uplink.cbor import decode_own, encode
from hub.wire.uplink.envelope import PublicKey
from hub.wire.uplink.reading import decimal_to_float
from hub.wire.uplink.receipt import Receipt

if TYPE_CHECKING:
    from hub.wire.admin import LimitFigures

# A flood must not become a flood of signed receipts. What nobody signed has one budget: twenty, and then one a minute;
# what an operator signed has one for each: as many, and then six.
_STRANGERS_PER_S, _STRANGERS_BURST_S = 1 / 60.0, 20 * 60.0
_OPERATOR_PER_S, _OPERATOR_BURST_S = 6 / 60.0, 200.0
_UNMET_FOR_S = 60.0
_BACKWARDS_S = 5.0
_STEP_S = 1.0  # a clock that is only slewed never moves its offset by as much
_PLAN_EVERY_S = 0.25
_RENEW_S = ORDER_S / 2
# Refusals that say nothing final: the same command may come again and be obeyed.
_TRANSIENT = ("no-clock", "not-yet-valid")
_ABOUT = "about/"
_GONE = ("lost", "disconnected")


class ControlSettings(NamedTuple):
    """What the configuration says of control. `failsafe_w`: None releases; `floor_w`: no household limit is lower."""

    heartbeat_s: float = 60.0
    failsafe_w: float | None = None
    failsafe_min_s: float = FAILSAFE_MIN_S
    floor_w: float = 0.0
    groups: tuple[str, ...] = ()


class Controller:
    """One hub's control. `random`: numbers in [0, 1). `book`: how a list of operators is kept. `machine_boot`: the same
    for as long as `now` goes on, "" where nobody knows that."""

    def __init__(
        self,
        hub_id: str,
        operators: Operators,
        now: float,
        *,
        settings: ControlSettings,
        random: Callable[[], float],
        book: OperatorBook,
        recovery_key: PublicKey | None = None,
        machine_boot: str = "",
    ) -> None:
        self.hub_id = hub_id
        self.random = random
        self.limits = LimitTable()
        self.orders: dict[bytes, ApplianceOrder] = {}
        self.jobs: dict[bytes, JobRequest] = {}
        self.watch = Watch(settings.heartbeat_s, settings.failsafe_w, now, settings.failsafe_min_s)
        self.floor_w = settings.floor_w
        self.household = Household(self._lift_alone, self._record_event, random)
        self.generation = Generation()
        self.bulletin = Bulletin(now)
        self.counters: Counter[str] = Counter()
        self.ctr: dict[str, int] = {}
        self.answered = Answered(self._is_live)
        self.authority = Authority(hub_id, settings.groups, operators, self.ctr.get, self.answered.__contains__)
        self.trial = ListTrial(book)
        self.recovery = OperatorRecovery(hub_id, recovery_key)
        self._watch_operators(operators)
        self._journal = Journal()
        # What the step that is on its way to the disk ends: nothing more is told or kept of it, or it would come back.
        self._ending: set[bytes] = set()
        self._awaits_apply, self._clock_s = False, 0.0
        self._given: list[tuple[str, Order]] = []
        self._told_until: dict[bytes, float] = {}  # orders to appliances: until when the last one lasts
        self._keeping = Keeping()
        self._machine_boot = machine_boot
        self._offset_s = 0.0
        self._is_trusted = False
        self._kept_offset_s: float | None = None  # of before a restart of the hub alone
        self._budgets: dict[str, Allowance] = {}
        self._unanswered = 0
        self._planned_at = float("-inf")
        self._is_stale = False  # something was heard since the last plan
        self._unmet_since: float | None = None

    def configure(self, settings: ControlSettings, now: float) -> None:
        """Other settings, in force at once."""
        self.watch.configure(settings.heartbeat_s, settings.failsafe_w, settings.failsafe_min_s)
        self.floor_w = settings.floor_w
        self.authority.use_groups(settings.groups)
        self.advance(now)

    # Time

    def set_clock(self, offset_s: float, is_trusted: bool, now: float) -> None:
        """UTC - monotonic. Once trusted it is kept: what is under way ends by the clock it began with."""
        if self._is_trusted:
            return
        self._offset_s = self._clock_s = offset_s
        self._is_trusted = is_trusted
        if is_trusted:
            self._set_not_before(now)
            if self._kept_offset_s is not None and abs(offset_s - self._kept_offset_s) >= _STEP_S:
                self._shift(offset_s - self._kept_offset_s)  # it was set while nobody looked
                self._keep_clock()
            elif self._kept_offset_s is None:
                self._keep_clock()
            for limit in self.limits:
                if limit.state == ACTIVE and now + offset_s < limit.starts_at - _BACKWARDS_S:
                    # It began later than it is now: one of two trusted clocks was wrong, and then power comes first.
                    self.move(limit, "lost", now, "clock-went-back")
            for order in list(self.orders.values()):
                if now + offset_s < order.starts_at - _BACKWARDS_S:  # the same of an order to one appliance
                    self.end_order(order, "cancelled", now, "clock-went-back")
                else:
                    self.tell_order(order, now)
            self.advance(now)

    def forget(self, now: float) -> None:
        """Counters may be missing from now on: FORGOT, learned while the hub runs."""
        self.authority.not_before = float("inf")
        if self._is_trusted:
            self._set_not_before(now)

    def _set_not_before(self, now: float) -> None:
        if self.authority.not_before == float("inf"):
            # An operator's clock may have been that much ahead when its command was obeyed.
            self.authority.not_before = now + self._clock_s + MAX_AHEAD_S
            self._journal.kept[FORGOT] = encode(self.authority.not_before)

    def follow_clock(self, offset_s: float) -> None:
        """The trusted clock was set: from now on commands are judged by it. What is under way keeps its length."""
        self._clock_s = offset_s
        if self._awaits_apply:  # what it will put in place was reckoned by the clock of before
            return
        step_s = offset_s - self._offset_s
        if not self._is_trusted or abs(step_s) < _STEP_S:
            return
        self._offset_s = offset_s
        self._shift(step_s)
        self._keep_clock()

    def _shift(self, step_s: float) -> None:
        for limit in self.limits:
            if limit.state == ACTIVE:
                moved = replace(limit, starts_at=limit.starts_at + step_s, ends_at=limit.ends_at + step_s)
                self.limits.put(moved)
                self._keep(LIMIT, moved)
        for order in list(self.orders.values()):
            self.orders[order.cti] = shifted = replace(
                order, starts_at=order.starts_at + step_s, ends_at=order.ends_at + step_s
            )
            self._keep(ORDER, shifted)

    def _keep_clock(self) -> None:
        self._journal.kept[CLOCK] = encode([self._machine_boot, round(self._offset_s * 1000)])

    def _keep(self, kind: str, item: Limit | ApplianceOrder) -> None:
        if item.cti not in self._ending:
            self._journal.kept[kind + item.cti.hex()] = item.encode()

    def utc(self, now: float) -> float | None:
        """UTC epoch seconds, or None while there is no trustworthy clock."""
        return now + self._offset_s if self._is_trusted else None

    def mono(self, t: float) -> float:
        """A UTC time on the machine's clock."""
        return t - self._offset_s

    # A restart

    def restore(self, state: dict[str, bytes], now: float) -> list[str]:
        """Take up what the store kept; the names of items that did not read."""
        bad = []
        for name, value in state.items():
            try:
                self._restore_item(name, value, now)
            except (ValueError, TypeError, KeyError, IndexError):
                bad.append(name)
        for kid in {item.kid for item in (*self.limits, *self.orders.values())} - self.authority.operators.keys():
            self._end_all_of(kid, now, "operator-removed")  # the file was changed while the hub was off
        self.answered.keep_bounds(self._journal)
        return bad

    def _restore_item(self, name: str, value: bytes, now: float) -> None:
        """Take up one item. Raises ValueError, TypeError, KeyError or IndexError for one that is not what was kept."""
        kind, _, rest = name.partition("/")
        if name == FAIRNESS:
            self.household.restore_fairness(decode_own(value))
        elif name == FORGOT:
            since = decode_own(value)
            self.authority.not_before = float("inf") if since is None else float(since)
        elif name == CLOCK:
            machine_boot, offset_ms = decode_own(value)
            if machine_boot and machine_boot == self._machine_boot:
                self._kept_offset_s = offset_ms / 1000
        elif name == RECOVERED:
            self.recovery.last_iat = int(decode_own(value))
        elif name == OPERATORS_BEFORE:
            self.trial.restore(value)
        elif name in ("price", "weather"):
            self.bulletin.restore(name, decode_own(value))
        elif kind + "/" == ANSWERED:
            self.answered.restore(bytes.fromhex(rest), value)
        elif kind + "/" == CTR:
            self.ctr[rest] = int(decode_own(value))
        elif kind + "/" == BEAT:
            self.watch.restore(rest, now)
        elif kind + "/" == LIMIT:
            self.limits.put(decode_limit(bytes.fromhex(rest), value))
        elif kind + "/" == ORDER:
            self.orders[bytes.fromhex(rest)] = decode_appliance_order(bytes.fromhex(rest), value)
        elif kind + "/" == JOB:
            kid, digest, op, args, is_for_many = decode_own(value)
            self.jobs[bytes.fromhex(rest)] = JobRequest(bytes.fromhex(rest), kid, digest, op, args, is_for_many is True)

    # Commands

    def open(self, message: bytes, now: float) -> Claimed | Step:
        """In whose name a message comes, and where it is nobody's, what comes of that. Nothing in it raises.

        It may be asked at any time, also while another step is on its way to the disk: nothing that a step depends on
        is looked at or changed.
        """
        opened = self.authority.open(message)
        return self._refuse(opened, now) if isinstance(opened, CommandRefused) else opened

    def command(self, message: bytes, now: float) -> Step:
        """Judge a command, once the one before was applied, and say what it comes to. Nothing in it raises."""
        self._ending.clear()
        t = self.utc(now)
        verdict = self.authority.judge(message, t)
        if isinstance(verdict, AnsweredBefore):
            return self._answer_again(verdict, now)
        if isinstance(verdict, CommandRefused):
            return self._refuse(verdict, now)
        return self._obey(verdict, now)

    def poison(self, message: bytes, now: float) -> Step:
        """Refuse a message in the midst of which this hub died more than once, without looking into it again."""
        digest = hashlib.sha256(message).digest()
        return self._refuse(CommandRefused("poison", "this hub ended more than once while it was in hand", digest), now)

    def _obey(self, verdict: Accepted, now: float) -> Step:
        command = verdict.command
        try:
            args = check_args(command.op, command.args)
            operation = OPERATIONS[command.op](self, verdict, args, now)
            journal = operation.journal()
        except BadArgs as error:
            return self._refuse(CommandRefused("bad-args", str(error), verdict.digest, command.cti, command.kid), now)
        except Unable as error:
            return self._refuse(CommandRefused(error.reason, str(error), verdict.digest, command.cti, command.kid), now)
        self.counters["accepted"] += 1
        if journal:
            journal.kept[CTR + command.kid] = encode(command.ctr)

        def apply(later: float) -> None:
            self._awaits_apply = False
            # Its counter is used up the moment this step is durable.
            self.ctr[command.kid] = max(command.ctr, self.ctr.get(command.kid, 0))
            operation.apply(later)
            self._ending.clear()
            self.follow_clock(self._clock_s)

        self._awaits_apply = True
        self.answered.keep_bounds(journal, room=1)
        return Step(journal, apply, request=operation.request)

    def _answer_again(self, verdict: AnsweredBefore, now: float) -> Step:
        """Its receipt is sent again: that costs no flash, and bytes on the uplink only so often."""
        self.counters["answered-before"] += 1
        said = self.answered.get(verdict.command.cti)
        if said is None or not self._may_answer("again " + verdict.command.kid, now):
            self._leave_unanswered()
            return Step()
        return Step(resend=[(said.epoch, said.number)])

    def _may_answer(self, budget: str, now: float) -> bool:
        rate, burst_s = (_OPERATOR_PER_S, _OPERATOR_BURST_S) if budget else (_STRANGERS_PER_S, _STRANGERS_BURST_S)
        return self._budgets.setdefault(budget, Allowance()).spend(rate, now, burst_s)

    def _leave_unanswered(self) -> None:
        self._unanswered += 1
        self.counters["unanswered"] += 1

    def _refuse(self, refused: CommandRefused, now: float) -> Step:
        self.counters[f"refused.{refused.reason}"] += 1
        if not self._may_answer(refused.kid, now):
            self._leave_unanswered()
            return Step()
        journal = Journal()
        detail = {"text": one_line(refused.text)[:200]}
        receipt = self.receipt(refused.named_cti(), refused.digest, "refused", now, refused.reason, detail)
        if refused.kid and refused.reason not in _TRANSIENT:
            journal.tell(receipt, refused.kid)
            self.answered.keep_bounds(journal, room=1)
        else:
            # Only what an operator signed may be remembered: a forged cti must not block the genuine one.
            journal.receipts.append(receipt)
        return Step(journal, is_of_nobody=not refused.kid)

    def receipt(
        self, cti: bytes | None, digest: bytes, status: str, now: float, reason: str = "", detail: Any = None
    ) -> Receipt:
        """A receipt that the store will chain. The first after a flood says how many messages went unanswered."""
        said = dict(detail or {})
        if self._unanswered:
            said["unanswered"], self._unanswered = self._unanswered, 0
        return Receipt(self.hub_id, int(now + self._offset_s), cti, digest, status, reason, said)

    def finished(
        self, cti: bytes, status: str, now: float, reason: str = "", detail: dict[str, Any] | None = None,
        journal: Journal | None = None,
    ) -> None:  # fmt: skip
        """What a request has come to; `journal` may hold the answers that go with the receipt."""
        request = self.jobs.pop(cti, None)
        if request is None:
            return
        if journal is not None:
            self._journal.add(journal)
        self._journal.kept[JOB + cti.hex()] = None
        self._journal.tell(self.receipt(cti, request.digest, status, now, reason, detail), request.kid)

    def _is_live(self, cti: bytes) -> bool:
        return cti in self.jobs or cti in self.orders or self.limits.get(cti) is not None

    # Operators

    def heard(self, kid: str, now: float, *, heartbeat: bool = False, decision: bool = False) -> None:
        """An operator is alive; `decision`: it said what the household is held to."""
        self.watch.heard(kid, now, heartbeat=heartbeat, decision=decision)
        self.advance(now)
        if not heartbeat:
            self.plan(now)

    def is_new_beat(self, kid: str) -> bool:
        """Whether this operator has never sent a heartbeat before."""
        return not self.watch.knows(kid)

    def use_operators(self, operators: Operators, now: float) -> None:
        """Other operators from now on: what a removed one had commanded ends, whoever removed it."""
        removed = self.authority.operators.keys() - operators.keys()
        self.authority.use(operators)
        self._watch_operators(operators)
        for kid in removed:
            self._end_all_of(kid, now, "operator-removed")
            if self.watch.knows(kid):
                self._journal.kept[BEAT + kid] = None
        self.advance(now)

    def recover(self, message: bytes, now: float) -> Step:
        """A list that the manufacturer signed, brought by a field engineer, once the step before was applied. Raises
        BadRecovery."""
        self._ending.clear()
        found = self.recovery.judge(message, self.utc(now))
        journal = Journal()
        journal.kept[OPERATORS] = self.trial.book.item_of(found.text)
        journal.kept[RECOVERED] = encode(found.iat)
        self.trial.journal_end(journal)
        journal.events.append(("operators.recovered", {"operators": sorted(found.operators), "by": found.by}))

        def apply(later: float) -> None:
            self._awaits_apply = False
            self.recovery.last_iat = found.iat
            self.trial.replace(found.text)
            self.use_operators(found.operators, later)
            self.follow_clock(self._clock_s)

        self._awaits_apply = True
        return Step(journal, apply)

    def _watch_operators(self, operators: Operators) -> None:
        self.watch.use_operators(operators.keys(), [kid for kid, operator in operators.items() if operator.lpc])

    def _end_all_of(self, kid: str, now: float, reason: str) -> None:
        """Everything that this operator commanded, and nothing else."""
        for limit in self.limits:
            if limit.kid == kid:
                self.move(limit, "lost", now, reason)
        for order in list(self.orders.values()):
            if order.kid == kid:
                self.end_order(order, "cancelled", now, reason)

    def _trial_until(self) -> float | None:
        """When the list on trial is given up. Not while a step is on its way to the disk: it may be what confirms that
        list, or takes its place, and the two would be written in the wrong order."""
        return None if self._awaits_apply else self.trial.until

    def _end_trial(self, now: float) -> None:
        """Nobody confirmed the new list: the old one returns, and what only the new one's operators wanted ends."""
        journal = Journal()
        try:
            operators = self.trial.give_back(journal)
        except ValueError:
            self.trial.end_it()  # what was before does not read any more: somebody has to command
            self._journal.kept[OPERATORS_BEFORE] = None
            return
        self._journal.add(journal)
        self._record_event("operators.returned", operators=sorted(operators))
        self.use_operators(operators, now)

    # What the home says

    def observe(self, samples: Iterable[Sample], changes: Iterable[Change], now: float) -> None:
        """What the gateway took up, as it goes to the store."""
        for client_id, quantity, sampled_s, mantissa, exponent, _flags in samples:
            if quantity == "power":
                self.household.take_power(client_id, decimal_to_float(mantissa, exponent), sampled_s)
                self._is_stale = True
            elif quantity == "limit":
                self.household.take_limit(client_id, decimal_to_float(mantissa, exponent), sampled_s)
                self._is_stale = True
            elif quantity == "state":
                self._take_state(client_id, bool(mantissa), sampled_s, now)
        for change in changes:
            self._is_stale |= self._take_change(change, now)
        is_held = self.household.held is not None or self.generation.is_held
        if self._is_stale and is_held and now - self._planned_at >= _PLAN_EVERY_S:
            self.plan(now)

    def _take_state(self, client_id: str, is_on: bool, sampled_s: float, now: float) -> None:
        for order in list(self.orders.values()):
            is_meant = (order.client_id, order.slot) == (client_id, "switch") and not order.is_applied and not is_on
            # What a sleeper buffered may be of before the order.
            if is_meant and sampled_s >= self.mono(order.starts_at):
                self.order_applied(order, now)

    def _take_change(self, change: Change, now: float) -> bool:
        """Take note; True when the plan may look different now."""
        household = self.household
        if isinstance(change, SessionChanged):
            if change.state in _GONE:
                household.left(change.client_id)
            else:
                household.came(change.client_id)
        elif isinstance(change, RetainedSet):
            if not change.topic.startswith(_ABOUT):
                return False
            self._take_about(change.topic[len(_ABOUT) :], change.payload, now)
        elif isinstance(change, SubscriptionAdded):
            return self._take_subscription(change, now)
        elif isinstance(change, SubscriptionRemoved | SessionRemoved):
            self._take_silence(change, now)
        elif isinstance(change, EventRecorded) and change.event == "adapter.limit_cleared":
            household.take_limit(str(change.fields["client"]), None, now)
        elif isinstance(change, EventRecorded) and change.event == "limit.opted_out":
            household.opted_out(str(change.fields["client"]), now)
        else:
            return False
        return True

    def _take_about(self, client_id: str, payload: bytes, now: float) -> None:
        """What an appliance says it is. The moment it is protected, or may not be shed, it is free (promise P4)."""
        self.household.take_about(client_id, payload, now)
        profile = self.household.appliance(client_id).profile
        if profile.is_protected or not profile.is_sheddable:
            for order in list(self.orders.values()):
                if order.client_id == client_id:
                    self.end_order(order, "cancelled", now, "protected" if profile.is_protected else "not-sheddable")
            if self.generation.holds(client_id, now):
                self.generation.forget(client_id)
                self._free_of_export(client_id, now)

    def _take_subscription(self, change: SubscriptionAdded, now: float) -> bool:
        if matches(change.topic_filter, "time"):
            self.bulletin.say_time(self.utc(now))
        if not matches(change.topic_filter, f"control/{change.client_id}"):
            return False
        self.household.subscribed(change.client_id, change.topic_filter)
        self.generation.forget(change.client_id)
        for order in self.orders.values():
            if order.client_id == change.client_id:
                self.tell_order(order, now)
        return True

    def _take_silence(self, change: SubscriptionRemoved | SessionRemoved, now: float) -> None:
        appliance = self.household.appliances.get(change.client_id)
        if appliance is None:
            return
        if isinstance(change, SubscriptionRemoved):
            self.household.unsubscribed(change.client_id, change.topic_filter)
        else:
            self.household.removed(change.client_id)
            for order in list(self.orders.values()):
                if order.client_id == change.client_id:
                    self.end_order(order, "cancelled", now, "gone")

    def orders_sent(self, orders: Iterable[tuple[str, Order]], now: float) -> None:
        """These orders went on the air: from now on their appliances can be judged by them."""
        for client_id, order in orders:
            self.household.order_sent(client_id, order, now)

    # Orders to single appliances: leases of five minutes, renewed while they hold

    def tell_order(self, order: ApplianceOrder, now: float) -> None:
        """Give an appliance what it is held to: for five minutes, or what is left of its time."""
        ends_at = self.mono(order.ends_at)
        until = min(now + ORDER_S, ends_at)
        if self._is_trusted and until - now >= 1 and self._newest(order.client_id, order.slot) is order:
            self._told_until[order.cti] = until
            self.give(order.client_id, order.order(until))

    def _newest(self, client_id: str, slot: str) -> ApplianceOrder | None:
        """Of several operators' orders about the same thing the newest is told."""
        same = [order for order in self.orders.values() if (order.client_id, order.slot) == (client_id, slot)]
        return same[-1] if same else None

    def _renewal_at(self, order: ApplianceOrder) -> float | None:
        """When an order has to be given again; None: what was told lasts to its end, or nobody was told yet."""
        until = self._told_until.get(order.cti)
        return None if until is None or until >= self.mono(order.ends_at) - 1 else until - _RENEW_S

    def _renew_orders(self, now: float) -> None:
        for order in list(self.orders.values()):
            due_at = self._renewal_at(order)
            if due_at is not None and now >= due_at:
                appliance = self.household.appliances.get(order.client_id)
                if appliance is not None and appliance.is_reachable:
                    self.tell_order(order, now)
                else:
                    self._told_until.pop(order.cti, None)  # told anew when it listens again

    def _has_order(self, client_id: str) -> bool:
        return any(order.client_id == client_id for order in self.orders.values())

    def _lift_alone(self, client_id: str, now: float) -> bool:
        """What the household's limit takes back leaves what else is ordered of an appliance. A share of an export limit
        is in the same slot: it is told again."""
        has_share = self.generation.holds(client_id, now)
        self.generation.forget(client_id)
        return has_share or self._has_order(client_id)

    def _free_of_export(self, client_id: str, now: float) -> None:
        """The same of an export limit that is over."""
        appliance = self.household.appliance(client_id)
        appliance.ceiling_until = NEVER
        if appliance.cap_w is None and not self._has_order(client_id):
            self.give(client_id, Order("*", "release"))
        else:
            self.give(client_id, lifting(now))
            self.household.tell_anew(client_id)

    def give(self, client_id: str, order: Order) -> None:
        """Give one order, now."""
        self._given.append((client_id, order))

    def end_order(self, order: ApplianceOrder, status: str, now: float, reason: str = "") -> None:
        """An order to an appliance is over: into memory at once, into the journal with its receipt."""
        if order.cti not in self._ending:
            self._journal_end(ORDER, order, status, now, self._journal, reason)
        self.drop_order(order, now, release=status != "completed")

    def journal_end(
        self, item: Limit | ApplianceOrder, status: str, now: float, journal: Journal, reason: str = ""
    ) -> None:
        """What becomes durable of a limit or an appliance's order that a command ends."""
        self._ending.add(item.cti)
        self._journal_end(LIMIT if isinstance(item, Limit) else ORDER, item, status, now, journal, reason)

    def _journal_end(
        self, kind: str, item: Limit | ApplianceOrder, status: str, now: float, journal: Journal, reason: str
    ) -> None:
        journal.kept[kind + item.cti.hex()] = None
        journal.tell(self.receipt(item.cti, item.digest, status, now, reason), item.kid)

    def drop_order(self, order: ApplianceOrder, now: float, *, release: bool) -> None:
        """Forget an order. `release`: it has not ended by itself, so its appliance is told."""
        self._told_until.pop(order.cti, None)
        if self.orders.pop(order.cti, None) is None or not release:
            return
        older = self._newest(order.client_id, order.slot)
        if older is not None:  # another operator still wants it
            self.tell_order(older, now)
        elif order.slot == "switch":
            self.give(order.client_id, Order("switch", "on"))
        else:
            # No order takes back a single `set`: everything is released, and what still holds is told again.
            self.give(order.client_id, Order("*", "release"))
            self.household.tell_anew(order.client_id)
            self.generation.forget(order.client_id)
            for other in self.orders.values():
                if other.client_id == order.client_id:
                    self.tell_order(other, now)

    def order_applied(self, order: ApplianceOrder, now: float) -> None:
        """The appliance says that it does as it was told."""
        if order.cti in self._ending:
            return
        self.orders[order.cti] = applied = replace(order, is_applied=True)
        self._keep(ORDER, applied)
        self._journal.tell(self.receipt(order.cti, order.digest, "applied", now), order.kid)

    # Life

    def advance(self, now: float) -> None:
        """Do everything whose time has come, and hold the household to what applies now."""
        t = self.utc(now)
        if t is not None:
            self._advance_limits(t, now)
            for order in [order for order in self.orders.values() if order.ends_at <= t]:
                self.end_order(order, "completed", now)
            self._renew_orders(now)
            trial_until = self._trial_until()
            if trial_until is not None and t >= trial_until:
                self._end_trial(now)
        for kid in self.watch.take_silent(now):
            self._record_event("control.lost", operator=kid)
            self._end_all_of(kid, now, "heartbeat-lost")
        self.watch.has_waited(now)
        self._hold_household(now)

    def _advance_limits(self, t: float, now: float) -> None:
        for limit, event in self.limits.due(t):
            if event == "missed":  # the hub was off for all of it
                self.move(limit, event, now, "missed")
                continue
            if event == "began":
                self._keeping.begin(limit, now, t - limit.starts_at)
            report = self._report(limit, now)
            if event == "ended":
                kept = self._keeping.verdict(limit)
                report = report if kept is None else {**report, "kept": kept}
            self.move(limit, event, now, detail=report)

    def _report(self, limit: Limit, now: float) -> dict[str, Any]:
        if limit.direction == EXPORT:
            return self.generation.report(self.household.fresh_meter_w(now))
        return dict(self.household.report(now))

    def _hold_household(self, now: float) -> None:
        # After a restart nobody knows when a limit ends until the clock does: then power comes first.
        limit = self.limits.effective() if self._is_trusted else None
        self.watch.step("limited" if limit is not None else "unlimited", now)
        own_w = self.watch.own_limit_w()
        held = None
        if limit is not None:
            held = Held(limit.watts, limit.criticality, now, self.mono(limit.ends_at))
        if own_w is not None and (held is None or own_w < held.watts):
            held = Held(max(own_w, self.floor_w), 5, now, self.watch.own_limit_ends_at())
        old = self.household.held
        if (held and held._replace(since=0)) != (old and old._replace(since=0)):
            self._unmet_since = None
            if held is None:
                self._journal.kept[FAIRNESS] = encode(self.household.fairness())
            self.household.hold(held, now)
            self.bulletin.say_limit(None if held is None else held.watts)
        export = self.limits.effective(EXPORT) if self._is_trusted else None
        until = None if export is None else self.mono(export.ends_at)
        for client_id in self.generation.hold(None if export is None else export.watts, until, now):
            self._free_of_export(client_id, now)

    def plan(self, now: float) -> None:
        self._planned_at, self._is_stale = now, False
        self.household.plan(now)
        self.generation.plan(self.household.appliances.values(), self.household.fresh_meter_w(now), now)
        self._judge_limits(now)

    def _judge_limits(self, now: float) -> None:
        """Tell, once it is known, whether the limit is kept; and again only when that has changed for good."""
        meter_w = self.household.fresh_meter_w(now)
        for limit in self.limits:
            if limit.state == ACTIVE:
                self._keeping.look(limit, meter_w, now)
        self._keeping.forget_all_but({limit.cti for limit in self.limits})
        export = self.limits.effective(EXPORT)
        if export is not None and not export.told:
            is_met = self.generation.is_met(meter_w, now)
            if is_met is not None:
                self.move(export, "met" if is_met else "unmet", now, detail=self._report(export, now))
        limit_, kept = self.limits.effective(IMPORT), self.household.is_kept(now)
        if limit_ is None or kept is None:
            return
        if kept:
            self._unmet_since = None
            if limit_.told != "applied":
                self.move(limit_, "met", now, detail=self.household.report(now))
            return
        self._unmet_since = now if self._unmet_since is None else self._unmet_since
        if not limit_.told or (limit_.told == "applied" and now - self._unmet_since >= _UNMET_FOR_S):
            self.move(limit_, "unmet", now, detail=self.household.report(now))

    def move(self, limit: Limit, event: str, now: float, reason: str = "", detail: Any = None) -> None:
        """One step of a limit's life: into memory at once, into the journal with its receipt."""
        moved, status = step(limit, event)
        self.limits.put(moved)
        if limit.cti in self._ending:
            return
        self._journal.kept[LIMIT + limit.cti.hex()] = None if moved.state == OVER else moved.encode()
        if status:
            self._journal.tell(self.receipt(limit.cti, limit.digest, status, now, reason, detail), limit.kid)

    def _record_event(self, event: str, **fields: Any) -> None:
        self._journal.events.append((event, fields))

    # Timers and output

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        self.advance(now)
        if self.household.due_at(now) is not None or self.generation.is_held or self._has_active_limit():
            self.plan(now)
        self.bulletin.handle_timer(now, self.utc(now), self.household.household_w(now))

    def _has_active_limit(self) -> bool:
        return any(limit.state == ACTIVE for limit in self.limits)

    def get_timer(self, now: float) -> float:
        """When `handle_timer` is to be called if nothing else happens."""
        next_at = self.limits.next_at() if self._is_trusted else None
        dues = [self.bulletin.due_at(), self.watch.due_at(), self.household.due_at(now), self.generation.due_at(now)]
        if self._is_trusted:
            dues += [None if next_at is None else self.mono(next_at)]
            trial_until = self._trial_until()
            dues += [None if trial_until is None else self.mono(trial_until)]
            for order in self.orders.values():
                dues += [self.mono(order.ends_at), self._renewal_at(order)]
        return min(due for due in dues if due is not None)

    def take_journal(self) -> Journal | None:
        """What has to become durable now, in the order of the calls."""
        if not self._journal:
            return None
        journal, self._journal = self._journal, Journal()
        return journal

    def take_orders(self) -> list[tuple[str, Order]]:
        """`(client_id, order)` to give now."""
        orders = [*self._given, *self.household.take_orders(), *self.generation.take_orders()]
        self._given = []
        return orders

    def status(self, now: float) -> "LimitFigures":
        """For `meterhub status`: the state of LPC, the watts held, and until when (UTC epoch seconds)."""
        held = self.household.held
        until = None if held is None or held.until is None else round(held.until + self._offset_s, 3)
        state = self.watch.state
        if state in (INIT, AUTONOMOUS) and self._is_trusted and self.limits.effective() is not None:
            state = (
                LIMITED  # by an operator who sends no heartbeats: nobody is missed, and the limit holds all the same
            )
        export = self.limits.effective(EXPORT)
        return {
            "state": state,
            "watts": None if held is None else held.watts,
            "until": until,
            "export_watts": None if export is None else export.watts,
            "trial_until": self.trial.until,
        }
