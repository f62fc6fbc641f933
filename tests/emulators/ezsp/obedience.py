# SPDX-License-Identifier: GPL-3.0-or-later
"""How an appliance adapter obeys the hub: every restriction carries its own end, and the adapter lets go by itself."""

from __future__ import annotations

from ..appliances import Appliance


class Obedience:
    """The commands of `control/{me}`: `limit W SECONDS`, `off SECONDS`, `on`, `release`.

    A restriction ends when its time is up, whoever is or is not there. Time is in monotonic seconds.
    """

    def __init__(self, appliance: Appliance) -> None:
        self.appliance = appliance
        self.limit_until: float | None = None
        self.off_until: float | None = None
        self.refused = 0

    def obey(self, command: bytes, now: float) -> bool:
        """Carry out one command. False: not understood, or the appliance is protected; nothing was changed."""
        words = command.split()
        done = False
        if not self.appliance.protected:
            try:
                done = self._obey(words, now)
            except ValueError:
                done = False
        self.refused += not done
        return done

    def _obey(self, words: list[bytes], now: float) -> bool:
        match words:
            case [b"limit", watts, seconds]:
                limit_w, duration_s = float(watts), _duration(seconds)
                self.appliance.set_limit_w(limit_w, now)
                self.limit_until = now + duration_s
            case [b"off", seconds]:
                self.off_until = now + _duration(seconds)
                self.appliance.set_supply(False, now)
            case [b"on"]:
                self._end_off(now)
            case [b"release"]:
                self._end_off(now)
                self._end_limit(now)
            case _:
                return False
        return True

    def _end_off(self, now: float) -> None:
        self.off_until = None
        self.appliance.set_supply(True, now)

    def _end_limit(self, now: float) -> None:
        self.limit_until = None
        self.appliance.set_limit_w(None, now)

    def get_timer(self) -> float | None:
        """When the next restriction ends, or None."""
        return min((at for at in (self.limit_until, self.off_until) if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Let go of what has ended, at the moment it ended."""
        if self.off_until is not None and now >= self.off_until:
            self._end_off(self.off_until)
        if self.limit_until is not None and now >= self.limit_until:
            self._end_limit(self.limit_until)


def _duration(text: bytes) -> float:
    """Seconds, more than none and not for ever. Raises ValueError."""
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(f"a restriction lasts more than 0 and less than 1e6 seconds, not {seconds}")
    return seconds
