"""The floods of floods.toml as datagrams, and one host that sends them."""

import re
import socket
import struct
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLOODS: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("floods.toml").read_text())["flood"]
_TOKEN = re.compile(r"text\(([^)]*)\)|fill\((\d+)\)|([0-9a-f]+)")
_AT_ONCE = 64  # then it looks whether there is an answer to throw away, as a host does


def datagram(pattern: str, n: int, i: int) -> bytes:
    """One datagram of a pattern, its Length in front."""
    is_whole = pattern.startswith("!")
    raw = b""
    for text, fill, hexed in _TOKEN.findall(pattern.lstrip("!").format(n=n, i=i & 0xFFFF)):
        raw += text.encode() if text else b"f" * int(fill) if fill else bytes.fromhex(hexed)
    if is_whole:
        head = raw.index(b"node")
        inner = raw.index(b"\x0a\x04\x04\x01", head)
        return bytes((2 + inner - 1 + 0,)) + raw[:inner] + raw[inner:]
    if len(raw) < 255:
        return bytes((len(raw) + 1,)) + raw
    return b"\x01" + struct.pack(">H", len(raw) + 3) + raw


def datagrams(flood: dict[str, Any]) -> Iterator[tuple[int, bytes]]:
    """`(name's number, datagram)`: all names open, then each goes on in turn, without end."""
    for n in range(flood["names"]):
        for pattern in flood.get("open", ()):
            yield n, datagram(pattern, n, 0)
    i = 0
    while flood.get("then"):
        i += 1
        for n in range(flood["names"]):
            for pattern in flood["then"]:
                yield n, datagram(pattern, n, i)


def send(flood: dict[str, Any], host: str, port: int, seconds: float, *, a_second: int = 20_000) -> int:
    """Send a flood from `host` for a while, a socket a name where it has few; how many datagrams that was."""
    sockets: dict[int, socket.socket] = {}
    sent, begun = 0, time.monotonic()
    try:
        for n, data in datagrams(flood):
            place = n % 500
            sock = sockets.get(place)
            if sock is None:
                sock = sockets[place] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind((host, 0))
                sock.setblocking(False)
            try:
                sock.sendto(data, ("127.0.0.1", port))
            except OSError:
                pass
            sent += 1
            if not sent % _AT_ONCE:
                ahead_s = sent / a_second - (time.monotonic() - begun)
                if ahead_s > 0:
                    time.sleep(ahead_s)
                if time.monotonic() - begun > seconds:
                    break
        return sent
    finally:
        for sock in sockets.values():
            sock.close()
