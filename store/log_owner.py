"""What retention, compaction and the transaction may ask of the engine: the log's rows and how far each is done."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from store.database import Database
from store.forwards import Forwards
from store.logbody import Names
from store.outbox import Outbox
from store.space import DupWindow, SpaceBudget


class Counted(Protocol):
    """What memory knows beside the database, and what goes back when a transaction does."""

    db: Database
    outbox: Outbox
    first_seq: int
    pruned_samples: int


class LogOwner(Counted, Protocol):
    """Owner of the log's rows. `position`: `(seq, index)` of the first sample that is not sealed; `boots`: boot ->
    `(offset_ms, clock trusted)`; `rewrites` grows whenever rows become others."""

    budget: SpaceBudget
    forwards: Forwards
    marks: dict[str, int]
    names: Names
    window: DupWindow
    boots: dict[int, tuple[int, bool]]
    boot: int
    position: tuple[int, int]
    rewrites: int
    now_ms: Callable[[], int]

    def utc_ms(self) -> int:
        """UTC now, as far as this boot knows."""

    def drop_done_forwards(self) -> bool:
        """Drop what the broker has of the raw forwards, now; whether there was any."""

    def transaction(self) -> AbstractContextManager[None]:
        """A transaction; what memory knows of numbers goes back when it does."""

    def write_marks(self, more: Mapping[str, int]) -> None:
        """Write where everything has come to (inside a transaction)."""

    def note_rewritten(self, gone: int) -> None:
        """Rows became others, with so many samples fewer."""
