"""A broker that says what a table tells it to: real TLS, real MQTT packets, written from MQTT 5.0 and 3.1.1 by hand.

mosquitto is the broker of most tests; this one says what mosquitto cannot be made to say (reason codes, server
references, limits), and counts what a subscriber never sees (PINGREQ, aliases, what is unanswered).
"""

import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.pki import DevelopmentAuthority

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
UNSUBSCRIBE, PINGREQ, PINGRESP, DISCONNECT = 10, 12, 13, 14

# MQTT 5 section 2.2.2.2: property identifier -> bytes of its value; 0 = a string or binary with its length in front.
_PROPERTY_BYTES = {
    0x01: 1, 0x02: 4, 0x03: 0, 0x08: 0, 0x09: 0, 0x11: 4, 0x12: 0, 0x13: 2, 0x15: 0, 0x16: 0, 0x17: 1, 0x18: 4,
    0x19: 1, 0x1A: 0, 0x1C: 0, 0x1F: 0, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
MESSAGE_EXPIRY, SESSION_EXPIRY, SERVER_KEEP_ALIVE, SERVER_REFERENCE = 0x02, 0x11, 0x13, 0x1C
RETAIN_AVAILABLE, MAXIMUM_QOS = 0x25, 0x24
RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS, MAXIMUM_PACKET_SIZE = 0x21, 0x22, 0x23, 0x27


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A control packet with its fixed header."""
    length, raw = len(body), b""
    while True:
        length, digit = length // 128, length % 128
        raw += bytes((digit | (0x80 if length else 0),))
        if not length:
            return bytes((kind << 4 | flags,)) + raw + body


def properties(**values: int | str) -> bytes:
    """Properties by the names above in lower case, with their length in front."""
    body = b""
    for name, value in values.items():
        number = globals()[name.upper()]
        size = _PROPERTY_BYTES[number]
        data = value.encode() if isinstance(value, str) else value.to_bytes(size, "big")
        body += bytes((number,)) + (b"" if size else len(data).to_bytes(2, "big")) + data
    return bytes((len(body),)) + body


def connack(code: int = 0, **values: int | str) -> bytes:
    """CONNACK of MQTT 5."""
    return packet(CONNACK, bytes((0, code)) + properties(**values))


def connack_3(code: int = 0) -> bytes:
    """CONNACK of MQTT 3.1.1."""
    return packet(CONNACK, bytes((0, code)))


def disconnect(code: int, **values: int | str) -> bytes:
    """DISCONNECT of MQTT 5, from the server."""
    return packet(DISCONNECT, bytes((code,)) + properties(**values))


@dataclass
class Script:
    """What one connection hears. `connack` b"": the connection is closed without an answer.

    `puback`: the code that answers each PUBLISH, None for no answer ever; each after `delay_s`. After `ends_after`
    publishes were heard the bytes of `last` are sent and the connection is closed; -1: never.
    """

    connack: bytes = field(default_factory=connack)
    puback: int | None = 0
    delay_s: float = 0.0
    ends_after: int = -1
    last: bytes = b""
    forgets: int = -1  # this PUBLISH, counted from 1, is never answered
    mute_from: int = 0  # this kind of packet and all that follow are heard and never answered
    at_once: bytes = b""  # sent right behind the CONNACK
    most_filters: int = 1000  # a SUBSCRIBE with more closes the connection
    refuses: bytes = b"\xff"  # topics with this in them are refused
    closes_on: bytes = b"\xff"  # a SUBSCRIBE with this in it closes the connection
    instead_of_suback: bytes = b""  # sent, and the connection closed
    silent_to_5: bool = False  # a CONNECT of MQTT 5 is never answered


class Heard(NamedTuple):
    """A packet that came, on which connection (from 0), and when (monotonic)."""

    connection: int
    kind: int
    flags: int
    body: bytes
    at: float


class Publish(NamedTuple):
    """A PUBLISH taken apart. `topic` as it stands on the wire; `alias` 0: none."""

    connection: int
    topic: str
    alias: int
    expiry_s: int | None
    mid: int
    payload: bytes
    at: float


class ScriptedBroker:
    """Connection n follows script n, the last one serves all that follow. `server`: its certificate's file stem."""

    def __init__(self, authority: DevelopmentAuthority, *scripts: Script, server: str = "broker") -> None:
        self.scripts = scripts or (Script(),)
        self.heard: list[Heard] = []
        self.unanswered: dict[int, int] = {}  # connection: the most PUBLISHes that it had unanswered at one time
        self.connections = 0
        self.open = 0
        pki = authority.directory
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pki / f"{server}.pem", pki / f"{server}.key")
        self._context.load_verify_locations(authority.ca_file)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            self._sockets.append(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        script = self.scripts[min(number, len(self.scripts) - 1)]
        with contextlib.suppress(OSError, EOFError, ValueError):
            tls = self._context.wrap_socket(sock, server_side=True)
            self.open += 1
            self._sockets.append(tls)
            try:
                _Connection(self, tls, number, script).run()
            finally:
                self.open -= 1
                with contextlib.suppress(OSError, ValueError):
                    tls.unwrap()  # close_notify: an end in order, not a torn line
                tls.close()

    def publishes(self, tail: str | None = None) -> list[Publish]:
        """Every PUBLISH heard, aliases resolved for the comparison with `tail` (the end of the topic) alone."""
        names: dict[tuple[int, int], str] = {}
        found = []
        for heard in list(self.heard):
            if heard.kind == PUBLISH:
                is_5 = self.level(heard.connection) == 5
                entry = _parse_publish(heard, is_5)
                if entry.topic and entry.alias:
                    names[entry.connection, entry.alias] = entry.topic
                topic = entry.topic or names.get((entry.connection, entry.alias), "")
                if tail is None or topic.endswith(tail):
                    found.append(entry)
        return found

    def level(self, connection: int) -> int:
        """The protocol level of a connection's CONNECT: 4 = 3.1.1, 5."""
        body = next(heard.body for heard in self.connects() if heard.connection == connection)
        return body[2 + int.from_bytes(body[:2], "big")]

    def connects(self) -> list[Heard]:
        return [heard for heard in list(self.heard) if heard.kind == CONNECT]

    def count(self, kind: int) -> int:
        return sum(heard.kind == kind for heard in list(self.heard))

    def hang_up(self) -> None:
        """End the connections there are; who is back at once is let in."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class _Connection:
    """One thread: OpenSSL's connections are not made for one that reads while another writes."""

    def __init__(self, broker: ScriptedBroker, sock: ssl.SSLSocket, number: int, script: Script) -> None:
        self._broker = broker
        self._sock = sock
        self._number = number
        self._script = script
        self._due: deque[tuple[float, bytes]] = deque()  # PUBACKs that wait, and until when
        self._unanswered = 0
        self._published = 0
        self._is_mute = False

    def run(self) -> None:
        for heard in self._packets():
            self._broker.heard.append(heard)
            if not self._answer(heard):
                return

    def _answer(self, heard: Heard) -> bool:
        script = self._script
        self._is_mute |= heard.kind == script.mute_from
        if self._is_mute:
            return True
        if heard.kind == CONNECT:
            if not script.connack:
                return False
            if script.silent_to_5 and self._broker.level(self._number) == 5:
                return True
            self._send(script.connack + script.at_once)
            return script.connack[3] == 0
        if heard.kind == SUBSCRIBE:
            middle = b"\x00" if self._broker.level(self._number) == 5 else b""
            topics = filters_of(heard.body[2 + len(middle) :])
            if script.instead_of_suback:
                self._send(script.instead_of_suback)
                self._linger()
                return False
            if len(topics) > script.most_filters or any(script.closes_on in topic for topic in topics):
                return False
            codes = bytes(0x80 if script.refuses in topic else 1 for topic in topics)
            self._send(packet(SUBACK, heard.body[:2] + middle + codes))
        elif heard.kind == PINGREQ:
            self._send(packet(PINGRESP, b""))
        elif heard.kind == DISCONNECT:
            return False
        elif heard.kind == PUBLISH:
            return self._take(heard)
        return True

    def _take(self, heard: Heard) -> bool:
        script = self._script
        self._published += 1
        self._unanswered += 1
        known = self._broker.unanswered
        known[self._number] = max(known.get(self._number, 0), self._unanswered)
        if script.puback is not None and self._published != script.forgets:
            mid = _parse_publish(heard, False).mid.to_bytes(2, "big")
            code = bytes((script.puback,)) if script.puback else b""
            self._due.append((time.monotonic() + script.delay_s, mid + code))
            self._answer_what_is_due()
        if self._published == script.ends_after:
            if script.last:
                self._send(script.last)
                self._linger()
            return False
        return True

    def _linger(self) -> None:
        # As a broker does: closing on data that nobody read would reset the connection under the last words.
        self._sock.settimeout(2)
        with contextlib.suppress(OSError):
            while self._sock.recv(4096):
                pass

    def _answer_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            self._unanswered -= 1
            self._send(packet(PUBACK, self._due.popleft()[1]))

    def _send(self, data: bytes) -> None:
        self._sock.settimeout(None)
        self._sock.sendall(data)

    def _packets(self) -> Iterator[Heard]:
        while True:
            first = self._exactly(1)[0]
            length, shift = 0, 0
            while True:
                digit = self._exactly(1)[0]
                length |= (digit & 0x7F) << shift
                shift += 7
                if not digit & 0x80:
                    break
            yield Heard(self._number, first >> 4, first & 15, self._exactly(length), time.monotonic())

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._answer_what_is_due()
            self._sock.settimeout(max(0.001, self._due[0][0] - time.monotonic()) if self._due else None)
            try:
                more = self._sock.recv(count - len(data))
            except TimeoutError:
                continue
            if not more:
                raise EOFError
            data += more
        return data


def filters_of(body: bytes) -> list[bytes]:
    """The topic filters of a SUBSCRIBE, behind its packet identifier and properties."""
    found, at = [], 0
    while at < len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        found.append(body[at + 2 : end])
        at = end + 1
    return found


def parse_properties(data: bytes) -> tuple[dict[int, int | bytes], bytes]:
    """`(properties, what follows them)`."""
    length, rest = data[0], data[1:]
    if length & 0x80:
        length, rest = (length & 0x7F) | rest[0] << 7, rest[1:]
    block, rest = rest[:length], rest[length:]
    found: dict[int, int | bytes] = {}
    while block:
        number, size = block[0], _PROPERTY_BYTES[block[0]]
        if size:
            found[number], block = int.from_bytes(block[1 : 1 + size], "big"), block[1 + size :]
        else:
            size = int.from_bytes(block[1:3], "big")
            found[number], block = block[3 : 3 + size], block[3 + size :]
    return found, rest


def _parse_publish(heard: Heard, is_5: bool) -> Publish:
    size = int.from_bytes(heard.body[:2], "big")
    topic, rest = heard.body[2 : 2 + size].decode(), heard.body[2 + size :]
    mid, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    known: dict[int, int | bytes] = {}
    if is_5:
        known, rest = parse_properties(rest)
    alias, expiry = known.get(TOPIC_ALIAS, 0), known.get(MESSAGE_EXPIRY)
    assert isinstance(alias, int) and not isinstance(expiry, bytes)
    return Publish(heard.connection, topic, alias, expiry, mid, rest, heard.at)


class Portal:
    """What a captive portal does on port 8883: it answers any bytes in clear with HTTP."""

    def __init__(self, status: str = "302 Found\r\nLocation: http://portal.example/login") -> None:
        self._answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with sock, contextlib.suppress(OSError):
                sock.recv(4096)
                sock.sendall(self._answer)

    def close(self) -> None:
        self._listener.close()
