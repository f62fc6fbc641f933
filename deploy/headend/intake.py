"""Packs of hubs into the database: what a worker does, and the control point too where there is none."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from deploy.headend.alarms import Alarms
from deploy.headend.certificates import CertificateInventory
from deploy.headend.registry import Registry
from deploy.headend.usage import HouseholdUsage
from hub.headend.book import Book
from hub.headend.engines import is_server
from hub.headend.inbox import Inbox, Received
from hub.headend.intake import BookIntake
from hub.wire.printable import plain

FILE = "headend.db"
PACK_LANES = ("readings", "answers")


class HeardMessage(NamedTuple):
    """What came, and by which broker."""

    topic: str
    payload: bytes
    broker: str = ""


class PackIntake:
    """`place`: a folder, which it makes, for `headend.db`; or `postgresql://...`, where any number of these may stand
    side by side. Raises OSError, sqlite3.Error."""

    def __init__(self, place: Path | str, max_power_w: int, *, has_columns: bool = False) -> None:
        """`has_columns`: readings go to a columnar store too (columns.py)."""
        self._has_columns = has_columns
        if not is_server(place):
            Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.book = Book(book_in(place))
        self.book.db.make((files(__package__) / "schema.sql").read_text())
        self.inbox = Inbox([], has_ledger=False)
        self.certificates = CertificateInventory(self.book.db)
        self._revoked_s = -1  # of the last that this inbox knows
        self.distrust_revoked()
        self.registry = Registry(self.book, self.inbox, self.certificates)
        self.usage = HouseholdUsage(self.book.db, max_power_w)
        self.alarms = Alarms(self.book.db)
        self._book_intake = BookIntake(self.inbox, self.book)

    def take_all(self, messages: Sequence[HeardMessage], t_ms: int) -> list[Received]:
        """Some packs, in the order in which they came. They count once `commit` returns; never raises for what they
        hold, but UnfitValue where no table can hold that."""
        self.book.begin()
        taken = self._book_intake.take_all([(message.topic, message.payload) for message in messages])
        for received in taken:
            if received.kind not in PACK_LANES and not received.fault:
                received.fault = "no pack"
        self.enter(taken, messages, t_ms)
        return taken

    def enter(self, taken: Sequence[Received], messages: Sequence[HeardMessage], t_ms: int) -> None:
        """What is in the book: its readings, and that the hub was heard. From then on nobody else writes of these hubs
        until the transaction ends."""
        packs = [(its.hub, its.readings) for its in taken if its.readings and its.is_new and not its.fault]
        self.usage.enter_all(packs)
        if self._has_columns:
            self.book.db.executemany(
                "INSERT INTO uncolumned (hub, epoch, lane, n) VALUES (?, ?, ?, ?)",
                [(its.hub, its.envelope.epoch, its.envelope.lane, its.envelope.number)
                 for its in taken if its.readings and its.is_new and not its.fault and its.envelope is not None],
            )  # fmt: skip
        # Up to here rows were added, from here on some are changed.
        self.book.lock({received.hub for received in taken})
        self.usage.count_added()
        self.registry.note_all(taken, t_ms, [message.broker for message in messages])
        for its in taken:
            if its.kind == "answers" and its.is_new and not its.fault:
                self.alarms.heard(its)

    def distrust_revoked(self) -> None:
        """What was revoked since, perhaps by another process, is believed no more."""
        self._revoked_s, kids = self.certificates.revoked_since(self._revoked_s)
        for kid in kids:
            self.inbox.distrust(kid)

    def refuse(self, message: HeardMessage, why: str) -> Received:
        """A message that cannot be taken, counted as not believed; in a transaction of its own."""
        hub, _, kind = message.topic.partition("/")[2].partition("/")
        self.book.begin()
        self.registry.note_fault(plain(hub), why)
        self.commit()
        return Received(hub, kind, fault=why)

    def commit(self) -> None:
        """Make durable what came; only then may the broker be told."""
        self.book.commit()

    def undo(self) -> None:
        """Forget what was done since the last commit."""
        self.book.undo()
        self.usage.forget_cache()

    def note_worker(self, name: str, t_ms: int, counts: dict[str, int]) -> None:
        """How a worker is, for `/metrics`: what it did since it started."""
        self.book.begin()
        row = (name, t_ms, *(counts[what] for what in WORKER_COUNTS))
        columns = ", ".join(("name", "beat_ms", *WORKER_COUNTS))
        self.book.db.execute(
            f"INSERT INTO worker ({columns}) VALUES ({', '.join('?' * len(row))}) ON CONFLICT (name) DO UPDATE SET "
            + ", ".join(f"{column} = excluded.{column}" for column in ("beat_ms", *WORKER_COUNTS)),
            row,
        )

    def forget_worker(self, name: str) -> None:
        """One that has left."""
        self.book.begin()
        self.book.db.execute("DELETE FROM worker WHERE name = ?", (name,))

    def close(self) -> None:
        self.book.close()


WORKER_COUNTS = ("messages", "readings", "faults", "repeats", "commits", "failed")


def book_in(place: Path | str) -> Path | str:
    """Where the book is: `headend.db` in a folder, or the server."""
    return place if is_server(place) else Path(place) / FILE
