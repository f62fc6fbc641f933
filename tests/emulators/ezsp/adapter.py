# SPDX-License-Identifier: GPL-3.0-or-later
"""An appliance adapter: MQTT-SN 1.2 in APS frames, one message each, in front of an appliance model.

The MQTT-SN half is the real client of the project; this file only carries its datagrams, decides what to say, and
keeps a record of what was said and what was acknowledged, for tests to compare with what arrived elsewhere.
"""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from hub.core.adapter.client import Client, LocalProtocolError

from .. import appliances
from . import zdo
from .device import COORDINATOR_NWK, ApsFrame, Device, Mode
from .obedience import Obedience

DATAGRAM_LIMIT: Final = 60  # bytes of one MQTT-SN message in one APS frame
PAYLOAD_LIMIT: Final = DATAGRAM_LIMIT - 7  # a PUBLISH has 7 bytes in front of its data (MQTT-SN 1.2 §5.4.12)
SEARCHGW: Final = 0x01  # MsgType, the second byte (§5.2.2)
POWER, ENERGY, STATE, LIMIT, ABOUT, CONTROL = 0x0001, 0x0002, 0x0006, 0x0007, 0x0020, 0x0030
OUTBOX_LIMIT: Final = 500
HISTORY_LIMIT: Final = 2000
UNACKED_LIMIT: Final = 3  # publishes given to the client at a time; the rest wait here, where they can be merged
BACKOFF_S: Final = (2.0, 5.0, 15.0, 60.0)
SETTLE_S: Final = 0.2
LINGER_S: Final = 0.5  # a sleeping adapter stays up this long after its last word, for an answer


@dataclass(frozen=True)
class Preset:
    """Where in APS the datagrams travel."""

    profile: int
    cluster: int
    endpoint: int


PRESETS: Final = {"native": Preset(0xC53A, 0x4D51, 0xE9), "digi": Preset(0xC105, 0x0011, 0xE8)}


@dataclass
class Reading:
    """One value that waits to be published."""

    topic: int
    at: float
    value: str


@dataclass
class Said:
    """One publish: `code` is the return code of its acknowledgement, None until that comes."""

    topic: int
    payload: bytes
    at: float
    readings: list[Reading] = field(default_factory=list)
    code: int | None = None


