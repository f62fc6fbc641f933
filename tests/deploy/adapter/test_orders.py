# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders on their own: what is obeyed, what ends, what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.adapter.orders import Orders, number
from tests.deploy.adapter.home import Recorder

LONGEST_S = 3600


class Desk:
    """Orders in front of a recorder, and a clock."""

    def __init__(self, protected: bool = False) -> None:
        self.now = 100
        self.appliance = Recorder(lambda: self.now)
        self.orders = Orders(self.appliance, protected, LONGEST_S)
        self.orders.handle_timer(self.now)
        self.appliance.told.clear()

    def obeys(self, order: bytes) -> bool:
        return self.orders.obey(order, self.now)

    def waits(self, seconds: int) -> None:
        end = self.now + seconds
        while (due := self.orders.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.orders.handle_timer(self.now)
        self.now = end

    def told(self) -> list[tuple[Any, ...]]:
        told, self.appliance.told = self.appliance.told, []
        return told


def test_a_board_that_starts_lets_go() -> None:
    appliance = Recorder(lambda: 0)
    Orders(appliance, False, LONGEST_S).handle_timer(0)
    assert appliance.told == [(0, "limit", None), (0, "on", True), (0, "temperature", None)]


@pytest.mark.parametrize(
    ("order", "told", "ended"),
    [
        (b"limit 500 60", ("limit", 500), ("limit", None)),
        (b"limit 500.5 60", ("limit", 500.5), ("limit", None)),
        (b"limit 0 3600", ("limit", 0), ("limit", None)),
        (b"off 60", ("on", False), ("on", True)),
        (b"set temperature -3.5 60", ("temperature", -3.5), ("temperature", None)),
    ],
)
def test_a_restriction_ends_by_itself(order: bytes, told: tuple[Any, ...], ended: tuple[Any, ...]) -> None:
    desk = Desk()
    assert desk.obeys(order)
    duration_s = int(order.split()[-1])
    assert desk.told() == [(100, *told)]
    desk.waits(duration_s - 1)
    assert desk.told() == []
    desk.waits(1)
    assert desk.told() == [(100 + duration_s, *ended)]
    assert desk.orders.get_timer() is None


def test_a_later_order_replaces_the_earlier_one_and_its_end() -> None:
    desk = Desk()
    desk.obeys(b"limit 500 60")
    desk.waits(30)
    desk.obeys(b"limit 800 60")
    desk.waits(59)
    assert [row[1:] for row in desk.told()] == [("limit", 500), ("limit", 800)]
    desk.waits(1)
    assert desk.told() == [(190, "limit", None)]


def test_the_same_order_again_moves_its_end_and_tells_the_appliance_once() -> None:
    desk = Desk()
    desk.obeys(b"off 60")
    desk.waits(50)
    desk.obeys(b"off 60")
    desk.waits(59)
    assert desk.told() == [(100, "on", False)]
    desk.waits(1)
    assert desk.told() == [(210, "on", True)]


def test_on_ends_off_alone_and_release_ends_everything() -> None:
    desk = Desk()
    for order in (b"off 60", b"limit 500 60", b"set temperature 18 60"):
        assert desk.obeys(order)
    desk.told()
    assert desk.obeys(b"on")
    assert desk.told() == [(100, "on", True)]
    assert desk.obeys(b"release")
    assert desk.told() == [(100, "limit", None), (100, "temperature", None)]
    assert desk.orders.get_timer() is None


def test_protected_appliances_are_never_restricted() -> None:
    desk = Desk(protected=True)
    for order in (b"limit 500 60", b"off 60", b"set temperature 18 60"):
        assert not desk.obeys(order)
    assert desk.obeys(b"on") and desk.obeys(b"release")
    assert desk.told() == []
    assert desk.orders.refused == 3


HOSTILE = [
    b"", b" ", b"limit", b"limit 500", b"off", b"set temperature 18",  # no end
    b"limit 500 0", b"off 0", b"off -1", b"off 3601", b"off 99999999999999999999", b"off inf", b"off nan", b"off 1e3",
    b"off 1_0", b"off 6.0", b"off +60", b"off 0x10", b"off \xd9\xa3", b"off .", b"off 60.", b"off  60", b"off 60 ",
    b"off\t60", b"off 60\n", b"OFF 60", b"off 60 60", b"on 1", b"release all", b"limit -1 60", b"limit nan 60",
    b"limit inf 60", b"limit 1e9 60", b"limit 12345678901 60", b"limit . 60", b"limit 5. 60", b"limit .5 60",
    b"limit 5.5.5 60", b"set power 5 60", b"set on 0 60", b"set limit 5 60", b"set temperature --5 60",
    b"set temperature - 60", b"set temperature x 60", b"\x00", b"\xff\xfe", b"limit \xff 60", b"off 60\x00",
    b"limit 500 60" + b" " * 200, b"9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("order", HOSTILE)
def test_what_is_no_order_changes_nothing(order: bytes) -> None:
    desk = Desk()
    assert not desk.obeys(order)
    assert desk.told() == []
    assert desk.orders.get_timer() is None
    assert desk.orders.refused == 1


words = st.sampled_from(
    [b"limit", b"off", b"on", b"set", b"release", b"temperature", b"60", b"-1", b"1.5", b"nan", b""]
)


@given(st.lists(st.one_of(st.lists(words, max_size=5).map(b" ".join), st.binary(max_size=100)), max_size=8))
def test_whatever_was_ordered_everything_has_ended_after_the_longest_order(payloads: list[bytes]) -> None:
    desk = Desk()
    for payload in payloads:
        desk.obeys(payload)
        desk.waits(7)
    desk.waits(LONGEST_S)
    assert desk.orders.limit_w is None and desk.orders.on
    assert desk.orders.get_timer() is None


def test_an_appliance_that_fails_is_told_again_until_it_has_let_go() -> None:
    desk = Desk()
    desk.obeys(b"limit 500 60")
    desk.obeys(b"off 60")
    desk.told()
    desk.appliance.is_broken = True
    desk.waits(65)
    assert not desk.orders.on and desk.orders.limit_w == 500, "the report says what is, not what was meant"
    assert desk.orders.faults == 12, "each knob, each second"
    desk.appliance.is_broken = False
    desk.waits(1)
    assert desk.told() == [(166, "limit", None), (166, "on", True)]
    assert desk.orders.on and desk.orders.limit_w is None
    assert desk.orders.get_timer() is None


@pytest.mark.parametrize(("word", "value"), [("0", 0), ("500", 500), ("0.5", 0.5), ("123456789", 123456789)])
def test_numbers(word: str, value: float) -> None:
    assert number(word) == value
