"""Whether the network is on a channel that something else has taken for good, and where it had better be. No I/O."""

# A network that comes to stay: Wi-Fi's channels 1, 6 and 11 leave these (IEEE 802.15.4 channels in 2.4 GHz).
CANDIDATES = (11, 15, 20, 25)
# How loud, of 255, is loud; how much quieter another has to be; and how many surveys in a row have to say so. A move
# costs every battery device a search: nobody is moved for a neighbour's film evening.
LOUD, QUIETER_BY, SURVEYS = 170.0, 60.0, 3
PERIOD_S = 24 * 3600.0


def quietest(energies: dict[int, float], ours: int) -> int:
    """The candidate with the least energy, other than ours. Raises ValueError where none was listened to."""
    return min((channel for channel in CANDIDATES if channel != ours and channel in energies), key=energies.__getitem__)


class ChannelSurvey:
    """Takes what is heard, once a day, and says where to move."""

    def __init__(self) -> None:
        self._loud: list[int] = []

    def take(self, energies: dict[int, float], ours: int) -> int | None:
        """`energies`: 0 to 255 by channel. The channel to move to; None: stay."""
        try:
            best = quietest(energies, ours)
        except ValueError:
            return None
        is_loud = energies.get(ours, 0.0) >= LOUD and energies[best] <= energies[ours] - QUIETER_BY
        self._loud = [*self._loud, best] if is_loud else []
        if len(self._loud) < SURVEYS:
            return None
        self._loud = []
        return best