class Adapter(Device):
    """An adapter. `sleep_s`: how long it sleeps between two conversations; None: always on."""

    def __init__(
        self,
        ieee: bytes,
        client_id: str,
        appliance: appliances.Appliance,
        *,
        tunnel: str = "native",
        search: bool = False,
        period_s: float = 10.0,
        sleep_s: float | None = None,
        keepalive_s: int = 60,
        about: dict[str, Any] | None = None,
        **device: Any,
    ) -> None:
        self.preset = PRESETS[tunnel]
        endpoint = zdo.Endpoint(self.preset.profile, 0x0001, (self.preset.cluster,), (self.preset.cluster,))
        super().__init__(ieee, endpoints={self.preset.endpoint: endpoint}, **device)
        self.client_id, self.appliance = client_id, appliance
        self.obedience = Obedience(appliance)
        self.about = about if about is not None else describe_appliance(appliance)
        self.said: deque[Said] = deque(maxlen=HISTORY_LIMIT)
        self.heard: deque[tuple[str, str]] = deque(maxlen=HISTORY_LIMIT)
        self.totals = {"published": 0, "acknowledged": 0, "refused": 0, "connects": 0, "too_long": 0, "dropped": 0}
        self._client = Client(client_id, keepalive_s=keepalive_s, clean=True)
        self._search, self._period_s, self._sleep_s = search, period_s, sleep_s
        self._dice = random.Random(client_id)
        self._outbox: deque[Reading] = deque()
        self._unacked: dict[int, Said] = {}
        self._failures = 0
        self._fresh = True  # the gateway has no session of ours to resume
        self._start_at: float | None = None
        self._sample_at: float | None = None
        self._linger_until: float | None = None
        self._reported: dict[int, str] = {}
        self.ordered_at: float | None = None  # when the last order came, on the emulator's (monotonic) clock

    # -- the network -------------------------------------------------------------------------------------------------

    def on_joined(self, now: float) -> None:
        self._start_at = now + SETTLE_S
        if self._sample_at is None:
            self._sample_at = now + SETTLE_S

    def on_left(self, now: float) -> None:
        self._start_at = None

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        """An MQTT-SN message of the hub."""
        if (frame.profile, frame.cluster) == (self.preset.profile, self.preset.cluster):
            self._client.receive_datagram(frame.payload, now)
            self._run(now)

    def _send_datagrams(self) -> None:
        for datagram in self._client.datagrams_to_send():
            if len(datagram) > DATAGRAM_LIMIT:
                self.totals["too_long"] += 1
                continue
            # Discovery is for everybody (MQTT-SN 1.2 §5.4.2), all else for the hub.
            everybody = len(datagram) > 1 and datagram[1] == SEARCHGW
            to: int
            mode: Mode
            to, mode = (0xFFFC, "broadcast") if everybody else (COORDINATOR_NWK, "unicast")
            profile, cluster, endpoint = self.preset.profile, self.preset.cluster, self.preset.endpoint
            self.transmit(profile, cluster, endpoint, endpoint, datagram, dst=to, mode=mode)

    # -- time --------------------------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        timers = [self._sample_at, self.obedience.get_timer(), self._linger_until]
        if self.joined:
            timers += [self._client.get_timer(), self._start_at]
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        self.obedience.handle_timer(now)
        if self._sample_at is not None and now >= self._sample_at:
            self._sample(now)
            self._sample_at = max(self._sample_at + self._period_s, now + self._period_s / 2)
        if self._linger_until is not None and now >= self._linger_until:
            self._fall_asleep(now)
        if self.joined:
            timer = self._client.get_timer()
            if timer is not None and now >= timer:
                self._client.handle_timer(now)
            if self._start_at is not None and now >= self._start_at:
                self._start(now)
        self._run(now)

    def _start(self, now: float) -> None:
        self._start_at = None
        try:
            if self._search:
                self._client.search_gateway(now)
                self._retry(now)  # nobody may answer
            else:
                self._client.connect(now)
        except LocalProtocolError:
            self._retry(now)

    def _retry(self, now: float) -> None:
        delay_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
        self._failures += 1
        self._start_at = now + delay_s * self._dice.uniform(0.8, 1.2)

    def _run(self, now: float) -> None:
        """Take the client's events, say what can be said, put the datagrams on the air."""
        while (event := self._client.next_event()) is not None:
            self._event(event, now)
        self._report_obedience(now)
        self._flush(now)
        self._consider_sleep(now)
        self._send_datagrams()

    # -- the session -------------------------------------------------------------------------------------------------

    def _event(self, event: tuple[Any, ...], now: float) -> None:
        match event:
            case ("gateway", *_) if self._client.state in ("disconnected", "lost"):
                self._search = False
                self._client.connect(now)
                self._start_at = None
            case ("connected", *_):
                self._connected(now)
            case ("published", msg_id, code):
                self._acknowledged(msg_id, code)
            case ("message", topic, payload, *_):
                self.heard.append((str(topic), bytes(payload).decode(errors="replace")))
                if topic == CONTROL:
                    self.ordered_at = now
                    self.obedience.obey(bytes(payload), now)
            case ("asleep",):
                self._start_at = now + (self._sleep_s or 0.0)
            case (("refused" | "lost" | "disconnected"), *_):
                self._disconnected(now)

    def _connected(self, now: float) -> None:
        self.totals["connects"] += 1
        self._failures = 0
        self._start_at = None
        if self._fresh:
            self._fresh = False
            self._reported.clear()
            self._publish(ABOUT, shorten(self.about), now, retain=True)
            self._client.subscribe(CONTROL, 1, now)

    def _disconnected(self, now: float) -> None:
        # The client keeps what was not acknowledged, and sends it again, marked, when it is connected again.
        self._fresh = True
        if self.joined and self._start_at is None:
            self._retry(now)

    def _acknowledged(self, msg_id: int, code: int) -> None:
        said = self._unacked.pop(msg_id, None)
        if said is not None:
            said.code = code
            self.totals["acknowledged" if code == 0 else "refused"] += 1

    def _publish(
        self, topic: int, payload: bytes, now: float, *, readings: list[Reading] | None = None, retain: bool = False
    ) -> bool:
        try:
            msg_id = self._client.publish(topic, payload, 1, now, retain=retain)
        except LocalProtocolError:
            return False
        said = Said(topic, payload, now, readings or [])
        self.said.append(said)
        self._unacked[msg_id] = said
        self.totals["published"] += 1
        return True

    # -- readings ----------------------------------------------------------------------------------------------------

    def _sample(self, now: float) -> None:
        self._keep(POWER, f"{self.appliance.power_w(now):.0f}", now)
        self._keep(ENERGY, f"{self.appliance.energy_wh(now):.1f}", now)

    def _keep(self, topic: int, value: str, now: float) -> None:
        if len(self._outbox) >= OUTBOX_LIMIT:
            self._outbox.popleft()
            self.totals["dropped"] += 1
        self._outbox.append(Reading(topic, now, value))

    def _report_obedience(self, now: float) -> None:
        limit_w = self.appliance.limit_w
        self._report(STATE, "1" if self.appliance.on else "0", now)
        self._report(LIMIT, "" if limit_w is None else f"{limit_w:.0f}", now)

    def _report(self, topic: int, value: str, now: float) -> None:
        if self._client.state == "active" and self._reported.get(topic) != value:
            self._reported[topic] = value
            self._keep(topic, value, now)

    def _flush(self, now: float) -> None:
        while self._client.state == "active" and self._outbox and len(self._unacked) < UNACKED_LIMIT:
            batch = take_batch(self._outbox, now)
            if not self._publish(batch[0].topic, batch_payload(batch, now), now, readings=batch):
                self._outbox.extendleft(reversed(batch))
                return

    # -- sleep -------------------------------------------------------------------------------------------------------

    def _consider_sleep(self, now: float) -> None:
        busy = self._client.state != "active" or self._outbox or self._unacked
        if self._sleep_s is None or busy:
            self._linger_until = None
        elif self._linger_until is None:
            self._linger_until = now + LINGER_S

    def _fall_asleep(self, now: float) -> None:
        self._linger_until = None
        if self._client.state == "active" and self._sleep_s is not None:
            self._client.disconnect(now, duration_s=int(self._sleep_s * 1.5) + 1)

    def describe(self, now: float) -> dict[str, Any]:
        rows = [[said.topic, said.payload.decode(errors="replace"), said.code] for said in self.said]
        return super().describe(now) | {
            "client_id": self.client_id,
            "session": self._client.state,
            "totals": dict(self.totals),
            "waiting": len(self._outbox) + len(self._unacked),
            "power_w": round(self.appliance.power_w(now), 1),
            "energy_wh": round(self.appliance.energy_wh(now), 3),
            "on": self.appliance.on,
            "limit_w": self.appliance.limit_w,
            "ordered_at": self.ordered_at,
            "released_by_itself_at_s": self.obedience.get_timer(),
            "published": rows,
            "heard": [list(pair) for pair in self.heard],
        }


