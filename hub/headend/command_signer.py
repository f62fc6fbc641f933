"""Signs an operator's commands with a counter that only rises (design 3.3, `ctr`)."""

from typing import Any

from hub.headend.book import Book
from hub.wire.uplink.command import Command, sign_command
from hub.wire.uplink.envelope import FileSigner


class CommandSigner:
    """`kid` and `signer`: the operator. Its counter lies in the book and is durable with the next commit."""

    def __init__(self, book: Book, kid: str, signer: FileSigner) -> None:
        self._book = book
        self.kid = kid
        self._signer = signer

    def sign(self, aud: str, op: str, args: dict[str, Any], *, cti: bytes, t: int, valid_s: int) -> bytes:
        """The message; `t`: UTC epoch seconds. Raises ValueError for arguments that no message can hold."""
        ctr = self._book.next_ctr(self.kid, t * 1000)
        return sign_command(self._signer, Command(self.kid, aud, t + valid_s, None, t, cti, ctr, op, args))


def topic_for(aud: str) -> str:
    """Where a command for this audience is published: a hub, `group:NAME` or `all`."""
    return f"meters/group/{aud[6:]}/commands" if aud.startswith("group:") else f"meters/{aud}/commands"
