"""Checksums and parity of the meters' lines. No I/O, no clock.

Sources: DSMR 5.0.2 P1 companion standard, section 6.2 (CRC-16/ARC); ISO/IEC 13239, annex A (the CRC of HDLC and of SML,
X.25); IEC 62056-21, section 6.2 (BCC).
"""


def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ polynomial if byte & 1 else byte >> 1
        table.append(byte)
    return tuple(table)


_ARC, _CCITT = _table(0xA001), _table(0x8408)


def _run(table: tuple[int, ...], crc: int, data: bytes) -> int:
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def crc16_arc(data: bytes) -> int:
    """CRC-16/ARC: what stands behind the `!` of a P1 telegram."""
    return _run(_ARC, 0, data)


def crc16_x25(data: bytes) -> int:
    """CRC-16/X-25: the frame check of HDLC and, by the book, of SML. On the line its low byte comes first."""
    return _run(_CCITT, 0xFFFF, data) ^ 0xFFFF


def crc16_kermit(data: bytes) -> int:
    """CRC-16/KERMIT: what some SML meters (Holley DTZ541) send instead."""
    return _run(_CCITT, 0, data)


def bcc(data: bytes) -> int:
    """The exclusive-or of all bytes (IEC 62056-21)."""
    check = 0
    for byte in data:
        check ^= byte
    return check


def seven_bits(data: bytes) -> bytes:
    """The characters of a 7E1 line that is read as 8N1: both have ten bits, and the parity is in the eighth."""
    return data.translate(_SEVEN)


def with_parity(data: bytes) -> bytes:
    """ASCII as 7E1 looks on a line that is opened as 8N1."""
    return data.translate(_EVEN)


_SEVEN = bytes(byte & 0x7F for byte in range(256))
_EVEN = bytes(byte & 0x7F | ((byte & 0x7F).bit_count() & 1) << 7 for byte in range(256))


def parity_of(data: bytes) -> str:
    """What the eighth bits say: "none" (all zero: the line has no parity, or a server took it away), "even" (each
    byte's parity is right) or "broken" (some are right and some are not)."""
    if not data.translate(None, delete=bytes(range(128))):
        return "none"
    return "even" if data == with_parity(data) else "broken"


def is_seven_bits(data: bytes) -> bool:
    """Whether the line has parity, as far as the bytes show: nearly all of them are even, and some have it set. (Of
    text in eight bits half are odd; bytes 0xFF, with which Hungary's meters fill their texts, say nothing.)"""
    telling = data.replace(b"\xff", b"")
    high = len(telling) - len(telling.translate(None, delete=_ABOVE))
    if high < len(telling) / 8:
        return False
    right = sum(byte == even for byte, even in zip(telling, with_parity(telling), strict=True))
    return right >= 0.9 * len(telling)


_ABOVE = bytes(range(128, 256))
