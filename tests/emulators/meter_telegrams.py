"""Telegrams as meters send them, written from the standards and from nothing of ours: SML files, COSEM pushes over HDLC
and M-Bus, enciphered ones, Linky's TIC. Checksums are computed bit by bit, another way than the hub's."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def crc_ccitt(data: bytes, begin: int, out: int) -> int:
    """The reflected CRC of polynomial 0x1021, bit by bit: X.25 is (0xFFFF, 0xFFFF), Kermit (0, 0)."""
    crc = begin
    for byte in data:
        for bit in range(8):
            mixed = (crc ^ byte >> bit) & 1
            crc = crc >> 1 ^ (0x8408 if mixed else 0)
    return crc ^ out


# SML (BSI TR-03109-1, annex IV)

Entry = tuple[str, int, int, int]  # code "1-0:1.8.0", unit, scaler, value


def _code(text: str) -> bytes:
    prefix, _, code = text.partition(":")
    return bytes([*(int(part) for part in prefix.split("-")), *(int(part) for part in code.split(".")), 255])


def _sml_bytes(data: bytes) -> bytes:
    if len(data) + 1 < 16:
        return bytes([len(data) + 1]) + data
    length = len(data) + 2
    return bytes([0x80 | length >> 4, length & 0x0F]) + data


def _sml_whole(value: int, width: int, *, signed: bool) -> bytes:
    return bytes([(0x50 if signed else 0x60) | width + 1]) + value.to_bytes(width, "big", signed=signed)


def sml_file(
    entries: Sequence[Entry],
    *,
    server: bytes = bytes.fromhex("0a01454d550000010001"),
    status: int | None = None,
    texts: Sequence[tuple[str, bytes]] = (),
    power_width: int = 4,
    kermit: bool = False,
) -> bytes:
    """A transport file of three messages; `status` stands beside the first energy register."""
    rows = [
        b"\x77" + _sml_bytes(_code(code)) + b"\x01\x01\x01\x01" + _sml_bytes(text) + b"\x01" for code, text in texts
    ]
    for code, unit, scaler, value in entries:
        own = b"\x01" if status is None or not code.endswith("8.0") else _sml_whole(status, 4, signed=False)
        width = power_width if unit == 27 else 8
        rows.append(
            b"\x77" + _sml_bytes(_code(code)) + own + b"\x01" + _sml_whole(unit, 1, signed=False)
            + _sml_whole(scaler, 1, signed=True) + _sml_whole(value, width, signed=True) + b"\x01"
        )  # fmt: skip
    values = (
        bytes([0x70 | len(rows)]) if len(rows) < 16 else bytes([0xF0 | len(rows) >> 4, len(rows) & 15])
    ) + b"".join(rows)
    listed = b"\x77\x01" + _sml_bytes(server) + b"\x07\x01\x00\x62\x0a\xff\xff\x72\x62\x01\x65\x00\x00\x10\x00"
    body = (
        _message(1, 0x0101, b"\x76\x01\x01" + _sml_bytes(b"\0\1") + _sml_bytes(server) + b"\x01\x01")
        + _message(2, 0x0701, listed + values + b"\x01\x01")
        + _message(3, 0x0201, b"\x71\x01")
    )
    padding = -len(body) % 4
    body = body.replace(b"\x1b" * 4, b"\x1b" * 8)
    whole = b"\x1b" * 4 + b"\x01" * 4 + body + bytes(padding) + b"\x1b" * 4 + bytes([0x1A, padding])
    check = crc_ccitt(whole, 0, 0) if kermit else crc_ccitt(whole, 0xFFFF, 0xFFFF)
    return whole + check.to_bytes(2, "little")


def _message(number: int, kind: int, body: bytes) -> bytes:
    head = b"\x76" + _sml_bytes(bytes([number])) + b"\x62\x00\x62\x00\x72" + _sml_whole(kind, 2, signed=False) + body
    return head + _sml_whole(crc_ccitt(head, 0xFFFF, 0xFFFF), 2, signed=False) + b"\x00"


# COSEM pushes (IEC 62056-5-3)


def _value(value: int, kind: int) -> bytes:
    width = {6: 4, 5: 4, 16: 2, 18: 2}[kind]
    return bytes([kind]) + value.to_bytes(width, "big", signed=kind in (5, 16))


def notification(entries: Sequence[Entry], *, number: str = "", version: str = "", nested: bool = True) -> bytes:
    """A data notification: each register with its code, scaler and unit; `nested` as Aidon sends it, else as Austrian
    meters do, one element behind the other."""
    rows: list[bytes] = []
    for code, text in (("1-1:0.2.129", version), ("0-0:96.1.0", number)):
        if text:
            rows.append(b"\x02\x02\x09\x06" + _code(code) + b"\x0a" + bytes([len(text)]) + text.encode())
    for code, unit, scaler, value in entries:
        kind = 6 if unit in (27, 29, 30, 32) else 18
        scale = b"\x02\x02\x0f" + scaler.to_bytes(1, "big", signed=True) + b"\x16" + bytes([unit])
        inner = b"\x09\x06" + _code(code) + _value(value, kind) + scale
        rows.append(b"\x02\x03" + inner if nested else inner)
    head = b"\x0f\x40\x00\x00\x00\x00"
    if nested:
        return head + b"\x01" + bytes([len(rows)]) + b"".join(rows)
    elements = sum(1 if row[:1] == b"\x02" else 3 for row in rows)
    return head + b"\x02" + bytes([elements]) + b"".join(rows)


def kamstrup(values: Sequence[tuple[str, int]], number: str = "5706567000000000") -> bytes:
    """Kamstrup's list: codes and values, no scale, no unit."""
    rows = b"".join(b"\x09\x06\x01\x01" + _code("1-1:" + code)[2:] + _value(value, 6) for code, value in values)
    own = b"\x09\x06\x01\x01\x00\x00\x05\xff\x0a" + bytes([len(number)]) + number.encode()
    stamp = b"\x0c\x07\xe1\x08\x10\x03\x10\x00\x05\xff\x80\x00\x00"
    count = 1 + 2 + 2 * len(values)
    return b"\x0f\x00\x00\x00\x00" + stamp + b"\x02" + bytes([count]) + b"\x0a\x0eKamstrup_V0001" + own + rows


