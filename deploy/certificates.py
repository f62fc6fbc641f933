"""What every authority here puts into a certificate (RFC 5280): the development one (pki.py) and the manufacturer's
(provision/authority.py)."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BACKDATED = timedelta(days=1)  # a hub that boots with a slow clock still finds its certificate valid
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def name_of(common_name: str) -> x509.Name:
    """A name that is a CN alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def root(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, ends_in: timedelta, begins_in: timedelta = -BACKDATED
) -> x509.Certificate:
    """An authority's own certificate; it certifies no further authorities."""
    return (
        _builder(name, name, key.public_key(), begins_in, ends_in)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def leaf(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    begins_in: timedelta = -BACKDATED,
    ends_in: timedelta,
    purposes: Iterable[x509.ObjectIdentifier] = CLIENT,
    hosts: Iterable[x509.GeneralName] = (),
) -> x509.Certificate:
    """A certificate for whoever holds `key`. `purposes`: extended key usages; `hosts`: a server's names."""
    builder = (
        _builder(subject, issuer, key, begins_in, ends_in)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    names = list(hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins_in: timedelta, ends_in: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins_in)
        .not_valid_after(now + ends_in)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,  # an authority signs its journal, too
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
