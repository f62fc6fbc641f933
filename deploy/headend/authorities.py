"""The authorities whose hubs are believed: one certifies; those before it stay until their hubs have renewed.

Their folders are the provisioning station's (deploy/provision): `ca.pem`, and `ca.key`, which is a key under a
passphrase, or the name of one in a token.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.certificates import BACKDATED
from deploy.headend.certificates import KeptList, RevokedSerial, digest_of, key_identifier_of
from deploy.headend.config import AuthorityConfig, BadConfig
from deploy.provision.authority import DeviceAuthority, NoAuthority
from hub.wire.keys.pkcs11 import BadUri, HardwareError
from hub.wire.printable import why


class Authorities:
    """Raises BadConfig where one cannot be opened. Signing raises HardwareError where a key is in a token that does not
    answer."""

    def __init__(self, config: AuthorityConfig) -> None:
        passphrase = b""
        if config.passphrase_file is not None:
            passphrase = _read(config.passphrase_file).strip()
        self.with_keys: list[DeviceAuthority] = []
        for folder in (config.folder, *config.earlier):
            try:
                self.with_keys.append(DeviceAuthority(folder, passphrase))
            except (NoAuthority, BadUri, HardwareError, OSError, ValueError) as error:
                raise BadConfig(f"{folder}: {why(error)}") from None
        self.issuing = self.with_keys[0]
        self.others = [_certificate(file) for file in config.trusted]
        self._days = config.certificate_days

    @property
    def certificates(self) -> list[x509.Certificate]:
        """Of all of them, the one that certifies first."""
        return [*(authority.certificate for authority in self.with_keys), *self.others]

    def bundle(self) -> bytes:
        """What a broker's `cafile` holds, PEM."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.certificates)

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether one of them issued it."""
        for authority in self.certificates:
            try:
                certificate.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return True
        return False

    def certify(
        self, request: x509.CertificateSigningRequest, hub: str, present: x509.Certificate
    ) -> x509.Certificate:  # fmt: skip
        """In place of the present certificate, and longer: a hub takes none that ends no later. Raises ValueError a
        request that its own key did not sign, or of another kind of key than P-256."""
        left = present.not_valid_after_utc - datetime.now(UTC)
        return self.issuing.certify(request, hub, max(self._days, left.days + 2))


def make_list(
    authority: DeviceAuthority, entries: Sequence[RevokedSerial], number: int, now_s: int, days: int
) -> KeptList:
    """A revocation list (RFC 5280, section 5), good from a day ago: a broker whose clock is slow lets hubs in."""
    next_s = now_s + days * 86_400
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(_moment(now_s) - BACKDATED)
        .next_update(_moment(next_s))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )  # fmt: skip
    for entry in entries:
        revoked = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(_moment(entry.revoked_s))
        if entry.reason != "unspecified":  # RFC 5280, 5.3.1: that one is said by saying none
            revoked = revoked.add_extension(x509.CRLReason(x509.ReasonFlags(entry.reason)), critical=False)
        builder = builder.add_revoked_certificate(revoked.build())
    der = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
    return KeptList(number, next_s, digest_of(entries), der)


def issuer_key(authority: DeviceAuthority) -> str:
    """By which the inventory knows what an authority issued."""
    return key_identifier_of(authority.certificate)


def _moment(t: int) -> datetime:
    return datetime.fromtimestamp(t, UTC)


def _certificate(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(file))
    except ValueError as error:
        raise BadConfig(f"{file}: {why(error)}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror or error}") from None
