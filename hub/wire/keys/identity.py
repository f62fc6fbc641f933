"""A hub's identity: the certificate whose CN is its name, and the key that signs (design 3.1, 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from hub.wire.keys.pkcs11 import BadUri, Pkcs11Uri, uri_of
from hub.wire.uplink.envelope import BadEnvelope, FileSigner, Signer, alg_of, kid_of

OpenKey = Callable[[Pkcs11Uri, object], ec.EllipticCurvePrivateKey]


class BadIdentity(ValueError):
    """The certificate or the key cannot be this hub's; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this hub is: `hub_id` = CN, what signs its messages, and its certificate with those that certify it."""

    hub_id: str
    signer: Signer
    chain: tuple[x509.Certificate, ...]

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]


def common_name(certificate: x509.Certificate) -> str:
    """The CN of a certificate's subject, or "" where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def load_chain(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a PEM file, the hub's own first. Raises BadIdentity."""
    try:
        chain = tuple(x509.load_pem_x509_certificates(path.read_bytes()))
        chain[0].public_key()  # read when it is asked for, and of an algorithm that may not be known here
        return chain
    except OSError as error:
        raise BadIdentity(f"{path}: {error.strerror or error}") from None
    except UnsupportedAlgorithm:
        raise BadIdentity(f"{path}: its key is of an algorithm that is not known; expected P-256 or Ed25519") from None
    except (ValueError, x509.InvalidVersion):
        raise BadIdentity(f"{path}: holds no PEM certificate") from None


def load_identity(cert_file: Path, key_file: Path, open_key: OpenKey | None = None) -> Identity:
    """Read a hub's certificate and private key, and check that they belong together.

    `key_file`: a PEM file with the key, or with the name of a key in hardware, or a `pkcs11:` URI. `open_key(uri,
    public key)` opens the latter, where they are to be had. Raises BadIdentity for what an operator has to mend,
    HardwareError where the hardware does not answer now.
    """
    chain = load_chain(cert_file)
    certificate = chain[0]
    hub_id = common_name(certificate)
    if not _is_name(hub_id):
        raise BadIdentity(
            f"{cert_file}: its subject needs a CN of 1-64 characters without / + # or spaces, has {hub_id!r}"
        )
    key = _load_key(key_file, certificate, open_key)
    if _spki(key.public_key()) != _spki(certificate.public_key()):
        raise BadIdentity(f"{key_file}: is not the key of {cert_file}")
    try:
        alg_of(key.public_key())
    except BadEnvelope as error:
        raise BadIdentity(f"{key_file}: {error}") from None
    return Identity(hub_id, FileSigner(key, kid_of(certificate)), chain)


def _load_key(
    key_file: Path, certificate: x509.Certificate, open_key: OpenKey | None
) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
    try:
        uri = uri_of(key_file)
    except OSError as error:
        raise BadIdentity(f"{key_file}: {error.strerror or error}") from None
    except BadUri as error:
        raise BadIdentity(f"{key_file}: expected {error}") from None
    if uri is not None:
        if open_key is None:
            raise BadIdentity(f"{key_file}: names a key in hardware; here a file that holds the key is needed")
        try:
            return open_key(uri, certificate.public_key())
        except ValueError as error:
            raise BadIdentity(f"{key_file}: {error}") from None
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except UnsupportedAlgorithm:
        raise BadIdentity(f"{key_file}: the device key is P-256 or Ed25519") from None
    except (OSError, ValueError, TypeError):
        raise BadIdentity(f"{key_file}: holds no unencrypted PEM private key") from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise BadIdentity(f"{key_file}: the device key is P-256 or Ed25519")
    return key


def _spki(public_key: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return public_key.public_bytes(encoding, form)  # type: ignore[attr-defined, no-any-return]


def _is_name(name: str) -> bool:
    return 0 < len(name) <= 64 and name.isprintable() and not set(name) & set("/+# $")
