"""Many simulated hubs in one process, each with a TLS session of its own (paho) at a broker.

    python -m deploy.fleet.swarm --ca FILE --hubs DIR --operators FILE --brokers HOST:PORT ...

Every NAME.pem in DIR with its NAME.key is a hub. The sessions are opened a few at a time and left open. With several
brokers a hub begins at hash(hub) mod n and goes on to the next when one is not there, as hubs do. Ctrl-C or SIGTERM
ends it.
"""

import argparse
import gc
import heapq
import math
import random
import selectors
import signal
import socket
import ssl
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from paho.mqtt.enums import CallbackAPIVersion

from deploy.fleet.simulated_hub import HubMessage, SimulatedHub
from deploy.fleet.thin_tls import ThinTlsContext, ThinTlsSocket
from drivers.process import trim_heap
from hub.core.uplink.reconnect_policy import ReconnectPolicy
from hub.wire.keys.identity import common_name
from hub.wire.keys.operators import Operators, parse_operators
from hub.wire.uplink.envelope import FileSigner, alg_of, kid_of

_KEEPALIVE_S = 60
_MISC_S = 15.0  # a broker waits for half a keep-alive more
_ANSWERED_AT_ONCE = 20
_FOR_ALL = "meters/all/commands"
_RETRY_S = 5.0
_SOURCES = 250
_TRIM_S = 20.0


class _HubTls:
    """What paho takes for a context: one hub's certificate, and the TLS session it had last."""

    __slots__ = ("_earlier", "_shared", "_shown", "cert_file")
    check_hostname = True

    def __init__(self, shared: ThinTlsContext, cert_file: Path) -> None:
        self._shared = shared
        self.cert_file = self._shown = cert_file
        self._earlier: ssl.SSLSession | None = None

    def wrap_socket(self, sock: socket.socket, **options: Any) -> Any:
        earlier, self._earlier = self._earlier, None
        self._shown = self.cert_file
        return self._shared.wrap(self.cert_file, earlier, sock, **options)

    def remember(self, sock: Any) -> None:
        """A session that ends may be resumed, unless another certificate is to be shown."""
        if isinstance(sock, ThinTlsSocket) and self._shown == self.cert_file:
            self._earlier = sock.session


class _KeyAsBytes:
    """Signs with a key that is read anew each time, which takes 25 us: one that OpenSSL has read takes 3.5 kB."""

    __slots__ = ("_key", "alg", "kid")

    def __init__(self, key: Any, kid: bytes) -> None:
        self._key = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        self.kid, self.alg = kid, alg_of(key.public_key())

    def sign(self, data: bytes) -> bytes:
        key: Any = load_der_private_key(self._key, None)
        return FileSigner(key, self.kid).sign(data)


