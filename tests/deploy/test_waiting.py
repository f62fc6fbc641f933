"""Free ports: none that an outgoing connection could be given between the look and the use."""

import socket
from pathlib import Path

from deploy.waiting import free_port


def test_a_free_port_is_none_of_those_for_outgoing_connections() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for _ in range(50):
            port = free_port(kind)
            assert not first <= port <= last
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind(("127.0.0.1", port))
