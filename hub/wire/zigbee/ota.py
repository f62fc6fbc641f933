"""Over-the-air upgrades: the image's header, and what a client of the cluster asks. A codec; no I/O.

Source: ZCL revision 8 (07-5123), chapter 11: 11.4.2 the header of an OTA file, 11.13 the commands.
"""

from typing import NamedTuple

from hub.wire.zigbee import zcl

CLUSTER = 0x0019
HEADER_BYTES = 56
MAX_IMAGE_BYTES = 4 << 20  # the largest chips that a home's devices are made of have 2 MB of flash

_MAGIC = 0x0BEEF11E
_FOR_CLUSTER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x08, 0x10
IMAGE_NOTIFY, QUERY_NEXT, QUERY_NEXT_RESPONSE = 0x00, 0x01, 0x02
IMAGE_BLOCK, IMAGE_PAGE, IMAGE_BLOCK_RESPONSE = 0x03, 0x04, 0x05
UPGRADE_END, UPGRADE_END_RESPONSE = 0x06, 0x07
SUCCESS, MALFORMED, UNSUP_COMMAND, ABORT, WAIT_FOR_DATA, NO_IMAGE = 0x00, 0x80, 0x81, 0x95, 0x97, 0x98
_JITTER_ONLY, _JITTER = 0x00, 100
_PLACE_END = 9


class ImageHeader(NamedTuple):
    """What an image says of itself. `size`: all of the file, bytes."""

    manufacturer: int
    image_type: int
    version: int
    size: int


class OtaRequest(NamedTuple):
    """What a client asks. `offset`, `most`: of a block; `status`: of an end; 0 where the command has none."""

    command: int
    tsn: int
    manufacturer: int
    image_type: int
    version: int
    offset: int = 0
    most: int = 0
    status: int = 0


def parse_header(data: bytes) -> ImageHeader:
    """The header of an image. Raises ValueError for what is none."""
    if len(data) < HEADER_BYTES or int.from_bytes(data[:4], "little") != _MAGIC:
        raise ValueError("not a Zigbee OTA image")
    size = _u32(data, 52)
    if not HEADER_BYTES <= size <= MAX_IMAGE_BYTES:
        raise ValueError(f"an image of {size} bytes")
    return ImageHeader(_u16(data, 10), _u16(data, 12), _u32(data, 14), size)


def header_of(image: ImageHeader, text: str = "") -> bytes:
    """The header of an image: what a maker's tool would write."""
    return (
        _MAGIC.to_bytes(4, "little")
        + b"\x00\x01"
        + HEADER_BYTES.to_bytes(2, "little")
        + b"\x00\x00"
        + image.manufacturer.to_bytes(2, "little")
        + image.image_type.to_bytes(2, "little")
        + image.version.to_bytes(4, "little")
        + b"\x02\x00"
        + text.encode()[:32].ljust(32, b"\0")
        + image.size.to_bytes(4, "little")
    )


def is_of_client(cluster_id: int, frame: bytes) -> bool:
    """Whether a ZCL frame is a client's command of this cluster."""
    return cluster_id == CLUSTER and zcl.is_client_command(frame)


def parse_request(frame: bytes) -> OtaRequest | None:
    """What is asked; None for what cannot be read."""
    tsn, command, body = frame[1], frame[2], frame[3:]
    if len(body) < _PLACE_END:
        return None
    place = _u16(body, 1), _u16(body, 3), _u32(body, 5)  # a field control, or a status, is in front
    if command == QUERY_NEXT:
        return OtaRequest(command, tsn, *place)
    if command == UPGRADE_END:
        return OtaRequest(command, tsn, *place, status=body[0])
    if command == IMAGE_BLOCK and len(body) >= _PLACE_END + 5:
        return OtaRequest(command, tsn, *place, offset=_u32(body, 9), most=body[13])
    return None


def image_notify(tsn: int) -> bytes:
    """Image Notify (11.13.3): there may be something; ask."""
    return bytes((_FOR_CLUSTER | _FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, IMAGE_NOTIFY, _JITTER_ONLY, _JITTER))


def next_image(tsn: int, image: ImageHeader | None) -> bytes:
    """Query Next Image Response (11.13.5)."""
    head = _response(tsn, QUERY_NEXT_RESPONSE)
    if image is None:
        return head + bytes((NO_IMAGE,))
    return head + bytes((SUCCESS,)) + _place(image) + image.size.to_bytes(4, "little")


def block(tsn: int, image: ImageHeader, offset: int, data: bytes) -> bytes:
    """Image Block Response (11.13.8) with data."""
    head = _response(tsn, IMAGE_BLOCK_RESPONSE) + bytes((SUCCESS,)) + _place(image)
    return head + offset.to_bytes(4, "little") + bytes((len(data),)) + data


def wait(tsn: int, delay_s: int) -> bytes:
    """Image Block Response: ask again in so many seconds. A current time of 0 makes the other an offset (11.13.8.2)."""
    head = _response(tsn, IMAGE_BLOCK_RESPONSE) + bytes((WAIT_FOR_DATA,))
    return head + bytes(4) + delay_s.to_bytes(4, "little") + bytes(2)


def abort(tsn: int) -> bytes:
    """Image Block Response: there is no such image any more."""
    return _response(tsn, IMAGE_BLOCK_RESPONSE) + bytes((ABORT,))


def upgrade_now(tsn: int, image: ImageHeader) -> bytes:
    """Upgrade End Response (11.13.9.6): both times 0, at once."""
    return _response(tsn, UPGRADE_END_RESPONSE) + _place(image) + bytes(8)


def _response(tsn: int, command: int) -> bytes:
    return bytes((_FOR_CLUSTER | _FROM_SERVER | _NO_DEFAULT_RESPONSE, tsn, command))


def _place(image: ImageHeader) -> bytes:
    return (
        image.manufacturer.to_bytes(2, "little")
        + image.image_type.to_bytes(2, "little")
        + image.version.to_bytes(4, "little")
    )


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