def kaifa(values: Sequence[int], number: str = "6970631400000001") -> bytes:
    """Kaifa's list by position, its clock included where there are hour values."""
    rows = b"\x09\x07KFM_001" + b"\x09" + bytes([len(number)]) + number.encode() + b"\x09\x07MA304H4"
    stamp = b"\x09\x0c\x07\xe1\x08\x10\x03\x10\x00\x05\xff\x80\x00\x00"
    cut = len(values) - 4 if len(values) in (10, 14) else len(values)
    rows += b"".join(_value(value, 6) for value in values[:cut])
    if cut < len(values):
        rows += stamp + b"".join(_value(value, 6) for value in values[cut:])
    count = 3 + len(values) + (1 if cut < len(values) else 0)
    return b"\x0f\x40\x00\x00\x00\x09" + stamp[1:] + b"\x02" + bytes([count]) + rows


def pushed_objects(setup: str, values: Sequence[tuple[str, int]], name: str = "EMU1030000000001") -> bytes:
    """What Swiss meters push: first the list of what is pushed (class, code, attribute, index), then the values alone.
    `setup`: the code of the push setup; `values`: a number that fits into two bytes is written so for volts and
    amperes."""
    objects = [(40, setup), (1, "0-0:42.0.0"), *((3, code) for code, _ in values)]
    listed = b"".join(
        b"\x02\x04\x12" + kind.to_bytes(2, "big") + b"\x09\x06" + _code(code) + b"\x0f\x02\x12\x00\x00"
        for kind, code in objects
    )
    told = b"".join(_value(value, 18 if code.split(":")[1][1:4] in ("1.7", "2.7") else 6) for code, value in values)
    count = bytes([len(objects)])
    head = b"\x0f\x00\x00\x00\x07\x0c\x07\xe7\x06\x06\x02\x11\x1f\x14\x12\xff\x88\x80"
    return head + b"\x02" + count + b"\x01" + count + listed + b"\x09" + bytes([len(name)]) + name.encode() + told


def bare_pairs(values: Sequence[tuple[str, int]]) -> bytes:
    """Landis+Gyr's E450 in Austria: codes and values, one behind the other, no scale, no unit; a clock before them."""
    rows = b"".join(b"\x09\x06" + _code(code) + _value(value, 6) for code, value in values)
    clock = b"\x09\x0c\x07\xe6\x02\x15\x01\x11\x25\x1e\xff\x80\x00\x00"
    return b"\x0f\x00\x00\x00\x07\x0c" + clock[2:] + b"\x02" + bytes([1 + 2 * len(values)]) + clock + rows


