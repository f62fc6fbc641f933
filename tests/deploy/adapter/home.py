# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter and the real gateway machine on one virtual clock, and a link between them that can be cut.

The appliance draws as many watts as its clock shows seconds: a sample is in the right place when its value is its time.
"""

import math
import random
from collections.abc import Callable
from typing import Any

from deploy.adapter.adapter import Adapter
from deploy.adapter.appliance import POWER, AdapterAppliance
from hub.wire.mqttsn import messages
from tests.hub.core.gateway.playbook import ModelStore, Playbook

CLIENT = "heater"
LINK_BYTES = 60


class Recorder(AdapterAppliance):
    """Remembers what it was told; can be broken."""

    SETTABLE = ("temperature",)

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.told: list[tuple[Any, ...]] = []
        self.is_broken = False

    def power_w(self) -> float:
        return self.clock()

    def energy_wh(self) -> float:
        return 7

    def measure(self) -> tuple[tuple[int, float, int], ...]:
        if self.is_broken:
            raise OSError("no answer from the meter chip")
        return super().measure()

    def set_limit(self, limit_w: float | None) -> None:
        self._tell("limit", limit_w)

    def set_on(self, on: bool) -> None:
        self._tell("on", on)

    def set_value(self, quantity: str, value: float | None) -> None:
        self._tell(quantity, value)

    def _tell(self, *what: Any) -> None:
        if self.is_broken:
            raise OSError("the relay does not answer")
        self.told.append((self.clock(), *what))


class Home:
    """`waits` lets time pass; every timer of either side fires at its own (whole) second."""

    def __init__(self, seed: int = 1, book: Playbook | None = None, **settings: Any) -> None:
        self.book = book or Playbook(max_bytes={"udp": LINK_BYTES})
        self.is_cut = False
        self.loses: Callable[[str, messages.Message], bool] = lambda side, message: False
        self.said: list[tuple[int, messages.Message]] = []  # by the adapter, lost or not
        self.appliance = Recorder(lambda: self.now)
        self.adapter = Adapter(CLIENT, self.appliance, random.Random(seed).getrandbits, **settings)
        self.adapter.start(self.now)

    @property
    def now(self) -> int:
        return int(self.book.now)

    @property
    def store(self) -> ModelStore:
        return self.book.store

    def waits(self, seconds: int) -> "Home":
        end = self.now + seconds
        while True:
            self._exchange()
            dues = [due for due in (self.adapter.get_timer(), self._gateway_due()) if due is not None]
            if not dues or min(dues) > end:
                break
            due = max(self.now, math.ceil(min(dues)))
            self._moves_to(due)
            self._handle_adapter(due)
        self._moves_to(end)
        self._exchange()
        return self

    def _gateway_due(self) -> float | None:
        return None if self.is_cut else self.book.gateway.get_timer()

    def _moves_to(self, now: int) -> None:
        if self.is_cut:
            self.book.now = now
        else:
            self.book.waits(now - self.book.now)

    def _handle_adapter(self, now: int) -> None:
        timer = self.adapter.get_timer()
        assert timer is None or type(timer) is int, "a time that boards with short floats lose"
        if timer is not None and timer <= now:
            self.adapter.handle_timer(now)
            after = self.adapter.get_timer()
            assert after is None or after > now, "a timer that fires for ever"

    def _exchange(self) -> None:
        while True:
            for datagram in self.adapter.datagrams_to_send():
                assert len(datagram) <= LINK_BYTES
                message = messages.decode(datagram)
                self.said.append((self.now, message))
                if not self.is_cut and not self.loses("adapter", message):
                    self.book.hears("a", datagram)
            answers, self.book.out = self.book.out, []
            if not answers:
                return
            for _, message in answers:
                if not self.is_cut and not self.loses("hub", message):
                    self.adapter.receive_datagram(message.encode(), self.now)

    def orders(self, order: str) -> "Home":
        """The hub's control publishes it."""
        self.book.publishes(f"control/{CLIENT}", order.encode())
        self._exchange()
        return self

    def dies(self) -> "Home":
        """The hub, or the way to it, is gone."""
        self.is_cut = True
        self.book.out.clear()
        return self

    def returns(self) -> "Home":
        """A hub that started again, with what its store kept."""
        self.is_cut = False
        self.book.restarts()
        return self

    def publishes_of(self, topic_id: int) -> list[tuple[int, bytes]]:
        found = [(at, message) for at, message in self.said if isinstance(message, messages.Publish)]
        return [(at, message.data) for at, message in found if message.topic_id == topic_id]

    def told_since(self, at: int) -> list[tuple[Any, ...]]:
        return [told for told in self.appliance.told if told[0] >= at]

    def misplaced_by_s(self) -> float:
        """How far the worst sample of power is from when it was taken."""
        return max(abs(s.sampled_s - s.mantissa) for s in self.store.samples if s.quantity == "power")


def heard(count: int = 30, **settings: Any) -> Home:
    """A home in which the adapter has been connected for a while."""
    home = Home(**settings).waits(count)
    assert home.book.state(CLIENT) in ("active", "asleep")
    return home


__all__ = ["CLIENT", "LINK_BYTES", "POWER", "Home", "Recorder", "heard"]
