"""CBOR as the contract uses it (design 3.3), and not a bit more: deterministic encoding (RFC 8949, section 4.2.1).

What comes from outside is read by `decode`: no tags, no indefinite lengths, no duplicate or unsorted keys, integers of
64 bits, finite floats where the caller allows them, a bounded depth. Time and memory are linear in the bytes; nothing
is called back, nothing of the input is formatted into a text. Keys of maps are integers and texts.

Pure Python on every board: what a hub does with hostile bytes must not depend on which wheels it was built with.
"""

from collections.abc import Callable, Iterator
from struct import pack, unpack
from typing import Any

MAX_BYTES = 16 * 1024
MAX_DEPTH = 8
_OWN_BYTES, _OWN_DEPTH = 1 << 20, 16
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0
_FALSE, _TRUE, _NULL, _HALF, _SINGLE, _DOUBLE = 0xF4, 0xF5, 0xF6, 0xF9, 0xFA, 0xFB
_INFINITY = float("inf")


class BadCbor(ValueError):
    """The bytes are not one data item as the contract has it. The text says what and where, never what stood there."""


# Encoding


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major | number,))
    if number < 0x100:
        return bytes((major | 24, number))
    if number < 0x10000:
        return pack(">BH", major | 25, number)
    if number < 0x1_0000_0000:
        return pack(">BI", major | 26, number)
    if number < 0x1_0000_0000_0000_0000:
        return pack(">BQ", major | 27, number)
    raise ValueError("an integer of more than 64 bits")


def _int(value: int) -> bytes:
    return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)


# Most integers of a pack are small differences.
_SMALL = {value: _int(value) for value in range(-256, 257)}


def _float(value: float) -> bytes:
    if value != value or value in (_INFINITY, -_INFINITY):
        raise ValueError("a float that is not finite")
    for initial, form in ((_HALF, ">e"), (_SINGLE, ">f")):
        try:
            raw = pack(form, value)
        except OverflowError:
            continue
        if unpack(form, raw)[0] == value:
            return bytes((initial,)) + raw
    return bytes((_DOUBLE,)) + pack(">d", value)


def _array(items: Any) -> bytes:
    small = _SMALL
    return _head(_ARRAY, len(items)) + b"".join(
        [(small.get(item) or _int(item)) if type(item) is int else encode(item) for item in items]
    )


def _map(entries: dict[Any, Any]) -> bytes:
    rows = sorted((_key(key), encode(value)) for key, value in entries.items())
    return _head(_MAP, len(rows)) + b"".join(key + value for key, value in rows)


def _key(key: Any) -> bytes:
    if type(key) not in (int, str):
        raise ValueError("keys are integers and texts")
    return encode(key)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _head(_TEXT, len(raw)) + raw


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    int: _int,
    str: _text,
    bytes: lambda value: _head(_BYTES, len(value)) + value,
    list: _array,
    tuple: _array,
    dict: _map,
    bool: lambda value: bytes((_TRUE if value else _FALSE,)),
    type(None): lambda value: bytes((_NULL,)),
    float: _float,
}


