"""Who asks on the admin socket: what the kernel says of the process at its other end (unix(7): SO_PEERCRED).

Whoever may open the socket may read. Changing is for root, for the hub's own account, and for members of one group.
"""

import os
import socket
import struct
from grp import getgrnam
from pathlib import Path

_SO_PEERGROUPS = 59  # asm-generic; Linux 4.13
_MAX_GROUPS = 256  # what one getsockopt of Python's takes; who has more counts by its first
_ACL_NAME = "system.posix_acl_access"
_ACL_VERSION = 2
_USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x04, 0x08, 0x10, 0x20
_READ_WRITE, _UNNAMED = 6, 0xFFFFFFFF


class Asker:
    """One process: its account and all of its groups."""

    def __init__(self, uid: int, gids: frozenset[int]) -> None:
        self.uid = uid
        self.gids = gids

    @classmethod
    def of(cls, sock: socket.socket) -> "Asker":
        """The process at the other end. Raises OSError."""
        _, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        gids = {gid}
        try:
            more = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
            gids.update(struct.unpack(f"{len(more) // 4}I", more))
        except OSError:
            pass  # an old kernel, or too many groups: its first has to do
        return cls(uid, frozenset(gids))


def may_change(asker: Asker, group: str) -> bool:
    """Whether an asker may change something. `group`: whose members may, besides root and the hub's own account.

    In a user namespace (PrivateUsers= of the unit) the kernel shows foreign groups as one that stands for all of them.
    Who is in none of the hub's own groups could open the socket only as a member of the group that it belongs to.
    """
    if asker.uid in (0, os.geteuid()):
        return True
    try:
        gid = getgrnam(group).gr_gid
    except KeyError:
        return False
    if gid in asker.gids:
        return True
    overflow = _overflow_gid()
    return not _is_mapped(gid) and overflow in asker.gids and os.getegid() not in asker.gids


def let_own_group_open(path: Path) -> None:
    """Let members of the hub's own group open the socket, too, whichever group it is given to. Where the file system
    has no access lists, they are left out."""
    acl = struct.pack("<I", _ACL_VERSION)
    for tag, permissions, who in (
        (_USER, _READ_WRITE, _UNNAMED),
        (_GROUP_OBJ, _READ_WRITE, _UNNAMED),
        (_GROUP, _READ_WRITE, os.getegid()),
        (_MASK, _READ_WRITE, _UNNAMED),
        (_OTHER, 0, _UNNAMED),
    ):
        acl += struct.pack("<HHI", tag, permissions, who)
    try:
        os.setxattr(path, _ACL_NAME, acl)
    except OSError:
        pass


def _overflow_gid() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowgid").read_text())
    except (OSError, ValueError):
        return 65534


def _is_mapped(gid: int) -> bool:
    """Whether this process sees that group by its number."""
    try:
        rows = [tuple(map(int, line.split())) for line in Path("/proc/self/gid_map").read_text().splitlines()]
    except (OSError, ValueError):
        return True
    return any(first <= gid < first + count for first, _, count in rows)
