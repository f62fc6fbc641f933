"""What the meter's machines hand to one another. No I/O, no clock."""

from typing import NamedTuple, Protocol


class SendBytes(NamedTuple):
    """Put these bytes on the line."""

    data: bytes


class SetLine(NamedTuple):
    """From now on the line runs so. parity: "N" or "E", with eight bits each; 7E1 is read as 8N1 (see checks.py)."""

    baudrate: int
    parity: str = "N"


class RegisterValue(NamedTuple):
    """One value of a meter: `mantissa x 10^exponent` of a unit without prefix (Wh, W, varh, V, A, m3, "" ...).

    at: the value's own time stamp as the meter wrote it (YYMMDDhhmmss, S or W behind it: summer or winter time), or "".
    digits: as it was written, the digits that are not zero as 9, "00099.999"; "" where it was no text.
    """

    mantissa: int
    exponent: int
    unit: str
    at: str = ""
    digits: str = ""


# How sure it is that a read-out arrived as it was sent.
CRC, PARITY, NONE = "crc", "parity", "none"  # a checksum was right; each byte's parity was; nothing was there to check


class Readout(NamedTuple):
    """Everything that one telegram said.

    registers: by OBIS code, "1-0:1.8.0" (medium, channel, C.D.E). texts: what else stood there, by code as written:
    the groups in brackets. status: the status word beside the energy register (SML), or None.
    """

    protocol: str
    ident: str
    check: str
    registers: dict[str, RegisterValue]
    texts: dict[str, tuple[str, ...]]
    raw: bytes
    status: int | None = None


class Bad(NamedTuple):
    """Something that began as a telegram and is none; `reason` in words."""

    reason: str
    raw: bytes


class Unreadable(NamedTuple):
    """A telegram, whole and of a known kind, that cannot be read; `reason` says what is missing."""

    protocol: str
    reason: str
    raw: bytes


Found = Readout | Bad | Unreadable


class Framer(Protocol):
    """One protocol's telegrams out of a stream. Times are the caller's `now`, seconds; nothing is raised for anything
    that comes, and what is kept of it is bounded."""

    protocol: str

    def receive(self, data: bytes, now: float) -> list[Found]:
        """Bytes from the line; what they completed, in order."""

    def handle_timer(self, now: float) -> list[Found]:
        """What silence completed."""

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called, or None."""


def code_of(name: bytes) -> str:
    """An OBIS code of six bytes as `A-B:C.D.E` (IEC 62056-61); the sixth, which history it is, is the caller's."""
    return f"{name[0]}-{name[1]}:{name[2]}.{name[3]}.{name[4]}"
