"""Senders that the kernel drops for us: a classic BPF filter on one UDP socket (socket(7), SO_ATTACH_FILTER).

What is dropped there costs this process nothing, and does not fill the socket's queue, in which everybody waits.
"""

import ctypes
import socket
import struct
from collections.abc import Collection
from ipaddress import ip_address

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_LOAD_WORD, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from here are into the IP header
_IPV4_SOURCE, _IPV6_SOURCE = 12, 8
_SOURCE_PORT = 0  # offsets without a base are into the UDP header
_EVERYTHING = 0xFFFFFFFF
MAX_SENDERS = 64  # five instructions each of at most 4,096


def attach(sock: socket.socket, senders: Collection[tuple[str, int | None]]) -> bool:
    """Have the kernel drop what these `(host, port; None: any)` send from now on; whether it does. The first
    MAX_SENDERS count."""
    program = _program(list(senders)[:MAX_SENDERS], sock.family)
    try:
        if not program:
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            return True
        code = ctypes.create_string_buffer(b"".join(program))
        head = struct.pack("HP", len(program), ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)
    except OSError:
        return not program  # there was none to detach, or this kernel has none
    return True


def _program(senders: list[tuple[str, int | None]], family: int) -> list[bytes]:
    steps: list[bytes] = []
    for host, port in senders:
        address = ip_address(host.partition("%")[0])
        packed = address.packed
        is_v4_here = family == socket.AF_INET
        if is_v4_here != (len(packed) == 4):
            mapped = getattr(address, "ipv4_mapped", None)
            if is_v4_here or mapped is None:
                continue
        offset = _IPV4_SOURCE if is_v4_here else _IPV6_SOURCE
        # Of an IPv6 host that uses many ports, its /64; of one port, the whole address.
        raw = packed if is_v4_here or port is not None else packed[:8]
        checks = [
            (_LOAD_WORD, _NETWORK_HEADER + offset + at, int.from_bytes(raw[at : at + 4], "big"))
            for at in range(0, len(raw), 4)
        ]
        if port is not None:
            checks.append((_LOAD_HALF, _SOURCE_PORT, port))
        left = 2 * len(checks)  # instructions until the drop, this check's own two included
        for load, at, value in checks:
            steps.append(_step(load, 0, 0, at))
            steps.append(_step(_JUMP_EQUAL, 0, left - 1, value))  # not equal: past the drop, to the next sender
            left -= 2
        steps.append(_step(_RETURN, 0, 0, 0))
    if steps:
        steps.append(_step(_RETURN, 0, 0, _EVERYTHING))
    return steps


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
