"""The manufacturer's certificate authority: small, persistent, its key in a file with a passphrase or in hardware."""

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from deploy.certificates import leaf, name_of, root
from drivers.durable_file import replace_file
from drivers.pkcs11_token import generate, load_key
from hub.wire.keys.pkcs11 import parse_uri, to_pem, uri_of
from hub.wire.keys.recovery import kid_of_key
from hub.wire.uplink.envelope import ES256

CA_DAYS = 365 * 35


class NoAuthority(Exception):
    """The authority's files cannot be used; the text names the file and what to do."""


def create(folder: Path, name: str, passphrase: bytes, key_uri: str | None = None) -> None:
    """Make `ca.pem`, and its key: `ca.key` under a passphrase, or inside the token that `key_uri` names.

    What is there stays: run again after a power cut, it completes. Raises OSError, HardwareError, or BadUri.
    """
    key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
    if certificate_file.exists():
        return
    if key_uri is not None:
        uri = parse_uri(key_uri)
        key: ec.EllipticCurvePrivateKey = generate(uri)
        pem = to_pem(uri)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(encoding, form, serialization.BestAvailableEncryption(passphrase))
    replace_file(key_file, pem)
    certificate = root(name_of(name), key, timedelta(days=CA_DAYS))
    replace_file(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


class DeviceAuthority:
    """Certifies devices. Raises NoAuthority at the start, HardwareError where its own key is in hardware."""

    def __init__(self, folder: Path, passphrase: bytes) -> None:
        self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        file = folder / "ca.key"
        uri = uri_of(file)
        try:
            if uri is not None:
                key: object = load_key(uri, self.certificate.public_key())
            else:
                key = serialization.load_pem_private_key(file.read_bytes(), passphrase)
        except (ValueError, TypeError):
            raise NoAuthority(f"{file}: not with this passphrase, or not the key of ca.pem") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NoAuthority(f"{file}: expected a P-256 key")
        self.key = key

    def certify(self, request: x509.CertificateSigningRequest, serial: str, days: int) -> x509.Certificate:
        """A client certificate whose CN is the serial number. The request proves who holds the key, no more: the name
        is the station's to give. Raises ValueError for a request that its own key did not sign."""
        public_key = request.public_key()
        if (
            not isinstance(public_key, ec.EllipticCurvePublicKey)
            or not isinstance(public_key.curve, ec.SECP256R1)
            or not request.is_signature_valid
        ):
            raise ValueError(f"{serial}: the request is not signed by a P-256 key of its own")
        return leaf(name_of(serial), public_key, self.certificate.subject, self.key, ends_in=timedelta(days=days))

    def sign(self, data: bytes) -> bytes:
        """ECDSA over SHA-256, DER."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


class RecoverySigner:
    """The authority as the signer of a list of operators for one hub (hub/wire/keys/recovery.py)."""

    alg = ES256

    def __init__(self, authority: DeviceAuthority) -> None:
        self._authority = authority
        self.kid = kid_of_key(authority.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """As COSE wants it: r || s."""
        r, s = decode_dss_signature(self._authority.sign(data))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def is_signed(certificate: x509.Certificate, signature: bytes, data: bytes) -> bool:
    """Whether the authority of this certificate signed the data."""
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            return True
    except InvalidSignature:
        pass
    return False
