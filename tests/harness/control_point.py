"""A control point written from the design document alone: paho, cbor2, `cryptography`; none of our code."""

import hashlib
import queue
import ssl
import threading
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from paho.mqtt.enums import CallbackAPIVersion


def open_sign1(message: bytes, certificate: x509.Certificate) -> tuple[dict[Any, Any], bytes]:
    """RFC 9052 section 4.2 and 4.4, by hand, for ES256: `(protected header, payload)`; raises when not genuine."""
    tag = cbor2.loads(message)
    assert tag.tag == 18
    protected, unprotected, payload, signature = tag.value
    assert not unprotected and len(signature) == 64
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    public_key = certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    header = cbor2.loads(protected)
    assert header[1] == -7
    return header, payload


def readings_of(pack: bytes) -> list[tuple[str, str, int, float, int]]:
    """Design 3.3: `(client, quantity, t_ms, value, flags)` of every point of a pack."""
    document = cbor2.loads(pack)
    assert document[0] == 1
    found = []
    for series in document[2]:
        client, quantity, exponent, dts, vs = series[:5]
        t, v = document[1], 0
        for dt, dv in zip(dts, vs, strict=True):
            t, v = t + dt, v + dv
            found.append((client, quantity, t, v * 10.0**exponent, series[5] if len(series) > 5 else 0))
    return found


@dataclass
class Books:
    """Everything that arrived, de-duplicated by (hub, epoch, lane, number); repeats compared byte for byte."""

    messages: dict[tuple[str, int, str, int], bytes] = field(default_factory=dict)
    repeats: int = 0
    altered: list[tuple[str, int, str, int]] = field(default_factory=list)
    readings: list[tuple[str, str, int, float, int]] = field(default_factory=list)
    most_in_a_pack: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    receipts: list[dict[Any, Any]] = field(default_factory=list)
    answers: list[tuple[dict[Any, Any], bytes]] = field(default_factory=list)
    # Packs that the hub said it gave up for want of space: (hub, epoch, "readings", number).
    given_up: set[tuple[str, int, str, int]] = field(default_factory=set)

    def event(self, hub: str, event: dict[str, Any]) -> None:
        """Take an event, and what it says is gone."""
        self.events.append(event)
        if event["event"] == "store.gap" and event["what"] == "packs":
            first_epoch, first, last_epoch, last = event["numbers"]
            assert first_epoch == last_epoch, "nothing here outlives its epoch"
            self.given_up |= {(hub, first_epoch, "readings", number) for number in range(first, last + 1)}

    def is_settled(self, key: tuple[str, int, str, int]) -> bool:
        """Whether nobody waits for this message: it is here, or it is said to be gone."""
        return key in self.messages or key in self.given_up

    def missing(self) -> dict[tuple[str, int, str], list[int]]:
        """Numbers from 1 below the highest of each (hub, epoch, lane) that are neither there nor said to be gone."""
        numbers = defaultdict(set)
        for hub, epoch, lane, number in self.messages:
            numbers[hub, epoch, lane].add(number)
        gaps = {
            key: [number for number in range(1, max(there)) if not self.is_settled((*key, number))]
            for key, there in numbers.items()
        }
        return {key: gap for key, gap in gaps.items() if gap}


