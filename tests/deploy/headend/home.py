"""A control point and simulated hubs on a clock of the test's own: messages are carried by hand, nothing sleeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.fleet.simulated_hub import HubMessage, SimulatedHub
from deploy.headend.control_point import ControlPoint
from deploy.pki import DevelopmentAuthority
from hub.headend.bookkeeper import CommandToSend
from hub.headend.inbox import Received
from hub.wire.keys.operators import operator_entry, parse_operators
from hub.wire.uplink.envelope import FileSigner, kid_of

START = 1_790_000_000  # UTC epoch seconds


class Fleet:
    """`place`: where the book is, else a folder. `drops(message)` true: the line loses it."""

    def __init__(self, folder: Path, names: list[str], place: Path | str = "", **policy: Any) -> None:
        self.folder, self.t = folder, float(START)
        self.place = place or folder / "headend"
        key = ec.generate_private_key(ec.SECP256R1())
        operators = parse_operators(operator_entry("op", key.public_key(), ["limit", "read", "admin", "price"], "Test"))
        self.signer = FileSigner(key, b"")
        self.policy = policy
        self.authority = DevelopmentAuthority(folder / "pki")
        self.hubs: dict[str, SimulatedHub] = {}
        self.certificates: dict[str, bytes] = {}
        for name in names:
            cert_file, key_file = self.authority.issue(name)
            certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
            hub_key = load_pem_private_key(key_file.read_bytes(), None)
            assert isinstance(hub_key, ec.EllipticCurvePrivateKey)
            self.certificates[name] = certificate.public_bytes(Encoding.DER)
            self.hubs[name] = SimulatedHub(name, FileSigner(hub_key, kid_of(certificate)), operators, self.t)
        self.drops: Callable[[HubMessage | CommandToSend], bool] = lambda _message: False
        self.received: list[Received] = []
        self.open()

    def open(self) -> None:
        """The control point starts, or starts again on what it had."""
        self.point = ControlPoint(self.place, "op", self.signer, **self.policy)
        self.point.enrol(self.certificates.values(), "test")
        self.point.commit()

    def close(self) -> None:
        self.point.close()

    def hear(self, messages: list[HubMessage], broker: str = "") -> None:
        """The control point takes what hubs say, by one of several brokers."""
        for message in messages:
            if not self.drops(message):
                self.received.append(self.point.take(message.topic, message.payload, int(self.t * 1000), broker))
        self.point.commit()

    def carry(self, sends: list[CommandToSend]) -> None:
        """Commands to the hubs that listen, and what these answer."""
        self.point.commit()
        for send in sends:
            if self.drops(send):
                continue
            for hub in self.hubs.values():
                if send.topic in hub.filters():
                    self.hear(hub.take(send.topic, send.message, self.t))

    def start(self) -> None:
        for hub in self.hubs.values():
            self.hear(hub.started(self.t))

    def run(self, seconds: float, step_s: float = 1.0) -> None:
        """Time passes."""
        ends = self.t + seconds
        while self.t < ends:
            self.t += step_s
            for hub in self.hubs.values():
                if self.t >= hub.deadline:
                    self.hear(hub.due(self.t))
            self.carry(self.point.due(self.t, int(self.t)))

    def give(
        self, op: str, args: dict[str, Any], target: dict[str, Any], *, valid_s: int = 300, client: str = "desk"
    ) -> str:
        self.point.book.begin()
        order_id, sends = self.point.orders.give(op, args, target, valid_s, client, int(self.t))
        self.carry(sends)
        return order_id

    def answers(self, order_id: str) -> dict[str, str]:
        rows = self.point.book.db.execute("SELECT hub, status FROM order_hub WHERE order_id = ?", (order_id,))
        return dict(rows.fetchall())
