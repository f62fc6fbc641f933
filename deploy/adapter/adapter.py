# SPDX-License-Identifier: GPL-3.0-or-later
"""An appliance adapter as a machine without I/O or clock: it measures, buffers, reports and obeys.

The loop passes each datagram to `receive_datagram`, calls `handle_timer` when `get_timer` says so, and after either
sends `datagrams_to_send`. `now` is in whole seconds (int) from a clock that never goes back: many boards have floats
of 24 bits, and with those a clock in fractions stands still after half a year.
"""

import json

from hub.core.adapter.client import Client

from .appliance import AdapterAppliance
from .orders import Orders
from .readings import Ring, payload_of, to_mantissa, to_text

# Predefined topic ids: README.md of this directory, and the contract in the hub's documentation.
STATE = 0x0006
LIMIT = 0x0007
ABOUT = 0x0020
CONTROL = 0x0030

_PUBLISH_HEADER = 7  # bytes in front of a PUBLISH's data (MQTT-SN 1.2, 5.4.12)
_MAX_PAYLOAD = 248  # beyond that the header grows
_SPREAD_S = 5  # after a power cut a street of adapters starts at the same moment
_FIRST_PAUSE_S = 2
_LONGEST_PAUSE_S = 120
_AGAIN_S = 60  # a refused subscription
# A payload says how old its readings are, so it ages. For this long it is repeated as it is, which the hub recognises;
# then it is written anew, for an outage would misdate it by the whole outage.
_REWRITE_S = 60


