"""What a flash says of its own life (JEDEC eMMC 5.1, JESD84-B51 section 7.4: DEVICE_LIFE_TIME_EST_TYP_A and _B,
PRE_EOL_INFO), and how much of its partition a store may take."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SYSFS = Path("/sys/dev/block")
LOOK_EVERY_S = 86_400.0  # its registers move by a step in a year or more
# PRE_EOL_INFO: how many of the blocks in reserve are used up. 0: not defined.
_PRE_EOL = {1: "normal", 2: "warning", 3: "urgent"}
_MIB = 1 << 20


class FlashWear(NamedTuple):
    """life_used_percent: in steps of ten, at most so much; 110: beyond it. pre_eol: "normal", "warning" (80 % of the
    blocks in reserve are used) or "urgent". None: it does not say."""

    life_used_percent: int | None
    pre_eol: str | None


class FlashLife:
    """How worn the flash under a folder is, asked of it once a day."""

    def __init__(self, folder: Path, sysfs: Path = _SYSFS) -> None:
        self._folder = folder
        self._sysfs = sysfs
        self._wear = FlashWear(None, None)
        self._look_at = float("-inf")

    def wear(self, now: float) -> FlashWear:
        """As it was within a day. `now`: of a clock that never jumps, seconds."""
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._wear = flash_wear(self._folder, self._sysfs)
        return self._wear


def flash_wear(folder: Path, sysfs: Path = _SYSFS) -> FlashWear:
    """What the flash under a folder says of itself; where it rests on several, the worst."""
    try:
        number = os.stat(folder).st_dev
        place = (sysfs / f"{os.major(number)}:{os.minor(number)}").resolve()
    except OSError:
        return FlashWear(None, None)
    life = _of_disk(place, "life_time", _worst_life)
    pre_eol = _of_disk(place, "pre_eol_info", lambda text: int(text, 16) if int(text, 16) in _PRE_EOL else None)
    return FlashWear(life, None if pre_eol is None else _PRE_EOL[pre_eol])


def _of_disk(place: Path, register: str, read: Callable[[str], int | None], depth: int = 4) -> int | None:
    below = [link.resolve() for link in (place / "slaves").glob("*")]  # what an encrypted or a checked one rests on
    if below and depth:
        told = [value for value in (_of_disk(disk, register, read, depth - 1) for disk in below) if value is not None]
        return max(told, default=None)
    for device in (place / "device", place.parent / "device"):  # the disk itself, or a partition of it
        with suppress(OSError, ValueError):
            value = read((device / register).read_text("ascii"))
            if value is not None:
                return value
    return None


def _worst_life(text: str) -> int | None:
    """The worse of both kinds of cells. 0: not defined; 1: 0-10 % used, ..., 10: 90-100 %, 11: beyond."""
    told = [step for step in (int(word, 16) for word in text.split()) if 0 < step <= 11]
    return 10 * max(told) if told else None


def bearable_mb(folder: Path, update_mb: int) -> int | None:
    """How large a store may become on the file system of a folder (or of the nearest that is there), in MiB: what is
    left beside an update of `update_mb` and 5 % for all else, and half of it where that is more. None: not to be
    found out."""
    for place in (folder, *folder.parents):
        with suppress(OSError):
            around = os.statvfs(place)
            total_mb = around.f_blocks * around.f_frsize // _MIB
            return max(1, total_mb - total_mb // 20 - update_mb, total_mb // 2)
    return None
