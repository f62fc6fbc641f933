"""EST, the part a device needs: a new key certified in place of the old one (RFC 7030 section 4.2.2).

The key is made here and never leaves. EST rather than a command of ours: every PKI vendor sells a server for it, the
request is authenticated by the certificate that is still good, and a CA's answer does not travel where loads are
controlled. Blocks: run it in a thread.
"""

import base64
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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
LEAST_LIFE = timedelta(days=60)  # of a certificate that is taken though it ends before the present one
_MAX_ANSWER = 64 * 1024


class BadEnrolment(Exception):
    """The server did not give a certificate that this hub can use; the text says why."""


class Enrolled(NamedTuple):
    """A new key and its certificate, both as PEM."""

    key: bytes
    certificate: bytes


def authorities_at(url: str, ca_file: Path, cert_file: Path, key_file: Path) -> list[x509.Certificate]:
    """The authorities that the server speaks for (RFC 7030 section 4.1), in no order. `url` ends before `/cacerts`.
    Raises BadEnrolment, or OSError (ssl.SSLError included) when the server cannot be reached or trusted."""
    return _certificates_in(_ask("GET", url, "/cacerts", ca_file, cert_file, key_file))


def successor_of(certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Of these authorities the one that began last, where a certificate is of another of them.

    What is in a PKCS #7 message is a set and has no order, so when an authority began is what tells the new one. None
    where no authority of the list issued the certificate: then the list is not of the hub's own.
    """
    own = [authority for authority in authorities if is_issued_by(certificate, authority)]
    if not own:
        return None
    newest = max(authorities, key=lambda authority: authority.not_valid_before_utc)
    return newest if newest.not_valid_before_utc > max(each.not_valid_before_utc for each in own) else None


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def reenrol(
    url: str,
    ca_file: Path,
    cert_file: Path,
    key_file: Path,
    identity: Identity,
    place: Pkcs11Uri | None = None,
    *,
    outlasts: bool = True,
) -> Enrolled:
    """Ask for a certificate for a new P-256 key under the same subject. `url` ends before `/simplereenroll`.

    `place`: where in hardware the new key is made; what is there is replaced. `outlasts`: it has to end later than the
    present one; else a life of LEAST_LIFE is enough. Raises BadEnrolment, HardwareError, or OSError (ssl.SSLError
    included) when the server cannot be reached or trusted.
    """
    key, key_pem = _new_key(place)
    request = x509.CertificateSigningRequestBuilder().subject_name(identity.certificate.subject)
    try:
        names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        request = request.add_extension(names.value, critical=names.critical)  # RFC 7030: identical to the old one's
    except x509.ExtensionNotFound:
        pass
    signed = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    answer = _ask("POST", url, "/simplereenroll", ca_file, cert_file, key_file, base64.encodebytes(signed))
    certificate = certificate_of(answer, key.public_key())
    if common_name(certificate) != identity.hub_id:
        raise BadEnrolment(f"the certificate is for {common_name(certificate)!r}, not for {identity.hub_id!r}")
    is_long = not outlasts and certificate.not_valid_after_utc - certificate.not_valid_before_utc >= LEAST_LIFE
    if certificate.not_valid_after_utc <= identity.certificate.not_valid_after_utc and not is_long:
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


def _ask(
    method: str, url: str, path: str, ca_file: Path, cert_file: Path, key_file: Path, body: bytes | None = None
) -> bytes:
    context = client_context(ca_file, cert_file, key_file)
    headers = {} if body is None else {
        "Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}  # fmt: skip
    try:
        with HttpsClient(url, context, TIMEOUT_S) as server:
            answer = server.request(method, server.bare_path.rstrip("/") + path, body, headers)
            data = answer.read(_MAX_ANSWER)
    except HttpsFault as error:
        raise BadEnrolment(f"not an answer in HTTP: {error!r}") from None
    if answer.status != 200:  # 202: not yet (section 4.2.3); the next round asks again
        raise BadEnrolment(f"the server answered {answer.status} {plain(answer.reason)}")
    return data


def certificate_of(answer: bytes, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
    """The certificate of our key out of a certs-only PKCS #7 message. Raises BadEnrolment."""
    for certificate in _certificates_in(answer):
        try:
            if certificate.public_key() == public_key:
                return certificate
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadEnrolment(f"a certificate with no key that a hub knows: {plain(str(error), 200)}") from None
    raise BadEnrolment("none of the certificates is for the key that was sent")


def _certificates_in(answer: bytes) -> list[x509.Certificate]:
    try:
        return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise BadEnrolment(f"not a PKCS #7 message of certificates: {plain(str(error), 200)}") from None
