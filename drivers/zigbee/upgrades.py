"""Which image a device is given, block by block, within the air's budget. A machine; no I/O."""

from collections.abc import Callable
from typing import NamedTuple

from hub.wire.zigbee import ota, zcl
from hub.wire.zigbee.ota import ImageHeader, OtaRequest

# Bytes a block: one frame on the air under any security, whatever the device would take.
BLOCK_BYTES = 48
# One device at a time loads; it has given up when it has not asked for so long.
_GIVEN_UP_S = 120.0
_WAIT_FOR_TURN_S = 60
# So many blocks a second at most: a tenth of what the air and the radio carry.
_BLOCK_EVERY_S = 0.1
_WAIT_A_MOMENT_S = 1


class StoredImage(NamedTuple):
    """An image that may be given. `read(offset, bytes)`: from the file that was verified. Raises OSError."""

    header: ImageHeader
    read: Callable[[int, int], bytes]


class Ended(NamedTuple):
    """A device has ended its loading. `status`: 0, or why it does not use the image (ZCL table 2-12)."""

    ieee: str
    version: int
    status: int


class Upgrades:
    """`images` by manufacturer and type. Devices are named by IEEE address (16 hex digits)."""

    def __init__(self) -> None:
        self.images: dict[tuple[int, int], StoredImage] = {}
        self.blocks = 0
        self._loading: str | None = None
        self._offset = 0
        self._asked_at = float("-inf")
        self._next_block_at = float("-inf")

    def under_way(self, now: float) -> tuple[str, int] | None:
        """Who loads, and how far it is, bytes."""
        if self._loading is None or now - self._asked_at > _GIVEN_UP_S:
            return None
        return self._loading, self._offset

    def heard(self, ieee: str, frame: bytes, now: float) -> tuple[list[bytes], Ended | None]:
        """The frames that answer a client (ota.is_of_client), and whether it has come to an end."""
        asked = ota.parse_request(frame)
        if asked is None:
            known = frame[2] in (ota.QUERY_NEXT, ota.IMAGE_BLOCK, ota.UPGRADE_END)
            status = ota.MALFORMED if known else ota.UNSUP_COMMAND
            return [zcl.status_response(frame[1], frame[2], status)], None
        image = self.images.get((asked.manufacturer, asked.image_type))
        if asked.command == ota.QUERY_NEXT:
            newer = image is not None and image.header.version > asked.version
            return [ota.next_image(asked.tsn, image.header if image is not None and newer else None)], None
        if asked.command == ota.IMAGE_BLOCK:
            return [self._block(ieee, asked, image, now)], None
        return self._end(ieee, asked, image)

    def _block(self, ieee: str, asked: OtaRequest, image: StoredImage | None, now: float) -> bytes:
        if image is None or image.header.version != asked.version or asked.offset > image.header.size:
            return ota.abort(asked.tsn)
        under_way = self.under_way(now)
        if under_way is not None and under_way[0] != ieee:
            return ota.wait(asked.tsn, _WAIT_FOR_TURN_S)
        self._loading, self._asked_at, self._offset = ieee, now, asked.offset
        if now < self._next_block_at:
            return ota.wait(asked.tsn, _WAIT_A_MOMENT_S)
        size = min(BLOCK_BYTES, asked.most, image.header.size - asked.offset)
        try:
            data = image.read(asked.offset, size)
        except OSError:
            data = b""
        if len(data) != size or not size:
            return ota.abort(asked.tsn)
        self._next_block_at = now + _BLOCK_EVERY_S
        self.blocks += 1
        return ota.block(asked.tsn, image.header, asked.offset, data)

    def _end(self, ieee: str, asked: OtaRequest, image: StoredImage | None) -> tuple[list[bytes], Ended | None]:
        ended = Ended(ieee, asked.version, asked.status) if self._loading == ieee else None
        if self._loading == ieee:
            self._loading = None
        if asked.status != ota.SUCCESS or image is None or image.header.version != asked.version:
            return [zcl.status_response(asked.tsn, ota.UPGRADE_END, ota.SUCCESS)], ended
        return [ota.upgrade_now(asked.tsn, image.header)], ended
