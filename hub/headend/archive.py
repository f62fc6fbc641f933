"""An archive of what a control point heard and said: a CBOR sequence (RFC 8742) of `[topic, payload]`, append only."""

from collections.abc import Iterator
from pathlib import Path

from hub.wire.uplink.cbor import BadCbor, decode_sequence, encode


def save(file: Path, topic: str, payload: bytes) -> None:
    """Append one message. Raises OSError."""
    with file.open("ab") as archive:
        archive.write(encode([topic, payload]))


def load(file: Path) -> Iterator[tuple[str, bytes]]:
    """Every message, in order. Raises OSError, and ValueError where the file is no archive; a last message that was cut
    short is left out."""
    try:
        for item in decode_sequence(file.read_bytes()):
            if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and type(item[1]) is bytes):
                raise ValueError(f"{file}: not an archive of [topic, payload]")
            yield item[0], item[1]
    except BadCbor as error:
        raise ValueError(f"{file}: not an archive: {error}") from None