def take_batch(outbox: deque[Reading], now: float) -> list[Reading]:
    """The oldest reading, and as many more of the same topic as fit into one message with it."""
    batch = [outbox.popleft()]
    rest: deque[Reading] = deque()
    while outbox:
        reading = outbox.popleft()
        fits = reading.topic == batch[0].topic and reading.value and batch[0].value
        if fits and len(batch_payload([*batch, reading], now)) <= PAYLOAD_LIMIT:
            batch.append(reading)
        else:
            rest.append(reading)
    outbox.extend(rest)
    return batch


def batch_payload(batch: list[Reading], now: float) -> bytes:
    """A number, or SECONDS_AGO:VALUE pairs when there is more than one or it is old."""
    if len(batch) == 1 and (now - batch[0].at < 1 or not batch[0].value):
        return batch[0].value.encode()
    return ",".join(f"{now - reading.at:.0f}:{reading.value}" for reading in batch).encode()


def describe_appliance(appliance: appliances.Appliance) -> dict[str, Any]:
    """What goes into `about`, most important first."""
    about: dict[str, Any] = {"class": appliance.class_name, "sheddable": not appliance.protected}
    about["nominal_w"] = round(appliance.nominal_w)
    if appliance.min_off_s:
        about["min_off_s"] = round(appliance.min_off_s)
    return about


def shorten(about: dict[str, Any]) -> bytes:
    """`about` as JSON, without its last fields if one frame cannot carry all of them."""
    items = list(about.items())
    while items:
        text = json.dumps(dict(items), separators=(",", ":")).encode()
        if len(text) <= PAYLOAD_LIMIT:
            return text
        items.pop()
    return b"{}"
