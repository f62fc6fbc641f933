"""A hostile hub, with a certificate of its own, cannot stop the control point: what it says is a fault, and is told."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.pki import DevelopmentAuthority
from hub.headend.book import Book
from hub.headend.bookkeeper import Bookkeeper
from hub.headend.command_signer import CommandSigner
from hub.headend.inbox import Inbox
from hub.wire.keys.identity import load_identity
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.envelope import FileSigner, seal


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return DevelopmentAuthority(tmp_path / "pki").issue("MTR-1", file_name="hub")[0]


def sealed(certificate: Path, lane: str, content_type: int, content: bytes, number: int = 1) -> bytes:
    identity = load_identity(certificate, certificate.with_suffix(".key"))
    return seal(identity.signer, "MTR-1", 7, lane, number, content_type, content, None)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("heartbeat", encode({"t": 1, "epoch": 1, "n": [1]})),
        ("heartbeat", encode({"t": 1, "epoch": [1], "n": {"readings": 1}})),
        ("heartbeat", encode({"t": 1, "epoch": 1, "n": {"readings": "9" * 5000}})),
        ("heartbeat", encode({"t": 1, "epoch": 1, "n": {"elsewhere": 1}})),
        ("heartbeat", encode([1, 2])),
        ("state", b"[" * 100_000),
        ("state", b"[]"),
        ("state", b"\xff"),
    ],
)
def test_what_is_not_signed_is_looked_at_twice(certificate: Path, kind: str, payload: bytes) -> None:
    inbox = Inbox([certificate])
    received = inbox.receive(f"meters/MTR-1/{kind}", payload)
    assert received.fault and received.fault.isprintable()
    assert not list(inbox.announced.lanes()) and not inbox.missing()


RECEIPT = {1: "MTR-1", 6: 1, "re": bytes(16), "digest": bytes(32), "status": "completed", "reason": "", "detail": {},
           "prev": bytes(32), "i": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("lane", "content"),
    [
        ("receipts", []),
        ("receipts", {**RECEIPT, "re": [1]}),
        ("receipts", {**RECEIPT, "status": ["completed"]}),
        ("receipts", {**RECEIPT, "detail": 1}),
        ("receipts", {"re": bytes(16)}),
        ("events", [1]),
        ("events", {"t": 1, "event": {}}),
        ("answers", [1]),
    ],
)
def test_what_is_signed_and_makes_no_sense_is_a_fault(certificate: Path, lane: str, content: object) -> None:
    received = Inbox([certificate]).receive(f"meters/MTR-1/{lane}", sealed(certificate, lane, 60, encode(content)))
    assert received.fault and received.fault.isprintable()


def test_a_receipt_in_order_is_none(certificate: Path) -> None:
    for re in (bytes(16), None):
        message = sealed(certificate, "receipts", 61, encode({**RECEIPT, "re": re}))
        received = Inbox([certificate]).receive("meters/MTR-1/receipts", message)
        assert not received.fault and received.fields["re"] == re


def _renewed(by: Path, of: Path, number: int) -> bytes:
    der = x509.load_pem_x509_certificate(of.read_bytes()).public_bytes(Encoding.DER)
    event = {"t": 1, "event": "certificate.renewed", "not_after": "2030-01-01", "x5c": [der]}
    return sealed(by, "events", 60, encode(event), number)


def test_the_book_reads_on_after_a_renewal_also_when_it_is_opened_again(tmp_path: Path) -> None:
    pki = DevelopmentAuthority(tmp_path / "pki")
    old, new = pki.issue("MTR-1", file_name="hub")[0], pki.issue("MTR-1", file_name="new")[0]
    signer = FileSigner(ec.generate_private_key(ec.SECP256R1()), b"reader")

    def keeper() -> Bookkeeper:
        book = Book(tmp_path / "book")
        return Bookkeeper(Inbox([old], has_ledger=False), book, CommandSigner(book, "reader", signer), gap_after_s=60)

    first = keeper()
    pack = sealed(new, "receipts", 61, encode(RECEIPT))
    assert "no key is known" in first.take("meters/MTR-1/receipts", pack).fault
    assert not first.take("meters/MTR-1/events", _renewed(old, new, 1)).fault
    assert not first.take("meters/MTR-1/events", _renewed(new, new, 2)).fault
    first.book.close()
    again = keeper()
    assert not again.take("meters/MTR-1/receipts", pack).fault
    again.book.close()


def test_heartbeats_of_strangers_ask_for_nothing_and_epochs_without_end_are_forgotten(tmp_path: Path) -> None:
    pki = DevelopmentAuthority(tmp_path / "pki")
    own = pki.issue("MTR-1", file_name="hub")[0]
    book = Book(tmp_path / "book")
    signer = CommandSigner(book, "reader", FileSigner(ec.generate_private_key(ec.SECP256R1()), b""))
    keeper = Bookkeeper(Inbox([own], has_ledger=False), book, signer, gap_after_s=0)
    for hub in ("MTR-1", "MTR-2"):
        for epoch in range(100):
            beat = encode({"t": 1, "epoch": epoch, "n": {"readings": 9}, "b": {}})
            assert not keeper.take(f"meters/{hub}/heartbeat", beat).fault
    assert {lane.hub for lane in book.lanes()} == {"MTR-1"}
    assert [lane.epoch for lane in book.lanes()] == list(range(84, 100))
    assert len(keeper.questions(1.0, 1)) == 16
    book.close()


def test_no_hub_makes_anothers_certificate_known(tmp_path: Path) -> None:
    pki = DevelopmentAuthority(tmp_path / "pki")
    own, other = pki.issue("MTR-1", file_name="hub")[0], pki.issue("MTR-2", file_name="other")[0]
    inbox = Inbox([own])
    received = inbox.receive("meters/MTR-1/events", _renewed(own, other, 1))
    assert "MTR-2" in received.fault and inbox.hubs == ["MTR-1"]
    assert inbox.receive("meters/MTR-1/events", sealed(own, "events", 60, encode(
        {"t": 1, "event": "certificate.renewed", "x5c": [b"none"]}), 2)).fault  # fmt: skip


def test_what_it_found_in_a_book_is_held_within_a_bound(tmp_path: Path) -> None:
    pki = DevelopmentAuthority(tmp_path / "pki")
    names = [f"MTR-{number}" for number in range(5)]
    files = {name: pki.issue(name, file_name=name)[0] for name in names}
    kept = {name: x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
            for name, file in files.items()}  # fmt: skip
    asked: list[str] = []
    inbox = Inbox([files["MTR-0"]], has_ledger=False)
    inbox.read_from(lambda hub: (asked.append(hub), [kept[hub]] if hub in kept else [])[1], most_found=2)

    def takes(name: str, sender: str = "") -> bool:
        identity = load_identity(files[name], files[name].with_suffix(".key"))
        message = seal(identity.signer, name, 7, "receipts", 1, 61, encode({**RECEIPT, 1: name}), None)
        return not inbox.receive(f"meters/{sender or name}/receipts", message).fault

    assert takes("MTR-0") and not asked, "what it was given it has"
    for _ in range(3):
        assert takes("MTR-1") and takes("MTR-2")
    assert asked == ["MTR-1", "MTR-2"], "who is heard often is not looked for again"
    assert takes("MTR-3") and takes("MTR-4") and inbox.found == 2
    assert takes("MTR-1") and asked.count("MTR-1") == 2 and takes("MTR-0") and inbox.found == 2
    assert not takes("MTR-1", sender="MTR-2"), "a key is its own hub's"
    assert all(inbox.knows(name) for name in names) and not inbox.knows("MTR-9")
    identity = load_identity(files["MTR-2"], files["MTR-2"].with_suffix(".key"))
    inbox.distrust(identity.signer.kid)
    assert not takes("MTR-2"), "also where the book has it still"


def test_a_question_that_was_lost_is_asked_again_at_growing_intervals(tmp_path: Path) -> None:
    own = DevelopmentAuthority(tmp_path / "pki").issue("MTR-1", file_name="hub")[0]
    book = Book(tmp_path / "book")
    signer = CommandSigner(book, "reader", FileSigner(ec.generate_private_key(ec.SECP256R1()), b""))
    keeper = Bookkeeper(Inbox([own], has_ledger=False), book, signer, gap_after_s=60)
    beat = encode({"t": 1, "epoch": 7, "n": {"receipts": 2}, "b": {}})
    assert not keeper.take("meters/MTR-1/heartbeat", beat).fault
    asked = [now for now in range(1500) if keeper.questions(float(now), now)]
    assert asked == [60, 90, 150, 270, 510, 810, 1110, 1410]
    keeper.take("meters/MTR-1/receipts", sealed(own, "receipts", 61, encode(RECEIPT)))
    assert not keeper.questions(2000.0, 2000)
    book.close()
