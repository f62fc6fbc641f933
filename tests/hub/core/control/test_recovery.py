"""Local recovery: the manufacturer's word for one hub, once, and nobody else's word."""

import random
import struct
from typing import Any

import pytest

from hub.core.control.controller import Controller, ControlSettings
from hub.core.control.records import OPERATORS, OPERATORS_BEFORE, RECOVERED
from hub.wire.keys.recovery import CONTENT_TYPE, MAX_BYTES, BadRecovery, armour, kid_of_key, read_key, unarmour
from tests.harness.operator import Operator, dumps
from tests.hub.core.control.desk import UTC, Book

MAKER, LOST, NEW = Operator("maker"), Operator("lost"), Operator("new", "admin", "limit")
DAY_S = 86400


def message(signer: Operator = MAKER, header: dict[Any, Any] | None = None, **claims: Any) -> bytes:
    """As the manufacturer signs it, by hand (RFC 9052); keyword arguments replace claims, None leaves one out."""
    body = {"hub": "MTR-1", "iat": int(UTC) - 60, "by": "order 4711", "operators": NEW.toml, **claims}
    kid = kid_of_key(signer.key.public_key())
    said = header or {1: -7, 3: CONTENT_TYPE, 4: kid}
    return signer.sign(said, dumps({name: value for name, value in body.items() if value is not None}))


class Hub:
    """A controller and what is durable of it."""

    def __init__(self, *, key: Operator | None = MAKER, trusted: bool = True) -> None:
        self.kept: dict[str, bytes] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._key = None if key is None else key.key.public_key()
        self.begin(trusted)

    def begin(self, trusted: bool = True) -> None:
        book, kept = Book(LOST.toml), dict(self.kept)
        item = kept.pop(OPERATORS, None)
        self.control = Controller(
            "MTR-1", book.read(item), 0.0, settings=ControlSettings(), random=random.random, book=book,
            recovery_key=self._key,
        )  # fmt: skip
        self.control.trial.kept = item
        assert self.control.restore(kept, 0.0) == []
        if trusted:
            self.control.set_clock(UTC, True, 0.0)

    def recover(self, octets: bytes) -> None:
        step = self.control.recover(octets, 0.0)
        for name, value in step.journal.kept.items():
            if value is None:
                self.kept.pop(name, None)
            else:
                self.kept[name] = value
        self.events += step.journal.events
        step.apply(0.0)

    def operators(self) -> set[str]:
        return set(self.control.authority.operators)


def test_the_manufacturers_list_is_in_force_and_told() -> None:
    hub = Hub()
    hub.recover(message())
    assert hub.operators() == {"new"}
    assert hub.events == [("operators.recovered", {"operators": ["new"], "by": "order 4711"})]
    hub.begin()
    assert hub.operators() == {"new"}, "after a restart, too"
    assert hub.control.trial.until is None


def test_it_ends_a_trial_and_what_a_removed_operator_commanded() -> None:
    hub = Hub()
    limit = hub.control.command(
        LOST.command("limit", {"watts": 10, "duration": 600}, iat=int(UTC), exp=int(UTC) + 60), 0.0
    )
    limit.apply(0.0)
    trust = hub.control.command(
        LOST.command("trust", {"operators": Operator("typo").toml}, iat=int(UTC), exp=int(UTC) + 60), 0.0
    )
    hub.kept.update({name: value for name, value in trust.journal.kept.items() if value is not None})
    trust.apply(0.0)
    assert hub.operators() == {"typo"} and hub.control.trial.is_on
    hub.recover(message())
    assert hub.operators() == {"new"} and not hub.control.trial.is_on
    assert OPERATORS_BEFORE not in hub.kept
    assert hub.control.status(0.0)["watts"] is None


def test_it_counts_once_also_after_a_restart() -> None:
    hub = Hub()
    first = message()
    hub.recover(first)
    for _ in range(2):
        with pytest.raises(BadRecovery, match="not newer"):
            hub.recover(first)
        with pytest.raises(BadRecovery, match="not newer"):
            hub.recover(message(iat=int(UTC) - 61, operators=Operator("older").toml))
        hub.begin()
    assert RECOVERED in hub.kept
    hub.recover(message(iat=int(UTC) - 59, operators=Operator("newer").toml))
    assert hub.operators() == {"newer"}


