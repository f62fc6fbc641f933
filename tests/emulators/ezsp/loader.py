# SPDX-License-Identifier: GPL-3.0-or-later
"""A device's loader: the client of the OTA Upgrade cluster (ZCL rev. 8, chapter 11). It shares nothing with the hub."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Protocol

from . import zcl, zdo

OTA: Final = 0x0019
NOTIFY, QUERY, QUERY_RSP, BLOCK, BLOCK_RSP, END, END_RSP = 0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07
WAIT_FOR_DATA: Final = 0x97
PROFILE, ENDPOINT, SERVER = 0x0104, 1, 1
BLOCK_BYTES: Final = 63
RETRY_S: Final = 2.0
MAGIC: Final = bytes.fromhex("1ef1ee0b")


class Sender(Protocol):
    """The device around it."""

    def next_tsn(self) -> int: ...

    def transmit(self, profile: int, cluster: int, src_ep: int, dst_ep: int, payload: bytes) -> None: ...


class Loader:
    """`ask_at`: when it says something of its own accord."""

    def __init__(self, device: Sender, manufacturer: int, image_type: int, version: int) -> None:
        self._device = device
        self._kind = zdo.le16(manufacturer) + zdo.le16(image_type)
        self.version = version
        self.ask_at: float | None = None
        self.data = b""
        self.loaded = ""
        self.notified = self.waits = 0
        self._wanted: tuple[int, int] | None = None  # version, bytes
        self._is_done = False

    def describe(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "sha256": self.loaded,
            "bytes": len(self.data),
            "notified": self.notified,
            "waits": self.waits,
        }

    def handle_timer(self, now: float) -> None:
        if self.ask_at is None or now < self.ask_at:
            return
        self.ask_at = now + RETRY_S
        if self._wanted is None:
            self.ask_at = None  # until it is told, or joins anew
            self._say(QUERY, b"\x00" + self._kind + self.version.to_bytes(4, "little"))
        elif self._is_done:
            self._end()
        else:
            place = self._kind + self._wanted[0].to_bytes(4, "little")
            offset = len(self.data).to_bytes(4, "little")
            self._say(BLOCK, b"\x00" + place + offset + bytes((BLOCK_BYTES,)))

    def heard(self, header: zcl.Header, body: bytes, now: float) -> None:
        if header.command == NOTIFY:
            self.notified += 1
            self.ask_at = now
        elif header.command == QUERY_RSP and body[:1] == b"\x00":
            self._wanted, self.data = (zdo.u32(body, 5), zdo.u32(body, 9)), b""
            self.ask_at = now
        elif header.command == BLOCK_RSP and self._wanted is not None:
            self._block(body, now)
        elif header.command == END_RSP and self._wanted is not None:
            self.version, self._wanted, self._is_done, self.ask_at = self._wanted[0], None, False, None

    def _block(self, body: bytes, now: float) -> None:
        assert self._wanted is not None
        if body[0] == WAIT_FOR_DATA:
            self.waits += 1
            self.ask_at = now + zdo.u32(body, 5) - zdo.u32(body, 1)
        elif body[0] != zcl.SUCCESS:
            self._wanted = self.ask_at = None
        elif zdo.u32(body, 9) == len(self.data):
            self.data += body[14 : 14 + body[13]]
            self.ask_at = now
            if len(self.data) >= self._wanted[1]:
                self.loaded = hashlib.sha256(self.data).hexdigest()
                self._is_done = True

    def _end(self) -> None:
        assert self._wanted is not None
        is_image = self.data[:4] == MAGIC and self.data[10:14] == self._kind
        status = zcl.SUCCESS if is_image else 0x96  # INVALID_IMAGE
        self._say(END, bytes((status,)) + self._kind + self._wanted[0].to_bytes(4, "little"))
        if not is_image:
            self._wanted, self._is_done, self.ask_at = None, False, None

    def _say(self, command: int, body: bytes) -> None:
        frame = bytes((zcl.FRAME_CLUSTER, self._device.next_tsn(), command)) + body
        self._device.transmit(PROFILE, OTA, ENDPOINT, SERVER, frame)
