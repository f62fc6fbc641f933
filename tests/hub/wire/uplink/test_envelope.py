"""The envelope: what opens it, and everything that must not."""

from collections.abc import Callable

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from hub.headend.ledger import Altered, Lane, Ledger
from hub.wire.uplink.envelope import BadEnvelope, FileSigner, open_envelope, seal
from tests.harness.operator import dumps

P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KID = b"\x01" * 8


def signer(key: object = P256) -> FileSigner:
    return FileSigner(key, KID)  # type: ignore[arg-type]


def message(number: int = 1, payload: bytes = b"x", key: object = P256) -> bytes:
    return seal(signer(key), "MTR-1", 3, "events", number, 60, payload)


@pytest.mark.parametrize("key", [P256, ED], ids=["ES256", "EdDSA"])
def test_what_is_sealed_opens(key: object) -> None:
    envelope = open_envelope(message(7, b"payload", key), lambda kid: key.public_key() if kid == KID else None)  # type: ignore[attr-defined]
    assert (envelope.hub, envelope.epoch, envelope.lane, envelope.number) == ("MTR-1", 3, "events", 7)
    assert (envelope.payload, envelope.content_type, envelope.kid) == (b"payload", 60, KID)


def reason_of(data: bytes, key: object = P256) -> str:
    with pytest.raises(BadEnvelope) as caught:
        open_envelope(data, lambda kid: key.public_key() if kid == KID else None)  # type: ignore[attr-defined]
    return caught.value.reason


def rebuilt(change: Callable[[list[object]], object]) -> bytes:
    parts = list(cbor2.loads(message()).value)
    return dumps(cbor2.CBORTag(18, change(parts)))


def with_header(**changes: object) -> bytes:
    def change(parts: list[object]) -> list[object]:
        header = cbor2.loads(parts[0])  # type: ignore[arg-type]
        header.update({int(k) if k.isdigit() else k: v for k, v in ((k.strip("_"), v) for k, v in changes.items())})
        return [dumps(header), *parts[1:]]

    return rebuilt(change)


def with_place(*place: object) -> bytes:
    def change(parts: list[object]) -> list[object]:
        header = cbor2.loads(parts[0])  # type: ignore[arg-type]
        return [dumps({**header, -65537: list(place)}), *parts[1:]]

    return rebuilt(change)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\xff", "malformed"),
        (dumps([1, 2, 3, 4]), "malformed"),
        (dumps(cbor2.CBORTag(17, cbor2.loads(message()).value)), "malformed"),
        (rebuilt(lambda p: p[:3]), "malformed"),
        (rebuilt(lambda p: [p[0], {4: KID}, p[2], p[3]]), "malformed"),
        (rebuilt(lambda p: [p[0], p[1], None, p[3]]), "malformed"),
        (rebuilt(lambda p: [b"\x80", p[1], p[2], p[3]]), "malformed"),
        (with_header(_2=["new"]), "critical"),
        (with_header(_4=b"stranger"), "kid"),
        (with_header(_4="text"), "kid"),
        (with_header(_1=-8), "signature"),
        (with_header(_1=None), "signature"),
        (with_header(_3=59), "signature"),
        (with_place("MTR-2", 1, "readings", 1), "signature"),
        (rebuilt(lambda p: [p[0], p[1], b"y", p[3]]), "signature"),
        (rebuilt(lambda p: [p[0], p[1], p[2], b""]), "signature"),
        (rebuilt(lambda p: [p[0], p[1], p[2], bytes(64)]), "signature"),
        (b"\x9f" * 100_000, "malformed"),
        (bytes(300_000), "malformed"),
    ],
    # Signatures differ from run to run: nothing of them may stand in a test's name.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_genuine_stays_shut(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_another_keys_signature_is_none() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert reason_of(message(key=other)) == "signature"
    assert reason_of(message(key=ED)) == "signature", "alg confusion: the key decides, not the message"


@given(st.binary(max_size=200))
def test_any_bytes_give_bad_envelope(data: bytes) -> None:
    with pytest.raises(BadEnvelope):
        open_envelope(data, lambda kid: P256.public_key())


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_is_noticed(at: int, by: int) -> None:
    good = bytearray(message())
    good[at % len(good)] ^= by
    with pytest.raises(BadEnvelope):
        open_envelope(bytes(good), lambda kid: P256.public_key())


def opened(data: bytes) -> tuple[object, bytes]:
    return open_envelope(data, lambda kid: P256.public_key()), data


def test_the_ledger_finds_what_is_missing() -> None:
    ledger = Ledger()
    lane = Lane("MTR-1", 3, "events")
    for number in (1, 2, 5, 9, 8):
        assert ledger.enter(*opened(message(number)))  # type: ignore[arg-type]
    assert ledger.missing(lane) == [(3, 4), (6, 7)]
    assert ledger.missing_up_to(lane, 12) == [(3, 4), (6, 7), (10, 11)]
    for number in (3, 4, 6, 7):
        ledger.enter(*opened(message(number)))  # type: ignore[arg-type]
    assert ledger.missing(lane) == []
    assert list(ledger.lanes()) == [(lane, 9, 0)]


def test_the_ledger_tells_repeats_from_alterations() -> None:
    ledger = Ledger()
    first = message(1)
    assert ledger.enter(*opened(first)) is True  # type: ignore[arg-type]
    assert ledger.enter(*opened(first)) is False  # type: ignore[arg-type]
    with pytest.raises(Altered):
        ledger.enter(*opened(message(1, b"other")))  # type: ignore[arg-type]


@given(st.permutations(list(range(1, 30))), st.sets(st.integers(1, 29)))
def test_the_ledger_is_right_in_any_order(order: list[int], lost: set[int]) -> None:
    ledger = Ledger()

    class E:  # what the ledger reads of an envelope
        hub, epoch, lane, number = "h", 1, "readings", 0

    for number in order:
        if number not in lost:
            E.number = number
            ledger.enter(E(), bytes([number]))  # type: ignore[arg-type]
    missing = {n for low, high in ledger.missing_up_to(Lane("h", 1, "readings"), 30) for n in range(low, high + 1)}
    assert missing == lost
