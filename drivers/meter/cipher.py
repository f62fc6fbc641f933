"""Telegrams that a meter encrypts (Luxembourg, Austria, Denmark): general-glo-ciphering. No I/O, no clock.

Source: IEC 62056-5-3 (DLMS UA Green Book), 9.2.7.2 (security suite 0: AES-128 in Galois/Counter mode; the
initialisation vector is the system title and the invocation counter; 96 bits of tag over the security control byte, the
authentication key and the data) and 9.5 (tag 219); Luxembourg's "smarty" P1 specification, section 3.2.5.
"""

from typing import NamedTuple

GENERAL_GLO_CIPHERING = 0xDB
_AUTHENTICATED, _ENCRYPTED, _COMPRESSED = 0x10, 0x20, 0x80
_SUITES = 1  # security suites 0 and 1: AES-128
_TAG_BYTES = 12
# Published by the utilities that use it: what authenticates is then the encryption key alone.
_PUBLISHED_AUTHENTICATION_KEY = bytes.fromhex("00112233445566778899AABBCCDDEEFF")


class Keys(NamedTuple):
    """A home's keys: 16 bytes each; `authentication` may be empty."""

    encryption: bytes
    authentication: bytes = b""


class BadKeys(ValueError):
    """The file holds no keys: one line of 32 hexadecimal digits, and perhaps a second one, are expected."""


def parse_keys(data: bytes) -> Keys:
    """A key file: the encryption key (GUEK) as 32 hexadecimal digits, on a second line the authentication key (GAK); or
    16 or 32 bytes as they are. Raises BadKeys, which names nothing of what it read."""
    if len(data) in (16, 32) and not data.decode("latin-1").strip().isalnum():
        return Keys(data[:16], data[16:])
    try:
        lines = [bytes.fromhex(line) for line in data.decode("ascii").split() if not line.startswith("#")]
    except ValueError:
        raise BadKeys("one or two lines of 32 hexadecimal digits") from None
    if not 1 <= len(lines) <= 2 or any(len(line) != 16 for line in lines):
        raise BadKeys("one or two lines of 32 hexadecimal digits")
    return Keys(lines[0], lines[1] if len(lines) == 2 else b"")


class Ciphered(NamedTuple):
    """An enciphered telegram: what stands in the open, and what does not."""

    title: bytes
    control: int
    counter: bytes
    content: bytes  # the tag at its end, where it is authenticated

    @property
    def maker(self) -> str:
        """The three letters that its system title begins with."""
        return self.title[:3].decode("ascii", "replace")

    @property
    def is_authenticated(self) -> bool:
        return bool(self.control & _AUTHENTICATED)


class Opened(NamedTuple):
    """`is_proved`: the tag was right. `plain` is what decrypts, or b"" where the tag says it is not that."""

    plain: bytes
    is_proved: bool


def read_header(data: bytes) -> tuple[int, Ciphered | None]:
    """How long the telegram at the begin of `data` is, and it once it is all there.

    (0, None): this is none. (n, None): n bytes are needed (so far as is known)."""
    if len(data) < 12:
        wanted = bytes([GENERAL_GLO_CIPHERING, 8])
        return (12, None) if wanted.startswith(data[:2]) else (0, None)
    if data[0] != GENERAL_GLO_CIPHERING or data[1] != 8:
        return 0, None
    width = 0 if data[10] < 0x80 else data[10] & 0x7F
    if width > 2:
        return 0, None
    begin = 11 + width
    if len(data) < begin + 5:
        return begin + 5, None
    length = int.from_bytes(data[11:begin], "big") if width else data[10]
    control = data[begin]
    if not 5 < length <= 8_192 or not control & _ENCRYPTED or control & 0x0F > _SUITES:
        return 0, None
    end = begin + length
    if len(data) < end:
        return end, None
    return end, Ciphered(data[2:10], control, data[begin + 1 : begin + 5], data[begin + 5 : end])


def is_title(title: bytes) -> bool:
    """A system title begins with its maker's three letters."""
    return title[:3].isalpha() and title[:3].isascii() and title[:3].isupper()


def decrypt(ciphered: Ciphered, keys: Keys) -> Opened:
    """What it says. Never raises; a compressed one is not opened."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if ciphered.control & _COMPRESSED:
        return Opened(b"", False)
    vector = ciphered.title + ciphered.counter
    aes = algorithms.AES(keys.encryption)
    content = ciphered.content
    if ciphered.is_authenticated:
        if len(content) <= _TAG_BYTES:
            return Opened(b"", False)
        content, tag = content[:-_TAG_BYTES], content[-_TAG_BYTES:]
        for key in dict.fromkeys((keys.authentication, _PUBLISHED_AUTHENTICATION_KEY)):
            if not key:
                continue
            decryptor = Cipher(aes, modes.GCM(vector, tag, min_tag_length=_TAG_BYTES)).decryptor()
            decryptor.authenticate_additional_data(bytes([ciphered.control]) + key)
            try:
                return Opened(decryptor.update(content) + decryptor.finalize(), True)
            except InvalidTag:
                pass
        if keys.authentication:
            return Opened(b"", False)
    # GCM's own counter mode: the first block of data is number two.
    plain = Cipher(aes, modes.CTR(vector + b"\x00\x00\x00\x02")).decryptor().update(content)
    return Opened(plain, False)
