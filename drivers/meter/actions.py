"""What a meter protocol's machine is given and hands back; both protocols are driven by the same loop (port.py)."""

from typing import NamedTuple, Protocol


class Send(NamedTuple):
    """Put these octets on the line."""

    data: bytes


class SetBaudrate(NamedTuple):
    """From now on the line runs at this rate."""

    baudrate: int


class Telegram(NamedTuple):
    """A whole, checked read-out: the meter's identification and its data lines."""

    ident: str
    lines: tuple[str, ...]


Action = Send | SetBaudrate | Telegram


class Machine(Protocol):
    """One protocol. Times are the caller's `now`, seconds; nothing is raised for anything that comes."""

    baudrate: int  # what the line starts with
    counters: dict[str, int]

    def receive(self, data: bytes, now: float) -> None:
        """Octets from the line."""

    def handle_timer(self, now: float) -> None:
        """Do what is due."""

    def get_timer(self) -> float:
        """When `handle_timer` is to be called."""

    def take_actions(self) -> list[Action]:
        """What is to be done now, in order."""


def clean(data: bytes) -> bytes:
    """Seven bits of each octet: meters send 7E1 or 8N1, all of it ASCII, and the port is opened as 8N1 for both."""
    return bytes([octet & 0x7F for octet in data])


def with_parity(data: bytes) -> bytes:
    """ASCII as 7E1 looks on a line that is opened as 8N1: the even parity in the eighth bit."""
    return bytes([octet | (octet.bit_count() & 1) << 7 for octet in data])
