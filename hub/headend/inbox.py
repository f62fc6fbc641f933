"""What a control point does with a hub's message: verify, book, decode. No I/O; `watch` and the tests feed it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from hub.headend.ledger import Altered, Announcements, Lane, Ledger
from hub.wire.keys.identity import common_name
from hub.wire.printable import plain
from hub.wire.uplink import event as events
from hub.wire.uplink import pack
from hub.wire.uplink.cbor import decode_own
from hub.wire.uplink.envelope import BadEnvelope, Envelope, PublicKey, alg_of, kid_of, open_envelope
from hub.wire.uplink.reading import Reading
from hub.wire.uplink.receipt import decode_receipt

_JSON = "application/json"
_SEALED = ("readings", "events", "receipts", "answers")


@dataclass(slots=True)
class Received:
    """One message, understood. `fault` is empty when it is genuine and in order."""

    hub: str
    kind: str
    is_new: bool = True
    fault: str = ""
    envelope: Envelope | None = None
    readings: list[Reading] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    certificate: bytes = b""  # DER of one that this message made known


class Inbox:
    """Verifies hubs by their certificates and keeps their ledger. `has_ledger`: not where a Book does that."""

    def __init__(self, certificates: list[Path], *, from_start: bool = True, has_ledger: bool = True) -> None:
        self.ledger = Ledger(from_start=from_start)
        self.announced = Announcements()
        self._has_ledger = has_ledger
        self._keys: dict[bytes, tuple[str, PublicKey]] = {}
        self._names: set[str] = set()
        self._distrusted: set[bytes] = set()
        # Certificates (DER) of a hub, asked for where it seals with a key that is not known.
        self.look_up: Callable[[str], Iterable[bytes]] = lambda _hub: ()
        for file in certificates:
            self._trust(x509.load_pem_x509_certificate(file.read_bytes()))

    def _trust(self, certificate: x509.Certificate) -> None:
        key = certificate.public_key()
        alg_of(key)
        hub = common_name(certificate)
        kid = kid_of(certificate)
        if kid not in self._distrusted:
            self._keys[kid] = (hub, key)  # type: ignore[assignment]
        self._names.add(hub)

    def distrust(self, kid: bytes) -> None:
        """A certificate was revoked: what is signed with its key is no hub's, whoever names it again."""
        self._distrusted.add(kid)
        self._keys.pop(kid, None)

    def trust(self, hub: str, certificate: bytes) -> None:
        """Know one more certificate (DER) of a hub. Raises ValueError for one that is another's, or that no hub has."""
        try:
            read = x509.load_der_x509_certificate(certificate)
            if common_name(read) != hub:
                raise ValueError(f"a certificate of {common_name(read)!r}, in the name of {hub!r}")
            self._trust(read)
        except (UnsupportedAlgorithm, BadEnvelope) as error:
            raise ValueError(f"a certificate of {hub} with a key that no hub has: {error}") from None

    @property
    def hubs(self) -> list[str]:
        """The hubs whose certificates are known."""
        return list(dict.fromkeys(hub for hub, _ in self._keys.values()))

    def knows(self, hub: str) -> bool:
        """Whether a certificate of this hub is known."""
        return hub in self._names

    def _key_for(self, hub: str, kid: bytes) -> PublicKey | None:
        if kid not in self._keys:
            for certificate in self.look_up(hub):
                self.trust(hub, certificate)
        known = self._keys.get(kid)
        return known[1] if known else None

    def receive(self, topic: str, payload: bytes) -> Received:
        """Take one message from `meters/{hub}/...`; never raises for what the payload holds."""
        _, _, rest = topic.partition("/")
        hub, _, kind = rest.partition("/")
        if kind.endswith("commands"):
            return Received(hub, "commands")  # what control points say themselves
        if kind.startswith("han/"):
            return Received(hub, kind, fields={"payload": payload})
        try:
            if kind == "state":
                return Received(hub, kind, fields=_map(json.loads(payload)))
            if kind == "heartbeat":
                return self._heartbeat(hub, _map(decode_own(payload)))
            if kind in _SEALED:
                return self._sealed(hub, kind, payload)
            return Received(hub, kind, fault="a topic that the contract does not know")
        except (BadEnvelope, Altered, pack.BadPack, ValueError, TypeError, KeyError, RecursionError) as error:
            return Received(hub, kind, fault=plain(str(error)))

    def _heartbeat(self, hub: str, beat: dict[str, Any]) -> Received:
        """Raises ValueError, with nothing noted, for one that is not as design 3.3 has it."""
        epoch, numbers = beat.get("epoch"), beat.get("n")
        if not isinstance(epoch, int) or not isinstance(numbers, dict) or not set(numbers) <= set(_SEALED):
            raise ValueError("not a heartbeat: an epoch, and n by lane, are expected")
        if not all(isinstance(number, int) and 0 <= number < 1 << 63 for number in numbers.values()):
            raise ValueError("not a heartbeat: the numbers of n are counts")
        for lane, number in numbers.items():
            self.announced.note(Lane(hub, epoch, lane), number)
        return Received(hub, "heartbeat", fields=beat)

    def _sealed(self, hub: str, kind: str, payload: bytes) -> Received:
        envelope = open_envelope(payload, lambda kid: self._key_for(hub, kid))
        if envelope.hub != hub or self._keys[envelope.kid][0] != hub or envelope.lane != kind:
            raise ValueError(f"sealed by {envelope.hub} for {envelope.lane}, but sent as {hub} {kind}")
        received = Received(hub, kind, envelope=envelope)
        if self._has_ledger:
            received.is_new = self.ledger.enter(envelope, payload)
        if envelope.content_type == pack.CONTENT_TYPE:
            received.readings = pack.decode_pack(pack.inflate_pack(envelope.header, envelope.payload))
        elif kind == "answers" and envelope.content_type == _JSON:
            received.fields = _map(json.loads(envelope.payload))  # to `diagnose`
        elif kind == "events":
            received.fields = events.decode_event(envelope.payload)
            received.certificate = self._renewed(hub, received.fields)
        else:
            if kind == "receipts":
                decode_receipt(envelope.payload)
            received.fields = _map(decode_own(envelope.payload))
        return received

    def _renewed(self, hub: str, event: dict[str, Any]) -> bytes:
        """What a key that is known says of the one that follows it is believed (design 3.3, `certificate.renewed`)."""
        chain = event.get("x5c")
        if event["event"] != "certificate.renewed" or chain is None:
            return b""
        if not isinstance(chain, list) or not chain or not isinstance(chain[0], bytes):
            raise ValueError("certificate.renewed: x5c is a list of certificates")
        self.trust(hub, chain[0])
        return chain[0]

    def missing(self) -> dict[Lane, list[tuple[int, int]]]:
        """Every lane with missing numbers, as inclusive ranges; counts what heartbeats announced."""
        lanes = {key for key, _, _ in self.ledger.lanes()} | set(self.announced.lanes())
        found = {key: self.ledger.missing_up_to(key, self.announced.next_of(key, 1)) for key in lanes}
        return {key: ranges for key, ranges in found.items() if ranges}


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a map is expected")
    return value