def described(values: Sequence[tuple[str, int]], number: str = "5100000001") -> bytes:
    """The Czech distributors' interface: (1, list of (attribute descriptor without a tag, value))."""
    rows = b"\x02\x02\x00\x01" + _code("0-0:96.1.1") + b"\x02\x09" + bytes([len(number)]) + number.encode()
    rows += b"\x02\x02\x00\x46" + _code("0-0:96.3.10") + b"\x03\x16\x01"
    rows += b"".join(b"\x02\x02\x00\x03" + _code(code) + b"\x02" + _value(value, 6) for code, value in values)
    return b"\x0f\x80\x00\x00\x01\x00\x02\x02\x16\x01\x01" + bytes([2 + len(values)]) + rows


def blocks(apdu: bytes, *, most: int = 110) -> list[bytes]:
    """General block transfer, as Landis+Gyr's meters push: each block is a message of its own."""
    pieces = [apdu[at : at + most] for at in range(0, len(apdu), most)]
    return [
        bytes([0xE0, 0xC0 if at == len(pieces) else 0x40])
        + at.to_bytes(2, "big") + b"\x00\x00" + bytes([len(piece)]) + piece
        for at, piece in enumerate(pieces, 1)
    ]  # fmt: skip


def hdlc(apdu: bytes, *, most: int = 2000) -> bytes:
    """Frames of type 3 with LLC, in segments of at most `most` bytes."""
    content = b"\xe6\xe7\x00" + apdu
    pieces = [content[at : at + most] for at in range(0, len(content), most)]
    frames = []
    for at, piece in enumerate(pieces):
        length = 2 + 1 + 2 + 1 + 2 + len(piece) + 2
        more = 0x08 if at < len(pieces) - 1 else 0
        head = bytes([0xA0 | more | length >> 8, length & 0xFF]) + b"\x41\x08\x83\x13"
        head += crc_ccitt(head, 0xFFFF, 0xFFFF).to_bytes(2, "little")
        frame = head + piece
        frames.append(b"\x7e" + frame + crc_ccitt(frame, 0xFFFF, 0xFFFF).to_bytes(2, "little") + b"\x7e")
    return b"".join(frames)


def mbus(apdu: bytes, *, most: int = 240) -> bytes:
    """Long frames of EN 13757-2, in segments."""
    pieces = [apdu[at : at + most] for at in range(0, len(apdu), most)]
    frames = []
    for at, piece in enumerate(pieces):
        kind = at | (0x10 if at == len(pieces) - 1 else 0)
        content = bytes([0x53, 0xFF, kind, 0x01, 0x67]) + piece
        frames.append(bytes([0x68, len(content), len(content), 0x68]) + content + bytes([sum(content) & 0xFF, 0x16]))
    return b"".join(frames)


TITLE = b"EMU\x00\x00\x00\x00\x01"
KEY = bytes.fromhex("4d6574657220656d756c61746f72206b")
AUTHENTICATION_KEY = bytes.fromhex("00112233445566778899aabbccddeeff")


def enciphered(
    plain: bytes,
    counter: int,
    *,
    key: bytes = KEY,
    authentication_key: bytes = AUTHENTICATION_KEY,
    title: bytes = TITLE,
) -> bytes:
    """general-glo-ciphering, suite 0, authenticated and encrypted. An empty authentication key: encrypted only."""
    control = 0x30 if authentication_key else 0x20
    vector = title + counter.to_bytes(4, "big")
    sealed = AESGCM(key).encrypt(vector, plain, bytes([control]) + authentication_key)
    content = sealed[:-16] + (sealed[-16:-4] if authentication_key else b"")
    length = 5 + len(content)
    return b"\xdb\x08" + title + b"\x82" + length.to_bytes(2, "big") + bytes([control]) + vector[8:] + content


# Linky's TIC (Enedis-NOI-CPT_54E)


def tic(groups: Sequence[tuple[str, ...]], *, standard: bool = False) -> bytes:
    """A frame, in seven bits; a group is (label, data) or (label, time stamp, data)."""
    gap = "\t" if standard else " "
    lines = []
    for group in groups:
        text = gap.join(group)
        total = sum((text + (gap if standard else "")).encode())
        lines.append("\n" + text + gap + chr((total & 0x3F) + 0x20) + "\r")
    return b"\x02" + "".join(lines).encode() + b"\x03"