def encode(value: Any) -> bytes:
    """One data item in deterministic encoding. Raises ValueError for what the contract has no form for."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise ValueError(f"CBOR here has no {type(value).__name__}")
    return encoder(value)


def encode_tagged(tag: int, value: Any) -> bytes:
    """The same under a tag; 18 (COSE_Sign1) is the only one there is."""
    return _head(_TAG, tag) + encode(value)


# Decoding


def decode(
    data: bytes, *, floats: bool = True, max_bytes: int = MAX_BYTES, depth: int = MAX_DEPTH, tag: int | None = None
) -> Any:
    """The one data item that `data` is. `tag`: it has to stand under this one. Raises BadCbor and nothing else."""
    if len(data) > max_bytes:
        raise BadCbor(f"{len(data)} bytes are more than {max_bytes}")
    at = 0
    if tag is not None:
        head = _head(_TAG, tag)
        if data[: len(head)] != head:
            raise BadCbor(f"it does not begin with tag {tag}")
        at = len(head)
    try:
        item, at = _item(data, at, depth, floats)
    except IndexError:
        raise BadCbor("it ends in the middle of an item") from None
    if at != len(data):
        raise BadCbor(f"{len(data) - at} bytes follow the data item")
    return item


def decode_own(data: bytes) -> Any:
    """What `encode` wrote and we kept ourselves: larger and deeper than what strangers may send. Raises BadCbor."""
    return decode(data, max_bytes=_OWN_BYTES, depth=_OWN_DEPTH)


def decode_sequence(data: bytes, depth: int = MAX_DEPTH) -> Iterator[Any]:
    """The items of a CBOR sequence (RFC 8742); a last one that was cut short is left out. Raises BadCbor."""
    at = 0
    while at < len(data):
        try:
            item, at = _item(data, at, depth, True)
        except IndexError:
            return
        yield item


def _item(data: bytes, at: int, depth: int, floats: bool) -> tuple[Any, int]:
    """The item at `at`, and where the next begins. Raises BadCbor, or IndexError where the bytes end."""
    initial = data[at]
    major, info = initial & 0xE0, initial & 0x1F
    if major == 0xE0:
        return _simple(data, at, initial, floats)
    number, at = (info, at + 1) if info < 24 else _argument(data, at, info)
    if major == _UINT:
        return number, at
    if major == _NINT:
        return -1 - number, at
    if major <= _TEXT:
        end = at + number
        if end > len(data):
            raise IndexError
        raw = data[at:end]
        if major == _BYTES:
            return raw, end
        try:
            return raw.decode(), end
        except UnicodeDecodeError:
            raise BadCbor(f"the text at {at} is not UTF-8") from None
    if major == _TAG:
        raise BadCbor(f"a tag at {at}: none is used here")
    if not depth:
        raise BadCbor(f"nested more deeply at {at} than anything of ours")
    # Each element has a byte at least: a length that promises more than is there costs no memory.
    if number > len(data) - at:
        raise BadCbor(f"an array or map at {at} has more elements than there are bytes")
    if major == _ARRAY:
        return _elements(data, at, number, depth - 1, floats)
    return _entries(data, at, number, depth - 1, floats)


def _argument(data: bytes, at: int, info: int) -> tuple[int, int]:
    """RFC 8949 section 3: the argument behind the initial byte, in its shortest form."""
    if info > 27:
        raise BadCbor(f"an indefinite length or a reserved form at {at}")
    size = 1 << (info - 24)
    end = at + 1 + size
    if end > len(data):
        raise IndexError
    number = int.from_bytes(data[at + 1 : end], "big")
    if number < (24 if size == 1 else 1 << (4 * size)):
        raise BadCbor(f"a number at {at} is not in its shortest form")
    return number, end


def _simple(data: bytes, at: int, initial: int, floats: bool) -> tuple[Any, int]:
    if initial == _FALSE:
        return False, at + 1
    if initial == _TRUE:
        return True, at + 1
    if initial == _NULL:
        return None, at + 1
    if initial not in (_HALF, _SINGLE, _DOUBLE):
        raise BadCbor(f"a simple value at {at} that is not used here")
    if not floats:
        raise BadCbor(f"a float at {at}, where none may be")
    size = 1 << (initial - 0xF8)
    raw = data[at : at + 1 + size]
    if len(raw) < 1 + size:
        raise IndexError
    value: float = unpack({2: ">e", 4: ">f", 8: ">d"}[size], raw[1:])[0]
    if value != value or value in (_INFINITY, -_INFINITY):
        raise BadCbor(f"a float at {at} that is not finite")
    if _float(value) != raw:
        raise BadCbor(f"a float at {at} is not in its shortest form")
    return value, at + 1 + size


def _elements(data: bytes, at: int, count: int, depth: int, floats: bool) -> tuple[list[Any], int]:
    items: list[Any] = []
    append = items.append
    for _ in range(count):
        initial = data[at]
        # A pack is columns of small integers: they are taken here, without a call each.
        if initial < 24:
            append(initial)
            at += 1
        elif 0x20 <= initial < 0x38:
            append(0x1F - initial)
            at += 1
        else:
            item, at = _item(data, at, depth, floats)
            append(item)
    return items, at


def _entries(data: bytes, at: int, count: int, depth: int, floats: bool) -> tuple[dict[Any, Any], int]:
    entries: dict[Any, Any] = {}
    before = b""
    for _ in range(count):
        begin = at
        if data[at] & 0xE0 not in (_UINT, _NINT, _TEXT):
            raise BadCbor(f"a key at {at} that is neither an integer nor a text")
        key, at = _item(data, at, 0, False)
        encoded = data[begin:at]
        if encoded <= before:
            raise BadCbor(f"a key at {begin} stands twice, or not in order")
        before = encoded
        entries[key], at = _item(data, at, depth, floats)
    return entries, at
