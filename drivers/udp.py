"""MQTT-SN over UDP: one non-blocking socket, drained per wake-up so that a batch of requests shares one commit."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from drivers.link import Arrived, Datagrams

# As much as the socket is asked for in one wake-up: bounds the time before answers go out and timers are looked at.
_MAX_DATAGRAMS_PER_WAKE_UP = 512
_MAX_DATAGRAM_OCTETS = 65535
_MAX_HOSTS_REMEMBERED = 4096
# A thousand adapters that come back at once after a power cut must fit into the kernel's queue.
_RECEIVE_BUFFER_OCTETS = 4 * 1024 * 1024


Network = IPv4Network | IPv6Network


class UdpLink:
    """Adapters on Wi-Fi, Thread or Ethernet, and tools. Peers are `("udp", host, port)`; `("udp", "*")` are all nodes.

    `broadcast`: where what is for all goes (None: nowhere). `networks`: where adapters may be; datagrams from elsewhere
    are dropped unread and counted.
    """

    name = "udp"
    max_octets: int | None = None
    is_up = True  # a socket is always there

    def __init__(
        self,
        host: str,
        port: int,
        *,
        broadcast: tuple[str, int] | None = None,
        networks: Sequence[Network] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._broadcast = broadcast
        self._networks = networks
        self._known: dict[str, bool] = {}  # hosts that were looked up, and whether they may speak
        self._socket: socket.socket | None = None
        self.changed: Callable[[bool], None] = lambda is_up: None
        self._counters = {"received": 0, "sent": 0, "dropped": 0, "strangers": 0}

    @property
    def address(self) -> tuple[str, int]:
        """Where the socket is bound: the port the kernel chose when the configuration says 0."""
        assert self._socket is not None, "start() comes first"
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def start(self, arrived: Arrived) -> None:
        loop = asyncio.get_running_loop()
        family, kind, proto, _, address = (
            await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        )[0]
        self._socket = socket.socket(family, kind, proto)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_OCTETS)
        if self._broadcast is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind(address)
        loop.add_reader(self._socket, self._drain, self._socket, arrived)

    def _drain(self, sock: socket.socket, arrived: Arrived) -> None:
        arrivals: Datagrams = []
        receive = sock.recvfrom
        for _ in range(_MAX_DATAGRAMS_PER_WAKE_UP):
            try:
                data, address = receive(_MAX_DATAGRAM_OCTETS)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error that belongs to an earlier send: not this datagram's business
                continue
            arrivals.append((("udp", address[0], address[1]), data))
        if self._networks:
            arrivals = [arrival for arrival in arrivals if self._may_speak(arrival[0][1])]
        if arrivals:
            self._counters["received"] += len(arrivals)
            arrived(arrivals)

    def _may_speak(self, host: str) -> bool:
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _MAX_HOSTS_REMEMBERED:
                self._known.clear()
            address = ip_address(host.partition("%")[0])
            if isinstance(address, IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            known = self._known[host] = any(address in network for network in self._networks)
        self._counters["strangers"] += not known
        return known

    def send(self, datagrams: Datagrams) -> None:
        sock = self._socket
        if sock is None:
            return
        send = sock.sendto
        dropped = 0
        for peer, data in datagrams:
            try:
                if peer[1] != "*":
                    send(data, peer[1:3])
                elif self._broadcast is not None:
                    send(data, self._broadcast)
            except OSError:
                # The kernel's queue is full or the host is gone: the adapter retransmits, as it would on a lossy radio.
                dropped += 1
        self._counters["sent"] += len(datagrams) - dropped
        self._counters["dropped"] += dropped

    async def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def status(self) -> dict[str, Any]:
        return dict(self._counters)
