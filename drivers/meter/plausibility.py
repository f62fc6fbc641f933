"""Whether what a read-out says can be so. A machine: read-outs and `now` in, what may be believed of them out.

Where a checksum was right, the telegram is believed: what it says was sent so. A register of it that falls, jumps or
reads 0 is told all the same, and marked as implausible (design 3.3, quality bit 2): what happened to the meter is for
the utility to judge, and nothing is smoothed.

Without one (DSMR 2 and 3, many read-outs), a flipped bit is a value like any other. So such a telegram is believed when
it says the same as the one before: the same registers of the same meter, written with as many digits, none of which
fell or rose by more than the connection can draw. One that does not is held until the next one agrees with it, else it
was in doubt: it is counted, it is no reading and it moves no limit. Power that the registers did not count for a minute
is none. Parity is worth little more: it does not see a byte that was lost.
"""

from collections import deque
from statistics import median
from typing import NamedTuple

from drivers.meter.quantities import REGISTERS, Meaning
from drivers.meter.records import CRC, Readout

_DEFAULT_LIMIT_W = 100_000.0  # three phases of 125 A at 253 V: more, and the meter is not connected directly
_MARGIN = 1.25  # fuses carry more than their rating for a while
_SUPPORTED_STEP_W = 1_000.0  # a step of power is believed when the next telegram agrees
_DOUBTFUL_STEP_W = 25_000.0
_WINDOW_S, _WINDOW_SLACK_W = 60.0, 1_500.0
_STEP_V, _STEP_A, _STEP_M3 = 30.0, 40.0, 50.0
_SETTLED_S, _SETTLED_TELEGRAMS = 120.0, 3  # so long at a new level, and it is the register's level
_LONGEST_GAP_S = 7 * 86_400.0


class Judged(NamedTuple):
    """doubt: why nothing of the telegram counts, or "" (then `meaning` is what may be believed of it).
    implausible: registers that fell, jumped or read 0. changed: those for which that has just begun or ended.
    control_w: the household's power for those who limit it, or None."""

    doubt: str
    meaning: Meaning | None
    implausible: frozenset[str]
    changed: frozenset[str]
    control_w: float | None


_HELD = Judged("", None, frozenset(), frozenset(), None)


class _Level:
    """Where a register was, and when."""

    def __init__(self, value: float, now: float | None) -> None:
        self.value = value
        self.at = now
        self.since = now or 0.0
        self.count = 1

    def leads_to(self, value: float, now: float, limit_w: float, step: float) -> bool:
        gap_s = _LONGEST_GAP_S if self.at is None else min(now - self.at, _LONGEST_GAP_S)
        return self.value <= value <= self.value + limit_w * gap_s / 3600 + 2 * step + 2

    def go_on(self, value: float, now: float) -> None:
        self.value, self.at, self.count = value, now, self.count + 1


