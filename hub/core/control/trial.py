"""A list of operators on trial: it is in force, and the old one returns unless one of the new admins confirms it."""

from typing import Protocol

from hub.core.control.records import OPERATORS, OPERATORS_BEFORE, Journal
from hub.wire.keys.operators import Operators
from hub.wire.uplink.cbor import decode_own, encode

TRIAL_S = 7 * 86400.0


class OperatorBook(Protocol):
    """How a list is kept: whoever reads operators.toml at the next start knows the item, too."""

    def item_of(self, text: str) -> bytes:
        """The store's item for a list that a command brought."""

    def read(self, item: bytes | None) -> Operators:
        """The list that an item holds; None: the file's. Raises ValueError."""


class ListTrial:
    """`until`: UTC epoch seconds; `before`: the item that was kept before, None: the file's list was in force."""

    def __init__(self, book: OperatorBook) -> None:
        self.book = book
        self.kept: bytes | None = None  # the item in force
        self._before: bytes | None = None
        self._until: float | None = None

    @property
    def is_on(self) -> bool:
        return self._until is not None

    @property
    def until(self) -> float | None:
        """When the old list returns, UTC epoch seconds."""
        return self._until

    def end(self, t: float) -> float:
        """When a trial that begins now ends."""
        return t + TRIAL_S

    def restore(self, value: bytes) -> None:
        """Take up a trial of the last run. Raises ValueError or TypeError."""
        until, before = decode_own(value)
        self._until, self._before = float(until), before

    def _old(self) -> bytes | None:
        """What returns: of two trials on end, the list that was in force before the first."""
        return self._before if self.is_on else self.kept

    def journal_begin(self, journal: Journal, text: str, t: float) -> None:
        """What is durable of a new list."""
        journal.kept[OPERATORS] = self.book.item_of(text)
        journal.kept[OPERATORS_BEFORE] = encode([self.end(t), self._old()])

    def begin(self, text: str, t: float) -> None:
        """The new list is in force."""
        self._before, self._until = self._old(), self.end(t)
        self.kept = self.book.item_of(text)

    def journal_end(self, journal: Journal) -> None:
        """What is durable of a list that was confirmed."""
        journal.kept[OPERATORS_BEFORE] = None

    def end_it(self) -> None:
        """It was confirmed."""
        self._before, self._until = None, None

    def replace(self, text: str) -> None:
        """A list is in force without a trial; one that was on trial is forgotten, and so is what was before it."""
        self.kept = self.book.item_of(text)
        self.end_it()

    def give_back(self, journal: Journal) -> Operators:
        """Nobody confirmed it: the old list. Raises ValueError where that does not read any more."""
        operators = self.book.read(self._before)
        journal.kept[OPERATORS] = self._before
        journal.kept[OPERATORS_BEFORE] = None
        self.kept = self._before
        self.end_it()
        return operators
