"""What a flash says of its own life (JEDEC eMMC 5.1, JESD84-B51 section 7.4: DEVICE_LIFE_TIME_EST_TYP_A and _B)."""

import os
from contextlib import suppress
from pathlib import Path

_SYSFS = Path("/sys/dev/block")
LOOK_EVERY_S = 86_400.0  # its register moves by a step in a year or more


class FlashLife:
    """How much of its life the flash under a folder has used, asked of it once a day."""

    def __init__(self, folder: Path, sysfs: Path = _SYSFS) -> None:
        self._folder = folder
        self._sysfs = sysfs
        self._used: int | None = None
        self._look_at = float("-inf")

    def used_percent(self, now: float) -> int | None:
        """As `life_used_percent` had it within a day. `now`: of a clock that never jumps, seconds."""
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._used = life_used_percent(self._folder, self._sysfs)
        return self._used


def life_used_percent(folder: Path, sysfs: Path = _SYSFS) -> int | None:
    """How much of its life the flash under a folder has used, in steps of ten percent, at most so much; 110: beyond
    it. None where it does not say."""
    with suppress(OSError):
        number = os.stat(folder).st_dev
        return _of_disk((sysfs / f"{os.major(number)}:{os.minor(number)}").resolve())
    return None


def _of_disk(place: Path, depth: int = 4) -> int | None:
    below = [link.resolve() for link in (place / "slaves").glob("*")]  # what an encrypted or a checked one rests on
    if below and depth:
        told = [used for used in (_of_disk(disk, depth - 1) for disk in below) if used is not None]
        return max(told, default=None)
    for device in (place / "device", place.parent / "device"):  # the disk itself, or a partition of it
        used = _worst(device / "life_time")
        if used is not None:
            return used
    return None


def _worst(file: Path) -> int | None:
    """The worse of both kinds of cells. 0: not defined; 1: 0-10 % used, ..., 10: 90-100 %, 11: beyond."""
    try:
        steps = [int(word, 16) for word in file.read_text("ascii").split()]
    except (OSError, ValueError):
        return None
    told = [step for step in steps if 0 < step <= 11]
    return 10 * max(told) if told else None
