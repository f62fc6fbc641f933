"""Control: a machine that believes no one without a signature, and lets go of everything in time.

Commands, what the home says and `now` go in; steps to make durable (`Journal`), orders for appliances, publishes for
the home and one deadline come out. No I/O, no clock. A command takes effect in two parts: `command` says what it would
change, and `Step.apply` changes it once that is durable; what follows from time alone takes effect at once, because
letting go must not wait for a disk.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import cbor2

from hub.core.allowance import Allowance
from hub.core.control.answered import Answered
from hub.core.control.appliance_orders import Hold
from hub.core.control.args import BadArgs, check_args
from hub.core.control.authority import MAX_AHEAD_S, Accepted, AnsweredBefore, Authority, Refused
from hub.core.control.bulletin import Bulletin
from hub.core.control.handlers import HANDLERS, Unable
from hub.core.control.household import Held, Household
from hub.core.control.limits import ACTIVE, OVER, Limit, Limits, step
from hub.core.control.listening import observe
from hub.core.control.lpc import Watch
from hub.core.control.records import CTR, FAIRNESS, FORGOT, HOLD, JOB, LIMIT, Journal, Request, Step
from hub.core.control.restoring import restore_items
from hub.core.order import Order
from hub.core.records import Change, Sample
from hub.wire.keys.operators import Operators
from hub.wire.uplink.receipt import Receipt

# A flood of forged commands must not become a flood of signed receipts: twenty, and then one a minute.
_FORGED_PER_S, _FORGED_BURST_S = 1 / 60.0, 20 * 60.0
_UNMET_FOR_S = 60.0
_BACKWARDS_S = 5.0
_STEP_S = 1.0  # a clock that is only slewed never moves its offset by as much
_PLAN_EVERY_S = 0.25
# Refusals that say nothing final: the same command may come again and be obeyed.
_TRANSIENT = ("no-clock", "not-yet-valid")


class Controller:
    """One hub's control. `random`: numbers in [0, 1)."""

    def __init__(
        self,
        hub_id: str,
        groups: Sequence[str],
        operators: Operators,
        now: float,
        *,
        heartbeat_s: float = 60.0,
        failsafe_w: float | None = None,
        random: Callable[[], float],
    ) -> None:
        self.hub_id = hub_id
        self.random = random
        self.limits = Limits()
        self.holds: dict[bytes, Hold] = {}
        self.jobs: dict[bytes, Request] = {}
        self.watch = Watch(heartbeat_s, failsafe_w, now)
        self.household = Household(self._has_hold, self._record_event, random)
        self.bulletin = Bulletin(now)
        self.counters: Counter[str] = Counter()
        self.ctr: dict[str, int] = {}
        self.answered = Answered()
        self.authority = Authority(hub_id, tuple(groups), operators, self.ctr.get, self.answered.__contains__)
        # How a new list of operators is kept; whoever reads the file at the next start knows.
        self.operators_item: Callable[[str], bytes] = str.encode
        self._journal = Journal()
        # What the step that is on its way to the disk ends: nothing more is told or kept of it, or it would come back.
        self._ending: set[bytes] = set()
        self._awaits_apply, self._clock_s = False, 0.0
        self._orders: list[tuple[str, Order]] = []
        self._offset_s = 0.0
        self._is_trusted = False
        self._forged = Allowance()
        self._planned_at = float("-inf")
        self._is_stale = False  # something was heard since the last plan
        self._unmet_since: float | None = None

    # Time

    def set_clock(self, offset_s: float, is_trusted: bool, now: float) -> None:
        """UTC - monotonic. Once trusted it is kept: what is under way ends by the clock it began with."""
        if self._is_trusted:
            return
        self._offset_s = self._clock_s = offset_s
        self._is_trusted = is_trusted
        if is_trusted:
            if self.authority.not_before == float("inf"):
                # An operator's clock may have been that much ahead when its command was obeyed.
                self.authority.not_before = now + offset_s + MAX_AHEAD_S
                self._journal.kept[FORGOT] = cbor2.dumps(self.authority.not_before)
            for limit in self.limits:
                if limit.state == ACTIVE and now + offset_s < limit.starts_at - _BACKWARDS_S:
                    # It began later than it is now: one of two trusted clocks was wrong, and then power comes first.
                    self.move(limit, "lost", now, "clock-went-back")
            for hold in self.holds.values():
                self.tell_hold(hold, now)
            self.advance(now)

    def follow_clock(self, offset_s: float) -> None:
        """The trusted clock was set: from now on commands are judged by it. What is under way keeps its length."""
        self._clock_s = offset_s
        if self._awaits_apply:  # what it will put in place was reckoned by the clock of before
            return
        step_s = offset_s - self._offset_s
        if not self._is_trusted or abs(step_s) < _STEP_S:
            return
        self._offset_s = offset_s
        for limit in self.limits:
            if limit.state == ACTIVE:
                moved = replace(limit, starts_at=limit.starts_at + step_s, ends_at=limit.ends_at + step_s)
                self.limits.put(moved)
                self._keep(LIMIT, moved)
        for hold in list(self.holds.values()):
            self.holds[hold.cti] = shifted = replace(hold, ends_at=hold.ends_at + step_s)
            self._keep(HOLD, shifted)

    def _keep(self, kind: str, item: Limit | Hold) -> None:
        if item.cti not in self._ending:
            self._journal.kept[kind + item.cti.hex()] = item.encode()

    def utc(self, now: float) -> float | None:
        """UTC epoch seconds, or None while there is no trustworthy clock."""
        return now + self._offset_s if self._is_trusted else None

    def mono(self, t: float) -> float:
        """A UTC time on the machine's clock."""
        return t - self._offset_s

    # A restart

    def restore(self, state: dict[str, bytes]) -> list[str]:
        """Take up what the store kept; the names of items that did not read."""
        bad = restore_items(self, state)
        self.answered.keep_bounds(self._journal)
        return bad

    # Commands

    def command(self, message: bytes, now: float) -> Step:
        """Judge a command, once the one before was applied, and say what it comes to. Nothing in it raises."""
        self._ending.clear()
        verdict = self.authority.judge(message, self.utc(now))
        if isinstance(verdict, AnsweredBefore):
            self.counters["answered-before"] += 1
            said = self.answered.get(verdict.command.cti)
            return Step(resend=[] if said is None else [said])
        if isinstance(verdict, Refused):
            said = self.answered.get(verdict.cti)
            if verdict.reason == "no-clock" and said is not None:
                # The broker brings it again after a restart: what was said of it still holds.
                return Step(resend=[said])
            return self._refuse(verdict, now)
        command = verdict.command
        try:
            args = check_args(command.op, command.args)
            taken = HANDLERS[command.op](self, verdict, args, now)
        except BadArgs as error:
            return self._refuse(Refused("bad-args", str(error), verdict.digest, command.cti, True), now)
        except Unable as error:
            return self._refuse(Refused(error.reason, str(error), verdict.digest, command.cti, True), now)
        self.counters["accepted"] += 1
        return self._use_up(taken, verdict, now)

    def _use_up(self, taken: Step, verdict: Accepted, now: float) -> Step:
        """Its counter is used up the moment this step is durable."""
        command, inner = verdict.command, taken.apply
        if taken.journal:
            taken.journal.kept[CTR + command.kid] = cbor2.dumps(command.ctr)

        def apply(later: float) -> None:
            self.ctr[command.kid] = max(command.ctr, self.ctr.get(command.kid, 0))
            inner(later)
            self._ending.clear()
            self._awaits_apply = False
            self.follow_clock(self._clock_s)

        taken.apply, self._awaits_apply = apply, True
        self.answered.keep_bounds(taken.journal, room=1)
        return taken

    def _refuse(self, refused: Refused, now: float) -> Step:
        self.counters[f"refused.{refused.reason}"] += 1
        if not refused.is_authentic and not self._forged.spend(_FORGED_PER_S, now, _FORGED_BURST_S):
            self.counters["refused-without-receipt"] += 1
            return Step()
        journal = Journal()
        detail = {"text": refused.text[:200]}
        receipt = self.receipt(refused.cti, refused.digest, "refused", now, refused.reason, detail)
        if refused.is_authentic and refused.reason not in _TRANSIENT:
            journal.tell(receipt)
        else:
            # Only what an operator signed may be remembered: a forged cti must not block the genuine one.
            journal.receipts.append(receipt)
        return Step(journal)

    def receipt(
        self, cti: bytes | None, digest: bytes, status: str, now: float, reason: str = "", detail: Any = None
    ) -> Receipt:
        """A receipt that the store will chain."""
        return Receipt(self.hub_id, int(now + self._offset_s), cti, digest, status, reason, detail or {})

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
        self._journal.tell(self.receipt(cti, request.digest, status, now, reason, detail))

    # What the home says

    def observe(self, samples: Iterable[Sample], changes: Iterable[Change], now: float) -> None:
        """What the gateway took up, as it goes to the store."""
        self._is_stale |= observe(self, samples, changes, now)
        if self._is_stale and self.household.held is not None and now - self._planned_at >= _PLAN_EVERY_S:
            self.plan(now)

    def orders_sent(self, orders: Iterable[tuple[str, Order]], now: float) -> None:
        """These orders went on the air: from now on their appliances can be judged by them."""
        for client_id, order in orders:
            self.household.order_sent(client_id, order, now)

    def tell_hold(self, hold: Hold, now: float) -> None:
        """Give an appliance the order that it is held to, with what is left of its time."""
        until = self.mono(hold.ends_at)
        if self._is_trusted and until - now >= 1:
            self.give(hold.client_id, hold.order(until))

    def _has_hold(self, client_id: str) -> bool:
        return any(hold.client_id == client_id for hold in self.holds.values())

    def give(self, client_id: str, order: Order) -> None:
        self._orders.append((client_id, order))

    # Life

    def advance(self, now: float) -> None:
        """Do everything whose time has come, and hold the household to what applies now."""
        t = self.utc(now)
        if t is not None:
            for limit, event in self.limits.due(t):
                if event == "missed":  # the hub was off for all of it
                    self.move(limit, event, now, "missed")
                else:
                    self.move(limit, event, now, detail=self.household.report(now))
            for hold in [hold for hold in self.holds.values() if hold.ends_at <= t]:
                self.end_hold(hold, "completed", now)
        while (due := self.watch.due(now)) is not None:
            self._watch_step(due, now)
        self._hold_household(now)

    def _watch_step(self, event: str, now: float) -> None:
        self.watch.step(event, now)
        if event == "silent":
            self._record_event("control.lost")
            for limit in self.limits:
                self.move(limit, "lost", now, "heartbeat-lost")

    def _hold_household(self, now: float) -> None:
        # After a restart nobody knows when a limit ends until the clock does: then power comes first.
        limit = self.limits.effective() if self._is_trusted else None
        self.watch.step("limited" if limit is not None else "unlimited", now)
        own_w = self.watch.own_limit_w()
        held = None
        if limit is not None:
            held = Held(limit.watts, limit.criticality, now, self.mono(limit.ends_at))
        if own_w is not None and (held is None or own_w < held.watts):
            held = Held(own_w, 5, now, self.watch.due_at())
        old = self.household.held
        if (held and held._replace(since=0)) != (old and old._replace(since=0)):
            self._unmet_since = None
            if held is None:
                self._journal.kept[FAIRNESS] = cbor2.dumps(self.household.fairness())
            self.household.hold(held, now)
            self.bulletin.say_limit(None if held is None else held.watts)

    def plan(self, now: float) -> None:
        self._planned_at, self._is_stale = now, False
        self.household.plan(now)
        self._judge_limits(now)

    def _judge_limits(self, now: float) -> None:
        """Tell, once it is known, whether the limit is kept; and again only when that has changed for good."""
        limit, kept = self.limits.effective(), self.household.is_kept(now)
        if limit is None or kept is None:
            return
        if kept:
            self._unmet_since = None
            if limit.told != "applied":
                self.move(limit, "met", now, detail=self.household.report(now))
            return
        self._unmet_since = now if self._unmet_since is None else self._unmet_since
        if not limit.told or (limit.told == "applied" and now - self._unmet_since >= _UNMET_FOR_S):
            self.move(limit, "unmet", now, detail=self.household.report(now))

    def move(self, limit: Limit, event: str, now: float, reason: str = "", detail: Any = None) -> None:
        """One step of a limit's life: into memory at once, into the journal with its receipt."""
        moved, status = step(limit, event)
        self.limits.put(moved)
        if limit.cti in self._ending:
            return
        self._journal.kept[LIMIT + limit.cti.hex()] = None if moved.state == OVER else moved.encode()
        if status:
            self._journal.tell(self.receipt(limit.cti, limit.digest, status, now, reason, detail))

    def end_hold(self, hold: Hold, status: str, now: float) -> None:
        """A hold is over: into memory at once, into the journal with its receipt."""
        if hold.cti not in self._ending:
            self._tell_end(HOLD, hold, status, now, self._journal)
        self.drop_hold(hold, now, release=False)

    def foretell(self, kind: str, item: Limit | Hold, status: str, now: float, journal: Journal) -> None:
        """What becomes durable of a limit or hold that a command ends."""
        self._ending.add(item.cti)
        self._tell_end(kind, item, status, now, journal)

    def _tell_end(self, kind: str, item: Limit | Hold, status: str, now: float, journal: Journal) -> None:
        journal.kept[kind + item.cti.hex()] = None
        journal.tell(self.receipt(item.cti, item.digest, status, now))

    def drop_hold(self, hold: Hold, now: float, *, release: bool) -> None:
        """Forget a hold. `release`: it has not ended by itself, so its appliance is told."""
        if self.holds.pop(hold.cti, None) is not None and release:
            self._release(hold, now)

    def _release(self, hold: Hold, now: float) -> None:
        if hold.slot == "switch":
            self.give(hold.client_id, Order("switch", "on"))
            return
        # No order takes back a single `set`: everything is released, and what still holds is told again.
        self.give(hold.client_id, Order("*", "release"))
        self.household.subscribed(hold.client_id)
        for other in self.holds.values():
            if other.client_id == hold.client_id:
                self.tell_hold(other, now)

    def hold_applied(self, hold: Hold, now: float) -> None:
        """The appliance says that it does as it was told."""
        if hold.cti in self._ending:
            return
        self.holds[hold.cti] = applied = replace(hold, is_applied=True)
        self._keep(HOLD, applied)
        self._journal.tell(self.receipt(hold.cti, hold.digest, "applied", now))

    def _record_event(self, event: str, **fields: Any) -> None:
        self._journal.events.append((event, fields))

    # Timers and output

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        self.advance(now)
        if self.household.due_at(now) is not None:
            self.plan(now)
        self.bulletin.handle_timer(now, self.utc(now), self.household.household_w(now))

    def get_timer(self, now: float) -> float:
        """When `handle_timer` is to be called if nothing else happens."""
        next_at = self.limits.next_at() if self._is_trusted else None
        ends = [hold.ends_at for hold in self.holds.values()] if self._is_trusted else []
        dues = [
            self.bulletin.due_at(),
            self.watch.due_at(),
            self.household.due_at(now),
            None if next_at is None else self.mono(next_at),
            self.mono(min(ends)) if ends else None,
        ]
        return min(due for due in dues if due is not None)

    def take_journal(self) -> Journal | None:
        """What has to become durable now, in the order of the calls."""
        if not self._journal:
            return None
        journal, self._journal = self._journal, Journal()
        return journal

    def take_orders(self) -> list[tuple[str, Order]]:
        """`(client_id, order)` to give now."""
        orders = [*self._orders, *self.household.take_orders()]
        self._orders = []
        return orders

    def status(self, now: float) -> dict[str, Any]:
        """For `meterhub status`: the state of LPC, the watts held, and until when (UTC epoch seconds)."""
        held = self.household.held
        until = None if held is None or held.until is None else round(held.until + self._offset_s, 3)
        return {"state": self.watch.state, "watts": None if held is None else held.watts, "until": until}
