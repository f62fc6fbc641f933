"""How packs are made smaller, where a hub is told to. A module of its own: who reads a configuration needs no keys."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hub.wire.uplink.reading import Reading


class PackForm(NamedTuple):
    """What a hub does to make its packs smaller. `time_step_ms`: times are multiples of it."""

    deflate: bool = False
    time_step_ms: int = 1

    def in_steps(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """The readings with their times rounded down, but for those of a series that would fall together: a reading
        stays one of its own wherever readings are told apart by their time."""
        step = self.time_step_ms
        if step <= 1:
            return readings
        places = Counter((reading.client_id, reading.quantity, reading.t_ms // step) for reading in readings)
        return [
            reading._replace(t_ms=reading.t_ms // step * step)
            if places[reading.client_id, reading.quantity, reading.t_ms // step] == 1
            else reading
            for reading in readings
        ]