class ControlPoint:
    """Subscribes with a session that the broker keeps, and books what comes."""

    def __init__(self, pki: Path, port: int, hub_cert: str = "hub") -> None:
        self.books = Books()
        self.lock = threading.Lock()
        self.faults: list[str] = []
        self.raw: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.states: list[str] = []
        self._whole: dict[tuple[str, int, str], int] = {}
        self._certificate = x509.load_pem_x509_certificate((pki / f"{hub_cert}.pem").read_bytes())
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "control-point", clean_session=False)
        self._client.tls_set(
            str(pki / "ca.pem"), str(pki / "headend.pem"), str(pki / "headend.key"),
            tls_version=ssl.PROTOCOL_TLS_CLIENT,
        )  # fmt: skip
        self._client.on_connect = lambda client, *_: client.subscribe([("meters/#", 1)])
        self.subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("localhost", port, keepalive=10)
        self._client.loop_start()
        assert self.subscribed.wait(30), "the control point could not subscribe"

    def _on_message(self, _client: Any, _user: Any, message: Any) -> None:
        tail = message.topic.split("/", 2)[2]
        self.raw.put((message.topic, message.payload))
        try:
            with self.lock:
                if tail in ("readings", "events", "receipts", "answers"):
                    self._book(tail, message.payload)
                elif tail == "state":
                    self.states.append(message.payload.decode())
        except Exception as error:
            self.faults.append(f"{message.topic}: {error!r}")

    def _book(self, lane: str, payload: bytes) -> None:
        header, content = open_sign1(payload, self._certificate)
        hub, epoch, named, number = header[-65537]
        assert named == lane
        key = (hub, epoch, lane, number)
        known = self.books.messages.get(key)
        if known is not None:
            self.books.repeats += 1
            if known != payload:
                self.books.altered.append(key)
            return
        self.books.messages[key] = payload
        if lane == "readings":
            found = readings_of(zlib.decompress(content, -15) if header.get(-65538) == "deflate" else content)
            self.books.readings += found
            self.books.most_in_a_pack = max(self.books.most_in_a_pack, len(found))
        elif lane == "events":
            self.books.event(hub, cbor2.loads(content))
        elif lane == "receipts":
            self.books.receipts.append(cbor2.loads(content))
        else:
            self.books.answers.append((header, content))

    def send(self, command: bytes, *, to: str = "MTR-1") -> None:
        """Publish a command: to a hub, `group/NAME` or `all`."""
        self._client.publish(f"meters/{to}/commands", command, qos=1)

    def receipts(self, cti: bytes | None = None) -> list[str]:
        """The statuses of a command's receipts so far, in the order of the chain."""
        with self.lock:
            found = sorted(self.books.receipts, key=lambda receipt: receipt["i"])
        return [receipt["status"] for receipt in found if cti in (None, receipt["re"])]

    def receipt(self, cti: bytes, status: str) -> dict[Any, Any]:
        """The first receipt of a command with a status. StopIteration: there is none."""
        with self.lock:
            return next(r for r in self.books.receipts if (r["re"], r["status"]) == (cti, status))

    def chain_faults(self) -> list[str]:
        """What is wrong with the chain of receipts (design 3.3); what came is taken in order of `i`."""
        with self.lock:
            messages = [m for (_, _, lane, _), m in self.books.messages.items() if lane == "receipts"]
        chain = {}
        for message in messages:
            claims = cbor2.loads(cbor2.loads(message).value[2])
            chain[claims["i"]] = (claims["prev"], hashlib.sha256(message).digest())
        faults, before = [], bytes(32)
        for i in range(1, max(chain, default=0) + 1):
            if i not in chain:
                faults.append(f"{i} is missing")
                continue
            if chain[i][0] != before:
                faults.append(f"{i} does not follow from the one before")
            before = chain[i][1]
        return faults

    def values(self, client: str | None = None) -> list[float]:
        """Every value received so far, of one client or of all."""
        with self.lock:
            return [value for name, _, _, value, _ in self.books.readings if client in (None, name)]

    def go_away(self) -> None:
        """End the connection; the broker keeps the session, and what its queue has room for."""
        self._client.disconnect()
        self._client.loop_stop()

    def come_back(self) -> None:
        self._client.reconnect()
        self._client.loop_start()

    def booked(self) -> dict[str, list[int]]:
        """Up to which number of the newest epoch each lane is whole (design 3.3, `booked`)."""
        with self.lock:
            newest = max((epoch for _, epoch, _, _ in self.books.messages), default=0)
            for hub, epoch, lane, number in self.books.messages:
                if epoch == newest and self._whole.setdefault((hub, epoch, lane), 0) == number - 1:
                    self._whole[hub, epoch, lane] = number
            for key, number in self._whole.items():
                while self.books.is_settled((*key, number + 1)):
                    number += 1
                self._whole[key] = number
            return {lane: [epoch, n] for (_, epoch, lane), n in self._whole.items() if epoch == newest and n}

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
