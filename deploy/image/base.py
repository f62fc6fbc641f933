"""What a board needs to have its first update as little more than a difference: the update that its slots came from.

The medium has it already, but for what only the bundle has: a table, its hash tree, the signature. So the
factory's drop brings those and a list, and the first boot puts the bundle together (initramfs/data.sh). base.tar has:

    meterhub/update/base.parts      "SHA-256", then a line for each piece: kernel|rootfs|rest, offset, bytes
    meterhub/update/base.rest       what is in neither slot
    meterhub/update/base.raucb.idx  the bundle's index (hub/core/update/chunk_index.py)
"""

import io
import tarfile
from pathlib import Path

from deploy.image.debs import sha256_of
from deploy.update_index import index_of
from hub.core.update.chunk_index import Piece, decode_index, plan

FOLDER = "meterhub/update"


def make_base(bundle: Path, index: Path, fit: Path, rootfs: Path, into: Path) -> Path:
    """Write base.tar; the same bundle gives the same bytes."""
    kernel, whole = fit.read_bytes(), bundle.read_bytes()
    known = decode_index(index_of(kernel))
    known += [
        chunk._replace(offset=chunk.offset + len(kernel)) for chunk in decode_index(index_of(rootfs.read_bytes()))
    ]
    lines, rest = [sha256_of(bundle)], bytearray()
    for piece in plan(decode_index(index.read_bytes()), known):
        if piece.base_offset is None:
            lines.append(f"rest {len(rest)} {piece.length}")
            rest += whole[piece.offset : piece.offset + piece.length]
        else:
            lines += _from_slots(piece, piece.base_offset, len(kernel))
    with tarfile.open(into, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in (
            ("base.parts", "".join(f"{line}\n" for line in lines).encode()),
            ("base.rest", bytes(rest)),
            ("base.raucb.idx", index.read_bytes()),
        ):
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return into


def _from_slots(piece: Piece, offset: int, kernel_bytes: int) -> list[str]:
    """A piece's lines: two where it goes from the kernel's end over to the root."""
    lines, left = [], piece.length
    if offset < kernel_bytes:
        length = min(left, kernel_bytes - offset)
        lines.append(f"kernel {offset} {length}")
        offset, left = offset + length, left - length
    if left:
        lines.append(f"rootfs {offset - kernel_bytes} {left}")
    return lines
