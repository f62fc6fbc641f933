"""The keys of the chain: four roots (SRK), and below each a key for command files (CSF) and one for images (IMG).

KEYS/certs has the certificates and the roots' table; KEYS/private the keys, under the passphrase in private/passphrase.
The chip's fuses hold the SHA-256 of the table. A root that is lost or stolen is taken back by a fuse (SRK_REVOKE, three
of the four): then the next root signs, and needs no new table.
"""

import hashlib
import secrets
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from deploy.image.shell import BuildError, run
from deploy.image.signing import Signing

ROOTS = 4
BITS = 4096
_TABLE = "SRK-table.bin"
# The ROM has no clock, and its reader of certificates knows the older of the two forms of time, which ends in 2050.
_LAST_DAY = datetime(2049, 12, 31, tzinfo=UTC)
_SRK_TABLE, _SRK_ENTRY, _TABLE_VERSION, _PKCS1 = 0xD7, 0xE1, 0x40, 0x21
_IS_AUTHORITY = 0x80


@dataclass(frozen=True)
class HabKeys:
    """A folder of keys. uri: "pkcs11:token=NAME", whose objects are CSF1, IMG1, ...; None: files."""

    folder: Path
    uri: str | None = None

    @property
    def table(self) -> bytes:
        """The roots' table as the ROM reads it."""
        return self._read(self.folder / "certs" / _TABLE)

    @property
    def fuse_words(self) -> list[int]:
        """The eight words of SRK_HASH, as U-Boot's `fuse` takes them."""
        digest = table_digest(self.table)
        return [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 32, 4)]

    def certificate_file(self, name: str) -> Path:
        """PEM of CSF1, IMG1, SRK1, ..."""
        return self.folder / "certs" / f"{name}.pem"

    def certificate(self, name: str) -> bytes:
        """The same as DER."""
        pem = self._read(self.certificate_file(name))
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)

    def sign(self, name: str, data: bytes) -> bytes:
        """CMS SignedData (RFC 5652, DER) over `data`, which is not in it, nor are certificates: the ROM has them."""
        words = ["openssl", "cms", "-sign", "-binary", "-nocerts", "-nosmimecap", "-md", "sha256", "-outform", "DER"]
        words += ["-signer", str(self.certificate_file(name))]
        if self.uri is not None:
            words += ["-engine", "pkcs11", "-keyform", "engine", "-inkey", f"{self.uri};object={name};type=private"]
            token = Signing(self.folder, self.uri).token_env
            return self._cms([*words, "-passin", "env:PKCS11_PIN"], data, token)
        private = self.folder / "private"
        words += ["-inkey", str(private / f"{name}.pem"), "-passin", f"file:{private / 'passphrase'}"]
        return self._cms(words, data, {})

    def _cms(self, words: list[str], data: bytes, env: dict[str, str]) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "signature"
            run([*words, "-out", made], stdin=data, env=env)
            return made.read_bytes()

    def _read(self, file: Path) -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise BuildError(f"{file}: {error.strerror}; expected a folder made by `hab keys`") from None


def make_keys(folder: Path, bits: int = BITS) -> HabKeys:
    """New keys. Raises BuildError where there are some already: a board that is closed knows no others."""
    if (folder / "certs").exists():
        raise BuildError(f"{folder}: there are keys already; nothing was changed")
    for name in ("certs", "private"):
        (folder / name).mkdir(mode=0o700, parents=True)
    passphrase = secrets.token_hex(16)
    _write(folder / "private/passphrase", f"{passphrase}\n".encode())
    roots = []
    for number in range(1, ROOTS + 1):
        key, root = _certified(f"SRK{number}", bits, None, None)
        roots.append(root)
        _keep(folder, f"SRK{number}", key, root, passphrase)
        for name in (f"CSF{number}", f"IMG{number}"):
            below, certificate = _certified(name, bits, root, key)
            _keep(folder, name, below, certificate, passphrase)
    _write(folder / "certs" / _TABLE, make_table(roots))
    return HabKeys(folder)


def make_table(roots: list[x509.Certificate]) -> bytes:
    """The roots' public keys as the ROM reads them: tag, length, version; each root: tag, length, algorithm, flags."""
    rows = []
    for root in roots:
        numbers = root.public_key()
        assert isinstance(numbers, rsa.RSAPublicKey)
        modulus = numbers.public_numbers().n.to_bytes(numbers.key_size // 8, "big")
        exponent = numbers.public_numbers().e
        power = exponent.to_bytes((exponent.bit_length() + 7) // 8, "big")
        sizes = len(modulus).to_bytes(2, "big") + len(power).to_bytes(2, "big")
        body = bytes((0, 0, 0, _IS_AUTHORITY)) + sizes + modulus + power
        rows.append(bytes((_SRK_ENTRY,)) + (len(body) + 4).to_bytes(2, "big") + bytes((_PKCS1,)) + body)
    whole = b"".join(rows)
    return bytes((_SRK_TABLE,)) + (len(whole) + 4).to_bytes(2, "big") + bytes((_TABLE_VERSION,)) + whole


def table_digest(table: bytes) -> bytes:
    """What the fuses hold: SHA-256 of the SHA-256s of the rows."""
    digests, at = b"", 4
    while at < len(table):
        size = int.from_bytes(table[at + 1 : at + 3], "big")
        if size < 4:
            raise BuildError("the roots' table is damaged")
        digests += hashlib.sha256(table[at : at + size]).digest()
        at += size
    return hashlib.sha256(digests).digest()


def _certified(
    name: str, bits: int, issuer: x509.Certificate | None, issuer_key: rsa.RSAPrivateKey | None
) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """A key and its certificate: a root where there is no issuer."""
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key if issuer_key is None else issuer_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(31) | 1)  # short, as NXP's own tools make it
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(_LAST_DAY)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return key, builder.sign(signer, hashes.SHA256())


def _keep(folder: Path, name: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, passphrase: str) -> None:
    protection = serialization.BestAvailableEncryption(passphrase.encode())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write(folder / "private" / f"{name}.pem", key.private_bytes(pem, pkcs8, protection))
    _write(folder / "certs" / f"{name}.pem", certificate.public_bytes(pem))


def _write(file: Path, data: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(data)
