"""MQTT-SN over UDP: one non-blocking socket, drained per wake-up so that a batch of requests shares one commit.

What is more than one turn is shared out by address before anybody reads it (fair_queue.py); who goes on flooding is
dropped by the kernel for a while (socket_filter.py), at first for a second, each time for twice as long.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from drivers import socket_filter
from drivers.fair_queue import BYTES_HELD, TURN, FairQueue
from drivers.link import Arrived, Datagrams

# As much as the socket is asked for in one wake-up: bounds the time before answers go out and timers are looked at.
_MAX_DATAGRAMS_PER_WAKE_UP = 2048
# Who loses so many within a second sends more than anybody here can answer.
_FLOOD = 1000
_LOOK_EVERY_S = 1.0
_HOLD_OFF_S, _HOLD_OFF_MAX_S = 1.0, 60.0
_FORGET_AFTER_S = 600.0
_PORTS_OF_A_HOST = 8  # held off one by one; beyond it the host is, whatever its port
_MAX_DATAGRAM_BYTES = 65535
_MAX_HOSTS_REMEMBERED = 4096
# A thousand adapters that come back at once after a power cut must fit into the kernel's queue.
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024


Network = IPv4Network | IPv6Network


class UdpLink:
    """Adapters on Wi-Fi, Thread or Ethernet, and tools. Peers are `("udp", host, port)`; `("udp", "*")` are all nodes.

    `broadcast`: where what is for all goes (None: nowhere). `networks`: where adapters may be; datagrams from elsewhere
    are dropped unread and counted.
    """

    name = "udp"
    max_bytes: int | None = None
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
        self._counters = {"received": 0, "sent": 0, "dropped": 0, "strangers": 0, "flooded": 0}
        self._queue = FairQueue()
        self._serve_is_scheduled = False
        self._look_at = 0.0
        # Who is held off, by host and port (None: all of them): until when, and for how long at a time.
        self._held_off: dict[tuple[str, int | None], tuple[float, float]] = {}
        self._looking_again: asyncio.TimerHandle | None = None

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
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        if self._broadcast is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind(address)
        loop.add_reader(self._socket, self._drain, self._socket, arrived)

    def _drain(self, sock: socket.socket, arrived: Arrived) -> None:
        arrivals: Datagrams = []
        receive = sock.recvfrom
        queue = self._queue
        room = BYTES_HELD  # no more is kept than the queue would take; the rest waits, or is lost, in the kernel
        for _ in range(_MAX_DATAGRAMS_PER_WAKE_UP):
            if room <= 0:
                break
            try:
                data, address = receive(_MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error that belongs to an earlier send: not this datagram's business
                continue
            arrivals.append((("udp", address[0], address[1]), data))
            room -= len(data)
        if self._networks:
            arrivals = [arrival for arrival in arrivals if self._may_speak(arrival[0][1])]
        self._counters["received"] += len(arrivals)
        if len(arrivals) <= TURN and not queue:
            if arrivals:
                arrived(arrivals)
            return
        for peer, data in arrivals:
            queue.put(peer, data)
        self._look_for_floods(sock)
        if not self._serve_is_scheduled:
            self._serve(arrived)

    def _serve(self, arrived: Arrived) -> None:
        """One turn of what waits; the next once the loop has done everything else that is due."""
        self._serve_is_scheduled = False
        if taken := self._queue.take():
            arrived(taken)
        if self._queue and self._socket is not None:
            self._serve_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve, arrived)

    def _look_for_floods(self, sock: socket.socket) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._look_at and sum(self._queue.dropped.values()) < _FLOOD:
            return
        self._look_at = now + _LOOK_EVERY_S
        dropped = self._queue.take_dropped()
        self._counters["flooded"] += sum(dropped.values())
        by_host: dict[str, int] = {}
        for (_, host, port), count in dropped.items():
            by_host[host] = by_host.get(host, 0) + count
            if count >= _FLOOD // 2:
                self._hold_off((host, port), now)
        for host, count in by_host.items():
            ports = sum(1 for held, port in self._held_off if held == host and port is not None)
            if count >= _FLOOD and (ports > _PORTS_OF_A_HOST or not ports):
                self._hold_off((host, None), now)
        self._filter(sock, now)

    def _hold_off(self, sender: tuple[str, int | None], now: float) -> None:
        until, for_s = self._held_off.pop(sender, (0.0, _HOLD_OFF_S / 2))
        for_s = min(_HOLD_OFF_MAX_S, 2 * for_s) if until <= now else for_s
        self._held_off[sender] = (max(until, now + for_s), for_s)

    def _filter(self, sock: socket.socket, now: float) -> None:
        """Have the kernel drop whom we hold off now, and look again when the first of them may speak."""
        self._held_off = {s: held for s, held in self._held_off.items() if now - held[0] < _FORGET_AFTER_S}
        while len(self._held_off) > 4 * socket_filter.MAX_SENDERS:
            del self._held_off[next(iter(self._held_off))]
        holding = {sender: until for sender, (until, _) in self._held_off.items() if until > now}
        socket_filter.attach(sock, holding)
        if self._looking_again is not None:
            self._looking_again.cancel()  # one look ahead: each of these comes here again
            self._looking_again = None
        if holding:
            loop = asyncio.get_running_loop()
            self._looking_again = loop.call_at(min(holding.values()) + 0.01, self._look_again, sock)

    def _look_again(self, sock: socket.socket) -> None:
        if sock is self._socket:
            self._filter(sock, asyncio.get_running_loop().time())

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
        """Counters; `flooding`: the hosts that were held off within the last ten minutes."""
        now = asyncio.get_running_loop().time()
        flooding = sorted({host for (host, _), held in self._held_off.items() if now - held[0] < _FORGET_AFTER_S})
        return {**self._counters, **({"flooding": flooding} if flooding else {})}
