"""The two keys of a release: `boot` signs kernels (U-Boot checks), `release` signs updates (RAUC checks).

Without keys given, test keys are made in OUT/keys. Production keys stay in a PKCS#11 token; then the folder given by
--keys holds certificates alone: release-ca.pem, release.pem.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.image.shell import BuildError

BOOT, RELEASE, CA = "boot", "release", "release-ca"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
)
_TEST_MARK = "FOR-TESTS-ONLY"
_YEARS_20 = timedelta(days=20 * 365)


@dataclass(frozen=True)
class Signing:
    """Where the keys are. uri: "pkcs11:token=NAME", whose objects are called boot and release; None: files."""

    folder: Path
    uri: str | None = None

    @property
    def ca_file(self) -> Path:
        return self.folder / f"{CA}.pem"

    @property
    def keyring(self) -> bytes:
        """What a hub's RAUC believes: the authority and, where there is one, its list of certificates taken back."""
        return self.ca_file.read_bytes() + (self.crl_file.read_bytes() if self.has_crl else b"")

    @property
    def crl_file(self) -> Path:
        return self.folder / f"{CA}.crl"

    @property
    def has_crl(self) -> bool:
        return self.crl_file.is_file()

    @property
    def is_for_tests(self) -> bool:
        """Whether make_test_keys made them; a bundle or medium signed with them is for nobody's meter."""
        return (self.folder / _TEST_MARK).exists()

    @property
    def token_env(self) -> dict[str, str]:
        """What mkimage (OpenSSL's pkcs11 engine) and rauc want to know of the token."""
        if self.uri is None:
            return {}
        pin = os.environ.get("METERHUB_PIN")
        module = os.environ.get("PKCS11_MODULE_PATH") or next((name for name in _MODULES if Path(name).exists()), None)
        if pin is None or module is None:
            raise BuildError("--sign-uri: set METERHUB_PIN to the token's PIN and PKCS11_MODULE_PATH to its module")
        return {
            "PKCS11_MODULE_PATH": module,
            "PKCS11_PIN": pin,
            "RAUC_PKCS11_MODULE": module,
            "RAUC_PKCS11_PIN": pin,
            "MKIMAGE_SIGN_PIN": pin,
        }

    def mkimage_options(self) -> list[str]:
        """How mkimage finds the key called `boot`."""
        if self.uri is None:
            return ["-k", str(self.folder)]
        return ["-N", "pkcs11", "-k", self.uri.removeprefix("pkcs11:")]

    def rauc_options(self, keyring: Path) -> list[str]:
        """How rauc finds the key and certificate called `release`; keyring: a file with `keyring`."""
        cert = str(self.folder / f"{RELEASE}.pem")
        key = str(self.folder / f"{RELEASE}.key")
        if self.uri is not None:
            key = f"{self.uri};object={RELEASE};type=private"
        return [f"--cert={cert}", f"--key={key}", f"--keyring={keyring}"]


def given_keys(folder: Path, uri: str | None) -> Signing:
    """The release's own keys. Raises BuildError for one that is not there."""
    needed = [f"{CA}.pem", f"{RELEASE}.pem"]
    if uri is None:
        needed += [f"{RELEASE}.key", f"{BOOT}.key", f"{BOOT}.crt"]
    absent = [name for name in needed if not (folder / name).is_file()]
    if absent:
        raise BuildError(f"--keys {folder}: {', '.join(absent)} missing")
    return Signing(folder, uri)


def make_test_keys(folder: Path) -> Signing:
    """Keys for tests, made once and kept in `folder`; never for a meter."""
    if (folder / f"{BOOT}.crt").is_file():
        return Signing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _TEST_MARK).touch()
    ca_key = rsa.generate_private_key(65537, 3072)
    ca_name = _name("meterhub test release CA")
    _write(folder / f"{CA}.pem", _certificate(ca_name, ca_key, ca_name, ca_key, is_ca=True))
    _write_key(folder / f"{CA}.key", ca_key)
    key = rsa.generate_private_key(65537, 3072)
    _write(folder / f"{RELEASE}.pem", _certificate(_name("meterhub test release"), key, ca_name, ca_key, is_ca=False))
    _write_key(folder / f"{RELEASE}.key", key)
    revoke(folder, [])
    boot = rsa.generate_private_key(65537, 4096)
    _write_key(folder / f"{BOOT}.key", boot)
    boot_name = _name("meterhub test boot")
    _write(folder / f"{BOOT}.crt", _certificate(boot_name, boot, boot_name, boot, is_ca=False))
    return Signing(folder)


def revoke(folder: Path, certificates: list[Path]) -> Path:
    """Write release-ca.crl anew, with these certificates beside those that it names already; the authority's key is in
    `folder` (where it is in an HSM, the HSM's own tools make the list).

    A hub takes the time at which a bundle says that it was signed for the time of the check, and whoever has a stolen
    key says what he likes: so the list is valid from the authority's first day to its last, and counts at any time.
    """
    crl_file, ca = folder / f"{CA}.crl", x509.load_pem_x509_certificate((folder / f"{CA}.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / f"{CA}.key").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    first, last = ca.not_valid_before_utc, ca.not_valid_after_utc
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(first).next_update(last)
    numbers = {x509.load_pem_x509_certificate(path.read_bytes()).serial_number for path in certificates}
    if crl_file.is_file():
        numbers |= {entry.serial_number for entry in x509.load_pem_x509_crl(crl_file.read_bytes())}
    for number in sorted(numbers):
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(first).build()
        builder = builder.add_revoked_certificate(entry)
    crl_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return crl_file


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, key: rsa.RSAPrivateKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, *, is_ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _YEARS_20)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
    usage = x509.KeyUsage(
        digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
