"""The registry: every hub, what is known of it, and the groups it is in. Nobody enters a hub by hand: the station's
journal and certificates make it known; its state, heartbeats and events keep it true."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.headend.certificates import CertificateInventory
from deploy.headend.reach import Reach
from hub.headend.book import Book
from hub.headend.inbox import Inbox, Received
from hub.wire.keys.identity import common_name
from hub.wire.uplink.envelope import kid_of

_MAX_FAULT = 200
_AT_ONCE = 1000  # names in one question
_STATES = ("online", "offline")


class Registry:
    """Tables `hub` and `hub_group`. The caller opens and ends transactions."""

    def __init__(self, book: Book, inbox: Inbox, certificates: CertificateInventory) -> None:
        self._book, self._db = book, book.db
        self._inbox = inbox
        self._certificates = certificates

    def enrol(self, der: bytes, source: str) -> bool:
        """Make a hub known by its certificate (DER); False where it was. Raises ValueError for what is none."""
        certificate = x509.load_der_x509_certificate(der)
        hub = common_name(certificate)
        self._inbox.trust(hub, der)
        self._book.keep_certificate(hub, der)  # for the workers, who know nothing else
        self._certificates.note(hub, certificate, source)
        not_after_s = int(certificate.not_valid_after_utc.timestamp())
        added = self._db.execute(
            "INSERT INTO hub (hub, source, kid, not_after_s) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (hub, source, kid_of(certificate).hex(), not_after_s),
        ).rowcount
        return bool(added)

    def note_all(self, taken: Sequence[Received], t_ms: int, addresses: Sequence[str]) -> None:
        """Messages of hubs, after they were judged, and by which broker each came. Nobody else writes of these hubs
        meanwhile (Book.lock)."""
        heard = sorted({received.hub for received in taken if not received.fault})
        for at in range(0, len(heard), _AT_ONCE):
            part = heard[at : at + _AT_ONCE]
            self._db.execute(
                f"UPDATE hub SET seen_ms = ? WHERE seen_ms < ? AND hub IN ({', '.join('?' * len(part))})",
                (t_ms, t_ms, *part),
            )
        for received, broker in zip(taken, addresses):
            if received.fault:
                self.note_fault(received.hub, received.fault)
                continue
            if received.kind == "state":
                self._note_state(received, broker)
            if received.certificate:
                self._note_certificate(received.hub, received.certificate)

    def note_fault(self, hub: str, fault: str) -> None:
        """A message in the name of this hub was not believed."""
        self._db.execute("UPDATE hub SET faults = faults + 1, fault = ? WHERE hub = ?", (fault[:_MAX_FAULT], hub))

    def _note_state(self, received: Received, broker: str) -> None:
        """The retained word of a hub. It is not signed: the broker's access list vouches for who said it.

        Where there are several brokers, one that comes back has words of before: an "online" older than the last, and
        an "offline", the will of a session that the hub has left, count for nothing.
        """
        said = received.fields
        state, version, kid = said.get("state"), said.get("version", ""), said.get("kid", "")
        numbers = [said.get(name, 0) for name in ("boot", "epoch")]
        if state not in _STATES or not all(isinstance(text, str) and len(text) <= 64 for text in (version, kid)):
            return
        said_ms = said.get("t", 0)
        if not all(type(number) is int and 0 <= number < 1 << 62 for number in (*numbers, said_ms)):
            return
        is_here = "state <> 'online' OR broker = ?" if state == "offline" else "broker = ? OR ? = 0 OR state_ms <= ?"
        self._db.execute(
            "UPDATE hub SET state = ?, state_ms = ?, broker = ?, version = ?, boot = ?, epoch = ?,"
            f" kid = CASE ? WHEN '' THEN kid ELSE ? END WHERE hub = ? AND ({is_here})",
            (state, said_ms, broker, version, *numbers, kid, kid, received.hub, broker,
             *(() if state == "offline" else (said_ms, said_ms))),
        )  # fmt: skip

    def _note_certificate(self, hub: str, der: bytes) -> None:
        certificate = x509.load_der_x509_certificate(der)
        self._certificates.note(hub, certificate, "hub")
        self._db.execute(
            "UPDATE hub SET kid = ?, not_after_s = ? WHERE hub = ?",
            (kid_of(certificate).hex(), int(certificate.not_valid_after_utc.timestamp()), hub),
        )

    def knows(self, hub: str) -> bool:
        return self._db.execute("SELECT 1 FROM hub WHERE hub = ?", (hub,)).fetchone() is not None

    def certified(self, hub: str, certificate: x509.Certificate, t: int) -> None:
        """A hub was given a certificate here (EST); what it signs with it is believed, also before it says so."""
        self._certificates.note(hub, certificate, "est", t)
        self._inbox.trust(hub, certificate.public_bytes(Encoding.DER))

    def revoke(self, hub: str, reason: str, t: int) -> int:
        """All of a hub's certificates: what it signs with them is believed no more. How many."""
        kids = self._certificates.revoke(hub, reason, t)
        for kid in kids:
            self._inbox.distrust(kid)
        return len(kids)

    def set_groups(self, hub: str, names: list[str]) -> None:
        """The groups that a hub said it listens to (the receipt of a `config` that set `hub.groups`)."""
        self._db.execute("DELETE FROM hub_group WHERE hub = ?", (hub,))
        self._db.executemany(
            "INSERT INTO hub_group VALUES (?, ?) ON CONFLICT DO NOTHING", ((hub, name) for name in names)
        )

    def members(self, target: dict[str, Any]) -> list[str]:
        """The hubs that a target names: `{"hub": name}`, `{"group": name}`, `{"all": true}`, `{"hubs": names}`,
        or a filter `{"state":, "version":, "group":}` under "where". Raises ValueError where it names nothing that is
        known."""
        if "hubs" in target:
            return self._known(target["hubs"])
        where = target.get("where", target)
        clauses, values = [], []
        for key, value in where.items():
            if key == "all":
                continue
            if key == "group":
                clauses.append("hub IN (SELECT hub FROM hub_group WHERE name = ?)")
            elif key in ("hub", "state", "version"):
                clauses.append(f"{key} = ?")
            else:
                raise ValueError(f"{key}: a target is hub, group, all, or where with state, version, group")
            values.append(str(value))
        sql = "SELECT hub FROM hub" + (" WHERE " + " AND ".join(clauses) if clauses else "") + " ORDER BY hub"
        found = [row[0] for row in self._db.execute(sql, values)]
        if not found:
            raise ValueError(f"no hub is {json.dumps(where)}")
        return found

    def narrowed(self, target: dict[str, Any], reach: Reach) -> dict[str, Any]:
        """What a client means by a target: of the hubs that it names those within reach, one by one where it would
        be said to others too. Raises ValueError as if the others were not there."""
        if reach.is_all:
            return target
        if set(target) == {"group"} and target["group"] in reach.values:
            return target
        try:
            named = self.members(target)
        except ValueError:
            named = []
        within = reach.hubs(self._db)
        if not (found := [hub for hub in named if hub in within]):
            raise ValueError(f"no hub is {json.dumps(target.get('where', target))}")
        return target if set(target) == {"hub"} else {"hubs": found}

    def _known(self, names: list[str]) -> list[str]:
        """These hubs. Raises ValueError where one of them is not known."""
        wanted = sorted(set(names))
        found: set[str] = set()
        for at in range(0, len(wanted), _AT_ONCE):
            some = wanted[at : at + _AT_ONCE]
            sql = f"SELECT hub FROM hub WHERE hub IN ({', '.join('?' * len(some))})"
            found.update(row[0] for row in self._db.execute(sql, some).fetchall())
        if strangers := [name for name in wanted if name not in found]:
            raise ValueError(f"no hub is {json.dumps(strangers[:5])}")
        return wanted


def certificates_of(folder: Path) -> Iterator[bytes]:
    """Every certificate (DER) in the PEM files of a folder. Raises OSError; what is none is passed over."""
    for file in sorted(folder.glob("*.pem")):
        try:
            yield x509.load_pem_x509_certificate(file.read_bytes()).public_bytes(Encoding.DER)
        except ValueError:
            continue


def issued_in(journal: Path) -> Iterator[bytes]:
    """Every certificate (DER) that a provisioning station's journal says was issued (deploy/provision/journal.py). The
    station's own audit judges the chain; here a line that is none is passed over. Raises OSError."""
    with journal.open() as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                if entry.get("what") == "issued":
                    yield x509.load_pem_x509_certificate(entry["certificate"].encode()).public_bytes(Encoding.DER)
            except (ValueError, KeyError, AttributeError):
                continue
