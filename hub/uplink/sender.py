"""What one session does while it stands: lanes in order, packs when they are due, forwards, the heartbeat.

A message counts as delivered only on a PUBACK that carries success. Readings are sealed into a pack only when the pack
can be sent at once (seal late: a backlog packs tighter, and until then it can still be thinned).
"""

import asyncio
import logging
from concurrent.futures import Future
from typing import Any

import cbor2

from drivers.clock import monotonic, utc_ms
from hub.health import Health
from hub.uplink.session import MqttSession
from hub.uplink.state import UplinkStatus
from hub.uplink.window import LANE_ORDER, Position, Tail, Window
from store import Sealed, Store

log = logging.getLogger(__name__)

MAX_READINGS_PER_PACK = 4000
# How long to leave a broker alone that answers a PUBLISH with a refusal (quota, access): it is asked again, gently.
REFUSED_PAUSE_S = 30.0
_FORWARD = "forward"
_BATCH = 8


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
        wake: asyncio.Event,
        tail: Tail,
        again: list[tuple[str, Position]],
    ) -> None:
        self._session = session
        self._store = store
        self._health = health
        self._status = status
        self._prefix = prefix
        self._pack_interval_s = pack_interval_s
        self._heartbeat_s = heartbeat_s
        self._wake = wake
        self._tail = tail
        self._again = list(again)
        self.owed_again = dict.fromkeys(again)  # until the broker has answered each
        self._news = {*LANE_ORDER, _FORWARD}
        self._forward_cursor = 0
        self._paused_until: float | None = None
        self._pack_due_at = self._heartbeat_due_at = monotonic()
        self.window = Window(session.receive_maximum)

    def store_changed(self, what: set[str]) -> None:
        """The store says which lanes have something new."""
        self._news |= what & set(LANE_ORDER)
        if "forwards" in what:
            self._news.add(_FORWARD)
        if self._news:
            self._wake.set()

    def published(self, mid: int, reason: int) -> None:
        """paho's word that the broker answered a PUBLISH; `reason` is the PUBACK's code, 0..0x7F is success."""
        now = monotonic()
        answered = self.window.acknowledged(mid, now)
        self._wake.set()
        if answered is None:
            return
        lane, position = answered
        if reason >= 0x80:
            self._health.raise_condition("uplink-message-refused", f"PUBACK reason code 0x{reason:02X} in {lane}")
            self._paused_until = now + REFUSED_PAUSE_S
            return
        self._health.clear_condition("uplink-message-refused")
        if lane == _FORWARD:
            done: Future[None] = self._store.forward_done(position.number)
        else:
            self._tail.acknowledged(lane, position, now)
            self.owed_again.pop((lane, position), None)
            done = self._store.delivered(lane, position.epoch, position.number)
        done.add_done_callback(_log_failure)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until the session ends or the hub stops."""
        while not self._session.is_over and not stopping.is_set():
            self._wake.clear()
            now = monotonic()
            if self._heartbeat_due_at <= now:
                self._heartbeat_due_at = now + self._heartbeat_s
                await self._send_heartbeat()
            if self._may_send(now):
                await self._send_again()
                await self._send_lanes()
                await self._send_readings()
                await self._send_forwards()
            await self._sleep()

    def _may_send(self, now: float) -> bool:
        if self._paused_until is None:
            return True
        if now < self._paused_until or self.window.room < self.window.size:
            return False
        # Whatever was refused is somewhere behind the cursors: look at everything undelivered once more.
        self._paused_until = None
        self.window.rewind()
        self._forward_cursor = 0
        self._news = {*LANE_ORDER, _FORWARD}
        return True

    async def _sleep(self) -> None:
        due_at = min(self._heartbeat_due_at, self._pack_due_at)
        if self._paused_until is not None:
            due_at = max(monotonic() + 1.0, min(self._heartbeat_due_at, self._paused_until))
        elif self.window.room == 0:
            due_at = self._heartbeat_due_at  # an answer will wake us; until then there is nothing to do
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.0, due_at - monotonic()))
        except TimeoutError:
            pass

    async def _send_again(self) -> None:
        """What the last session's broker acknowledged just before it went: see `Tail`."""
        while self._again and self.window.room and not self._session.is_over:
            lane, position = self._again.pop(0)
            for message in await _result(
                self._store.sealed_range(lane, position.epoch, position.number, position.number)
            ):
                mid = self._session.publish(self._prefix + lane, message.body)
                self.window.sent_again(mid, lane, position, monotonic())

    async def _send_lanes(self) -> None:
        for lane in LANE_ORDER:
            while lane in self._news and self.window.room and not self._session.is_over:
                after = self.window.cursor(lane)
                limit = min(self.window.room, _BATCH)
                found = await _result(self._store.unsent(lane, after.epoch, after.number, limit))
                if len(found) < limit:
                    self._news.discard(lane)
                for message in found:
                    self._send(message)

    async def _send_readings(self) -> None:
        """Seal and send packs while there is room and something to seal; then wait for the next interval."""
        if monotonic() < self._pack_due_at or "readings" in self._news:
            return
        while self.window.room and not self._session.is_over:
            sealed = await _result(self._store.seal_pack(MAX_READINGS_PER_PACK))
            if sealed is None:
                self._pack_due_at = monotonic() + self._pack_interval_s
                return
            self._send(sealed)

    async def _send_forwards(self) -> None:
        while _FORWARD in self._news and self.window.room and not self._session.is_over:
            limit = min(self.window.room, _BATCH)
            found = await _result(self._store.forwards(self._forward_cursor, limit))
            if len(found) < limit:
                self._news.discard(_FORWARD)
            for forward_id, topic, payload in found:
                self._forward_cursor = forward_id
                self._publish(f"han/{topic}", payload, _FORWARD, Position(0, forward_id))

    def _send(self, message: Sealed) -> None:
        self._publish(message.lane, message.body, message.lane, Position(message.epoch, message.number))

    def _publish(self, tail: str, payload: bytes, lane: str, position: Position) -> None:
        mid = self._session.publish(self._prefix + tail, payload)
        self.window.sent(mid, lane, position, monotonic())
        self._status.messages += 1
        self._status.payload_bytes += len(payload)

    async def _send_heartbeat(self) -> None:
        lanes = await _result(self._store.queue_status())
        numbers = {lane: figures["next"] for lane, figures in lanes.items()}
        beat = cbor2.dumps({"t": utc_ms(), "epoch": self._store.epoch, "n": numbers})
        self._session.publish(self._prefix + "heartbeat", beat)


async def _result(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)


def _log_failure(future: Future[None]) -> None:
    # The mark is lost, not the message: it is sent once more after the next connect.
    if future.exception() is not None:
        log.warning("a delivery could not be marked: %r", future.exception())