_EXPIRED = NEW.toml + "not_after = 2027-01-16T00:00:00Z\n"  # a day after UTC
HOSTILE: dict[str, tuple[bytes, str]] = {
    "an operator's signature": (message(LOST), "bad-signature"),
    "the new admin's own": (message(NEW), "bad-signature"),
    "a bit changed": (message()[:-1] + bytes([message()[-1] ^ 1]), "bad-signature"),
    "the manufacturer's kid over another's signature": (
        message(LOST, {1: -7, 3: CONTENT_TYPE, 4: kid_of_key(MAKER.key.public_key())}), "bad-signature"
    ),
    "for another hub": (message(hub="MTR-2"), "wrong-audience"),
    "for all hubs": (message(hub="all"), "wrong-audience"),
    "for no hub": (message(hub=None), "malformed"),
    "a week and a day old": (message(iat=int(UTC) - 8 * DAY_S), "expired"),
    "of tomorrow": (message(iat=int(UTC) + DAY_S), "from-the-future"),
    "no time": (message(iat=None), "malformed"),
    "a time that is a float": (message(iat=float(UTC)), "malformed"),
    "a time before all": (message(iat=-1), "malformed"),
    "a claim more": (message(aud="MTR-1"), "malformed"),
    "nobody asked for it": (message(by=""), "malformed"),
    "a novel of who asked": (message(by="x" * 65), "malformed"),
    "signed as a command": (message(header={1: -7, 3: 61, 4: b"maker"}), "malformed"),
    "no content type": (message(header={1: -7, 4: b"maker"}), "malformed"),
    "a genuine command of the same key": (MAKER.command("trust", {"operators": NEW.toml}), "malformed"),
    "a list without an admin": (message(operators=Operator("grid", "limit").toml), "locked-out"),
    "a list whose admin ends tomorrow": (message(operators=_EXPIRED), "locked-out"),
    "an empty list": (message(operators=""), "locked-out"),
    "no TOML": (message(operators="[operator"), "bad-args"),
    "a list with something else": (message(operators=NEW.toml + "\n[hub]\nid = 'MTR-2'\n"), "bad-args"),
    "more admins wanted than there are": (message(operators="threshold = 2\n" + NEW.toml), "bad-args"),
    "a list of octets": (message(operators=NEW.toml.encode()), "malformed"),
    "claims that are a list": (MAKER.sign({1: -7, 3: CONTENT_TYPE}, dumps([1, 2])), "malformed"),
    "nothing": (b"", "malformed"),
    "not COSE": (b"\xd2\x80", "malformed"),
    "larger than there is": (message(operators=NEW.toml + "#" * MAX_BYTES), "malformed"),
    "nested": (b"\xd2\x84" + b"\x81" * 5000, "malformed"),
    "shared references": (b"\xd2\x84\x43\xa1\x02\xd8\x1c\xa0\x40\x40", "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_and_nothing_changes(name: str) -> None:
    octets, reason = HOSTILE[name]
    hub = Hub()
    with pytest.raises(BadRecovery) as refused:
        hub.recover(octets)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 300
    assert hub.operators() == {"lost"} and not hub.kept and not hub.events


def test_without_a_clock_or_a_key_nobody_is_believed() -> None:
    with pytest.raises(BadRecovery, match="clock"):
        Hub(trusted=False).recover(message())
    with pytest.raises(BadRecovery, match="recovery_key_file"):
        Hub(key=None).recover(message())
    with pytest.raises(BadRecovery, match="not signed"):
        Hub(key=Operator("another maker")).recover(message())


def test_it_can_be_pasted() -> None:
    octets = message()
    text = armour(octets)
    assert max(map(len, text.splitlines())) <= 80 and text.endswith("\n\n")
    assert unarmour(text.replace("\n", "\r\n").encode()) == unarmour(octets) == octets
    for bad in (b"", b"!", struct.pack("<Q", 1 << 60)):
        with pytest.raises(BadRecovery):
            Hub().recover(unarmour(bad))


def test_a_key_is_a_certificate_or_a_public_key() -> None:
    pem = MAKER.toml.split('"""')[1].strip().encode()
    assert kid_of_key(read_key(pem)) == kid_of_key(MAKER.key.public_key())
    for bad in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pem[:-40]):
        with pytest.raises(ValueError, match="PEM"):
            read_key(bad)
