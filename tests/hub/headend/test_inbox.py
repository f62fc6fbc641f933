"""A hostile hub, with a certificate of its own, cannot stop the control point: what it says is a fault, and is told."""

from pathlib import Path

import pytest

from deploy.pki import Authority
from hub.headend.inbox import Inbox
from hub.wire.keys.identity import load_identity
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.envelope import seal


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return Authority(tmp_path / "pki").issue("MTR-1", file_name="hub")[0]


def sealed(certificate: Path, lane: str, content_type: int, content: bytes) -> bytes:
    identity = load_identity(certificate, certificate.with_suffix(".key"))
    return seal(identity.signer, "MTR-1", 7, lane, 1, content_type, content, None)


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
    assert not inbox.announced and not inbox.missing()


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
