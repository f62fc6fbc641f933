"""A development PKI: one CA, certificates for a broker, hubs and a head-end. For tests and demonstrations only.

    python -m deploy.pki DIRECTORY [--hub NAME]

Keys are made anew and lie unprotected beside their certificates; production keys live in hardware.
"""

import argparse
import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.certificates import BACKDATED, leaf, name_of, root

_TWO_YEARS = timedelta(days=730)


class DevelopmentAuthority:
    """A certificate authority in a directory: `ca.pem`, and `NAME.pem` / `NAME.key` for whom it certifies."""

    def __init__(
        self,
        directory: Path,
        name: str = "meterhub development CA",
        ends_in: timedelta = timedelta(days=3650),
        begins_in: timedelta = -BACKDATED,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name_of(name)
        self.certificate = root(self._name, self._key, ends_in, begins_in)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        file_name: str | None = None,
        hosts: Iterable[str] = (),
        begins_in: timedelta = -BACKDATED,
        ends_in: timedelta = _TWO_YEARS,
        purposes: Iterable[x509.ObjectIdentifier] | None = None,
    ) -> tuple[Path, Path]:
        """Certify a new P-256 key for CN `name`; return `(certificate file, key file)`. `hosts`: a server's names.
        `purposes`: extended key usages; otherwise a TLS client, and with `hosts` a server, too."""
        key = ec.generate_private_key(ec.SECP256R1())
        tls = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        certificate = leaf(
            name_of(name), key.public_key(), self._name, self._key,
            begins_in=begins_in, ends_in=ends_in,
            purposes=tls if purposes is None else purposes, hosts=map(_general_name, hosts),
        )  # fmt: skip
        stem = file_name or name
        cert_file, key_file = self.directory / f"{stem}.pem", self.directory / f"{stem}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def certify(self, request: x509.CertificateSigningRequest, ends_in: timedelta = _TWO_YEARS) -> x509.Certificate:
        """Certify what a request asks for, as a client; nothing of it is doubted."""
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return leaf(request.subject, key, self._name, self._key, ends_in=ends_in)

    def revoke(self, *cert_files: Path, file_name: str = "crl") -> Path:
        """Write a revocation list, good for a month, that names these certificates; return its file."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - BACKDATED)
            .next_update(now + timedelta(days=30))
        )
        for cert_file in cert_files:
            serial = x509.load_pem_x509_certificate(cert_file.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATED)
            builder = builder.add_revoked_certificate(revoked.build())
        crl_file = self.directory / f"{file_name}.pem"
        crl_file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return crl_file


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.pki", description="Make a development PKI.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hub", default="MTR-DEMO-1", help="CN of the hub (default: %(default)s)")
    arguments = parser.parse_args()
    authority = DevelopmentAuthority(arguments.directory)
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue(arguments.hub, file_name="hub")
    authority.issue("headend")
    print(f"{arguments.directory}: ca.pem, and broker, hub ({arguments.hub}) and headend, each .pem and .key")


if __name__ == "__main__":
    main()
