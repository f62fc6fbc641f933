"""What a control point does with a hub's message: verify, book, decode. No I/O; `watch` and the tests feed it."""

import json
from collections import OrderedDict
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

MOST_FOUND = 50_000  # 2 kB each
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
    """Verifies hubs by their certificates and keeps their ledger. `has_ledger`: not where a Book does that.

    The certificates that it is given are kept for good. Where it reads from a book (`read_from`), what it found there
    is kept as long as it is among the `most_found` that were used last: a fleet of millions is not held in memory.
    """

    def __init__(self, certificates: list[Path], *, from_start: bool = True, has_ledger: bool = True) -> None:
        self.ledger = Ledger(from_start=from_start)
        self.announced = Announcements()
        self._has_ledger = has_ledger
        self._given: dict[bytes, tuple[str, PublicKey]] = {}
        self._given_names: set[str] = set()
        self._found: OrderedDict[bytes, tuple[str, PublicKey]] = OrderedDict()
        self._found_names: OrderedDict[str, None] = OrderedDict()
        self._distrusted: set[bytes] = set()
        self._look_up: Callable[[str], Iterable[bytes]] | None = None
        self._most_found = MOST_FOUND
        for file in certificates:
            self._trust(x509.load_pem_x509_certificate(file.read_bytes()))

    def read_from(self, look_up: Callable[[str], Iterable[bytes]], most_found: int = MOST_FOUND) -> None:
        """`look_up`: the certificates (DER) that a book has of a hub; asked where it seals with a key that is not
        known here. From now on what `trust` says is in that book too."""
        self._look_up, self._most_found = look_up, most_found

    @property
    def found(self) -> int:
        """How many keys of a book are held now."""
        return len(self._found)

    def _trust(self, certificate: x509.Certificate) -> None:
        key = certificate.public_key()
        alg_of(key)
        hub = common_name(certificate)
        kid = kid_of(certificate)
        is_trusted = kid not in self._distrusted
        if self._look_up is None:
            self._given_names.add(hub)
            if is_trusted:
                self._given[kid] = (hub, key)  # type: ignore[assignment]
            return
        self._note_name(hub)
        if is_trusted and kid not in self._given:
            self._found[kid] = (hub, key)  # type: ignore[assignment]
            self._found.move_to_end(kid)
            if len(self._found) > self._most_found:
                self._found.popitem(last=False)

    def _note_name(self, hub: str) -> None:
        self._found_names[hub] = None
        self._found_names.move_to_end(hub)
        if len(self._found_names) > self._most_found:
            self._found_names.popitem(last=False)

    def distrust(self, kid: bytes) -> None:
        """A certificate was revoked: what is signed with its key is no hub's, whoever names it again."""
        self._distrusted.add(kid)
        self._given.pop(kid, None)
        self._found.pop(kid, None)

    def trust(self, hub: str, certificate: bytes) -> None:
        """Know one more certificate (DER) of a hub. Raises ValueError for one that is another's, or that no hub has."""
        try:
            read = x509.load_der_x509_certificate(certificate)
            if common_name(read) != hub:
                raise ValueError(f"a certificate of {common_name(read)!r}, in the name of {hub!r}")
            _check_form(read)
            self._trust(read)
        except (UnsupportedAlgorithm, BadEnvelope) as error:
            raise ValueError(f"a certificate of {hub} with a key that no hub has: {error}") from None

    @property
    def hubs(self) -> list[str]:
        """The hubs whose certificates it was given."""
        return list(dict.fromkeys(hub for hub, _ in self._given.values()))

    def knows(self, hub: str) -> bool:
        """Whether a certificate of this hub is known."""
        if hub in self._given_names or hub in self._found_names:
            return True
        is_known = self._look_up is not None and any(True for _ in self._look_up(hub))
        if is_known:
            self._note_name(hub)
        return is_known

    def _of_kid(self, kid: bytes) -> tuple[str, PublicKey] | None:
        """Whose it is, and its key; who is asked for stays."""
        if kid in self._found:
            self._found.move_to_end(kid)
            return self._found[kid]
        return self._given.get(kid)

    def _key_for(self, hub: str, kid: bytes) -> PublicKey | None:
        known = self._of_kid(kid)
        if known is None and self._look_up is not None:
            for certificate in self._look_up(hub):
                self.trust(hub, certificate)
            known = self._of_kid(kid)
        # A key is its own hub's: whoever uses another's is no better than a stranger.
        return known[1] if known and known[0] == hub else None

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
        epoch: Any = beat.get("epoch")
        numbers = beat.get("n")
        if not isinstance(numbers, dict) or not set(numbers) <= set(_SEALED):
            raise ValueError("not a heartbeat: n by lane is expected")
        # It is not signed, and a book is asked about what it says: nothing that no table can hold.
        if not all(type(number) is int and 0 <= number < 1 << 63 for number in (epoch, *numbers.values())):
            raise ValueError("not a heartbeat: the epoch and the numbers of n are counts")
        for lane, number in numbers.items():
            self.announced.note(Lane(hub, epoch, lane), number)
        return Received(hub, "heartbeat", fields=beat)

    def _sealed(self, hub: str, kind: str, payload: bytes) -> Received:
        envelope = open_envelope(payload, lambda kid: self._key_for(hub, kid))
        if envelope.hub != hub or envelope.lane != kind:
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


def _check_form(certificate: x509.Certificate) -> None:
    """A hub's own word names certificates that nobody has looked at: one that no revocation list can name would hold
    up the lists of all. Raises ValueError (RFC 5280, 4.1.2.2 and 4.2)."""
    if not 0 < certificate.serial_number < 1 << 159:
        raise ValueError("a certificate with a serial number that no list can name")
    try:
        # Whatever the library says of extensions that cannot be read, they are the certificate's fault.
        list(certificate.extensions)
    except Exception as error:
        raise ValueError(f"a certificate whose extensions cannot be read: {error}") from None


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a map is expected")
    return value
