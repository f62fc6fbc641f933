# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub's orders: `limit W SECONDS`, `off SECONDS`, `on`, `set QUANTITY VALUE SECONDS`, `release`.

Supply comes first: every restriction ends by itself, whether or not anybody is there to end it; one without an end, or
with an end too far away, is refused; a protected appliance is never restricted; a board that starts lets go of all.
"""

from .appliance import AdapterAppliance

MAX_ORDER_BYTES = 96
_MAX_DIGITS = 9  # of a number: more is nobody's power and nobody's patience
_AGAIN_S = 1  # an appliance that did not do as it was told is told again


class Knob:
    """One thing that an order can change: what was asked for, what the appliance took, and until when."""

    def __init__(self, neutral: "float | bool | None") -> None:
        self.neutral = self.wanted = neutral
        self.until: int | None = None
        self.applied: float | bool | None = neutral
        self.settled = False  # after a reset nobody knows what the hardware remembers

    def turn(self, wanted: "float | bool | None", until: "int | None") -> None:
        self.settled = self.settled and wanted == self.wanted
        self.wanted, self.until = wanted, until

    def release(self) -> None:
        self.turn(self.neutral, None)


class Orders:
    """Obeys. `limit_w` and `on` are what the appliance really took, for the report to the hub."""

    def __init__(self, appliance: AdapterAppliance, protected: bool, longest_s: int) -> None:
        self._appliance, self._protected, self._longest_s = appliance, protected, longest_s
        self._limit = Knob(None)
        self._on = Knob(True)
        self._values = {quantity: Knob(None) for quantity in appliance.SETTABLE}
        self._again_at: int | None = None
        self.refused = 0
        self.faults = 0  # calls that the appliance raised on

    @property
    def limit_w(self) -> "float | None":
        return self._limit.applied

    @property
    def on(self) -> bool:
        return bool(self._on.applied)

    def obey(self, order: bytes, now: int) -> bool:
        """Carry out an order. False: refused, and nothing has changed."""
        try:
            if len(order) > MAX_ORDER_BYTES:
                raise ValueError("too long")
            self._obey(order.decode().split(" "), now)
        except ValueError:  # also what is no UTF-8
            self.refused += 1
            return False
        self._settle(now)
        return True

    def _obey(self, words: "list[str]", now: int) -> None:
        verb, count = words[0], len(words)
        if verb == "release" and count == 1:
            for knob in self._knobs():
                knob.release()
        elif verb == "on" and count == 1:
            self._on.release()
        elif self._protected:
            raise ValueError("protected")
        elif verb == "limit" and count == 3:
            self._limit.turn(number(words[1]), now + self._duration(words[2]))
        elif verb == "off" and count == 2:
            self._on.turn(False, now + self._duration(words[1]))
        elif verb == "set" and count == 4 and words[1] in self._values:
            value = number(words[2][1:]) * -1 if words[2][:1] == "-" else number(words[2])
            self._values[words[1]].turn(value, now + self._duration(words[3]))
        else:
            raise ValueError("not an order")

    def _duration(self, word: str) -> int:
        duration_s = number(word)
        if "." in word or not 0 < duration_s <= self._longest_s:
            raise ValueError("a restriction has an end, and one that is near")
        return int(duration_s)

    def _knobs(self) -> "list[Knob]":
        return [self._limit, self._on] + list(self._values.values())  # noqa: RUF005 - shorter as bytecode

    def get_timer(self) -> "int | None":
        """When the next restriction ends, or a call is to be tried again."""
        dues = [knob.until for knob in self._knobs() if knob.until is not None]
        if self._again_at is not None:
            dues.append(self._again_at)
        return min(dues) if dues else None

    def handle_timer(self, now: int) -> None:
        """Let go of what has ended."""
        for knob in self._knobs():
            if knob.until is not None and knob.until <= now:
                knob.release()
        self._settle(now)

    def _settle(self, now: int) -> None:
        """Tell the appliance what it was not told yet; each knob by itself, so that one fault holds up no other."""
        self._again_at = None
        self._tell(self._limit, self._appliance.set_limit, now)
        self._tell(self._on, self._appliance.set_on, now)
        for quantity, knob in self._values.items():
            self._tell(knob, lambda value, quantity=quantity: self._appliance.set_value(quantity, value), now)

    def _tell(self, knob: Knob, call: object, now: int) -> None:
        if knob.settled:
            return
        try:
            call(knob.wanted)  # type: ignore[operator]
            knob.applied = knob.wanted
            knob.settled = True
        except Exception:
            # Whatever it was: an adapter that stops here holds a load for ever.
            self.faults += 1
            self._again_at = now + _AGAIN_S


def number(word: str) -> float:
    """Digits, perhaps with a fraction; float() alone would take `inf`, `nan`, `1e9` and `1_0`."""
    whole, _, fraction = word.partition(".")
    digits = whole + fraction
    if not whole or len(digits) > _MAX_DIGITS or ("." in word and not fraction):
        raise ValueError("not a number")
    for digit in digits:
        if digit not in "0123456789":
            raise ValueError("not a number")
    return float(word) if fraction else int(whole)
