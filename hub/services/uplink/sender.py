"""What one session does while it stands: lanes in order, forwards, packs when they are due, the heartbeat.

What is promised of order: within a lane strictly that of the numbers; between lanes heartbeat, receipts, events,
answers, raw forwards, readings, so that whatever is prompt waits for no backlog, only for what is already under way
(the rate limiter bounds that). New readings wait behind older ones: the lane's order is part of the contract. What was
asked for once more comes behind what is new and prompt, and takes turns with readings where it is readings.

A message counts as delivered only on a PUBACK that carries success. Readings are sealed into a pack only when the pack
can be sent at once (seal late: a backlog packs tighter, and until then it can still be thinned).
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from drivers.clock import monotonic, utc_ms
from hub.core.health import Health
from hub.core.uplink.rate_limiter import Drain
from hub.core.uplink.reasons import describe
from hub.core.uplink.window import FORWARD, LANE_ORDER, Listeners, Position, Rebooking, Window
from hub.services.uplink.session import MqttSession
from hub.services.uplink.status import UplinkStatus
from hub.wire.uplink.cbor import encode
from store import Sealed, Store, StoreError

log = logging.getLogger(__name__)

MAX_READINGS_PER_PACK = 4000
# How long to leave a broker alone that answers a PUBLISH with a refusal (quota, access): it is asked again, gently.
REFUSED_PAUSE_S = 30.0
# How long to leave a store alone that cannot answer; what is undelivered is then looked at from the beginning.
STORE_PAUSE_S = 2.0
# A pack's envelope, and what one reading takes at the very most (a series of its own, long names).
_ENVELOPE_BYTES, _READING_BYTES = 512, 80
# How much of the keep-alive may pass in silence before a heartbeat ends it.
_BEFORE_KEEPALIVE = 0.9
PROMPT_LANES = tuple(lane for lane in LANE_ORDER if lane != "readings")
NO_SUBSCRIBERS = 0x10  # MQTT 5 section 3.4.2.1
NOT_BOOKED_S = 7 * 86400.0
_REBOOK_LOOK_S = 60.0
_BATCH = 8
# So many forwards are asked of the store at a time, more where they are small: each answer is a handover of threads.
_FORWARDS_AT_ONCE, _FORWARD_BYTES = 128, 64 * 1024
# What the broker took is told the store when there are so many, or after so long; a hub that dies sends it once more.
_TOLD_AT_ONCE, _TOLD_AFTER_S = 256, 0.2
# Of what is asked for again much may be gone long since: beyond a gap so many numbers are looked at together.
_OVER_A_GAP = 64


@dataclass(slots=True)
class _ResendRange:
    """Numbers of a lane that somebody asked for once more; `first` is the next one."""

    lane: str
    epoch: int
    first: int
    last: int
    step: int = 1


class Sender:
    """Sends what the store holds over one session. A new session gets a new Sender; nothing is carried over."""

    def __init__(
        self,
        session: MqttSession,
        store: Store,
        health: Health,
        status: UplinkStatus,
        *,
        prefix: str,
        pack_interval_s: float,
        heartbeat_s: float,
        drain_bytes_s: float,
        wake: asyncio.Event,
        rebooking: Rebooking,
        alive: Callable[[float], None],
    ) -> None:
        """`alive(wait_s)` is told before each wait how long it lasts at most."""
        self._session = session
        self._store = store
        self._health = health
        self._status = status
        self._prefix = prefix
        self._pack_interval_s = pack_interval_s
        self._heartbeat_s = heartbeat_s
        self._wake = wake
        self._rebooking = rebooking
        self._rebook_at = monotonic()
        self._again: list[_ResendRange] = []
        self._was_forward = False  # the last message sent was
        self._was_again = False  # the last readings sent were some that somebody asked for once more
        self._alive = alive
        self._listeners = Listeners()
        self._news = {*LANE_ORDER, FORWARD}
        self._forward_cursor = 0
        self._forwards: deque[tuple[int, str, bytes]] = deque()  # of the table, not sent yet
        self._forwards_at_once = _BATCH
        self._forwards_done: list[int] = []
        self._telling: asyncio.TimerHandle | None = None
        self._paused_until: float | None = None
        self._too_large: set[tuple[str, Position]] = set()
        self._drain = Drain(drain_bytes_s)
        self._max_readings = max(1, min(
            MAX_READINGS_PER_PACK, (session.maximum_packet_bytes - _ENVELOPE_BYTES) // _READING_BYTES
        ))  # fmt: skip
        self._pack_due_at = self._heartbeat_due_at = monotonic()
        self.window = Window(session.receive_maximum)

    def store_changed(self, what: set[str]) -> None:
        """The store says which lanes have something new."""
        self._news |= what & set(LANE_ORDER)
        if "forwards" in what:
            self._news.add(FORWARD)
        if self._news:
            self._wake.set()

    def send_again(self, lane: str, epoch: int, first: int, last: int) -> None:
        """Somebody asked for these once more: they go out as the window and the drain permit. Who asks for what waits
        already, because it does not come at once, is not sent it twice."""
        for asked in self._again:
            if (asked.lane, asked.epoch) == (lane, epoch) and asked.first <= first and last <= asked.last:
                return
        self._again.append(_ResendRange(lane, epoch, first, last))
        self._wake.set()

    def published(self, mid: int, reason: int) -> None:
        """paho's word that the broker answered a PUBLISH; `reason` is the PUBACK's code, 0..0x7F is success."""
        now = monotonic()
        answered = self.window.acknowledged(mid, now)
        self._drain.answered(mid, now)
        self._wake.set()
        if answered is None:
            if reason == 0:  # of a heartbeat, or the state
                self.somebody_listens()
            return
        lane, position = answered
        if reason == NO_SUBSCRIBERS:
            self._nobody_listens(lane, now)
            return
        if reason >= 0x80:
            self._health.raise_condition("uplink-message-refused", f"PUBACK reason code {describe(reason)} in {lane}")
            self._paused_until = now + REFUSED_PAUSE_S
            return
        if not self._too_large:
            self._health.clear_condition("uplink-message-refused")
        self._try_again(self._listeners.somebody(lane))
        if lane == FORWARD:
            # Many are told together: a handover between threads costs more than a mark.
            self._forwards_done.append(position.number)
            if len(self._forwards_done) >= _TOLD_AT_ONCE:
                self._tell_of_forwards()
            elif self._telling is None:
                self._telling = asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell_of_forwards)
            return
        self._store.delivered(lane, position.epoch, position.number).add_done_callback(_log_failure)

    def _tell_of_forwards(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        done, self._forwards_done = self._forwards_done, []
        if done:
            self._store.forwards_done(done).add_done_callback(_log_failure)

    def _nobody_listens(self, lane: str, now: float) -> None:
        """No delivery: the message stays, and what is behind it is not wasted either."""
        self._listeners.nobody(lane, now)
        self._health.raise_condition("uplink-nobody-listens", ", ".join(self._listeners.waiting()))

    def somebody_listens(self) -> None:
        """A command came, or the broker took a heartbeat to somebody: lanes that nobody had are tried again."""
        self._try_again(self._listeners.somebody())

    def _try_again(self, lanes: Sequence[str]) -> None:
        if not lanes:
            return
        self.window.rewind(lanes)
        if FORWARD in lanes:
            self._look_at_forwards_anew()
        self._news |= set(lanes)
        self._wake.set()
        waiting = self._listeners.waiting()
        self._health.set_condition("uplink-nobody-listens", bool(waiting), ", ".join(waiting))

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until the session ends or the hub stops."""
        try:
            while not self._session.is_over and not stopping.is_set():
                self._wake.clear()
                try:
                    await self._round(monotonic())
                except StoreError as error:
                    # A full disk must not cost the session: commands come over it, and what is under way is answered.
                    log.warning("the store answers the uplink: %s", error)
                    self._paused_until = monotonic() + STORE_PAUSE_S
                await self._sleep()
        finally:
            self._tell_of_forwards()  # before the next session looks

    async def _round(self, now: float) -> None:
        if self._heartbeat_is_due():
            self._heartbeat_due_at = now + self._heartbeat_s
            await self._send_heartbeat()
        if self._may_send(now):
            self._try_again(self._listeners.take_due(now))
            await self._send_lanes(PROMPT_LANES, self._room)
            await self._send_again()
            # Where one message at a time may go, a flood of forwards would take the place each time: they take turns.
            is_readings_turn = self._was_forward and self.window.is_single
            if not is_readings_turn:
                await self._send_forwards()
            await self._send_readings_again()
            await self._send_lanes(("readings",), self._room_to_drain)
            await self._send_readings(before_forwards=is_readings_turn)
            if is_readings_turn:
                await self._send_forwards()
            await self._send_unbooked(now)

    def _beat_at(self) -> float:
        """The heartbeat is the keep-alive, too: it is due by its own period, and before the line was quiet too long."""
        quiet_until = self._session.last_sent_at + self._session.keepalive_s * _BEFORE_KEEPALIVE
        return min(self._heartbeat_due_at, quiet_until)

    def _room(self) -> int:
        """How many messages may go now: our window, and what the broker still takes."""
        return min(self.window.room, self._session.room)

    def _room_to_drain(self) -> int:
        """The same for readings: one at a time, and only while the drain lets them."""
        return min(1, self._room()) if self._drain.may_send(monotonic()) else 0

    def _may_send(self, now: float) -> bool:
        if self._paused_until is None:
            return True
        if now < self._paused_until or not self.window.is_empty:
            return False
        # Whatever was refused is somewhere behind the cursors: look at everything undelivered once more.
        self._paused_until = None
        self.window.rewind()
        self._look_at_forwards_anew()
        self._news = {*LANE_ORDER, FORWARD}
        return True

    def _heartbeat_is_due(self) -> bool:
        return self._beat_at() <= monotonic() and self._session.room > 0

    def _due_at(self, now: float) -> float:
        """When there is something to do by itself; answers, news of the store and the session's end wake us anyway."""
        due_at = self._beat_at() if self._session.room > 0 else math.inf
        if self._paused_until is not None:
            return max(now + 1.0, min(due_at, self._paused_until))
        if self._room() <= 0:
            return due_at
        listeners_due_at = self._listeners.due_at()
        if listeners_due_at is not None:
            due_at = min(due_at, listeners_due_at)
        if self._listeners.waits("readings"):
            return due_at
        due_at = min(due_at, max(self._rebook_at, self._drain.due_at(now)))
        if any(asked.lane == "readings" for asked in self._again):
            due_at = min(due_at, self._drain.due_at(now))
        return min(due_at, self._drain.due_at(now) if self._readings_wait() else self._pack_due_at)

    async def _sleep(self) -> None:
        now = monotonic()
        due_at = self._due_at(now)
        self._alive(max(0.0, due_at - now))  # for ever, when only the broker's answers are awaited
        # Not wait_for, which makes a task of each wait: this one comes with every message.
        loop = asyncio.get_running_loop()
        timer = None if due_at == math.inf else loop.call_later(max(0.0, due_at - now), self._wake.set)
        await self._wake.wait()
        if timer is not None:
            timer.cancel()

    async def _send_again(self) -> None:
        """What somebody asked for once more, of the prompt lanes."""
        for asked in [asked for asked in self._again if asked.lane != "readings"]:
            while self._room() > 0 and (message := await self._next_asked(asked)) is not None:
                self._send_once_more(message)

    async def _send_readings_again(self) -> None:
        """One pack that somebody asked for once more, unless the last one was such a pack and new readings wait."""
        if self._was_again and self._readings_wait():
            return
        for asked in [asked for asked in self._again if asked.lane == "readings"]:
            if self._room_to_drain() > 0 and (message := await self._next_asked(asked)) is not None:
                self._send_once_more(message)
                self._was_again = True
                return

    async def _next_asked(self, asked: _ResendRange) -> Sealed | None:
        """The next of these that is kept still; None: there are no more, or not now."""
        while asked.first <= asked.last and not self._session.is_over and not self._listeners.waits(asked.lane):
            if self._heartbeat_is_due() or self._has_prompt_news():
                self._wake.set()  # what is new and prompt goes first
                return None
            upto = min(asked.last, asked.first + asked.step - 1)
            found: list[Sealed] = await _result(self._store.sealed_range(asked.lane, asked.epoch, asked.first, upto))
            asked.first, asked.step = (found[0].number + 1, 1) if found else (upto + 1, _OVER_A_GAP)
            if found:
                return found[0]
        if asked.first > asked.last:
            self._again.remove(asked)
        return None

    async def _send_lanes(self, lanes: Sequence[str], room: Callable[[], int]) -> None:
        for lane in lanes:
            while lane in self._news and not self._listeners.waits(lane) and room() > 0 and not self._session.is_over:
                after = self.window.cursor(lane)
                limit = min(room(), _BATCH)
                # Before asking: what comes while the answer is on its way is news that the answer does not have.
                self._news.discard(lane)
                found = await _result(self._store.unsent(lane, after.epoch, after.number, limit))
                if len(found) == limit:
                    self._news.add(lane)
                for message in found:
                    self._send(message)

    async def _send_readings(self, *, before_forwards: bool) -> None:
        """Seal and send packs while there is room and something to seal; then wait for the next interval."""
        if not self._readings_wait() or "readings" in self._news or self._listeners.waits("readings"):
            return
        while self._room_to_drain() > 0 and not self._session.is_over:
            is_forwards_turn = self._forward_room() > 0 and not before_forwards
            if self._heartbeat_is_due() or self._has_prompt_news() or is_forwards_turn:
                return  # what is prompt goes first
            sealed = await _result(self._store.seal_pack(self._max_readings))
            if sealed is None:
                self._pack_due_at = monotonic() + self._pack_interval_s
                return
            self._send(sealed)

    def _has_prompt_news(self) -> bool:
        """Whether something prompt may go. A lane that nobody has waits, and keeps nothing else waiting."""
        return any(lane in self._news and not self._listeners.waits(lane) for lane in PROMPT_LANES)

    def _readings_wait(self) -> bool:
        return "readings" in self._news or self._pack_due_at <= monotonic()

    def _forward_room(self) -> int:
        if not (self._forwards or FORWARD in self._news) or self._listeners.waits(FORWARD):
            return 0
        return min(self.window.forward_room, self._session.room)

    def _look_at_forwards_anew(self) -> None:
        self._tell_of_forwards()  # or they would be found once more
        self._forwards.clear()
        self._forward_cursor = 0

    async def _send_forwards(self) -> None:
        """Raw forwards are prompt, but never take the whole window: readings go on beside a flood of them."""
        while (room := self._forward_room()) > 0 and not self._session.is_over:
            if not self._forwards and not self._take_fresh_forwards():
                await self._fetch_forwards()
            for _ in range(min(room, len(self._forwards))):
                forward_id, topic, payload = self._forwards.popleft()
                self._publish(f"han/{topic}", payload, FORWARD, Position(0, forward_id))

    def _take_fresh_forwards(self) -> bool:
        """What has just come and follows right after what was sent: no handover between threads."""
        found = self._store.fresh_forwards(self._forward_cursor, _FORWARDS_AT_ONCE)
        if found:
            self._forward_cursor = found[-1].id
            self._forwards.extend(found)
        return bool(found)

    async def _fetch_forwards(self) -> None:
        """The next of the table, in their order. Small ones many at a time, large ones a few."""
        self._news.discard(FORWARD)
        newest, limit = self._store.newest_forward, self._forwards_at_once
        if newest <= self._forward_cursor:
            return
        found = await _result(self._store.forwards(self._forward_cursor, limit))
        if len(found) == limit:
            self._news.add(FORWARD)
        else:
            self._forward_cursor = newest  # what is not there any more below it was delivered, or given up
        if found:
            self._forward_cursor = max(self._forward_cursor, found[-1].id)
            self._forwards.extend(found)
        size = sum(len(payload) for _, _, payload in found)
        if size > _FORWARD_BYTES:
            self._forwards_at_once = max(_BATCH, limit // 2)
        elif len(found) == limit:
            self._forwards_at_once = min(_FORWARDS_AT_ONCE, 2 * limit)

    async def _send_unbooked(self, now: float) -> None:
        """What the broker acknowledged and the control point has not booked in time, behind everything that is new."""
        if now < self._rebook_at or self._readings_wait() or self._room_to_drain() <= 0:
            return
        lanes = await _result(self._store.queue_status())
        has_book = any(figures["booked"] for figures in lanes.values())
        sent_any = False
        for lane in LANE_ORDER:
            booked = (self._store.epoch, lanes[lane]["booked"]) if lanes[lane]["booked"] else (0, 0)
            after = self._rebooking.cursor(lane, booked)
            if self._listeners.waits(lane) or not self._rebooking.may_look(lane, now):
                continue
            found = await _result(self._store.unbooked(lane, after, self._rebooking.within_s, _BATCH))
            for message in found:
                if self._room_to_drain() <= 0 or self._session.is_over:
                    sent_any = True
                    break
                self._send_once_more(message)
                self._status.sent_again += 1
                self._rebooking.sent(lane, (message.epoch, message.number))
                sent_any = True
            if not found:
                self._rebooking.round_over(lane, booked, now, has_book=has_book)
        self._rebook_at = now if sent_any else now + min(_REBOOK_LOOK_S, self._rebooking.within_s / 4)
        self._note_book(lanes, has_book)

    def _send_once_more(self, message: Sealed) -> None:
        topic, position = self._prefix + message.lane, Position(message.epoch, message.number)
        if self._fits(topic, message.body, message.lane, position):
            now = monotonic()
            mid = self._session.publish(topic, message.body, alias=True)
            self.window.sent_again(mid, message.lane, position, now)
            self._was_forward = False
            self._drain.sent(mid, len(message.body), now)

    def _note_book(self, lanes: dict[str, Any], has_book: bool) -> None:
        """A control point that has kept no book for a week is worth a word."""
        unbooked = any(figures["acknowledged"] > figures["booked"] for figures in lanes.values())
        now = monotonic()
        if has_book or not unbooked:
            self._status.unbooked_since = None
        elif self._status.unbooked_since is None:
            self._status.unbooked_since = now
        since = self._status.unbooked_since
        self._health.set_condition("uplink-not-booked", since is not None and now - since >= NOT_BOOKED_S)

    def _send(self, message: Sealed) -> None:
        self._publish(message.lane, message.body, message.lane, Position(message.epoch, message.number))

    def _publish(self, tail: str, payload: bytes, lane: str, position: Position) -> None:
        topic = self._prefix + tail
        if not self._fits(topic, payload, lane, position):
            self.window.passed_over(lane, position)
            return
        if lane != FORWARD and self._store.is_epoch_new:
            return  # of a database that has just been opened: another session settles its epoch first
        now = monotonic()
        mid = self._session.publish(topic, payload, alias=lane in LANE_ORDER)
        self.window.sent(mid, lane, position, now)
        self._was_forward = lane == FORWARD
        if lane == "readings":
            self._was_again = False
            self._drain.sent(mid, len(payload), now)
        self._status.messages += 1
        self._status.payload_bytes += len(payload)

    def _fits(self, topic: str, payload: bytes, lane: str, position: Position) -> bool:
        """Whether the broker takes a message of this size; one that does not would end the session each time."""
        if self._session.fits(topic, payload):
            return True
        self._too_large.add((lane, position))
        self._health.raise_condition(
            "uplink-message-refused",
            f"{len(payload)} bytes in {lane} are more than the broker takes in a packet "
            f"({self._session.maximum_packet_bytes})",
        )
        return False

    async def _send_heartbeat(self) -> None:
        try:
            lanes = await _result(self._store.queue_status())
        except StoreError:
            lanes = {}  # it is the keep-alive, too
        numbers = {lane: figures["next"] for lane, figures in lanes.items()}
        booked = {lane: figures["booked"] for lane, figures in lanes.items()}
        beat = encode({"t": utc_ms(), "epoch": self._store.epoch, "n": numbers, "b": booked})
        # One that comes late says nothing: the broker need not keep it for a control point that is away.
        self._session.publish(self._prefix + "heartbeat", beat, alias=True, expiry_s=2 * self._heartbeat_s)


async def _result(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)


def _log_failure(future: Future[None]) -> None:
    # The mark is lost, not the message: it is sent once more after the next connect.
    if future.exception() is not None:
        log.warning("a delivery could not be marked: %r", future.exception())
