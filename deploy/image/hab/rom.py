"""What the boot ROM makes of an image: its command file is walked as HAB 4 does, and what the ROM would note as an
event is told in words. Written from the standard's side: it shares no line with csf.py, and none with OpenSSL's CMS.

Stricter than the ROM: a command that csf.py has no use for is an event, and a signature names its signer.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

IVT_BYTES = 32
# A U-Boot image's own header (uImage: magic; size at 12, address at 16), and what U-Boot's build leaves for the ROM
# behind it (CONFIG_CSF_SIZE).
_UIMAGE, _HEADER_BYTES, _CSF_BYTES = bytes.fromhex("27051956"), 64, 0x2060
_DATA, _SIGNED_DATA = bytes.fromhex("2a864886f70d010701"), bytes.fromhex("2a864886f70d010702")
_CONTENT_TYPE, _MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010903"), bytes.fromhex("2a864886f70d010904")
_SHA256 = bytes.fromhex("608648016503040201")
_RSA, _SHA256_RSA = bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01010b")


class RomEvent(Exception):
    """What the ROM notes, and a closed chip ends at."""


@dataclass(frozen=True)
class LoadedImage:
    """An image where it is loaded."""

    address: int
    content: bytes

    def read(self, address: int, size: int, what: str) -> bytes:
        at = address - self.address
        if size < 0 or at < 0 or at + size > len(self.content):
            raise RomEvent(f"{what}: {size} bytes at {address:#x} are not in the image")
        return self.content[at : at + size]


def judge(image: bytes, fuses: Sequence[int], revoked: int = 0) -> list[str]:
    """The events of an SPL, or of a U-Boot image behind it: none, and a closed chip starts it.

    fuses: the eight words of SRK_HASH; revoked: SRK_REVOKE, a bit for each root.
    """
    try:
        memory, ivt = _load(image)
        _Rom(memory, fuses, revoked).start(ivt)
    except RomEvent as event:
        return [str(event)]
    return []


def _load(image: bytes) -> tuple[LoadedImage, int]:
    """Where an image lies in memory, and where its vector table: in front of an SPL, behind a U-Boot image."""
    if image[:4] == _UIMAGE:  # the SPL loads its header in front of what it starts, and looks where its size says
        size, address = int.from_bytes(image[12:16], "big"), int.from_bytes(image[16:20], "big") - _HEADER_BYTES
        return LoadedImage(address, image), address + _HEADER_BYTES + size - _CSF_BYTES
    return LoadedImage(int.from_bytes(image[20:24], "little"), image), int.from_bytes(image[20:24], "little")


@dataclass
class _Rom:
    memory: LoadedImage
    fuses: Sequence[int]
    revoked: int
    keys: dict[int, x509.Certificate | rsa.RSAPublicKey] = field(default_factory=dict)
    is_csf_sound: bool = False
    sound: list[range] = field(default_factory=list)

    def start(self, ivt_at: int) -> None:
        ivt = self.memory.read(ivt_at, IVT_BYTES, "image vector table")
        if ivt[:3] != b"\xd1\x00\x20" or ivt[3] >> 4 != 4:
            raise RomEvent("there is no image vector table")
        entry, _, dcd, boot_data, own, csf, _ = (int.from_bytes(ivt[at : at + 4], "little") for at in range(4, 32, 4))
        if own != ivt_at:
            raise RomEvent("the image vector table is not where it says")
        if not csf:
            raise RomEvent("there is no command file")
        self.walk(csf)
        needed = [("image vector table", ivt_at, IVT_BYTES), ("entry point", entry, 4)]
        if boot_data:
            needed.append(("boot data", boot_data, 12))
        if dcd:
            head = self.memory.read(dcd, 4, "device configuration")
            needed.append(("device configuration", dcd, int.from_bytes(head[1:3], "big")))
        for what, address, size in needed:
            if not any(address in block and address + size - 1 in block for block in self.sound):
                raise RomEvent(f"{what}: it is not signed")

    def walk(self, csf: int) -> None:
        """Every command in its order."""
        head = self.memory.read(csf, 4, "command file")
        size = int.from_bytes(head[1:3], "big")
        if head[0] != 0xD4 or head[3] >> 4 != 4 or size < 4:
            raise RomEvent("the command file has no header")
        commands = self.memory.read(csf, size, "command file")
        at = 4
        while at < size:
            length = int.from_bytes(commands[at + 1 : at + 3], "big")
            if length < 12 or at + length > size:
                raise RomEvent(f"command at {at}: its length is {length}")
            command = commands[at : at + length]
            if command[0] == 0xBE and length == 12:
                self.install(csf, command)
            elif command[0] == 0xCA and (length - 12) % 8 == 0:
                self.authenticate(csf, commands, command)
            else:
                raise RomEvent(f"command at {at}: {command[0]:#x} is unknown")
            at += length
        if not self.sound:
            raise RomEvent("the command file signs nothing")

    def install(self, csf: int, command: bytes) -> None:
        flags, form, _, source, target = command[3:8]
        place = csf + int.from_bytes(command[8:12], "big")
        if target in self.keys:
            raise RomEvent(f"key {target} is there already")
        if form == 0x03:
            if target != 0 or self.is_csf_sound:
                raise RomEvent("the roots come first, and into place 0")
            self.keys[0] = self.root(place, source)
            return
        if form != 0x09:
            raise RomEvent(f"key {target}: form {form:#x}")
        if (flags == 0x02) != (target == 1) or (target != 1 and not self.is_csf_sound):
            raise RomEvent(f"key {target} before the command file is known to be sound")
        self.keys[target] = self.certificate(place, source)

    def root(self, place: int, number: int) -> rsa.RSAPublicKey:
        """One of the table whose hash the fuses have."""
        size = int.from_bytes(self.memory.read(place, 4, "roots")[1:3], "big")
        table = self.memory.read(place, size, "roots")
        rows = list(_rows(table))
        digest = hashlib.sha256(b"".join(hashlib.sha256(row).digest() for row in rows)).digest()
        if digest != b"".join(word.to_bytes(4, "little") for word in self.fuses):
            raise RomEvent("the roots are not those of the fuses")
        if number >= len(rows):
            raise RomEvent(f"there is no root {number + 1}")
        if self.revoked >> number & 1:
            raise RomEvent(f"root {number + 1} is taken back")
        row = rows[number]
        if row[3] != 0x21 or not row[7] & 0x80:
            raise RomEvent(f"root {number + 1} is no authority's RSA key")
        modulus, power = int.from_bytes(row[8:10], "big"), int.from_bytes(row[10:12], "big")
        if len(row) != 12 + modulus + power:
            raise RomEvent(f"root {number + 1} has another length than it says")
        n, e = int.from_bytes(row[12 : 12 + modulus], "big"), int.from_bytes(row[12 + modulus :], "big")
        try:
            return rsa.RSAPublicNumbers(e, n).public_key()
        except ValueError:
            raise RomEvent(f"root {number + 1} is no RSA key") from None

    def certificate(self, place: int, source: int) -> x509.Certificate:
        raw = self.structure(place, 0xD7, "certificate")
        try:
            certificate = x509.load_der_x509_certificate(raw)
            public = certificate.public_key()
        except ValueError:
            raise RomEvent("a certificate cannot be read") from None
        if not isinstance(public, rsa.RSAPublicKey) or source not in self.keys:
            raise RomEvent("a certificate under no key that is there")
        if certificate.signature_algorithm_oid.dotted_string != "1.2.840.113549.1.1.11":
            raise RomEvent("a certificate is signed otherwise than by RSA with SHA-256")
        _check(self.public(source), certificate.signature, certificate.tbs_certificate_bytes, "certificate")
        return certificate

    def public(self, number: int) -> rsa.RSAPublicKey:
        key = self.keys[number]
        if isinstance(key, x509.Certificate):
            public = key.public_key()
            assert isinstance(public, rsa.RSAPublicKey)
            return public
        return key

    def structure(self, place: int, tag: int, what: str) -> bytes:
        head = self.memory.read(place, 4, what)
        size = int.from_bytes(head[1:3], "big")
        if head[0] != tag or head[3] >> 4 != 4 or size < 5:
            raise RomEvent(f"there is no {what} where one should be")
        return self.memory.read(place + 4, size - 4, what)

    def authenticate(self, csf: int, commands: bytes, command: bytes) -> None:
        _, number, form, _, _ = command[3:8]
        place = csf + int.from_bytes(command[8:12], "big")
        signer = self.keys.get(number)
        if form != 0xC5 or not isinstance(signer, x509.Certificate):
            raise RomEvent(f"signed by key {number}, in form {form:#x}")
        signature = self.structure(place, 0xD8, "signature")
        spans = [command[at : at + 8] for at in range(12, len(command), 8)]
        blocks = [(int.from_bytes(span[:4], "big"), int.from_bytes(span[4:], "big")) for span in spans]
        if number == 1:
            if blocks:
                raise RomEvent("the key for command files signs an image")
            check_cms(signature, commands, signer, "command file")
            self.is_csf_sound = True
            return
        if not self.is_csf_sound or not blocks:
            raise RomEvent("an image's signature before the command file's")
        content = b"".join(self.memory.read(address, size, "signed block") for address, size in blocks)
        check_cms(signature, content, signer, "image")
        self.sound += [range(address, address + size) for address, size in blocks]


def _rows(table: bytes) -> Iterator[bytes]:
    if table[:1] != b"\xd7" or table[3] >> 4 != 4:
        raise RomEvent("there is no table of roots")
    at = 4
    while at < len(table):
        size = int.from_bytes(table[at + 1 : at + 3], "big")
        if table[at] != 0xE1 or size < 12 or at + size > len(table):
            raise RomEvent("the table of roots is damaged")
        yield table[at : at + size]
        at += size


def _check(key: rsa.RSAPublicKey, signature: bytes, data: bytes, what: str) -> None:
    try:
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise RomEvent(f"{what}: the signature does not fit") from None


# CMS (RFC 5652), as far as the ROM knows it


def check_cms(raw: bytes, content: bytes, signer: x509.Certificate, what: str) -> None:
    """Whether one signer, this one, has signed exactly this content with SHA-256 and RSA. Raises RomEvent."""
    try:
        attributes, signature = _signer_info(raw, signer)
        digest, kind = _attribute(attributes, _MESSAGE_DIGEST, 0x04), _attribute(attributes, _CONTENT_TYPE, 0x06)
    except (ValueError, IndexError):
        raise RomEvent(f"{what}: the signature cannot be read") from None
    if kind != _DATA or digest != hashlib.sha256(content).digest():
        raise RomEvent(f"{what}: it is not what was signed")
    public = signer.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    whole = b"\x31" + attributes[1:]  # signed as a SET, sent as [0]
    _check(public, signature, whole, what)


def _signer_info(raw: bytes, signer: x509.Certificate) -> tuple[bytes, bytes]:
    """The signed attributes as they are sent, and the signature."""
    kind, explicit = _children(_only(raw, 0x30))
    if _value(kind, 0x06) != _SIGNED_DATA:
        raise ValueError
    version, algorithms, inner, *rest = _children(_only(_value(explicit, 0xA0), 0x30))
    infos = _children(_value(rest[-1], 0x31))
    if _value(version, 0x02) != b"\x01" or len(infos) != 1 or len(_children(_value(algorithms, 0x31))) != 1:
        raise ValueError
    if _children(_value(inner, 0x30)) != [b"\x06" + bytes((len(_DATA),)) + _DATA]:  # the content itself is elsewhere
        raise ValueError
    number, who, hashed, attributes, algorithm, signature = _children(_value(infos[0], 0x30))
    issuer, serial = _children(_value(who, 0x30))
    is_of_signer = issuer == signer.issuer.public_bytes() and int.from_bytes(_value(serial, 0x02), "big") == (
        signer.serial_number
    )
    is_known = _algorithm(hashed) == _SHA256 and _algorithm(algorithm) in (_RSA, _SHA256_RSA)
    if _value(number, 0x02) != b"\x01" or not is_of_signer or not is_known or attributes[0] != 0xA0:
        raise ValueError
    return attributes, _value(signature, 0x04)


def _algorithm(element: bytes) -> bytes:
    return _value(_children(_value(element, 0x30))[0], 0x06)


def _attribute(attributes: bytes, kind: bytes, tag: int) -> bytes:
    """The one value of a kind."""
    found = []
    for element in _children(_value(attributes, 0xA0)):
        name, values = _children(_value(element, 0x30))
        if _value(name, 0x06) == kind:
            found += _children(_value(values, 0x31))
    (one,) = found
    return _value(one, tag)


def _split(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """The first DER element whole, its content, what follows. Raises ValueError."""
    if len(raw) < 2 or raw[1] == 0x80 or raw[1] > 0x83:
        raise ValueError
    more = raw[1] & 0x7F if raw[1] & 0x80 else 0
    size = int.from_bytes(raw[2 : 2 + more], "big") if more else raw[1]
    end = 2 + more + size
    if end > len(raw):
        raise ValueError
    return raw[:end], raw[2 + more : end], raw[end:]


def _children(content: bytes) -> list[bytes]:
    found = []
    while content:
        element, _, content = _split(content)
        found.append(element)
    return found


def _value(element: bytes, tag: int) -> bytes:
    if element[:1] != bytes((tag,)):
        raise ValueError
    return _split(element)[1]


def _only(raw: bytes, tag: int) -> bytes:
    """The content of an element behind which nothing follows."""
    if _split(raw)[2]:
        raise ValueError
    return _value(raw, tag)
