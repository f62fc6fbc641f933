"""What becomes of what was heard: readings, events, the household's power, figures. A machine: what the framers found
and `now` in; what the port is to do out."""

from collections import deque
from typing import Any, NamedTuple

from drivers.meter.happenings import Event, Memory
from drivers.meter.list_scales import ListScales
from drivers.meter.plausibility import Plausibility
from drivers.meter.quantities import REGISTERS, Meaning, decimal_text, meaning_of
from drivers.meter.records import Bad, Found, Readout, Unreadable
from drivers.meter.sampling import Sampling
from hub.wire.uplink.reading import unit_of

METER = "meter"
IMPLAUSIBLE = 4  # a pack's quality bit 2 (design 3.3)
_JUDGED = 200  # telegrams of which the share of bad ones is told
_ENOUGH = 20
_MAX_SHARE = 0.05
_UNSTAMPED_EVERY_S = 300.0  # a value of another meter that has no time of its own
_RAW_BYTES = 4_096
_NOTHING_KNOWN = "whole telegrams, and no register in them that is known"  # a heat meter, say


class MeterReading(NamedTuple):
    """A value to take into custody. text: a decimal number, or `SECONDS_AGO:NUMBER`; flags as in a pack."""

    client: str
    quantity: str
    text: str
    flags: int


class Outcome(NamedTuple):
    """readings and events, in order; control_w: the household's power now, where it is known; is_heard: a telegram was
    believed, or is about to be; unreadable: why one cannot be read."""

    readings: list[MeterReading]
    events: list[Event]
    control_w: float | None
    is_heard: bool
    unreadable: str


class MeterReader:
    """One meter, as far as its telegrams tell."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.counters = {"telegrams": 0, "bad": 0, "doubtful": 0}
        self.ident = self.protocol = self.last_fault = ""
        self._plausibility = Plausibility(memory.number, memory.registers)
        self._scales = ListScales(memory.number, memory.wh_exponent)
        self._sampling = Sampling()
        self._others: dict[tuple[str, str], tuple[str, float]] = {}
        self._verdicts: deque[bool] = deque(maxlen=_JUDGED)
        self._last: Readout | None = None
        self._raw = b""
        self._meaning: Meaning | None = None

    def take(self, item: Found, now: float) -> Outcome:
        """What one telegram leads to. Never raises."""
        self._raw = item.raw[:_RAW_BYTES] or self._raw
        if isinstance(item, Unreadable):
            self.protocol = item.protocol
            return Outcome([], [], None, False, item.reason)
        if isinstance(item, Bad):
            return self._fault("bad", item.reason)
        item = self._scales.settle(item, now)
        self.memory.wh_exponent = self._scales.wh_exponent
        meaning = meaning_of(item)
        if not meaning.values and not meaning.others:
            self.ident, self.protocol = item.ident or self.ident, item.protocol
            return Outcome([], [], None, False, _NOTHING_KNOWN)
        judged = self._plausibility.judge(item, meaning, now)
        if judged.doubt:
            return self._fault("doubtful", judged.doubt)
        if judged.meaning is None:
            return Outcome([], [], None, True, "")
        self.counters["telegrams"] += 1
        self._verdicts.append(True)
        meaning = judged.meaning
        self._last, self._meaning = item, meaning
        self.ident, self.protocol = item.ident or self.ident, item.protocol
        registers = {
            name: text
            for name, text in meaning.values.items()
            if name.partition(".")[0] in REGISTERS and name not in judged.implausible
        }
        events = self.memory.take(meaning, registers)
        if any(event == "meter.replaced" for event, _ in events):
            self._sampling, self._others = Sampling(), {}
        chosen = self._sampling.choose(meaning.values, now, judged.changed)
        readings = [
            MeterReading(METER, quantity, text, IMPLAUSIBLE if quantity in judged.implausible else 0)
            for quantity, text in chosen.items()
        ]
        return Outcome(readings + self._passed_on(meaning, now), events, judged.control_w, True, "")

    def _fault(self, counter: str, reason: str) -> Outcome:
        self.counters[counter] += 1
        self.last_fault = reason
        self._verdicts.append(False)
        return Outcome([], [], None, False, "")

    def _passed_on(self, meaning: Meaning, now: float) -> list[MeterReading]:
        """Other meters' values: each once, by its own time stamp."""
        readings = []
        for other in meaning.others:
            told = self._others.get((other.client, other.quantity))
            if told is not None and (told[0] == other.at if other.at else now - told[1] < _UNSTAMPED_EVERY_S):
                continue
            self._others[other.client, other.quantity] = other.at, now
            text = other.text if other.ago_s is None else f"{other.ago_s}:{other.text}"
            readings.append(MeterReading(other.client, other.quantity, text, 0))
        return readings

    def bad_share(self) -> float | None:
        """Of the last telegrams, how many could not be believed (0 to 1); None: too few yet."""
        count = len(self._verdicts)
        return None if count < _ENOUGH else self._verdicts.count(False) / count

    def is_garbled(self) -> bool:
        share = self.bad_share()
        return share is not None and share > _MAX_SHARE

    def figures(self) -> dict[str, Any]:
        """For `meterhub status`, and so for support bundles: nothing of what the household uses, no number."""
        share = self.bad_share()
        return {
            "ident": self.ident,
            **self.counters,
            "bad_share": None if share is None else round(share, 3),
            "last_fault": self.last_fault,
            "withheld": dict(self._scales.withheld),
        }

    def details(self) -> dict[str, Any]:
        """For `meterhub meter`, in front of the meter: all that it says."""
        meaning, last = self._meaning, self._last
        return {
            "number": self.memory.number,
            "check": "" if last is None else last.check,
            "quantities": {} if meaning is None else meaning.values,
            "units": {} if meaning is None else {name: unit_of(name) for name in meaning.values},
            "others": [] if meaning is None else [
                {**other._asdict(), "unit": unit_of(other.quantity)} for other in meaning.others
            ],
            "registers": {} if last is None else {
                code: {"value": decimal_text(register.mantissa, register.exponent), "unit": register.unit}
                for code, register in last.registers.items()
            },
            "counts": {} if meaning is None else meaning.counts,
            "raw": self._raw.decode("latin-1") if _is_text(self._raw) else self._raw.hex(),
        }  # fmt: skip


def _is_text(raw: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\r\n\t\x02\x03" for byte in raw)