class SwarmSession:
    """One hub and its connection. The loop is the swarm's, which sets `watches`: what of the socket is waited for, and
    that something is due earlier than it was."""

    __slots__ = ("_addresses", "_at", "_client", "_tls", "hub", "is_open", "watches")

    def __init__(
        self, hub: SimulatedHub, tls: ThinTlsContext, cert_file: Path, addresses: Sequence[tuple[str, int]]
    ) -> None:
        self.hub = hub
        self.watches: Watching = _Nobody()
        self._tls = _HubTls(tls, cert_file)
        self._addresses = addresses
        self._at = zlib.crc32(hub.hub.encode()) % len(addresses)
        client = self._client = mqtt.Client(CallbackAPIVersion.VERSION2, hub.hub, clean_session=False)
        client.tls_set_context(self._tls)  # type: ignore[arg-type]
        client.max_queued_messages_set(10_000)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = lambda _c, _u, sock: self.watches.opened(self, sock)
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = lambda _c, _u, sock: self.watches.wants(self, sock, write=True)
        client.on_socket_unregister_write = lambda _c, _u, sock: self.watches.wants(self, sock, write=False)
        self.is_open = False

    def open(self) -> None:
        """Connect; the TLS handshake is waited for."""
        will = self.hub.state("offline", time.time())
        self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        self.is_open = True
        try:
            host, port = self._addresses[self._at]
            self._client.connect(host, port, keepalive=_KEEPALIVE_S, bind_address=self._source_for(host))
        except OSError:
            self.is_open = False
            self._go_on()

    def _source_for(self, host: str) -> str:
        """On the loopback each hub has one of many addresses of its own. paho binds its sockets before they connect,
        so that those of one address share its 28,000 ports, to whatever broker they go."""
        if host != "localhost" and not host.startswith("127."):
            return ""
        return f"127.0.1.{1 + zlib.crc32(self.hub.hub.encode()) // len(self._addresses) % _SOURCES}"

    def serve(self, *, readable: bool) -> None:
        """The socket has something, or takes something."""
        if readable:
            self._client.loop_read()
            sock = self._client.socket()
            # What TLS has read already does not make the descriptor readable.
            while isinstance(sock, ThinTlsSocket) and sock.pending():
                self._client.loop_read()
                sock = self._client.socket()
        if self._client.want_write():
            self._client.loop_write()

    def look(self, t: float) -> float:
        """Whatever is due; when to look again, UTC epoch seconds."""
        self._client.loop_misc()
        if t >= self.hub.deadline:
            self._publish(self.hub.due(t))
        return min(self.hub.deadline, t + _MISC_S)

    def close(self) -> None:
        self._publish([self.hub.state("offline", time.time())])
        self.close_line()

    def close_line(self) -> None:
        self.serve(readable=False)
        self._client.disconnect()
        self.serve(readable=False)

    def renew(self, cert_file: Path) -> None:
        """A new certificate, its key beside it: told to the control point, shown at the next connect, soon."""
        certificate, signer = _identity(cert_file)
        until = certificate.not_valid_after_utc.strftime("%Y-%m-%d")
        self._tls.cert_file = cert_file
        self._publish(self.hub.renewed(signer, certificate.public_bytes(Encoding.DER), until, time.time()))
        self._at = (self._at - 1) % len(self._addresses)  # it comes back to this broker, where its session waits
        self.close_line()

    def _publish(self, messages: list[HubMessage]) -> None:
        for message in messages:
            self._client.publish(message.topic, message.payload, qos=1, retain=message.is_retained)

    def _subscribe(self) -> None:
        for topic_filter in self.hub.filters():
            self._client.subscribe(topic_filter, 1)

    def _on_connect(self, _client: object, _user: object, _flags: object, reason: object, _props: object) -> None:
        if str(reason) == "Success":
            self._subscribe()
            self._publish(self.hub.started(time.time()))

    def _on_message(self, _client: object, _user: object, message: mqtt.MQTTMessage) -> None:
        if not message.retain:
            self.watches.heard(self, message.topic, bytes(message.payload))

    @property
    def is_connected(self) -> bool:
        """The broker has let it in."""
        return self.is_open and self._client.is_connected()

    @property
    def is_resumed(self) -> bool:
        """Its TLS session is an earlier one's."""
        sock = self._client.socket()
        return isinstance(sock, ThinTlsSocket) and sock.session_reused

    def say(self, messages: list[HubMessage]) -> None:
        """What its hub has for the broker beside what is due."""
        self._publish(messages)

    def answer(self, topic: str, payload: bytes) -> None:
        """Do what was heard."""
        groups = self.hub.groups
        self._publish(self.hub.take(topic, payload, time.time()))
        self.watches.due_at(self, self.hub.deadline)
        if self.hub.groups != groups:
            self._subscribe()

    def _on_socket_close(self, _client: object, _user: object, sock: Any) -> None:
        self._tls.remember(sock)
        self.watches.closed(self, sock)

    def _on_disconnect(self, *_: object) -> None:
        self.is_open = False
        self._go_on()

    def _go_on(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)


class Watching(Protocol):
    """What a session tells the loop."""

    def opened(self, session: SwarmSession, sock: Any) -> None: ...

    def closed(self, session: SwarmSession, sock: Any) -> None: ...

    def wants(self, session: SwarmSession, sock: Any, *, write: bool) -> None: ...

    def due_at(self, session: SwarmSession, t: float) -> None: ...

    def heard(self, session: SwarmSession, topic: str, payload: bytes) -> None: ...


