"""Do a device's power, voltages and currents fit one another? What no single value shows, several of one moment do.

Where they do not fit, some scale is another; which, nobody can tell: none is given. No I/O.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from drivers.zigbee.channel import SPEAKS_S, Channel
from drivers.zigbee.exceptions import Pair
from hub.wire.zigbee import zcl

_PHASES = ("", ".b", ".c")
# Power over voltage times current lies between these whatever the load; a scale that is a hundred off does not. On one
# phase nothing of some size has so low a power factor; the sum of three may be small because one of them gives back.
_LEAST_RATIO, _MOST_RATIO = Fraction(1, 80), Fraction(8)
_LEAST_OF_ONE_PHASE, _SOME_SIZE_VA = Fraction(1, 10), 100
# Which of two scales: then the ratio must be an ordinary one, and enough power must flow for it to mean something. More
# power than voltage times current means that not all phases are known.
_ORDINARY = (Fraction(1, 5), Fraction(5, 4))
_JUDGED_FROM_W, _CHOSEN_FROM_W = 10, 50
# Values of the same moment: one report's frames, one round of questions.
_TOGETHER_S = 20.0
_CONVINCED_BY = 3


class Contradictions:
    """Of one device. `contradicted`: quantities found not to fit the others.

    What judges says whether it found anything new. `here`: the channels of the endpoint.
    """

    def __init__(self) -> None:
        self.contradicted: set[str] = set()
        self._latest: dict[tuple[str, int], tuple[Fraction, float]] = {}  # (base, endpoint): value, when
        self._counts: dict[tuple[str, int], tuple[zcl.Number, float]] = {}  # currents before their scale
        self._verdicts: dict[str, int] = {}  # quantity: how often in a row it was judged otherwise
        self._borne_out: set[int] = set()  # endpoints whose power, voltage and current fit one another

    def note(self, base: str, endpoint: int, value: Fraction, now: float) -> None:
        """A value that could be, in the hub's unit: others are judged by it, believed or not."""
        self._latest[base, endpoint] = (value, now)

    def note_current(self, base: str, endpoint: int, raw: zcl.Number, now: float) -> None:
        """A current as the device gave it, before its scale."""
        self._counts[base, endpoint] = (raw, now)

    def carries_current(self, voltage: str, endpoint: int) -> bool:
        """Whether amperes flow on the phase of this voltage."""
        counts = self._counts.get((voltage.replace("voltage", "current", 1), endpoint))
        return counts is not None and bool(counts[0])

    def holds_against(self, channel: Channel, channels: Iterable[Channel]) -> bool:
        """Whether a value was found not to fit the others; or a sibling's was, and nothing bears this endpoint out."""
        if channel.quantity in self.contradicted:
            return True
        if channel.base not in ("current", "voltage") or channel.place.endpoint in self._borne_out:
            return False
        return any(other.base == channel.base and other.quantity in self.contradicted for other in channels)

    def judge(
        self, endpoint: int, here: Sequence[Channel], factor: Fraction, now: float, *, at_once: bool = False
    ) -> bool:
        """Judge an endpoint's currents, whose scale is `factor`, and its voltage by its power."""
        power, apparent, phases = self._powers(endpoint, factor, now)
        if not apparent or power < _JUDGED_FROM_W:
            return False
        least = _LEAST_OF_ONE_PHASE if phases == 1 and apparent >= _SOME_SIZE_VA else _LEAST_RATIO
        fits = least <= power / apparent <= _MOST_RATIO
        (self._borne_out.add if fits else self._borne_out.discard)(endpoint)
        judged = [channel for channel in here if channel.base.startswith("current")]
        judged += [channel for channel in here if channel.base == "voltage" and channel.is_there]
        is_new = False
        for quantity in (channel.quantity for channel in judged):
            if fits != (quantity in self.contradicted):
                self._verdicts[quantity] = 0
                continue
            self._verdicts[quantity] = self._verdicts.get(quantity, 0) + 1
            if at_once or self._verdicts[quantity] >= _CONVINCED_BY:
                self._verdicts[quantity] = 0
                (self.contradicted.discard if fits else self.contradicted.add)(quantity)
                is_new = True
        return is_new

    def fitting(self, endpoint: int, pairs: Iterable[Pair], now: float) -> Pair | None:
        """Of several scales that the currents may have, the one that fits the power."""
        fitting = []
        for pair in pairs:
            power, apparent, _ = self._powers(endpoint, Fraction(*pair), now)
            if apparent and power >= _CHOSEN_FROM_W and _ORDINARY[0] <= power / apparent <= _ORDINARY[1]:
                fitting.append(pair)
        return fitting[0] if len(fitting) == 1 else None

    def judge_phases(self, endpoint: int, here: Sequence[Channel], *, at_once: bool = False) -> bool:
        """Where a phase carries a current and shows no volts, the supply has three wires: what the others show is the
        voltage between two of them, and no phase's. It stays so."""
        zeroes = [
            phase
            for phase in _PHASES[1:]
            if self._latest.get((f"voltage{phase}", endpoint), (None,))[0] == 0
            and self.carries_current(f"voltage{phase}", endpoint)
        ]
        is_new = False
        for channel in here:
            if channel.base not in ("voltage.b", "voltage.c"):
                continue
            verdicts = f"{channel.quantity} of three wires"
            self._verdicts[verdicts] = self._verdicts.get(verdicts, 0) + 1 if zeroes else 0
            is_proved = bool(zeroes) and (at_once or self._verdicts[verdicts] >= _CONVINCED_BY)
            if is_proved and channel.quantity not in self.contradicted:
                self.contradicted.add(channel.quantity)
                is_new = True
        return is_new

    def _powers(self, endpoint: int, factor: Fraction, now: float) -> tuple[Fraction, Fraction, int]:
        """Power, and the sum of voltage times current over so many phases, all of this moment; 0 where not known."""
        power = self._of_now("power", endpoint, now)
        phases = [self._of_now(f"power{phase}", endpoint, now) for phase in _PHASES[1:]]
        if power is None:
            return Fraction(0), Fraction(0), 0
        if ("power.a", endpoint) not in self._latest:  # `power` is one phase of three, where there are three
            power += sum((phase for phase in phases if phase is not None), Fraction(0))
        apparent, known = Fraction(0), 0
        for phase in _PHASES:
            counts = self._counts.get((f"current{phase}", endpoint))
            volts = self._of_now(f"voltage{phase}", endpoint, now) or self._of_now("voltage", endpoint, now)
            if counts is not None and volts and now - counts[1] <= _TOGETHER_S:
                raw: Fraction = Fraction(counts[0])
                apparent += abs(raw) * factor * volts
                known += 1
        return abs(power), apparent, known

    def _of_now(self, base: str, endpoint: int, now: float) -> Fraction | None:
        value, at = self._latest.get((base, endpoint), (None, float("-inf")))
        # A voltage hardly moves; the others must be of one moment.
        return value if now - at <= (SPEAKS_S if base.startswith("voltage") else _TOGETHER_S) else None
