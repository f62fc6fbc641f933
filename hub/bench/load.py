"""A load of MQTT-SN clients over UDP: one process, one socket a client, window 1, QoS 1; written for speed."""

import selectors
import socket
import struct
import time
from typing import NamedTuple

_PUBACK = 0x0D
_RETRY_S = 1.0
_CONNECTS = 4  # a CONNECT goes so often at most


class Load(NamedTuple):
    """What each client publishes, and where: predefined topic 0x0001 unless it says otherwise."""

    payload: bytes
    topic_id_type: int = 1
    topic_id: int = 0x0001


class Figures(NamedTuple):
    """What a load run measured. Latencies in milliseconds."""

    clients: int
    messages: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    retransmissions: int

    @property
    def rate(self) -> float:
        """Acknowledged messages per second."""
        return self.messages / self.duration_s


class _Client:
    __slots__ = ("datagram", "msg_id", "sent_at", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.msg_id = 0
        self.sent_at = 0.0
        self.datagram = b""


def connect(address: tuple[str, int], number: int, timeout_s: float = 10.0, *, from_port: int = 0) -> socket.socket:
    """A UDP socket whose CONNECT (clean, 60 s) the gateway accepted. `from_port`: the own port of client 0, each next
    has the next; 0: any."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if from_port:
        sock.bind(("127.0.0.1", from_port + number))
    sock.connect(address)
    sock.settimeout(timeout_s)
    client_id = f"bench-{number}".encode()
    answer = b""
    for tries_left in reversed(range(_CONNECTS)):
        sock.send(bytes((6 + len(client_id), 0x04, 0x04, 1)) + struct.pack(">H", 60) + client_id)
        try:
            answer = sock.recv(64)
            break
        except TimeoutError:
            if not tries_left:
                raise
    if answer[1:3] != b"\x05\x00":
        raise RuntimeError(f"client {number} was refused: {answer.hex()}")
    sock.setblocking(False)
    return sock


def run_load(
    address: tuple[str, int], clients: int, load: Load, duration_s: float, *, handshake: bool, from_port: int = 0
) -> Figures:
    """Keep `clients` publishing for `duration_s`. `handshake` False: the peer answers any PUBLISH as it is."""
    selector = selectors.EpollSelector()
    fleet = []
    for number in range(clients):
        if handshake:
            sock = connect(address, number, from_port=from_port)
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(address)
            sock.setblocking(False)
        client = _Client(sock)
        selector.register(sock, selectors.EVENT_READ, client)
        fleet.append(client)
    try:
        return _drive(selector, fleet, load, duration_s)
    finally:
        selector.close()
        for client in fleet:
            client.sock.close()


def _drive(selector: selectors.EpollSelector, fleet: list[_Client], load: Load, duration_s: float) -> Figures:
    now = time.perf_counter
    latencies: list[float] = []
    retransmissions = 0
    head = struct.Struct(">BBBHH")
    length, flags = 7 + len(load.payload), 0x20 | load.topic_id_type

    def publish(client: _Client) -> None:
        client.msg_id = client.msg_id % 0xFFFF + 1
        client.datagram = head.pack(length, 0x0C, flags, load.topic_id, client.msg_id) + load.payload
        client.sent_at = now()
        client.sock.send(client.datagram)

    begun = now()
    ends_at = begun + duration_s
    for client in fleet:
        publish(client)
    check_at = begun + _RETRY_S
    while (moment := now()) < ends_at:
        for key, _ in selector.select(0.1):
            client = key.data
            answer = client.sock.recv(64)
            if answer[1] == _PUBACK and answer[4:6] == client.msg_id.to_bytes(2, "big"):
                if answer[6]:
                    raise RuntimeError(f"return code {answer[6]}")
                latencies.append(now() - client.sent_at)
                publish(client)
        if moment > check_at:
            check_at = moment + _RETRY_S
            for client in fleet:
                if moment - client.sent_at > _RETRY_S:
                    retransmissions += 1
                    client.sent_at = moment
                    client.sock.send(client.datagram[:2] + bytes((flags | 0x80,)) + client.datagram[3:])
    took = now() - begun
    latencies.sort()
    at = latencies.__getitem__
    count = len(latencies)
    return Figures(len(fleet), count, took, at(count // 2) * 1e3, at(count * 99 // 100) * 1e3, retransmissions)
