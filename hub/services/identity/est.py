"""EST, the part a device needs: a new key certified in place of the old one (RFC 7030 section 4.2.2).

The key is made here and never leaves. EST rather than a command of ours: every PKI vendor sells a server for it, the
request is authenticated by the certificate that is still good, and a CA's answer does not travel where loads are
controlled. Blocks: run it in a thread.
"""

import base64
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from drivers.https import HttpsClient, HttpsFault
from drivers.pkcs11_token import destroy, generate
from drivers.tls import client_context
from hub.wire.keys.identity import Identity, common_name
from hub.wire.keys.pkcs11 import Pkcs11Uri, to_pem
from hub.wire.printable import plain

TIMEOUT_S = 30.0
_MAX_ANSWER = 64 * 1024


class BadEnrolment(Exception):
    """The server did not give a certificate that this hub can use; the text says why."""


class Enrolled(NamedTuple):
    """A new key and its certificate, both as PEM."""

    key: bytes
    certificate: bytes


def reenrol(
    url: str, ca_file: Path, cert_file: Path, key_file: Path, identity: Identity, place: Pkcs11Uri | None = None
) -> Enrolled:
    """Ask for a certificate for a new P-256 key under the same subject. `url` ends before `/simplereenroll`.

    `place`: where in hardware the new key is made; what is there is replaced. Raises BadEnrolment, HardwareError, or
    OSError (ssl.SSLError included) when the server cannot be reached or trusted.
    """
    key, key_pem = _new_key(place)
    request = x509.CertificateSigningRequestBuilder().subject_name(identity.certificate.subject)
    try:
        names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        request = request.add_extension(names.value, critical=names.critical)  # RFC 7030: identical to the old one's
    except x509.ExtensionNotFound:
        pass
    signed = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    certificate = certificate_of(_post(url, ca_file, cert_file, key_file, base64.encodebytes(signed)), key.public_key())
    if common_name(certificate) != identity.hub_id:
        raise BadEnrolment(f"the certificate is for {common_name(certificate)!r}, not for {identity.hub_id!r}")
    if certificate.not_valid_after_utc <= identity.certificate.not_valid_after_utc:
        raise BadEnrolment("the certificate ends no later than the present one")
    return Enrolled(key_pem, certificate.public_bytes(serialization.Encoding.PEM))


def _new_key(place: Pkcs11Uri | None) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A new key, and the PEM by which it is found again."""
    if place is not None:
        destroy(place)
        return generate(place), to_pem(place)
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key, key.private_bytes(encoding, form, serialization.NoEncryption())


def _post(url: str, ca_file: Path, cert_file: Path, key_file: Path, body: bytes) -> bytes:
    context = client_context(ca_file, cert_file, key_file)
    headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
    try:
        with HttpsClient(url, context, TIMEOUT_S) as server:
            answer = server.request("POST", server.bare_path.rstrip("/") + "/simplereenroll", body, headers)
            data = answer.read(_MAX_ANSWER)
    except HttpsFault as error:
        raise BadEnrolment(f"not an answer in HTTP: {error!r}") from None
    if answer.status != 200:  # 202: not yet (section 4.2.3); the next round asks again
        raise BadEnrolment(f"the server answered {answer.status} {plain(answer.reason)}")
    return data


def certificate_of(answer: bytes, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
    """The certificate of our key out of a certs-only PKCS #7 message. Raises BadEnrolment."""
    try:
        certificates = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        for certificate in certificates:
            if certificate.public_key() == public_key:
                return certificate
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadEnrolment(f"not a PKCS #7 message of certificates: {plain(str(error), 200)}") from None
    raise BadEnrolment("none of the certificates is for the key that was sent")