class Plausibility:
    """One port's. `registers`: what the meter's registers were when the hub last ran, and whose they are."""

    def __init__(self, number: str = "", registers: dict[str, str] | None = None) -> None:
        self.number = number
        self._levels = {name: _Level(float(text), None) for name, text in (registers or {}).items()}
        self._suspects: dict[str, _Level] = {}
        self._trusted: tuple[Meaning, float] | None = None
        self._held: tuple[Meaning, float] | None = None
        self._powers: deque[float] = deque(maxlen=3)
        self._window: deque[tuple[float, float, float]] = deque(maxlen=256)  # when, net energy in Wh, power in W
        self._most_w = 0.0
        self._exports = False  # the meter has a register for power that flows out

    def judge(self, readout: Readout, meaning: Meaning, now: float) -> Judged:
        """What may be believed. `doubt` == "" and `meaning` None: it is too early to tell."""
        meaning = self._mend_power(readout, meaning)
        if readout.check != CRC:
            return self._judge_unchecked(meaning, now)
        power = _power(meaning)
        if power is not None:
            self._most_w = max(self._most_w, abs(power))
        self._trusted, self._held = (meaning, now), None
        return self._accept(meaning, now, power)

    def _mend_power(self, readout: Readout, meaning: Meaning) -> Meaning:
        """A short list may hold the power that flows in, and not the one that flows out (Nordic meters, every other
        telegram): a 0 there may be either, of a meter that has both."""
        codes = {key.partition(":")[2] for key in readout.registers}
        if "2.7.0" in codes:
            self._exports = True
        elif self._exports and "16.7.0" not in codes and meaning.values.get("power") == "0":
            return meaning._replace(values={name: text for name, text in meaning.values.items() if name != "power"})
        return meaning

    # Without a checksum

    def _judge_unchecked(self, meaning: Meaning, now: float) -> Judged:
        reference = self._trusted
        if reference is not None and not self._disagreement(reference, meaning, now):
            return self._accept_unchecked(meaning, now)
        held, self._held = self._held, (meaning, now)
        if held is not None and not self._disagreement(held, meaning, now):
            return self._accept_unchecked(meaning, now)
        if reference is None and held is None:
            return _HELD
        doubt = self._disagreement(reference or held or (meaning, now), meaning, now)
        return Judged(doubt or "it is beyond what the connection can draw", None, frozenset(), frozenset(), None)

    def _accept_unchecked(self, meaning: Meaning, now: float) -> Judged:
        self._trusted, self._held = (meaning, now), None
        power, control_w = _power(meaning), None
        if power is not None and self._contradicts_energy(meaning, power, now):
            meaning = meaning._replace(values={n: t for n, t in meaning.values.items() if n != "power"})
            self._powers.clear()
        elif power is not None:
            limit_w = self._limit_w(meaning)
            self._powers.append(power)
            recent = list(self._powers)[-2:]
            is_steady = abs(recent[0] - recent[-1]) <= max(_SUPPORTED_STEP_W, abs(recent[0]) / 4)
            if abs(power) > limit_w or not is_steady:
                meaning = meaning._replace(values={n: t for n, t in meaning.values.items() if n != "power"})
            middle = median(self._powers) if len(self._powers) == 3 else power
            if abs(middle) <= limit_w and (len(self._powers) == 3 or (len(recent) == 2 and is_steady)):
                control_w = middle
        return self._accept(meaning, now, control_w)

    def _contradicts_energy(self, meaning: Meaning, power: float, now: float) -> bool:
        """Whether the power that was said for a minute is not what the registers counted in it: a bit that is always
        wrong looks steady."""
        if "energy" not in meaning.values:
            return False
        names = [name for name in ("energy", "energy.export") if name in meaning.values]
        net_wh = sum(float(meaning.values[name]) * (1 if name == "energy" else -1) for name in names)
        step_wh = sum(meaning.steps[name] for name in names)
        window = self._window
        window.append((now, net_wh, power))
        while len(window) > 2 and now - window[1][0] >= _WINDOW_S:
            window.popleft()
        span_s = now - window[0][0]
        if span_s < _WINDOW_S:
            return False
        mean_w = (net_wh - window[0][1]) * 3600 / span_s
        slack_w = _WINDOW_SLACK_W + abs(mean_w) + 2 * step_wh * 3600 / span_s
        powers = [one for _, _, one in window]
        return min(powers) > mean_w + slack_w or max(powers) < mean_w - slack_w

    def _disagreement(self, before: tuple[Meaning, float], meaning: Meaning, now: float) -> str:
        """What of a telegram does not fit to an earlier one, in words, or ""."""
        earlier, then = before
        if earlier.number != meaning.number:
            return "another meter's number"
        if earlier.values.keys() != meaning.values.keys() or _keys(earlier) != _keys(meaning):
            return "other registers than before"
        if any(not _is_same_form(text, earlier.digits.get(code, "")) for code, text in meaning.digits.items()):
            return "a digit was lost"
        limit_w = self._limit_w(meaning)
        gap_s = max(0.0, min(now - then, _LONGEST_GAP_S))
        for name, text in meaning.values.items():
            old, new = float(earlier.values[name]), float(text)
            kind = name.partition(".")[0]
            if kind in REGISTERS:
                most = limit_w * gap_s / 3600 + 2 * max(meaning.steps[name], earlier.steps[name]) + 2
                if not old <= new <= old + most:
                    return f"{name} fell" if new < old else f"{name} jumped"
            elif (
                (kind == "power" and abs(new - old) > min(_DOUBTFUL_STEP_W, limit_w))
                or (kind == "voltage" and abs(new - old) > _STEP_V)
                or (kind == "current" and abs(new - old) > _STEP_A)
            ):
                return f"{name} jumped"
        for other, was in zip(meaning.others, earlier.others):
            if not float(was.text) <= float(other.text) <= float(was.text) + _STEP_M3:
                return f"{other.client} jumped"
        return ""

    def _limit_w(self, meaning: Meaning) -> float:
        return (meaning.limit_w or _DEFAULT_LIMIT_W) * _MARGIN if meaning.limit_w else _DEFAULT_LIMIT_W

    # What counts

    def _accept(self, meaning: Meaning, now: float, control_w: float | None) -> Judged:
        if meaning.number and meaning.number != self.number:
            self.number = meaning.number
            self._levels.clear()
            self._suspects.clear()
            self._window.clear()
        limit_w = max(self._limit_w(meaning), 2 * self._most_w)
        implausible, changed = set(), set()
        for name, text in meaning.values.items():
            if name.partition(".")[0] in REGISTERS:
                was = name in self._suspects
                if self._is_implausible(name, float(text), now, limit_w, meaning.steps[name]):
                    implausible.add(name)
                if was != (name in implausible):
                    changed.add(name)
        return Judged("", meaning, frozenset(implausible), frozenset(changed), control_w)

    def _is_implausible(self, name: str, value: float, now: float, limit_w: float, step: float) -> bool:
        level = self._levels.get(name)
        if level is None or level.leads_to(value, now, limit_w, step):
            if level is None:
                self._levels[name] = _Level(value, now)
            else:
                level.go_on(value, now)
            self._suspects.pop(name, None)
            return False
        suspect = self._suspects.get(name)
        if suspect is None or not suspect.leads_to(value, now, limit_w, step):
            self._suspects[name] = _Level(value, now)
            return True
        suspect.go_on(value, now)
        if suspect.count >= _SETTLED_TELEGRAMS and now - suspect.since >= _SETTLED_S:
            self._levels[name] = self._suspects.pop(name)
            return False
        return True


def _power(meaning: Meaning) -> float | None:
    text = meaning.values.get("power")
    return None if text is None else float(text)


def _is_same_form(new: str, old: str) -> bool:
    """Whether two values were written with as many digits: one that lost a byte on its way was not. Values that are
    written without leading zeros may grow."""
    whole, _, fraction = new.partition(".")
    old_whole, _, old_fraction = old.partition(".")
    if len(fraction) != len(old_fraction):
        return False
    is_padded = (len(whole) > 1 and whole[0] == "0") or (len(old_whole) > 1 and old_whole[0] == "0")
    return len(whole) == len(old_whole) or not is_padded


def _keys(meaning: Meaning) -> list[tuple[str, str]]:
    return [(other.client, other.quantity) for other in meaning.others]
