"""Writes the index beside a bundle, by which hubs fetch only what their last bundle did not have.

    python -m deploy.update_index BUNDLE.raucb [OLDER.raucb]      writes BUNDLE.raucb.idx; says what an update costs

Serve both from one place: a hub asks for the bundle's URL with `.idx` behind it. Chunks end where a rolling hash of the
content says so: 32 KiB on average, so what merely moved in the file is found again.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from hub.core.update.chunk_index import bytes_to_get, decode_index, encode_index, plan

LEAST, MOST = 8 * 1024, 128 * 1024
_MASK = 0xFFFE0000  # fifteen bits: on average 32 KiB beyond the least
# A number for each byte, the same for ever: a new table would make every chunk a new one.
_GEAR = [int.from_bytes(hashlib.sha256(bytes([byte])).digest()[:4], "big") for byte in range(256)]


def cuts(data: bytes) -> Iterator[tuple[int, int]]:
    """`(offset, length)` of each chunk of the content."""
    gear, mask, begin, size = _GEAR, _MASK, 0, len(data)
    while begin < size:
        most = min(begin + MOST, size)
        end, rolling = min(begin + LEAST, size), 0
        for end in range(end, most):  # noqa: B020
            rolling = ((rolling << 1) + gear[data[end]]) & 0xFFFFFFFF
            if not rolling & mask:
                end += 1
                break
        else:
            end = most
        yield begin, end - begin
        begin = end


def index_of(data: bytes) -> bytes:
    """The index of a bundle's content."""
    return encode_index(
        (length, hashlib.sha256(data[offset : offset + length]).digest()) for offset, length in cuts(data)
    )


def write_index(bundle: Path) -> Path:
    """Write the index beside a bundle; its path. Raises OSError."""
    file = bundle.with_name(f"{bundle.name}.idx")
    file.write_bytes(index_of(bundle.read_bytes()))
    return file


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    bundle = Path(sys.argv[1])
    index = write_index(bundle).read_bytes()
    print(f"{bundle}.idx: {len(index)} bytes for a bundle of {bundle.stat().st_size}")
    if len(sys.argv) == 3:
        older = decode_index(index_of(Path(sys.argv[2]).read_bytes()))
        new_bytes = bytes_to_get(plan(decode_index(index), older)) + len(index)
        print(f"from {sys.argv[2]}: {new_bytes} bytes, {new_bytes / bundle.stat().st_size:.1%}")


if __name__ == "__main__":
    main()
