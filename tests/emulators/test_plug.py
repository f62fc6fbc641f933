# SPDX-License-Identifier: GPL-3.0-or-later
"""The plug as ZCL has it: attributes, commands, default responses, reporting, the energy register."""

from __future__ import annotations

import pytest

from tests.emulators.ezsp.device import ApsFrame
from tests.emulators.ezsp.plug import ELECTRICAL, METERING, ON_OFF, Plug

HUB = b"hub-eui8"


def plug() -> Plug:
    made = Plug(b"plug-eui", lambda _now: 1000.0)
    made.nwk, made.tc_ieee, made.network_id = 0x1234, HUB, b"here"
    return made


def ask(device: Plug, cluster: int, payload: bytes, now: float = 0.0) -> list[bytes]:
    device.receive_aps(ApsFrame(0, device.nwk, 0x0104, cluster, 1, 1, payload), now)
    return [frame.payload for frame in device.frames_to_send()]


def bind(device: Plug, cluster: int) -> None:
    device.bindings.append((1, cluster, HUB, 1))


def run(device: Plug, start: int, end: int) -> list[tuple[int, bytes]]:
    said = []
    for second in range(start, end + 1):
        timer = device.get_timer()
        if timer is not None and timer <= second:
            device.handle_timer(float(second))
        said += [(second, frame.payload) for frame in device.frames_to_send()]
    return said


def test_reading_known_and_unknown_attributes() -> None:
    answer = b"\x18\x05\x01" + b"\x0b\x05\x00\x29\xe8\x03" + b"\xff\x7f\x86"
    assert ask(plug(), ELECTRICAL, b"\x00\x05\x00\x0b\x05\xff\x7f") == [answer]


@pytest.mark.parametrize(
    ("command", "status"), [(0x00, 0x00), (0x01, 0x00), (0x02, 0x00), (0x77, 0x81)], ids=["off", "on", "toggle", "?"]
)
def test_a_default_response_says_what_became_of_a_command(command: int, status: int) -> None:
    assert ask(plug(), ON_OFF, bytes((0x01, 9, command))) == [bytes((0x18, 9, 0x0B, command, status))]


def test_no_default_response_when_none_is_wanted() -> None:
    assert ask(plug(), ON_OFF, b"\x11\x09\x00") == []


def test_on_with_timed_off_ends_by_itself() -> None:
    device = plug()
    ask(device, ON_OFF, b"\x01\x01\x42\x00\x32\x00\x00\x00", 10.0)
    assert device.get_timer() == 15.0
    device.handle_timer(15.0)
    assert not device.on


def test_the_energy_register_counts_while_it_is_on() -> None:
    device = plug()
    assert device.energy_wh(1800.0) == pytest.approx(500.0)
    device.switch(False, 1800.0)
    assert device.energy_wh(3600.0) == pytest.approx(500.0)


def test_reports_at_least_every_max_and_at_once_on_a_change() -> None:
    device = plug()
    bind(device, ELECTRICAL)
    configure = b"\x00\x01\x06\x00\x0b\x05\x29\x01\x00\x1e\x00\x05\x00"
    assert ask(device, ELECTRICAL, configure) == [b"\x18\x01\x07\x00"]
    said = run(device, 1, 65)
    assert [second for second, _ in said] == [30, 60]
    device.switch(False, 70.0)
    assert [frame.payload[-5:] for frame in device.frames_to_send()] == [b"\x0b\x05\x29\x00\x00"]


def test_nothing_is_reported_without_a_binding_or_after_it_was_switched_off() -> None:
    device = plug()
    ask(device, METERING, b"\x00\x01\x06\x00\x00\x00\x25\x01\x00\x05\x00" + b"\x01\0\0\0\0\0")
    assert run(device, 1, 20) == []
    bind(device, METERING)
    assert run(device, 21, 30)
    ask(device, METERING, b"\x00\x01\x06\x00\x00\x00\x25\x00\x00\xff\xff" + b"\x01\0\0\0\0\0")
    assert run(device, 31, 60) == []


def test_a_wrong_type_is_refused_and_rubbish_ignored() -> None:
    device = plug()
    refused = ask(device, ELECTRICAL, b"\x00\x01\x06\x00\x0b\x05\x21\x01\x00\x1e\x00\x05\x00")
    assert refused == [b"\x18\x01\x07\x8d\x00\x0b\x05"]
    for rubbish in (b"", b"\x00", b"\x04\x00\x00", b"\x00\x01\x06\x00\x0b\x05\x29\x01\x00\x1e\x00\x05"):
        assert ask(device, ELECTRICAL, rubbish) == []


def test_it_keeps_its_reporting_through_a_power_cut() -> None:
    device, again = plug(), plug()
    ask(device, ELECTRICAL, b"\x00\x01\x06\x00\x0b\x05\x29\x01\x00\x1e\x00\x05\x00")
    again.recall(device.keep(10.0), 10.0)
    bind(again, ELECTRICAL)
    assert [second for second, _ in run(again, 11, 45)] == [40]
