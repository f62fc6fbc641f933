"""What one row of the log holds: the samples and seen entries of a group of batches, in few bytes. No I/O, no clock.

body = CRC-32 (4 bytes, big-endian) + CBOR `[samples, seen]`, both flat lists of integers:
samples = `[series, ago_ms, mantissa, ...]`, ago_ms before the row's mono_ms;
seen = `[client * 4 + qos, msg_id, digest, ...]`.
Series (client, quantity, exponent) and clients are small numbers out of `Names`. A reading costs 5-10 bytes, a seen
entry 9-11. The CRC is there because SQLite does not notice a flipped bit inside a blob, and this is billing data.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cbor2

from hub.core.records import Batch, Seen
from hub.wire.uplink.reading import THINNED, Reading
from store.columns import UNTHINNED, Point, Thinned, decode_dense, is_dense
from store.errors import StoreCorrupt, TooManyNames

SeriesKey = tuple[str, str, int]

# A home has some hundred series and at most 5000 clients. A device that invents names must fill neither the memory of
# the hub nor, through the table, that of its next start.
MAX_NAMES = 16_384


# A series whose readings have flags of their own keeps them above its exponent, which is -18 to 0.
_FLAGS_SHIFT = 8


def _split(key: SeriesKey) -> tuple[str, str, int, int]:
    """(client, quantity, exponent, flags)."""
    client_id, quantity, exponent = key
    flags = (exponent + 128) >> _FLAGS_SHIFT
    return client_id, quantity, exponent - (flags << _FLAGS_SHIFT), flags


class LogRow(NamedTuple):
    """A row decoded. `dropped`: how many samples of which (client, quantity) were thinned out of it, on a grid of
    `resolution_s`; {} and 0 in most."""

    readings: list[Reading]
    dropped: dict[tuple[str, str], int]
    resolution_s: int


class Names:
    """The small numbers of series and clients. New ones stay in `unsaved_*` until a transaction that holds them is
    through, so a rolled-back transaction costs nothing."""

    def __init__(self, series: Iterable[tuple[int, str, str, int]], clients: Iterable[tuple[int, str]]) -> None:
        self.series: dict[SeriesKey, int] = {}
        self.clients: dict[str, int] = {}
        self.series_by_id: dict[int, SeriesKey] = {}
        self.client_by_id: dict[int, str] = {}
        for number, client_id, quantity, exponent in series:
            self.series[client_id, quantity, exponent] = number
            self.series_by_id[number] = (client_id, quantity, exponent)
        for number, client_id in clients:
            self.clients[client_id] = number
            self.client_by_id[number] = client_id
        self._next_series = max(self.series_by_id, default=-1) + 1
        self._next_client = max(self.client_by_id, default=-1) + 1
        self.unsaved_series: list[tuple[int, str, str, int]] = []
        self.unsaved_clients: list[tuple[int, str]] = []

    def add_series(self, key: SeriesKey) -> int:
        """Give a series its number. Raises TooManyNames."""
        if len(self.series) >= MAX_NAMES:
            raise TooManyNames(f"{MAX_NAMES} series are known already")
        number = self._next_series
        self._next_series += 1
        self.series[key] = number
        self.series_by_id[number] = key
        self.unsaved_series.append((number, *key))
        return number

    def add_client(self, client_id: str) -> int:
        """Give a client its number. Raises TooManyNames."""
        if len(self.clients) >= MAX_NAMES:
            raise TooManyNames(f"{MAX_NAMES} clients are known already")
        number = self._next_client
        self._next_client += 1
        self.clients[client_id] = number
        self.client_by_id[number] = client_id
        self.unsaved_clients.append((number, client_id))
        return number

    def keep(self, series: set[int], clients: set[int]) -> tuple[list[tuple[int]], list[tuple[int]]]:
        """Forget all but these numbers, and whatever is not saved yet; the rows to drop."""
        old_series, old_clients = set(self.series_by_id) - series, set(self.client_by_id) - clients
        for number in old_series:
            del self.series[self.series_by_id.pop(number)]
        for number in old_clients:
            del self.clients[self.client_by_id.pop(number)]
        self.saved()
        return [(number,) for number in old_series], [(number,) for number in old_clients]

    def saved(self) -> None:
        """The new ones are durable."""
        self.unsaved_series.clear()
        self.unsaved_clients.clear()


def encode_body(names: Names, mono_ms: int, batches: Iterable[Batch]) -> tuple[int, bytes]:
    """Encode the samples and seen entries of a group; return `(number of samples, body)`. Raises TooManyNames.

    Runs tens of thousands of times a second on a small processor: hence the plain loops.
    """
    samples: list[int] = []
    seen: list[int] = []
    series, clients = names.series, names.clients
    for batch in batches:
        sampled_at, ago_ms = -1.0, 0
        for client_id, quantity, sampled_s, mantissa, exponent, flags in batch.samples:
            if flags:  # few are: a series of their own, so that all others cost no byte more
                exponent += flags << _FLAGS_SHIFT
            number = series.get((client_id, quantity, exponent))
            if number is None:
                number = names.add_series((client_id, quantity, exponent))
            if sampled_s != sampled_at:  # most of a batch was sampled when it came
                sampled_at, ago_ms = sampled_s, mono_ms - int(sampled_s * 1000 + 0.5)
            samples += (number, ago_ms, mantissa)
        for client_id, msg_id, digest, qos in batch.seen:
            number = clients.get(client_id)
            if number is None:
                number = names.add_client(client_id)
            seen += (number * 4 + qos, msg_id, digest)
    data = cbor2.dumps([samples, seen])
    return len(samples) // 3, zlib.crc32(data).to_bytes(4, "big") + data


def _load(mono_ms: int, body: bytes) -> tuple[list[int], list[int]]:
    """Both lists of a row that is not dense. What else a damaged cell may hold is as good as a wrong checksum, which
    also vouches for the CBOR: so nothing is looked at twice, a million rows at a time."""
    try:
        data = body[4:]
        if zlib.crc32(data).to_bytes(4, "big") == body[:4] and type(mono_ms) is int:
            samples, seen = cbor2.loads(data)
            return samples, seen
    except (TypeError, ValueError, cbor2.CBORError) as error:
        raise StoreCorrupt(f"a row of the log does not read: {error}") from None
    raise StoreCorrupt("a row of the log fails its checksum")


def decode_points(mono_ms: int, body: bytes) -> tuple[list[Point], Thinned]:
    """The samples of a row of either form, in order, their series as numbers. Raises StoreCorrupt when it is not what
    was written."""
    if is_dense(body):
        return decode_dense(mono_ms, body)
    flat = iter(_load(mono_ms, body)[0])
    return [Point(number, mono_ms - ago_ms, mantissa) for number, ago_ms, mantissa in zip(flat, flat, flat)], UNTHINNED


def decode_row(names: Names, mono_ms: int, body: bytes, offset_ms: int = 0, flags: int = 0) -> LogRow:
    """A row of either form as readings: `offset_ms` is UTC - monotonic, `flags` are every reading's. Raises
    StoreCorrupt when it is not what was written."""
    by_id = names.series_by_id
    try:
        if is_dense(body):
            return _decode_dense(by_id, *decode_dense(mono_ms, body), offset_ms, flags)
        flat = _load(mono_ms, body)[0]
        taken_ms = mono_ms + offset_ms
        if len(flat) == 3:  # most rows of most homes
            number, ago_ms, mantissa = flat
            client_id, quantity, exponent, own = _split(by_id[number])
            return LogRow([Reading(client_id, quantity, taken_ms - ago_ms, mantissa, exponent, flags | own)], {}, 0)
        readings = []
        numbers = iter(flat)
        for number, ago_ms, mantissa in zip(numbers, numbers, numbers):
            client_id, quantity, exponent, own = _split(by_id[number])
            readings.append(Reading(client_id, quantity, taken_ms - ago_ms, mantissa, exponent, flags | own))
        return LogRow(readings, {}, 0)
    except KeyError as missing:
        raise StoreCorrupt(f"series {missing} has no name") from None


def _decode_dense(
    by_id: dict[int, SeriesKey], points: list[Point], thinned: Thinned, offset_ms: int, flags: int
) -> LogRow:
    dropped: dict[tuple[str, str], int] = {}
    for number, count in thinned.dropped.items():
        series = by_id[number][:2]
        dropped[series] = dropped.get(series, 0) + count
    readings = []
    for number, at_ms, mantissa in points:
        client_id, quantity, exponent, more = _split(by_id[number])
        if dropped and (client_id, quantity) in dropped:
            more |= THINNED
        readings.append(Reading(client_id, quantity, at_ms + offset_ms, mantissa, exponent, flags | more))
    return LogRow(readings, dropped, thinned.resolution_s)


def seen_of(body: bytes) -> Iterator[tuple[int, int, int]]:
    """The seen entries of a row as numbers: `(client * 4 + qos, msg_id, digest)`. Raises StoreCorrupt."""
    flat = iter(() if is_dense(body) else _load(0, body)[1])
    return zip(flat, flat, flat)


def decode_seen(names: Names, body: bytes) -> Iterator[Seen]:
    """The seen entries of a row, in order (a dense row has none). Raises StoreCorrupt when it is not what was
    written."""
    for head, msg_id, digest in seen_of(body):
        client_id = names.client_by_id.get(head >> 2)
        if client_id is None:
            raise StoreCorrupt(f"client {head >> 2} has no name")
        yield Seen(client_id, msg_id, digest, head & 3)