class _Nobody:
    def opened(self, session: SwarmSession, sock: Any) -> None:
        """Nobody waits."""

    closed = opened

    def wants(self, session: SwarmSession, sock: Any, *, write: bool) -> None:
        """Nobody waits."""

    def due_at(self, session: SwarmSession, t: float) -> None:
        """Nobody waits."""

    def heard(self, session: SwarmSession, topic: str, payload: bytes) -> None:
        """Nobody waits."""


class Swarm:
    """Sessions and one loop: its work grows with what happens, not with how many there are. Sockets are read before
    anything is answered: hubs are machines of their own, and one that computes keeps no other from hearing."""

    def __init__(self, sessions: list[SwarmSession], opened_a_second: float, retry_s: float = _RETRY_S) -> None:
        """`retry_s`: until a hub whose session ended tries again; 0: as hubs do, by a policy of its own each."""
        self.sessions = sessions
        self._retry_s = retry_s
        self._policies = [ReconnectPolicy(random.random) for _ in sessions] if not retry_s else []
        self._opened_at = [0.0] * len(sessions)  # monotonic seconds
        self._pause_s = 1 / opened_a_second
        self._selector = selectors.DefaultSelector()
        self._numbers = {session: number for number, session in enumerate(sessions)}
        self._to_open = [(0.0, number) for number in range(len(sessions))]  # (not before, which): a heap
        self._waiting = set(range(len(sessions)))  # what the heap holds
        self._looks: list[tuple[float, int]] = []  # (UTC epoch seconds, which): a heap
        self._look_at = [math.inf] * len(sessions)  # what of the heap counts
        self._heard: deque[tuple[SwarmSession, str, bytes]] = deque()
        self.arrivals: list[float] = []  # of commands for all, monotonic seconds: when each hub had them
        self.is_ending = False
        self.each_round: Callable[[], None] = lambda: None  # called by the loop, some fifty times a second
        for session in sessions:
            session.watches = self

    def run(self) -> None:
        """Until `is_ending`."""
        open_at = trim_at = 0.0
        while not self.is_ending:
            now = time.monotonic()
            if now >= trim_at:
                # What OpenSSL had for handshakes goes back to the kernel: a tenth of a hub.
                trim_at = now + _TRIM_S
                trim_heap()
            if now >= open_at and self._to_open and self._to_open[0][0] <= now:
                open_at = now + self._pause_s
                self._open(heapq.heappop(self._to_open)[1], now)
            self._look(time.time())
            self.each_round()
            for key, mask in self._selector.select(0.0 if self._heard else 0.005 if self._to_open else 0.02):
                key.data.serve(readable=bool(mask & selectors.EVENT_READ))
            for _ in range(min(len(self._heard), _ANSWERED_AT_ONCE)):
                session, topic, payload = self._heard.popleft()
                session.answer(topic, payload)
        for session in self.sessions:
            if session.is_open:
                session.close()

    def _open(self, number: int, now: float) -> None:
        session = self.sessions[number]
        self._waiting.discard(number)
        session.open()
        if session.is_open:
            self._opened_at[number] = now
            self.due_at(session, time.time())
        else:
            self._try_again(number, now, "uplink-unreachable")

    def _try_again(self, number: int, now: float, failure: str) -> None:
        if number not in self._waiting:
            self._waiting.add(number)
            delay_s = self._policies[number].delay_s(failure) if self._policies else self._retry_s
            heapq.heappush(self._to_open, (now + delay_s, number))

    def _look(self, t: float) -> None:
        while self._looks and self._looks[0][0] <= t:
            at, number = heapq.heappop(self._looks)
            if at != self._look_at[number]:
                continue  # it was to be earlier
            self._look_at[number] = math.inf
            session = self.sessions[number]
            if session.is_open:
                self.due_at(session, session.look(t))

    def due_at(self, session: SwarmSession, t: float) -> None:
        number = self._numbers[session]
        if t < self._look_at[number]:
            self._look_at[number] = t
            heapq.heappush(self._looks, (t, number))

    def heard(self, session: SwarmSession, topic: str, payload: bytes) -> None:
        if topic == _FOR_ALL:
            self.arrivals.append(time.monotonic())
        self._heard.append((session, topic, payload))

    def opened(self, session: SwarmSession, sock: Any) -> None:
        self._selector.register(sock, selectors.EVENT_READ, session)

    def closed(self, session: SwarmSession, sock: Any) -> None:
        self._selector.unregister(sock)
        if not self.is_ending:
            number, now = self._numbers[session], time.monotonic()
            if self._policies and session.is_open:
                self._policies[number].backoff.lived(now - self._opened_at[number])
            self._try_again(number, now, "uplink-lost" if session.is_open else "uplink-unreachable")

    def wants(self, session: SwarmSession, sock: Any, *, write: bool) -> None:
        self._selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0), session)

    @property
    def open_sessions(self) -> int:
        return sum(session.is_open for session in self.sessions)


