# SPDX-License-Identifier: GPL-3.0-or-later
"""ASH as UG101 has it, and what happens on a bad line."""

from __future__ import annotations

import random

import pytest

from tests.emulators.ezsp import ash
from tests.emulators.ezsp.ash import Ash, frame, randomise

HELLO = b"\x00\x00\x00\x02"


def data(number: int, payload: bytes, *, ack: int = 0, again: bool = False) -> bytes:
    return frame(number << 4 | again << 3 | ack, randomise(payload))


def events(machine: Ash) -> list[ash.Event]:
    return [event for event in iter(machine.next_event, None) if event is not None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (frame(0xC0), "c038bc7e"),
        (frame(0xC1, b"\x02\x02"), "c102029b7b7e"),
        (frame(0x81), "8160597e"),
        (frame(0xA6), "a634dc7e"),
        (frame(0x25, randomise(HELLO)), "254221a856a6097e"),
    ],
    ids=["RST", "RSTACK", "ACK(1)", "NAK(6)", "DATA(2,5,0)"],
)
def test_frames_of_ug101(raw: bytes, expected: str) -> None:
    assert raw.hex() == expected


def test_a_frame_comes_through_one_byte_at_a_time() -> None:
    machine = Ash()
    for byte in data(0, bytes((0x7E, 0x7D, 0x11, 0x13, 0x18, 0x1A))):
        machine.receive(bytes((byte,)), 0.0)
    assert events(machine) == [("data", bytes((0x7E, 0x7D, 0x11, 0x13, 0x18, 0x1A)))]


def test_reset_is_answered_with_its_reason() -> None:
    machine = Ash()
    machine.receive(bytes((ash.CANCEL,)) * 32 + frame(ash.RST), 0.0)
    assert events(machine) == [("reset", b"")]
    machine.reset()
    assert machine.bytes_to_send() == frame(ash.RSTACK, b"\x02\x0b")


def test_cancel_substitute_and_flags_in_a_row() -> None:
    machine = Ash()
    good = data(0, HELLO)
    machine.receive(good[:4] + bytes((ash.CANCEL,)) + b"\x7e\x7e" + good, 0.0)
    machine.receive(b"\x25\x42" + bytes((ash.SUBSTITUTE,)) + b"\x00\x7e", 0.0)
    assert events(machine) == [("data", HELLO)]
    assert machine.counters["bad_frames"] == 1


def test_one_nak_for_a_run_of_errors_then_good_again() -> None:
    machine = Ash()
    broken = bytearray(data(0, HELLO))
    broken[2] ^= 1
    machine.receive(bytes(broken) * 3, 0.0)
    assert machine.bytes_to_send() == frame(0xA0)
    machine.receive(data(0, HELLO, again=True), 0.1)
    assert events(machine) == [("data", HELLO)]


def test_out_of_sequence_is_rejected_and_a_repetition_acknowledged_but_not_done_twice() -> None:
    machine = Ash()
    machine.receive(data(0, HELLO), 0.0)
    machine.handle_timer(1.0)
    assert machine.bytes_to_send() == frame(0x81)
    machine.receive(data(0, HELLO, again=True), 1.0)
    assert machine.bytes_to_send() == frame(0x81)
    machine.receive(data(3, HELLO), 1.0)
    assert machine.bytes_to_send() == frame(0xA1)
    assert events(machine) == [("data", HELLO)]


def test_window_retransmission_and_giving_up() -> None:
    machine = Ash()
    for _ in range(5):
        assert machine.send(HELLO, 0.0)
    assert machine.bytes_to_send().count(ash.FLAG) == ash.TX_WINDOW
    machine.receive(frame(0x82), 0.1)  # two arrived
    assert machine.bytes_to_send() == data(3, HELLO) + data(4, HELLO)
    while (timer := machine.get_timer()) is not None:
        machine.handle_timer(timer)
    assert events(machine) == [("failed", bytes((ash.ERROR_ACK_TIMEOUTS,)))]
    assert machine.bytes_to_send().endswith(frame(ash.ERROR, b"\x02\x51"))
    machine.receive(data(0, HELLO), 99.0)
    assert machine.bytes_to_send() == frame(ash.ERROR, b"\x02\x51")
    assert not machine.send(HELLO, 99.0)


def test_nak_brings_everything_outstanding_again() -> None:
    machine = Ash()
    machine.send(HELLO, 0.0)
    machine.send(HELLO, 0.0)
    machine.bytes_to_send()
    machine.receive(frame(0xA1), 0.1)
    assert machine.bytes_to_send() == data(1, HELLO, again=True)


def test_a_host_that_is_not_ready_and_one_that_says_xoff() -> None:
    machine = Ash()
    machine.receive(frame(0x88), 0.0)
    machine.send(HELLO, 0.0)
    assert machine.bytes_to_send() == b""
    machine.handle_timer(ash.T_REMOTE_NOT_READY_S)
    machine.receive(bytes((ash.XOFF,)), 1.1)
    assert machine.bytes_to_send() == b""
    machine.receive(bytes((ash.XON,)), 1.2)
    assert machine.bytes_to_send() == data(0, HELLO)


def test_noise_never_raises() -> None:
    dice = random.Random(7)
    machine = Ash()
    for step in range(2000):
        machine.receive(dice.randbytes(dice.randint(0, 40)), float(step))
        events(machine)
        machine.bytes_to_send()
