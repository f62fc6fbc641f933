# SPDX-License-Identifier: GPL-3.0-or-later
"""Readings that wait for the hub: a buffer of fixed size, and the payloads they travel in.

Eleven bytes a reading in blocks that are allocated once: a long outage does not cut a heap of 64 KB to pieces, and
small blocks find room in one that the loading of modules has cut to pieces already.
"""

from struct import pack_into, unpack_from

_LAYOUT = ">HIiB"  # topic id, when (whole seconds), mantissa, decimal places
SIZE = 11
_BLOCK = 16  # readings in a block
_MAX_MANTISSA = 0x7FFFFFFF
_OLDEST_S = 40 * 86400 - 1  # the hub refuses what is older, and with it the whole payload
_MAX_SAMPLES = 64  # in one payload, says the hub


def to_mantissa(value: float, decimals: int) -> int:
    """`value` x 10^`decimals`, rounded; ValueError when it is no number or does not fit."""
    scaled = value * 10**decimals
    if not -_MAX_MANTISSA <= scaled <= _MAX_MANTISSA:  # also false for NaN
        raise ValueError("no reading")
    return int(round(scaled))  # noqa: RUF046 - MicroPython's round() of a float may be a float


def to_text(mantissa: int, decimals: int) -> str:
    """The decimal number, without the detour through a float that may have 24 bits."""
    sign = "-" if mantissa < 0 else ""
    digits = str(abs(mantissa))
    if not decimals:
        return sign + digits
    while len(digits) <= decimals:
        digits = "0" + digits
    return sign + digits[:-decimals] + "." + digits[-decimals:]


def payload_of(records: bytes, now: int) -> bytes:
    """A number for one that was taken now, SECONDS_AGO:VALUE,... otherwise."""
    parts = []
    for at in range(0, len(records), SIZE):
        _, at_s, mantissa, decimals = unpack_from(_LAYOUT, records, at)
        value = to_text(mantissa, decimals)
        if now <= at_s and len(records) == SIZE:
            return value.encode()
        parts.append(f"{max(0, now - at_s)}:{value}")
    return ",".join(parts).encode()


class Ring:
    """The newest readings, oldest first. When it is full the past gets coarser before it gets lost."""

    def __init__(self, capacity: int) -> None:
        self._blocks = [bytearray(_BLOCK * SIZE) for _ in range((capacity + _BLOCK - 1) // _BLOCK)]
        self._capacity = capacity
        self._count = 0
        self.dropped = 0  # readings that made room, or became too old to be told

    def __len__(self) -> int:
        return self._count

    def add(self, topic_id: int, at_s: int, mantissa: int, decimals: int) -> None:
        if self._count == self._capacity:
            self._thin()
        block, at = self._place(self._count)
        pack_into(_LAYOUT, block, at, topic_id, at_s, mantissa, decimals)
        self._count += 1

    def put_back(self, records: bytes) -> None:
        """In front of all others: these were taken first. No more than were taken at a time."""
        count = len(records) // SIZE
        while self._count + count > self._capacity:
            self._thin()
        for index in range(self._count - 1, -1, -1):
            self._move(index, index + count)
        for index in range(count):
            block, at = self._place(index)
            block[at : at + SIZE] = records[index * SIZE : (index + 1) * SIZE]
        self._count += count

    def _place(self, index: int) -> "tuple[bytearray, int]":
        return self._blocks[index // _BLOCK], index % _BLOCK * SIZE

    def _move(self, index: int, to: int) -> None:
        if index != to:
            block, at = self._place(index)
            into, there = self._place(to)
            into[there : there + SIZE] = block[at : at + SIZE]

    def take(self, now: int, size: int) -> "tuple[int, bytes]":
        """Remove the oldest reading and those of its quantity that fit into one payload with it: (topic id, records).

        Only of a ring that is not empty; `bytes` are enough for one reading. Topic id 0: all were too old.
        """
        topic_id = 0
        length = kept = taken = 0
        records = b""
        full = False
        for index in range(self._count):
            block, at = self._place(index)
            record_id, at_s, mantissa, decimals = unpack_from(_LAYOUT, block, at)
            age_s = max(0, now - at_s)
            if age_s > _OLDEST_S:
                self.dropped += 1
                continue
            if not full and record_id == (topic_id or record_id):
                topic_id = record_id
                length += len(f"{age_s}:{to_text(mantissa, decimals)}") + (1 if records else 0)
                full = (length > size and taken > 0) or taken == _MAX_SAMPLES
                if not full:
                    records += bytes(block[at : at + SIZE])
                    taken += 1
                    continue
            self._move(index, kept)
            kept += 1
        self._count = kept
        return topic_id, records

    def _thin(self) -> None:
        """Of the older half, every other reading of each quantity goes; the oldest alone when that frees nothing."""
        drops: dict[int, bool] = {}
        half = (self._count + 1) // 2
        kept = 0
        for index in range(self._count):
            block, at = self._place(index)
            topic_id = block[at] << 8 | block[at + 1]
            drop = index < half and drops.get(topic_id, False)
            drops[topic_id] = not drop
            if not drop:
                self._move(index, kept)
                kept += 1
        if kept == self._count:
            kept -= 1
            for index in range(kept):
                self._move(index + 1, index)
        self.dropped += self._count - kept
        self._count = kept
