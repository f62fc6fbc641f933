"""Many simulated hubs in one process, each with a TLS session of its own (paho) at a broker.

    python -m deploy.fleet.swarm --ca FILE --hubs DIR --operators FILE --port PORT

Every NAME.pem in DIR with its NAME.key is a hub. The sessions are opened a few at a time and left open. Ctrl-C or
SIGTERM ends it.
"""

import argparse
import selectors
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from paho.mqtt.enums import CallbackAPIVersion

from deploy.fleet.simulated_hub import HubMessage, SimulatedHub
from hub.wire.keys.identity import common_name
from hub.wire.keys.operators import Operators, parse_operators
from hub.wire.uplink.envelope import FileSigner, kid_of

_KEEPALIVE_S = 60
_LOOK_S = 0.1
_RETRY_S = 5.0


class SwarmSession:
    """One hub and its connection. The loop is the swarm's: it asks for the socket and gives it time."""

    def __init__(self, hub: SimulatedHub, context: ssl.SSLContext, address: tuple[str, int]) -> None:
        self.hub = hub
        self._address = address
        client = self._client = mqtt.Client(CallbackAPIVersion.VERSION2, hub.hub, clean_session=False)
        client.tls_set_context(context)
        client.max_queued_messages_set(10_000)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        self.is_open = False
        self.retry_at = 0.0

    def open(self, now: float) -> None:
        """Connect; the TLS handshake is waited for. A failure is tried again later."""
        self.retry_at = now + _RETRY_S
        will = self.hub.state("offline", time.time())
        self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        try:
            self._client.connect(*self._address, keepalive=_KEEPALIVE_S)
        except OSError:
            return
        self.is_open = True

    @property
    def socket(self) -> Any:
        return self._client.socket()

    @property
    def wants_to_write(self) -> bool:
        return self._client.want_write()

    def serve(self, readable: bool) -> None:
        if readable:
            self._client.loop_read()
            sock = self._client.socket()
            # What TLS has read already does not make the descriptor readable.
            while isinstance(sock, ssl.SSLSocket) and sock.pending():
                self._client.loop_read()
                sock = self._client.socket()
        if self._client.want_write():
            self._client.loop_write()

    def look(self, t: float) -> None:
        """Whatever is due."""
        self._client.loop_misc()
        if t >= self.hub.deadline:
            self._publish(self.hub.due(t))

    def close(self) -> None:
        self._publish([self.hub.state("offline", time.time())])
        self.serve(False)
        self._client.disconnect()
        self.serve(False)

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
        groups = self.hub.groups
        if not message.retain:
            self._publish(self.hub.take(message.topic, bytes(message.payload), time.time()))
        if self.hub.groups != groups:
            self._subscribe()

    def _on_disconnect(self, *_: object) -> None:
        self.is_open = False


class Swarm:
    """`hubs` sessions and one loop."""

    def __init__(self, sessions: list[SwarmSession], opened_a_second: float) -> None:
        self.sessions = sessions
        self._opened_a_second = opened_a_second
        self._selector = selectors.DefaultSelector()
        self._known: dict[int, tuple[SwarmSession, Any, int]] = {}
        self.is_ending = False

    def run(self) -> None:
        """Until `is_ending`."""
        open_at = look_at = time.monotonic()
        while not self.is_ending:
            now = time.monotonic()
            if now >= open_at:
                closed = next((s for s in self.sessions if not s.is_open and s.retry_at <= now), None)
                if closed is not None:
                    closed.open(now)
                    open_at = now + 1 / self._opened_a_second
            if now >= look_at:
                look_at = now + _LOOK_S
                t = time.time()
                for session in self.sessions:
                    if session.is_open:
                        session.look(t)
            self._register()
            for key, mask in self._selector.select(0.02):
                key.data.serve(bool(mask & selectors.EVENT_READ))
        for session in self.sessions:
            if session.is_open:
                session.close()

    def _register(self) -> None:
        """Watch every socket that is open, for what it wants."""
        for index, session in enumerate(self.sessions):
            sock = session.socket if session.is_open else None
            wanted = selectors.EVENT_READ | (
                selectors.EVENT_WRITE if sock is not None and session.wants_to_write else 0
            )
            known = self._known.get(index)
            if known is not None and (known[1] is not sock):
                self._selector.unregister(known[1])
                del self._known[index]
                known = None
            if sock is None:
                continue
            if known is None:
                self._selector.register(sock, wanted, session)
            elif known[2] != wanted:
                self._selector.modify(sock, wanted, session)
            else:
                continue
            self._known[index] = (session, sock, wanted)

    @property
    def open_sessions(self) -> int:
        return sum(session.is_open for session in self.sessions)


def make_session(
    ca_file: Path, cert_file: Path, operators: Operators, address: tuple[str, int], **pace: float
) -> SwarmSession:
    """A hub by its certificate; the key lies beside it."""
    certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    key_file = cert_file.with_suffix(".key")
    key = load_pem_private_key(key_file.read_bytes(), None)
    signer = FileSigner(key, kid_of(certificate))  # type: ignore[arg-type]
    hub = SimulatedHub(common_name(certificate), signer, operators, time.time(), **pace)
    context = ssl.create_default_context(cafile=str(ca_file))
    context.load_cert_chain(cert_file, key_file)
    return SwarmSession(hub, context, address)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.fleet.swarm", description=__doc__)
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="whom the broker's certificate is from")
    parser.add_argument("--hubs", type=Path, required=True, metavar="DIR", help="the hubs' certificates and keys")
    parser.add_argument("--operators", type=Path, required=True, help="operators.toml: whom the hubs obey")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval-s", type=float, default=10.0, help="between readings (default: %(default)s)")
    parser.add_argument("--pack-s", type=float, default=60.0, help="between packs (default: %(default)s)")
    parser.add_argument("--a-second", type=float, default=50.0, help="sessions opened (default: %(default)s)")
    arguments = parser.parse_args()
    operators = parse_operators(arguments.operators.read_text())
    address = (arguments.host, arguments.port)
    pace = {"interval_s": arguments.interval_s, "pack_s": arguments.pack_s}
    certificates = sorted(arguments.hubs.glob("*.pem"))
    sessions = [make_session(arguments.ca, file, operators, address, **pace) for file in certificates]
    swarm = Swarm(sessions, arguments.a_second)

    def end(*_: object) -> None:
        swarm.is_ending = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    print("ready", flush=True)
    swarm.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
