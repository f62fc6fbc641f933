"""Packs: many readings as one CBOR map, columnar and delta-coded (design 3.3, content type below).

`{0: 1, 1: t0, 2: [series, ...]}`, series = `[client, quantity, exponent, [dt, ...], [v, ...]]` and a sixth element for
quality flags where there are any. t0 and dt in milliseconds; dt and v each relative to the one before.

A hub that is told to (`uplink.deflate`) deflates a pack where that makes it smaller (RFC 1951, no zlib header) and says
so in the envelope's protected header: `-65538: "deflate"`. Without it a pack is as above. The milliseconds of when a
reading came are noise that nothing makes small: `uplink.time_step_ms` leaves them out.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from hub.wire.printable import quoted
from hub.wire.uplink.cbor import BadCbor, decode, encode
from hub.wire.uplink.envelope import DEFLATED
from hub.wire.uplink.reading import Reading

CONTENT_TYPE = "application/vnd.meterhub.pack+cbor"
VERSION = 1

_DEFLATE = "deflate"
_FIELD_BYTES = 13
_DEPTH = 4
# A DLMS scaler's (int8), the widest that a meter has: a larger power of ten would be a number of that many digits.
_EXPONENTS = range(-128, 128)
_FURTHEST_MS = 1 << 53  # no clock shows more; so much stays a time when half-hours around it are reckoned
MAX_PACK_BYTES = 4 << 20  # what a pack may inflate to: some twenty times what a hub seals

# One series mixes exponents ("230" beside "230.1") only while that costs few digits.
_MAX_EXPONENT_SPREAD = 3
_SHARED_BELOW = 10**15  # and while differences stay integers of 64 bits


class BadPack(ValueError):
    """The bytes are not a pack of version 1."""


def encode_pack(readings: Sequence[Reading]) -> bytes:
    """Encode readings, in their order, as a pack; the first reading's time is t0. Raises ValueError when empty."""
    if not readings:
        raise ValueError("a pack holds at least one reading")
    t0 = readings[0].t_ms
    # One column pair per series; dicts keep the order of first appearance, which the contract asks for.
    finest = _finest_exponents(readings)
    columns: dict[tuple[str, str, int, int], tuple[list[int], list[int], list[int]]] = {}
    for client_id, quantity, t_ms, mantissa, exponent, flags in readings:
        shared = finest[client_id, quantity]
        if exponent - shared <= _MAX_EXPONENT_SPREAD and -_SHARED_BELOW < mantissa < _SHARED_BELOW:
            mantissa, exponent = mantissa * 10 ** (exponent - shared), shared
        key = (client_id, quantity, exponent, flags)
        column = columns.get(key)
        if column is None:
            columns[key] = ([t_ms - t0], [mantissa], [t_ms, mantissa])
        else:
            times, values, last = column
            times.append(t_ms - last[0])
            values.append(mantissa - last[1])
            last[0], last[1] = t_ms, mantissa
    series = [
        [*key[:3], times, values, key[3]] if key[3] else [*key[:3], times, values]
        for key, (times, values, _) in columns.items()
    ]
    return encode({0: VERSION, 1: t0, 2: series})


def _finest_exponents(readings: Iterable[Reading]) -> dict[tuple[str, str], int]:
    finest: dict[tuple[str, str], int] = {}
    for reading in readings:
        key = (reading[0], reading[1])
        exponent = reading[4]
        if exponent < finest.get(key, 1):
            finest[key] = exponent
    return {key: min(exponent, 0) for key, exponent in finest.items()}


def deflate_pack(data: bytes) -> tuple[bytes, dict[Any, Any]]:
    """A pack made smaller, and the header field that says so; itself and none where that would not make it smaller."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    small = deflater.compress(data) + deflater.flush()
    return (small, {DEFLATED: _DEFLATE}) if len(small) + _FIELD_BYTES < len(data) else (data, {})


def inflate_pack(header: Mapping[Any, Any], payload: bytes) -> bytes:
    """The pack in a payload, by what the envelope's protected header says. Raises BadPack."""
    how = header.get(DEFLATED)
    if how is None:
        return payload
    if how != _DEFLATE:
        raise BadPack(f"made smaller in a way that is not known: {quoted(how)}")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(payload, MAX_PACK_BYTES)
    except zlib.error as error:
        raise BadPack(f"does not inflate: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BadPack("its deflated form is cut short, too large, or more than one")
    return data


def decode_pack(data: bytes) -> list[Reading]:
    """Decode a pack into readings, series by series. Raises BadPack with a reason."""
    try:
        pack = decode(data, max_bytes=MAX_PACK_BYTES, depth=_DEPTH, floats=False)
    except BadCbor as error:
        raise BadPack(str(error)) from None
    if not isinstance(pack, dict) or type(pack.get(0)) is not int or pack[0] != VERSION or type(pack.get(1)) is not int:
        raise BadPack("not a pack of version 1")
    rows = pack.get(2)
    if not isinstance(rows, list):
        raise BadPack("no list of series")
    readings: list[Reading] = []
    for row in rows:
        readings.extend(_decode_series(pack[1], row))
    return readings


def _decode_series(t0: int, row: Any) -> list[Reading]:
    if not isinstance(row, list) or len(row) not in (5, 6):
        raise BadPack("a series has five or six elements")
    client_id, quantity, exponent, times, values = row[:5]
    flags = row[5] if len(row) == 6 else 0
    if not (isinstance(client_id, str) and isinstance(quantity, str) and type(exponent) is int and type(flags) is int):
        raise BadPack("a series names its client and quantity, exponent and flags")
    if not (isinstance(times, list) and isinstance(values, list) and len(times) == len(values)):
        raise BadPack("times and values of a series are of one length")
    if not all(type(number) is int for number in (*times, *values)):
        raise BadPack("times and values are integers")
    if exponent not in _EXPONENTS:
        raise BadPack("an exponent that no meter has")
    readings = [
        Reading(client_id, quantity, t0 + dt, v, exponent, flags)
        for dt, v in zip(accumulate(times), accumulate(values), strict=True)
    ]
    if not all(-_FURTHEST_MS < reading.t_ms < _FURTHEST_MS for reading in readings):
        raise BadPack("a time that no clock shows")
    return readings