class AdapterReport:
    """What the hub is told when it changes: only the newest value counts."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.at_s = 0
        self.acknowledged: str | None = None

    def payload(self, now: int) -> bytes:
        if not self.text or now <= self.at_s:
            return (self.text or "").encode()
        return f"{now - self.at_s}:{self.text}".encode()


class Word:
    """A publish that the hub has not acknowledged yet; `records`: the readings in it."""

    def __init__(self, topic_id: int, payload: bytes, now: int, text: str = "", records: bytes = b"") -> None:
        self.topic_id, self.payload, self.said_at, self.text, self.records = topic_id, payload, now, text, records
        self.msg_id = 0


class Adapter:
    """One adapter. Call `start` once.

    getrandbits: as in `random`, seeded differently on every board; about: (key, value) pairs, the most important
    first, since a short link carries only the first; sleep_s: 0 = always on; max_bytes: the longest datagram that the
    link carries; capacity: readings kept while the hub is away; longest_order_s: what lasts longer is refused.
    """

    def __init__(
        self, client_id: str, appliance: AdapterAppliance, getrandbits: "Random", *,
        about: "tuple[tuple[str, object], ...]" = (), protected: bool = False, period_s: int = 60, sleep_s: int = 0,
        max_bytes: int = 60, capacity: int = 480, longest_order_s: int = 86400, keepalive_s: int = 60,
        t_retry_s: int = 10, n_retry: int = 4,
    ) -> None:  # fmt: skip
        self.client = Client(
            client_id, keepalive_s=keepalive_s, t_retry_s=t_retry_s, n_retry=n_retry, t_wait_s=t_retry_s, max_queue=2
        )
        self.orders = Orders(appliance, protected, longest_order_s)
        self.ring = Ring(capacity)
        self.failures = 0  # attempts since the hub last acknowledged anything
        self.faults = 0  # measurements that failed
        self.refused = 0  # publishes that the hub refused
        self._appliance, self._getrandbits = appliance, getrandbits
        self._max_payload = min(max_bytes - _PUBLISH_HEADER, _MAX_PAYLOAD)
        self._about = _about_payload((("sheddable", not protected),) + about, self._max_payload)  # noqa: RUF005
        self._period_s, self._sleep_s = period_s, sleep_s
        # The hub calls it lost when the wake-up and all its repetitions came too late.
        self._sleep_duration_s = min(65535, sleep_s + t_retry_s * (n_retry + 1))
        self._reports = {STATE: AdapterReport(), LIMIT: AdapterReport()}
        self._word: Word | None = None
        self._next_at: int | None = None  # the next attempt to connect, or the next wake-up
        self._sample_at: int | None = None
        self._subscribe_at: int | None = None
        self._is_introduced = self._is_asking = False
        self._phase = ""  # "collecting": awake for what the hub kept; "leaving": on its way to sleep

    @property
    def is_idle(self) -> bool:
        """Nobody can reach it until the next timer: the radio, and on a battery the processor, may sleep."""
        return self.client.state in ("asleep", "disconnected", "lost")

    def start(self, now: int) -> None:
        """Let go of everything, measure, and connect soon."""
        self._next_at = now + self._getrandbits(8) * _SPREAD_S // 256
        self._sample_at = now
        self.orders.handle_timer(now)

    def receive_datagram(self, data: bytes, now: int) -> None:
        """Anything may come."""
        self._rewrite(now)
        self.client.receive_datagram(data, now)
        self._run(now)

    def datagrams_to_send(self) -> "list[bytes]":
        return self.client.datagrams_to_send()

    def get_timer(self) -> "float | None":
        """When `handle_timer` is due."""
        timers = (self._sample_at, self._next_at, self.orders.get_timer(), self.client.get_timer())
        dues = [timer for timer in timers if timer is not None]
        if self._subscribe_at is not None and self.client.state == "active" and not self._phase:
            dues.append(self._subscribe_at)
        return min(dues) if dues else None

    def handle_timer(self, now: int) -> None:
        self._rewrite(now)
        due = self.orders.get_timer()
        if due is not None and due <= now:
            self.orders.handle_timer(now)
        if self._sample_at is not None and self._sample_at <= now:
            self._sample_at = max(self._sample_at + self._period_s, now + 1)
            self._measure(now)
        timer = self.client.get_timer()
        if timer is not None and timer <= now:
            self.client.handle_timer(now)
        if self._next_at is not None and self._next_at <= now:
            self._next_at = None
            if self.client.state == "asleep":
                self._phase = "collecting"
                self.client.ping(now)
            else:
                self.client.connect(now)
        self._run(now)

    def record(self, topic_id: int, value: float, decimals: int, now: int) -> None:
        """Keep a reading until the hub has it; ValueError when it is no number."""
        self.ring.add(topic_id, now, to_mantissa(value, decimals), decimals)

    def _measure(self, now: int) -> None:
        try:
            for topic_id, value, decimals in self._appliance.measure():
                self.record(topic_id, value, decimals, now)
        except Exception:  # a sensor that fails must not end the loop that ends restrictions
            self.faults += 1

    # The session.

    def _run(self, now: int) -> None:
        event = self.client.next_event()
        while event is not None:
            getattr(self, "_on_" + str(event[0]), self._on_other)(event, now)
            event = self.client.next_event()
        self._note(STATE, "1" if self.orders.on else "0", now)
        limit_w = self.orders.limit_w
        self._note(LIMIT, "" if limit_w is None else _watts(limit_w), now)
        if self.client.state == "active" and not self._phase:
            self._speak(now)

    def _on_other(self, event: "tuple[object, ...]", now: int) -> None:
        """Nothing to do."""

    def _on_connected(self, event: "tuple[object, ...]", now: int) -> None:
        self._next_at = None
        if not self._is_introduced and self._subscribe_at is None:
            self._subscribe_at = now

    def _on_subscribed(self, event: "tuple[object, ...]", now: int) -> None:
        self._is_asking = False
        # Without it nobody could limit this appliance, so it is asked for again and again.
        self._subscribe_at = None if event[4] == 0 else now + _AGAIN_S

    def _on_message(self, event: "tuple[object, ...]", now: int) -> None:
        _, topic, payload, _, retain = event
        # The end of an order counts from when it was given; of a retained one nobody knows when that was.
        if topic == CONTROL and not retain and isinstance(payload, bytes):
            self.orders.obey(payload, now)

    def _on_published(self, event: "tuple[object, ...]", now: int) -> None:
        word = self._word
        if word is None or word.msg_id != event[1]:
            return
        self._word = None
        self.failures = 0
        if event[2] != 0:
            self.refused += 1
        if word.topic_id == ABOUT:
            self._is_introduced = True
        elif not word.records:
            self._reports[word.topic_id].acknowledged = word.text

    def _on_asleep(self, event: "tuple[object, ...]", now: int) -> None:
        if self._phase == "collecting" and self._has_something_to_say():
            self.client.connect(now)
        else:
            self._next_at = now + self._sleep_s
        self._phase = ""

    def _on_lost(self, event: "tuple[object, ...]", now: int) -> None:
        """Also "refused" and "disconnected": the hub may have forgotten everything, so start from the beginning."""
        pause_s = min(_FIRST_PAUSE_S << min(self.failures, 8), _LONGEST_PAUSE_S)
        self.failures += 1
        self._next_at = now + pause_s + self._getrandbits(8) * pause_s // 256
        self._subscribe_at = None
        self._is_introduced = self._is_asking = False
        self._phase = ""
        for report in self._reports.values():
            report.acknowledged = None

    _on_refused = _on_disconnected = _on_lost

    # What it says, one publish at a time: the rest stays where it can be thinned and dated.

    def _note(self, topic_id: int, text: str, now: int) -> None:
        report = self._reports[topic_id]
        if report.text != text:
            report.text, report.at_s = text, now

    def _speak(self, now: int) -> None:
        if self._subscribe_at is not None and self._subscribe_at <= now:
            self.client.subscribe(CONTROL, 1, now)
            self._subscribe_at = None
            self._is_asking = True
        if self._word is None:
            self._word = self._next_word(now)
            if self._word is not None:
                word = self._word
                word.msg_id = self.client.publish(word.topic_id, word.payload, 1, now, retain=word.topic_id == ABOUT)
        if self._sleep_s and self._word is None and not self._is_asking:
            self._phase = "leaving"
            self.client.disconnect(now, self._sleep_duration_s)

    def _next_word(self, now: int) -> "Word | None":
        if not self._is_introduced:
            return Word(ABOUT, self._about, now)
        for topic_id, report in self._reports.items():
            if report.text != report.acknowledged:
                return Word(topic_id, report.payload(now), now, report.text or "")
        while len(self.ring):
            topic_id, records = self.ring.take(now, self._max_payload)
            if records:
                return Word(topic_id, payload_of(records, now), now, "", records)
        return None

    def _has_something_to_say(self) -> bool:
        unsaid = [report for report in self._reports.values() if report.text != report.acknowledged]
        return bool(self._word or unsaid or len(self.ring) or self._subscribe_at is not None)

    def _rewrite(self, now: int) -> None:
        word = self._word
        if word is not None and now - word.said_at > _REWRITE_S and word.topic_id != ABOUT:
            self.client.withdraw(word.msg_id, now)
            self._word = None
            if word.records:
                self.ring.put_back(word.records)


def _watts(limit_w: float) -> str:
    return to_text(to_mantissa(limit_w, 1), 1) if limit_w != int(limit_w) else str(int(limit_w))


def _about_payload(about: "tuple[tuple[str, object], ...]", size: int) -> bytes:
    """JSON with as many of the pairs as fit, each taken in its turn."""
    text = b""
    for key, value in about:
        pair = (json.dumps(key) + ":" + json.dumps(value)).encode()
        if len(text) + len(pair) + 2 <= size:
            text += (b"," if text else b"{") + pair
    return text + b"}" if text else b"{}"


TYPE_CHECKING = False  # MicroPython has no `typing`; type checkers know this name
if TYPE_CHECKING:
    from collections.abc import Callable

    Random = Callable[[int], int]
