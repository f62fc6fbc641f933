# SPDX-License-Identifier: GPL-3.0-or-later
"""The group table of a device, and its Groups cluster (ZCL rev. 8, 3.6)."""

from __future__ import annotations

from typing import Final

from . import zcl, zdo

CLUSTER: Final = 0x0004
ADD, VIEW, GET_MEMBERSHIP, REMOVE, REMOVE_ALL = 0x00, 0x01, 0x02, 0x03, 0x04
ROOM: Final = 16
INSUFFICIENT_SPACE: Final = 0x89


class GroupTable:
    """Which endpoints are in which groups. `room`: how many entries there are."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self.entries: set[tuple[int, int]] = set()  # group, endpoint

    def endpoints_of(self, group: int) -> list[int]:
        """Where a frame to this group is delivered."""
        return sorted(endpoint for entry, endpoint in self.entries if entry == group)

    def groups_of(self, endpoint: int) -> list[int]:
        return sorted(group for group, entry in self.entries if entry == endpoint)

    def clear(self) -> None:
        self.entries.clear()

    def command(self, endpoint: int, command: int, body: bytes) -> bytes | None:
        """Carry a command out. The response's payload, under the command's own number; None: there is no such command,
        or a default response is the answer (Remove All Groups)."""
        if command == REMOVE_ALL:
            self.entries = {entry for entry in self.entries if entry[1] != endpoint}
            return None
        if command == GET_MEMBERSHIP and body and len(body) >= 1 + 2 * body[0]:
            asked = {zdo.u16(body, 1 + 2 * at) for at in range(body[0])}
            mine = [group for group in self.groups_of(endpoint) if not asked or group in asked]
            return bytes((self.room - len(self.entries), len(mine))) + b"".join(map(zdo.le16, mine))
        if command not in (ADD, VIEW, REMOVE) or len(body) < 2:
            raise zcl.Malformed("a group")
        entry = (zdo.u16(body, 0), endpoint)
        status = zcl.SUCCESS if command == ADD or entry in self.entries else zcl.NOT_FOUND
        if command == REMOVE:
            self.entries.discard(entry)
        elif command == ADD and entry not in self.entries:
            if len(self.entries) >= self.room:
                status = INSUFFICIENT_SPACE
            else:
                self.entries.add(entry)
        return bytes((status,)) + zdo.le16(entry[0]) + (b"\x00" if command == VIEW else b"")
