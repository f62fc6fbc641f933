# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter against a gateway of a few lines: it connects, describes itself, publishes, obeys, sleeps."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from tests.emulators import appliances
from tests.emulators.ezsp import adapter as tunnel
from tests.emulators.ezsp.adapter import Adapter, Reading, batch_payload
from tests.emulators.ezsp.device import ApsFrame

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 0x04, 0x05, 0x0C, 0x0D, 0x12, 0x13, 0x18
PREDEFINED = 0x01


class Gateway:
    """Says yes to everything, and remembers what was published: (topic id, data)."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter, self.now = adapter, 10.0
        self.published: list[tuple[int, bytes]] = []
        self.sizes: list[int] = []
        self.connects = self.sleeps = 0
        adapter.network_id = b"here"
        adapter.on_joined(self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (timer := self.adapter.get_timer()) is not None and timer <= end:
            self.now = max(self.now, timer)
            self.adapter.handle_timer(self.now)
            while frames := self.adapter.frames_to_send():
                for frame in frames:
                    self._take(frame)
        self.now = end

    def say(self, message: bytes) -> None:
        preset = self.adapter.preset
        frame = ApsFrame(0, 1, preset.profile, preset.cluster, preset.endpoint, preset.endpoint, message)
        self.adapter.receive_aps(frame, self.now)
        for answer in self.adapter.frames_to_send():
            self._take(answer)

    def command(self, text: bytes) -> None:
        body = bytes((PUBLISH, PREDEFINED)) + struct.pack(">HH", tunnel.CONTROL, 0) + text
        self.say(bytes((len(body) + 1,)) + body)

    def _take(self, frame: ApsFrame) -> None:
        message = frame.payload
        self.sizes.append(len(message))
        kind = message[1]
        if kind == CONNECT:
            self.connects += 1
            self.say(bytes((3, CONNACK, 0)))
        elif kind == PUBLISH:
            topic, msg_id = struct.unpack_from(">HH", message, 3)
            self.published.append((topic, message[7:]))
            self.say(bytes((7, PUBACK)) + struct.pack(">HHB", topic, msg_id, 0))
        elif kind == SUBSCRIBE:
            (msg_id,) = struct.unpack_from(">H", message, 3)
            self.say(bytes((8, SUBACK, 0x20)) + struct.pack(">HHB", tunnel.CONTROL, msg_id, 0))
        elif kind == DISCONNECT:
            self.sleeps += 1
            self.say(bytes((2, DISCONNECT)))

    def values(self, topic: int) -> list[str]:
        return [data.decode() for published, data in self.published if published == topic]


def make(kind: str = "ev", **options: Any) -> Gateway:
    return Gateway(Adapter(b"adapter1", "ev-1", appliances.create(kind, 10.0), **options))


@pytest.mark.parametrize("preset", ["native", "digi"])
def test_it_describes_itself_and_publishes(preset: str) -> None:
    gateway = make(tunnel=preset, period_s=10.0)
    gateway.run(61)
    about = json.loads(gateway.values(tunnel.ABOUT)[0])
    assert about["class"] == "ev-charger"
    assert gateway.values(tunnel.POWER) == ["7200"] * 7
    assert max(gateway.sizes) <= tunnel.DATAGRAM_LIMIT
    totals = gateway.adapter.totals
    assert totals["published"] == totals["acknowledged"] == len(gateway.published)


def test_it_obeys_says_so_and_lets_go_by_itself() -> None:
    gateway = make()
    gateway.run(5)
    gateway.command(b"limit 3000 30")
    gateway.run(20)
    assert gateway.adapter.appliance.power_w(gateway.now) == 3000
    gateway.run(20)
    assert gateway.values(tunnel.LIMIT) == ["", "3000", ""]
    assert gateway.adapter.appliance.power_w(gateway.now) == 7200


def test_one_that_sleeps_says_afterwards_what_it_measured() -> None:
    gateway = make(sleep_s=60.0, period_s=10.0)
    gateway.run(200)
    assert gateway.sleeps >= 3
    assert gateway.connects == gateway.sleeps
    assert any(":" in value for value in gateway.values(tunnel.POWER))
    pairs = sum(value.count(":") or 1 for value in gateway.values(tunnel.POWER))
    assert pairs >= 18
    assert max(gateway.sizes) <= tunnel.DATAGRAM_LIMIT


def test_readings_wait_for_a_gateway_that_is_away() -> None:
    gateway = make(period_s=10.0)
    gateway.run(5)
    gateway.say(bytes((2, DISCONNECT)))
    gateway.run(120)
    assert gateway.connects == 2
    assert gateway.adapter.totals["dropped"] == 0


def test_payloads_of_readings() -> None:
    assert batch_payload([Reading(1, 100.0, "5")], 100.5) == b"5"
    assert batch_payload([Reading(1, 90.0, "5")], 100.0) == b"10:5"
    assert batch_payload([Reading(1, 90.0, "5"), Reading(1, 95.0, "6")], 100.0) == b"10:5,5:6"
