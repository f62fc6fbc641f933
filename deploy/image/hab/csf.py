"""The command file (CSF) by which the ROM finds keys and signatures, and an image that carries one.

A command file is a header and commands, then what they point at, each at a multiple of four bytes: the table of roots,
the key for command files, the key for images, the image's signature, the command file's own (HAB 4 API
reference, "CSF"). All numbers are big-endian.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from deploy.image.hab.keys import ROOTS, HabKeys
from deploy.image.shell import BuildError

MOST_BYTES = 0x2000  # so much U-Boot's images leave behind what is signed (CSF_PAD_SIZE)
_VERSION = 0x42
_HEADER, _CERTIFICATE, _SIGNATURE = 0xD4, 0xD7, 0xD8
_INSTALL_KEY, _AUTHENTICATE = 0xBE, 0xCA
_FLAG_CSF_KEY = 0x02
_SRK, _X509, _CMS, _SHA256, _CAAM = 0x03, 0x09, 0xC5, 0x17, 0x1D
_SLOT_ROOT, _SLOT_CSF, _SLOT_IMAGE = 0, 1, 2
_BLOCKS = re.compile(r"^HAB Blocks:\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)$", re.MULTILINE)
# The log of U-Boot's build -> the image that it is of, what the signed one is called.
IMAGES = {"SPL.log": ("SPL", "SPL-signed"), "u-boot-ivt.img.log": ("u-boot-ivt.img", "u-boot-signed.img")}


@dataclass(frozen=True)
class Block:
    """What is signed: where it lies in memory, where in the file, how many bytes."""

    address: int
    offset: int
    length: int


def blocks_of(log: Path) -> Block:
    """What U-Boot's build says of an image ("HAB Blocks: address, offset, length"). Raises BuildError."""
    try:
        found = _BLOCKS.search(log.read_text())
    except OSError as error:
        raise BuildError(
            f"{log}: {error.strerror}: build the board first (deploy/build.py --board imx6ul-evk)"
        ) from None
    if found is None:
        raise BuildError(f'{log}: has no line "HAB Blocks: ..."')
    return Block(*(int(word, 16) for word in found.groups()))


def sign_image(image: bytes, block: Block, keys: HabKeys, root: int) -> bytes:
    """The image up to the end of what is signed, then the command file, padded. root: 1 to 4. Raises BuildError."""
    if not (block.offset == 0 and 0 < block.length <= len(image)):
        raise BuildError("the log is of another image than the one beside it")
    signed = image[: block.length]
    commands = make_csf(signed, block, keys, root)
    if len(commands) > MOST_BYTES:
        raise BuildError(f"the signature has {len(commands)} bytes, and there is room for {MOST_BYTES}")
    return signed + commands.ljust(MOST_BYTES, b"\0")


def make_csf(signed: bytes, block: Block, keys: HabKeys, root: int) -> bytes:
    """The command file for one block of memory."""
    if not 1 <= root <= ROOTS:
        raise BuildError(f"--root {root}: expected 1 to {ROOTS}")
    size = 4 + 4 * 12 + 20
    parts = [
        keys.table,
        _wrap(_CERTIFICATE, keys.certificate(f"CSF{root}")),
        _wrap(_CERTIFICATE, keys.certificate(f"IMG{root}")),
        _wrap(_SIGNATURE, keys.sign(f"IMG{root}", signed)),
    ]
    places, body = [], b""
    for part in parts:
        places.append(size + len(body))
        body += part + bytes(-len(part) % 4)
    table, csf_key, image_key, image_signature = places
    csf_signature = size + len(body)  # last: it covers the commands, its own place among them
    commands = [
        _command(_INSTALL_KEY, 0, (_SRK, _SHA256, root - 1, _SLOT_ROOT), table),
        _command(_INSTALL_KEY, _FLAG_CSF_KEY, (_X509, 0, _SLOT_ROOT, _SLOT_CSF), csf_key),
        _command(_AUTHENTICATE, 0, (_SLOT_CSF, _CMS, _CAAM, 0), csf_signature),
        _command(_INSTALL_KEY, 0, (_X509, 0, _SLOT_ROOT, _SLOT_IMAGE), image_key),
        _command(_AUTHENTICATE, 0, (_SLOT_IMAGE, _CMS, _CAAM, 0), image_signature, block.address, block.length),
    ]
    front = _head(_HEADER, size, _VERSION) + b"".join(commands)
    assert len(front) == size
    return front + body + _wrap(_SIGNATURE, keys.sign(f"CSF{root}", front))


def _head(tag: int, length: int, last: int) -> bytes:
    return bytes((tag,)) + length.to_bytes(2, "big") + bytes((last,))


def _wrap(tag: int, content: bytes) -> bytes:
    return _head(tag, len(content) + 4, _VERSION) + content


def _command(tag: int, flags: int, fields: tuple[int, int, int, int], *words: int) -> bytes:
    body = bytes(fields) + b"".join(word.to_bytes(4, "big") for word in words)
    return _head(tag, len(body) + 4, flags) + body
