"""Every hub's certificates: who gave them, when they end, which are revoked; and the revocation lists made of that."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.headend.reach import EVERYBODY, Reach
from hub.headend.database import BookDatabase, BookReader
from hub.wire.uplink.envelope import kid_of

_DAY_S = 86_400
MOST_A_DAY = 10  # certificates that one hub is given


class RevokedSerial(NamedTuple):
    """An entry of a list. `reason`: RFC 5280, 5.3.1; what can be taken back (certificateHold) is none of them."""

    serial: int
    revoked_s: int
    reason: str


class KeptList(NamedTuple):
    """The list that was made last for an issuer. `digest`: of its entries."""

    number: int
    next_s: int
    digest: str
    der: bytes


def issuer_of(certificate: x509.Certificate) -> str:
    """Whose certificate it is: the issuer's key identifier, hex; of one that names none, a digest of the name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        found = None
    return (found or hashlib.sha256(certificate.issuer.public_bytes()).digest()[:20]).hex()


def key_identifier_of(authority: x509.Certificate) -> str:
    """An authority's own key identifier, hex: what `issuer_of` says of what it issued."""
    return x509.SubjectKeyIdentifier.from_public_key(authority.public_key()).digest.hex()


def digest_of(entries: Iterable[RevokedSerial]) -> str:
    """Differs when other certificates are revoked."""
    return hashlib.sha256(repr([tuple(entry) for entry in entries]).encode()).hexdigest()


class CertificateInventory:
    """Tables `hub_certificate` and `revocation_list`. The caller opens and ends transactions."""

    def __init__(self, db: BookDatabase) -> None:
        self._db = db

    def note(self, hub: str, certificate: x509.Certificate, source: str, made_s: int = 0) -> None:
        """A certificate of a hub that became known; `made_s`: when we made it, UTC epoch seconds."""
        self._db.execute(
            "INSERT INTO hub_certificate (issuer, serial, hub, kid, not_before_s, not_after_s, source, made_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                issuer_of(certificate), f"{certificate.serial_number:x}", hub, kid_of(certificate).hex(),
                int(certificate.not_valid_before_utc.timestamp()), int(certificate.not_valid_after_utc.timestamp()),
                source, made_s,
            ),
        )  # fmt: skip

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        row = self._db.execute(
            "SELECT revoked_s FROM hub_certificate WHERE issuer = ? AND serial = ?",
            (issuer_of(certificate), f"{certificate.serial_number:x}"),
        ).fetchone()
        return row is not None and row[0] > 0

    def made_since(self, hub: str, since_s: int) -> int:
        """How many certificates a hub was given since."""
        sql = "SELECT count(*) FROM hub_certificate WHERE hub = ? AND made_s > ?"
        return int(self._db.execute(sql, (hub, since_s)).fetchone()[0])

    def revoke(self, hub: str, reason: str, t: int) -> list[bytes]:
        """All of a hub's certificates that are not: the key ids of those. It cannot be taken back."""
        rows = self._db.execute("SELECT kid FROM hub_certificate WHERE hub = ? AND revoked_s = 0", (hub,)).fetchall()
        self._db.execute(
            "UPDATE hub_certificate SET revoked_s = ?, reason = ? WHERE hub = ? AND revoked_s = 0", (t, reason, hub)
        )
        return [bytes.fromhex(row[0]) for row in rows]

    def revoked_since(self, t: int) -> tuple[int, list[bytes]]:
        """Key ids that are believed no more, of what was revoked at `t` or later; and when the last of them was."""
        rows = self._db.execute(
            "SELECT kid, revoked_s FROM hub_certificate WHERE revoked_s > 0 AND revoked_s >= ?", (t,)
        ).fetchall()
        return max([t, *(row[1] for row in rows)]), [bytes.fromhex(row[0]) for row in rows]

    def entries(self, issuer: str, ends_after_s: int) -> list[RevokedSerial]:
        """What a list of this issuer has to name: revoked, and not past its own end since long (RFC 5280, 3.3: an entry
        stays until a list has named it after that)."""
        rows = self._db.execute(
            "SELECT serial, revoked_s, reason FROM hub_certificate WHERE issuer = ? AND revoked_s > 0"
            " AND not_after_s > ? ORDER BY serial",
            (issuer, ends_after_s),
        ).fetchall()
        return [RevokedSerial(int(serial, 16), revoked_s, reason) for serial, revoked_s, reason in rows]

    def kept_list(self, issuer: str) -> KeptList | None:
        row = self._db.execute(
            "SELECT number, next_s, digest, der FROM revocation_list WHERE issuer = ?", (issuer,)
        ).fetchone()
        return None if row is None else KeptList(row[0], row[1], row[2], bytes(row[3]))

    def keep_list(self, issuer: str, kept: KeptList) -> None:
        """The newest list of an issuer."""
        self._db.execute(
            "INSERT INTO revocation_list (issuer, number, next_s, digest, der) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (issuer) DO UPDATE SET number = excluded.number, next_s = excluded.next_s,"
            " digest = excluded.digest, der = excluded.der",
            (issuer, *kept),
        )

    def forget_lists(self, issuers: Iterable[str]) -> None:
        """Of authorities that are believed no more; those of `issuers` stay."""
        stay = set(issuers)
        for (issuer,) in self._db.execute("SELECT issuer FROM revocation_list").fetchall():
            if issuer not in stay:
                self._db.execute("DELETE FROM revocation_list WHERE issuer = ?", (issuer,))


