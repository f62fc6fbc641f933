"""The hub's certificate, renewed in time: a new key beside the old, shown at the next connect, rolled back if refused.

In time is before it ends, and also once another authority certifies: a certificate of twenty years would else hold up
the end of the authority that issued it. So the hub looks now and then at the EST server's list of authorities.

What the hub shows is a machine with a table; the renewal itself runs beside the uplink and never hurries.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from drivers.clock import monotonic, utc_ms
from drivers.durable_file import replace_file
from drivers.threads import in_thread
from hub.core.health import Health
from hub.wire.keys.identity import BadIdentity, Identity, load_chain, load_identity
from hub.wire.keys.pkcs11 import HardwareError, Pkcs11Uri, uri_of
from hub.wire.uplink.envelope import kid_of

log = logging.getLogger(__name__)

# Begins this long before the end, or at the last third of a short life; a fleet's certificates end on one day, so the
# first attempt is drawn from a whole day, or from a tenth of what is left.
RENEW_BEFORE_S = 60 * 86400
SPREAD_S = 86400.0
RETRY_S = 6 * 3600.0
_ROUND_S = 60.0
# A connection that just ends says little of the certificate (a broker of TLS 1.2 may mean it, though).
MAX_UNCLEAR = 3
_CLEAR = ("uplink-refused", "uplink-not-authorised")

RENEWED = "meterhub-renewed-"  # names of keys in hardware
OWN, NEW, OLD = "own", "trying the new one", "trying the old one again"
_ADOPT, _ROLL_BACK = "adopt", "roll back"
# (state, what happened): (state, what is to be done)
TABLE: dict[tuple[str, str], tuple[str, str]] = {
    (OWN, "enrolled"): (NEW, ""),
    (OWN, "let in"): (OWN, ""),
    (OWN, "turned away"): (OWN, ""),
    (NEW, "enrolled"): (NEW, ""),
    (NEW, "let in"): (OWN, _ADOPT),
    (NEW, "turned away"): (OLD, ""),
    (OLD, "enrolled"): (NEW, ""),
    (OLD, "let in"): (OWN, _ROLL_BACK),  # the old one opens where the new one did not
    (OLD, "turned away"): (NEW, ""),  # neither does: the broker has another reason
}


def load_key(uri: Pkcs11Uri, public_key: object) -> ec.EllipticCurvePrivateKey:
    """Open a key in hardware; what that needs is loaded where there is one (drivers/pkcs11_token.py)."""
    from drivers import pkcs11_token

    return pkcs11_token.load_key(uri, public_key)


def adopted_file(data_dir: Path) -> Path:
    """Where a renewed key and its certificate live, in one file, so that they change together."""
    return data_dir / "identity" / "renewed.pem"


def newest_identity(cert_file: Path, key_file: Path, data_dir: Path) -> tuple[Identity, Path, Path]:
    """The identity that counts: the configured one, or the renewed one where that is newer and of the same hub.

    Returns it with the files of certificate and key. Raises BadIdentity for the configured one.
    """
    configured = load_identity(cert_file, key_file, load_key)
    file = adopted_file(data_dir)
    if file.exists():
        try:
            renewed = load_identity(file, file, load_key)
        except BadIdentity as error:
            log.error("the renewed certificate does not read (%s): the configured one holds", error)
        else:
            begins, known = renewed.certificate.not_valid_before_utc, configured.certificate.not_valid_before_utc
            if renewed.hub_id == configured.hub_id and begins >= known:
                return renewed, file, file
    return configured, cert_file, key_file


class Renewal:
    """One hub's certificate. `adopted(identity)` is told when the broker let the new one in: it is to sign from now
    on, and the utility is to hear of it (`announcement.hand_over`)."""

    def __init__(
        self,
        url: str | None,
        ca_file: Path,
        data_dir: Path,
        present: tuple[Identity, Path, Path],
        health: Health,
        record_event: Callable[[str, dict[str, Any]], None],
        adopted: Callable[[Identity], None],
        random: Callable[[], float],
        *,
        look_every_s: float,
    ) -> None:
        self._url = url
        self._ca_file = ca_file
        self._adopted_file = adopted_file(data_dir)
        self._next_file = self._adopted_file.with_name("next.pem")
        self._passed_over_file = self._adopted_file.with_name("passed-over.sha256")
        self._identity, self._cert_file, self._key_file = present
        self._health = health
        self._record_event = record_event
        self._adopted = adopted
        self._random = random
        self._try_at: float | None = None
        self._successor: x509.Certificate | None = None  # the authority that certifies by now, where it is another
        self._looks_changed = asyncio.Event()
        self.look_every(look_every_s)
        self._unclear = 0
        self._shown = OWN
        self.new_to_show: Callable[[], None] = lambda: None
        self.state = NEW if self._next_file.exists() else OWN

    def look_every(self, seconds: float) -> None:
        """How often to look whether another authority certifies by now; the first look is drawn from as long, so that
        a fleet's looks, and what follows of them, are spread."""
        self._look_every_s = seconds
        self._look_at = monotonic() + seconds * self._random()
        self._looks_changed.set()

    # What the uplink asks and tells

    def files(self) -> tuple[Path, Path]:
        """Certificate and key to show at the next connect."""
        self._shown = self.state
        return (self._next_file, self._next_file) if self.state == NEW else (self._cert_file, self._key_file)

    @property
    def adopted_files(self) -> tuple[Path, Path]:
        """Certificate and key that the broker is known to accept."""
        return self._cert_file, self._key_file

    @property
    def shown_kid(self) -> bytes:
        """The id of the key that signs once the broker lets in what `files` said."""
        if self._shown == NEW and self.state == NEW:
            with suppress(BadIdentity):
                return kid_of(load_chain(self._next_file)[0])
        return self._identity.signer.kid

    @property
    def waits(self) -> bool:
        """Whether there is a new certificate that no connect has shown yet."""
        return self.state == NEW and self._shown == OWN

    def let_in(self) -> None:
        """The broker accepted what `files` said."""
        self._unclear = 0
        if not self.waits:  # else it is no verdict on the new one
            self._happened("let in")

    def failed(self, kind: str) -> None:
        """The attempt failed; `kind` is a row of hub/core/uplink/reconnect_policy.py."""
        if self.waits:
            return
        self._unclear += 1
        if kind in _CLEAR or self._unclear >= MAX_UNCLEAR:
            self._unclear = 0
            self._happened("turned away")

    def cannot_read(self, error: Exception) -> None:
        """The new pair does not even load."""
        if self.state != OWN:
            self._drop(f"it does not read: {error}")

    def _happened(self, event: str) -> None:
        self.state, action = TABLE[self.state, event]
        if action == _ADOPT:
            self._adopt()
        elif action == _ROLL_BACK:
            self._drop("the broker lets the old one in, and not the new one")

    def _adopt(self) -> None:
        try:
            identity = load_identity(self._next_file, self._next_file, load_key)
            os.replace(self._next_file, self._adopted_file)
        except (BadIdentity, HardwareError, OSError) as error:
            self._drop(str(error))
            return
        self._identity = identity
        self._cert_file = self._key_file = self._adopted_file
        self._health.clear_condition("certificate-not-renewed")
        self._adopted(identity)

    def _drop(self, why: str) -> None:
        self.state = OWN
        self._successor = None  # the brokers may not know it yet: the next look is soon enough
        self._try_at = monotonic() + RETRY_S * (1 + self._random())
        self._health.raise_condition("certificate-not-renewed", why)
        self._record_event("certificate.rolled_back", {"reason": why})
        try:
            self._next_file.replace(self._next_file.with_name("refused.pem"))
        except OSError as error:
            log.warning("the refused certificate stays where it is: %s", error)

    # The renewal itself

    async def run(self) -> None:
        """Look once a minute whether it is time; enrol when it is. Returns at once where there is no server to ask."""
        while self._url is not None:
            if self.state == OWN and monotonic() >= self._look_at:
                await self._look(self._url)
            if self._is_due():
                await self._enrol(self._url)
            next_at = min(self._look_at, self._look_at if self._try_at is None else self._try_at)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._looks_changed.wait(), min(_ROUND_S, max(1.0, next_at - monotonic())))
            self._looks_changed.clear()

    def _left_s(self) -> float:
        return self._identity.certificate.not_valid_after_utc.timestamp() - utc_ms() / 1000

    def _ends_soon(self) -> bool:
        certificate = self._identity.certificate
        life_s = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()
        return self._left_s() <= min(RENEW_BEFORE_S, life_s / 3)

    def _is_due(self) -> bool:
        now = monotonic()
        if self.state != OWN:
            return False
        if self._successor is not None:
            return True  # the look was drawn
        if not self._ends_soon():
            return False
        if self._try_at is None:
            self._try_at = now + min(SPREAD_S, max(0.0, self._left_s()) / 10) * self._random()
        return now >= self._try_at

    async def _look(self, url: str) -> None:
        """Whether another authority certifies by now. A server that does not say is asked again at the next look:
        nothing is wrong with the certificate yet."""
        from hub.services.identity.est import BadEnrolment, authorities_at, successor_of

        self._look_at = monotonic() + self._look_every_s
        files = (self._ca_file, self._cert_file, self._key_file)
        try:
            authorities = await in_thread(lambda: authorities_at(url, *files))
        except (BadEnrolment, HardwareError, OSError, ValueError) as error:  # ValueError: an url that is none
            log.warning("%s: the authorities there are not known: %s", url, error)
            return
        found = successor_of(self._identity.certificate, authorities)
        if found is not None and _fingerprint(found) == self._passed_over():
            found = None
        self._successor = found
        if found is not None:
            log.info("another authority certifies by now: the hub renews its certificate")
        elif not self._ends_soon():
            self._health.clear_condition("certificate-not-renewed")

    def _passed_over(self) -> str:
        """The authority that began last, and by which nothing was certified when we asked: it is not asked for again,
        whatever it is there for."""
        try:
            return self._passed_over_file.read_text(errors="replace").strip()
        except OSError:
            return ""

    async def _enrol(self, url: str) -> None:
        from hub.services.identity.est import (  # HTTP and PKCS #7: memory for a minute every other year
            BadEnrolment,
            is_issued_by,
            reenrol,
        )

        successor, self._successor = self._successor, None
        files = (self._ca_file, self._cert_file, self._key_file)
        try:
            enrolled = await in_thread(
                lambda: reenrol(
                    url, *files, self._identity, self._place_beside(), outlasts=successor is None or self._ends_soon()
                )
            )
            if successor is not None and not is_issued_by(
                x509.load_pem_x509_certificate(enrolled.certificate), successor
            ):
                await in_thread(lambda: self._keep(self._passed_over_file, _fingerprint(successor).encode()))
            await in_thread(lambda: self._keep(self._next_file, enrolled.key + enrolled.certificate))
        except (BadEnrolment, HardwareError, OSError, ValueError) as error:  # ValueError: an url that is none
            self._try_at = monotonic() + RETRY_S * (1 + self._random())
            self._health.raise_condition("certificate-not-renewed", f"{url}: {error}")
            return
        self._try_at = None
        self._happened("enrolled")
        self.new_to_show()

    def _place_beside(self) -> Pkcs11Uri | None:
        """Where the new key goes if the present one is in hardware: beside it, under the one of two names that is free.

        The key of manufacture has a name of its own and stays; what is in the place is of an attempt that came to
        nothing, or of the certificate before the present one.
        """
        present = uri_of(self._key_file)
        if present is None:
            return None
        names = [f"{RENEWED}{number}" for number in (1, 2)]
        taken = present.path.get("object", b"").decode(errors="replace")
        return present.sibling(next(name for name in names if name != taken))

    def _keep(self, file: Path, content: bytes) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(file, content)


def _fingerprint(authority: x509.Certificate) -> str:
    return hashlib.sha256(authority.public_bytes(Encoding.DER)).hexdigest()
