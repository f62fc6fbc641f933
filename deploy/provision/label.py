"""What is printed on a unit: EUI-64 and install code, as text and as the QR code that fitters' tools scan."""

import binascii
import io
import os

import segno

INSTALL_CODE_BYTES = 16


def install_code() -> bytes:
    """A new install code: 128 random bits and their CRC (Zigbee Base Device Behavior 3.0.1, section 10.1)."""
    code = os.urandom(INSTALL_CODE_BYTES)
    return code + crc16(code).to_bytes(2, "little")


def crc16(data: bytes) -> int:
    """CRC-16/X-25: reflected CCITT, begun with ones and inverted, as install codes carry it."""
    # The standard library has the unreflected CCITT alone: the same polynomial over mirrored bytes.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
    return int(f"{binascii.crc_hqx(mirrored, 0xFFFF):016b}"[::-1], 2) ^ 0xFFFF


def qr_text(eui64: bytes, code: bytes) -> str:
    """What the QR code says, in the form that joining tools know: `Z:EUI64$I:CODE`."""
    return f"Z:{eui64.hex().upper()}$I:{code.hex().upper()}"


def png(eui64: bytes, code: bytes) -> bytes:
    """The QR code as a PNG, black on white with its quiet zone; a quarter of it may be scratched away (level Q)."""
    out = io.BytesIO()
    segno.make_qr(qr_text(eui64, code), error="q").save(out, kind="png", scale=8)
    return out.getvalue()