def inventory_of(
    db: BookReader, hub: str, issuer: str, ends_before_s: int, now_s: int, most: int, reach: Reach = EVERYBODY
) -> list[dict[str, Any]]:
    """Certificates, the one that ends first at the top; an empty `hub` or `issuer` is any. `state`: in use (the hub
    signs with it), spare (known, and not in use), ended, or revoked."""
    where: list[str] = [reach.clause("c.hub"), "c.not_after_s < ?"]
    values: list[Any] = [*reach.values, ends_before_s]
    for column, value in (("c.hub", hub), ("c.issuer", issuer)):
        if value:
            where.append(f"{column} = ?")
            values.append(value)
    rows = db.execute(
        "SELECT c.*, h.kid AS kid_in_use FROM hub_certificate c LEFT JOIN hub h ON h.hub = c.hub WHERE "
        + " AND ".join(where)
        + " ORDER BY c.not_after_s, c.hub, c.serial LIMIT ?",
        (*values, most),
    ).fetchall()
    found = []
    for row in rows:
        said = dict(row)
        in_use = said.pop("kid_in_use") == said["kid"]
        said["state"] = (
            "revoked" if said["revoked_s"] else "ended" if said["not_after_s"] <= now_s else "in use" if in_use
            else "spare"
        )  # fmt: skip
        found.append(said)
    return found


def issuers_in_use(db: BookReader, reach: Reach = EVERYBODY) -> dict[str, int]:
    """How many hubs sign with a certificate of which authority: an exchange is over when the old one's are none. One
    that was revoked will not renew, and is not waited for."""
    return dict(
        db.execute(
            "SELECT c.issuer, count(*) FROM hub h JOIN hub_certificate c ON c.hub = h.hub AND c.kid = h.kid"
            f" WHERE c.revoked_s = 0 AND {reach.clause('h.hub')} GROUP BY c.issuer ORDER BY c.issuer",
            reach.values,
        ).fetchall()
    )


def lists_as_pem(db: BookReader) -> bytes:
    """Every list in force, one after the other."""
    rows = db.execute("SELECT der FROM revocation_list ORDER BY issuer").fetchall()
    return b"".join(x509.load_der_x509_crl(bytes(row[0])).public_bytes(Encoding.PEM) for row in rows)