def make_session(
    tls: ThinTlsContext, cert_file: Path, operators: Operators, addresses: Sequence[tuple[str, int]], *,
    began_s: float | None = None, **pace: float,
) -> SwarmSession:  # fmt: skip
    """A hub by its certificate; the key lies beside it. `began_s`: since when it measures, UTC; else from now on."""
    certificate, signer = _identity(cert_file)
    hub = SimulatedHub(common_name(certificate), signer, operators, time.time() if began_s is None else began_s, **pace)
    return SwarmSession(hub, tls, cert_file, addresses)


def _identity(cert_file: Path) -> tuple[x509.Certificate, _KeyAsBytes]:
    certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    key = load_pem_private_key(cert_file.with_suffix(".key").read_bytes(), None)
    return certificate, _KeyAsBytes(key, kid_of(certificate))


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """The command line of a swarm."""
    parser = argparse.ArgumentParser(prog=f"python -m deploy.fleet.{name}", description=about)
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="whom the broker's certificate is from")
    parser.add_argument("--hubs", type=Path, required=True, metavar="DIR", help="the hubs' certificates and keys")
    parser.add_argument("--operators", type=Path, required=True, help="operators.toml: whom the hubs obey")
    parser.add_argument("--brokers", nargs="+", required=True, metavar="HOST:PORT")
    parser.add_argument("--interval-s", type=float, default=10.0, help="between readings (default: %(default)s)")
    parser.add_argument("--pack-s", type=float, default=60.0, help="between packs (default: %(default)s)")
    parser.add_argument("--heartbeat-s", type=float, default=60.0, help="(default: %(default)s)")
    parser.add_argument(
        "--retry-s", type=float, default=_RETRY_S,
        help="until one whose session ended tries again; 0: as hubs do, drawn and growing (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--a-second", type=float, default=50.0, help="sessions opened (default: %(default)s)")
    return parser


def swarm_of(arguments: argparse.Namespace) -> Swarm:
    """What the command line asks for."""
    operators = parse_operators(arguments.operators.read_text())
    addresses = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in arguments.brokers)]
    pace = {name: getattr(arguments, name) for name in ("interval_s", "pack_s", "heartbeat_s")}
    certificates = sorted(arguments.hubs.glob("*.pem"))
    tls = ThinTlsContext(arguments.ca)
    sessions = [make_session(tls, file, operators, addresses, **pace) for file in certificates]
    return Swarm(sessions, arguments.a_second, arguments.retry_s)


def write_when_asked(swarm: Swarm, file: Path, say: Callable[[], str]) -> None:
    """On SIGUSR1, in the loop's next round, `file` is what `say` gives, whole or not at all."""
    asked: list[int] = []

    def answer() -> None:
        if asked:
            asked.clear()
            fresh = file.with_suffix(".new")
            fresh.write_text(say())
            fresh.replace(file)

    signal.signal(signal.SIGUSR1, lambda number, _frame: asked.append(number))
    swarm.each_round = answer


def live(swarm: Swarm) -> int:
    """Until SIGTERM or Ctrl-C; the exit status."""

    def end(*_: object) -> None:
        swarm.is_ending = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    print("ready", flush=True)
    gc.freeze()  # thousands of hubs that stay need no looking at again and again
    swarm.run()
    return 0


def main() -> int:
    return live(swarm_of(parser_of("swarm", __doc__).parse_args()))


if __name__ == "__main__":
    sys.exit(main())
