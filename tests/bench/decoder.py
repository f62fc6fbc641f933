"""What the strict decoder takes for the worst that 16 KiB can hold: `python -m tests.bench.decoder`.

It needs nothing but Python, so that a board, or QEMU's user emulation of one, measures it too:
`qemu-arm-static -L ROOT ROOT/usr/bin/python3.13 -m tests.bench.decoder`, ROOT an image's root for armhf.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

from hub.wire.uplink.cbor import MAX_BYTES, BadCbor, decode, encode

_FOR_S = 0.2


class Cost(NamedTuple):
    kind: str
    size: int
    us: float


def worst() -> dict[str, bytes]:
    """Messages by kind: an ordinary command, and what makes most work of each byte."""
    claims = {1: "grid", 3: "MTR-1", 4: 1_790_000_000, 6: 1_790_000_000, 7: bytes(16), "ctr": 5, "op": "limit"}
    return {
        "a command's claims": encode({**claims, "args": {"watts": 1500, "duration": 60}}),
        "a text": b"\x79\x3f\x00" + b"a" * 0x3F00,
        "nested arrays": b"\x81" * 16_000,
        "small integers": _array(b"\x01"),
        "integers of two bytes": _array(b"\x18\x20"),
        "empty texts": _array(b"\x60"),
        "halves": _array(b"\xf9\x38\x00"),
        "empty arrays": _array(b"\x80"),
        "a map": b"\xb9\x0f\xa0" + b"".join(encode(key) + b"\xf5" for key in range(4000)),
    }


def _array(item: bytes) -> bytes:
    count = (MAX_BYTES - 3) // len(item)
    return b"\x99" + count.to_bytes(2, "big") + item * count


def measure() -> Iterator[Cost]:
    """Processor time of one decode, of each kind."""
    for kind, data in worst().items():
        begun, times = time.process_time(), 0
        while time.process_time() - begun < _FOR_S:
            times += 1
            try:
                decode(data)
            except BadCbor:
                pass
        yield Cost(kind, len(data), (time.process_time() - begun) / times * 1e6)


def main() -> None:
    print("| 16 KiB of | bytes | processor time | a byte |\n|---|---|---|---|")
    for kind, size, us in measure():
        print(f"| {kind} | {size} | {us / 1000:.2f} ms | {us / size * 1000:.0f} ns |")


if __name__ == "__main__":
    main()
