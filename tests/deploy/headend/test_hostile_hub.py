"""A hub with a key of its own that says what no hub should: it is not believed, and stops nobody."""

import queue
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.fleet.simulated_hub import HubMessage, SimulatedHub
from deploy.headend.intake import HeardMessage
from deploy.headend.taking import Taker
from hub.headend.connection import BrokerConnection, BrokerDelivery
from hub.wire.uplink import event as events
from hub.wire.uplink import pack
from hub.wire.uplink import receipt as receipts
from hub.wire.uplink.cbor import encode
from tests.deploy.headend.home import START, Fleet

pytestmark = pytest.mark.fleet(names=["SIM-1", "SIM-2"])


class Acknowledged(BrokerConnection):
    """A broker that is not there: it only hears what was taken."""

    def __init__(self) -> None:
        self.address, self.taken = "a:1", []

    def acknowledge(self, mid: int) -> None:
        self.taken.append(mid)


def receipt(**changed: Any) -> Callable[[SimulatedHub], HubMessage]:
    claims = {1: "SIM-1", 6: START, "re": None, "digest": b"", "status": "refused", "reason": "", "detail": {},
              "prev": receipts.FIRST_PREV, "i": 1}  # fmt: skip
    if "iat" in changed:
        claims[6] = changed.pop("iat")
    return lambda hub: hub._seal("receipts", receipts.CONTENT_TYPE, encode(claims | changed))


def event(name: str, t: Any = START * 1000, **fields: Any) -> Callable[[SimulatedHub], HubMessage]:
    return lambda hub: hub._seal("events", events.CONTENT_TYPE, encode({"t": t, "event": name, **fields}))


def registers(exponent: int, first_ms: int, last_ms: int) -> Callable[[SimulatedHub], HubMessage]:
    row = ["meter", "energy", exponent, [0, last_ms - first_ms], [1, 1]]
    return lambda hub: hub._seal("readings", pack.CONTENT_TYPE, encode({0: 1, 1: first_ms, 2: [row]}))


def heartbeat(epoch: Any, number: Any) -> Callable[[SimulatedHub], HubMessage]:
    beat = {"t": START * 1000, "epoch": epoch, "n": {"readings": number}}
    return lambda hub: HubMessage(f"meters/{hub.hub}/heartbeat", encode(beat))


def certificate(serial: bytes, extension: bytes = b"") -> bytes:
    """Of SIM-1, by its own key, with these bytes in the places of a serial number and of who issued it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SIM-1")])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, datetime(2026, 1, 1, tzinfo=UTC), datetime(2046, 1, 1, tzinfo=UTC)
    )
    if extension:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.OID_AUTHORITY_KEY_IDENTIFIER, extension), False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return der.replace(b"\x02\x01\x01", b"\x02\x01" + serial, 1)


def renewed(der: bytes) -> Callable[[SimulatedHub], HubMessage]:
    return event("certificate.renewed", not_after="2046", x5c=[der])


NOT_BELIEVED = {
    "a receipt of no time": receipt(iat=None),
    "a receipt of a list of times": receipt(iat=[1]),
    "a receipt of a map of times": receipt(iat={}),
    "a receipt of a time that is true": receipt(iat=True),
    "an event at a time that is true": event("meter.lost", True),
    "an epoch of 64 bits": heartbeat(1 << 63, 5),
    "an epoch that is true": heartbeat(True, 5),
    "a negative epoch": heartbeat(-1, 5),
    "a number that is true": heartbeat(START, True),
    "a power of ten with a million digits": registers(1 << 20, START * 1000, START * 1000 + 60_000),
    "a fraction with as many": registers(-(1 << 20), START * 1000, START * 1000 + 60_000),
    "a time that no table holds": registers(0, START * 1000, 1 << 63),
    "a time of a million years": registers(0, START * 1000, 1 << 55),
    "a certificate with the number 0": renewed(certificate(b"\x00")),
    "a certificate with a negative number": renewed(certificate(b"\x81")),
    "a certificate with an issuer that is none": renewed(certificate(b"\x01", b"junk")),
}
OF_NO_USE = {
    "an exchange of registers without names": event(
        "meter.replaced", last_registers={"energy": "5", 1: "1"}, first_registers={"energy": "1", 1: "1"}
    ),
    "registers from 1970 and from today": registers(0, 1000, START * 1000),
    "registers of today and of eighty years on": registers(0, START * 1000, 1 << 42),
}


@pytest.mark.parametrize("said", [*NOT_BELIEVED, *OF_NO_USE])
def test_what_one_hub_says_stops_nobody(fleet: Fleet, said: str) -> None:
    """The service takes it with what another hub says, acknowledges both, and goes on with what is due."""
    fleet.run(61)
    broker, deliveries = Acknowledged(), queue.Queue[BrokerDelivery]()
    other = fleet.hubs["SIM-2"].tell("meter.lost", {"reason": "silent"}, fleet.t)
    for mid, message in enumerate([(NOT_BELIEVED | OF_NO_USE)[said](fleet.hubs["SIM-1"]), other], 1):
        deliveries.put(BrokerDelivery(message.topic, message.payload, broker, mid))
    counts = dict.fromkeys(("messages", "readings", "faults", "repeats", "commits"), 0)
    heard = []
    assert Taker(deliveries, fleet.point, counts, heard.append).take() == 2
    assert broker.taken == [1, 2]
    assert [bool(received.fault) for received in heard] == [said in NOT_BELIEVED, False]
    fleet.run(200)  # what is missing is asked for, half-hours are made
    rows = fleet.point.book.db.execute("SELECT count(*) FROM interval").fetchone()
    assert rows[0] < 10
    order_id = fleet.give("limit", {"watts": 500, "duration": 60}, {"all": True})
    assert fleet.answers(order_id) == {"SIM-1": "applied", "SIM-2": "applied"}


def test_a_hub_that_is_revoked_holds_up_no_list(fleet: Fleet) -> None:
    """What a hub said of a certificate of its own stands in the list of whoever it named as the issuer."""
    fleet.point.take_all([HeardMessage(*renewed(certificate(b"\x00"))(fleet.hubs["SIM-1"])[:2])], START * 1000)
    fleet.point.registry.revoke("SIM-1", "keyCompromise", START)
    fleet.point.commit()
    issuers = fleet.point.book.db.execute("SELECT DISTINCT issuer FROM hub_certificate").fetchall()
    entries = [entry for (issuer,) in issuers for entry in fleet.point.certificates.entries(issuer, 0)]
    assert entries and all(entry.serial > 0 for entry in entries)
