"""The control point: one message of a hub after another, and what follows of it. It has the database and nothing else:
no socket, no thread, no clock; deploy/headend/service.py drives it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.headend.alarms import ERROR, WARNING
from deploy.headend.intake import HeardMessage, PackIntake, book_in
from deploy.headend.openadr import OpenAdrEvents
from deploy.headend.orders import GridOrders, to_json
from deploy.headend.reach import EVERYBODY, Reach
from deploy.headend.rollouts import Rollouts
from hub.headend.bookkeeper import Bookkeeper, CommandToSend
from hub.headend.command_signer import CommandSigner
from hub.headend.database import BookReader
from hub.headend.engines import open_to_read
from hub.headend.inbox import Received
from hub.wire.uplink.envelope import FileSigner
from hub.wire.uplink.receipt import Receipt, chain_hash, decode_receipt

_MAX_AUDIT_TEXT = 500


class ControlPoint:
    """`place`: a folder, which it makes, for `headend.db`; or `postgresql://...`. There any number of
    workers (PackIntake) may stand beside it. Raises OSError, sqlite3.Error."""

    def __init__(
        self,
        place: Path | str,
        kid: str,
        signer: FileSigner,
        *,
        second_person_above: int = 100,
        max_power_w: int = 24_000,
        gap_after_s: float = 60.0,
        has_columns: bool = False,
        callback_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self._intake = PackIntake(place, max_power_w, has_columns=has_columns)
        self.book = self._intake.book
        self.registry, self.usage = self._intake.registry, self._intake.usage
        db = self.book.db
        self.certificates, self.alarms = self._intake.certificates, self._intake.alarms
        if not db.reserve("control point"):
            self.book.close()
            raise OSError("another control point has this database: beside it there can be workers alone")
        command_signer = CommandSigner(self.book, kid, signer)
        self._bookkeeper = Bookkeeper(self._intake.inbox, self.book, command_signer, gap_after_s=gap_after_s)
        self.orders = GridOrders(db, self.registry, command_signer, second_person_above)
        self.rollouts = Rollouts(db, self.registry, self.orders)
        self.openadr = OpenAdrEvents(db, self.orders, callback_hosts)
        self._db = db

    def enrol(self, certificates: Iterable[bytes], source: str) -> int:
        """Make hubs known; how many are new. What is no hub's certificate is passed over."""
        self.book.begin()
        added = 0
        for der in certificates:
            try:
                added += self.registry.enrol(der, source)
            except ValueError:
                continue
        return added

    def certified(self, hub: str, certificate: x509.Certificate, t: int) -> None:
        """A hub renewed its certificate here; with it the book reads on after a start anew."""
        self.book.begin()
        self.registry.certified(hub, certificate, t)
        self.book.keep_certificate(hub, certificate.public_bytes(Encoding.DER))

    def take(self, topic: str, payload: bytes, t_ms: int, broker: str = "") -> Received:
        """One message from `meters/{hub}/...`, by one of several brokers. It counts once `commit` returns; never raises
        for what it holds, but UnfitValue where no table can hold that."""
        return self.take_all([HeardMessage(topic, payload, broker)], t_ms)[0]

    def take_all(self, messages: Sequence[HeardMessage], t_ms: int) -> list[Received]:
        """Some messages, in the order in which they came; see `take`."""
        self.book.begin()
        taken = self._bookkeeper.take_all([(message.topic, message.payload) for message in messages])
        self._intake.enter(taken, messages, t_ms)
        receipts = []
        for received, message in zip(taken, messages):
            if received.fault or received.envelope is None or not received.is_new:
                continue
            if received.kind == "events":
                self._note_event(received)
            elif received.kind == "receipts":
                receipts.append((decode_receipt(received.envelope.payload), received.envelope.epoch, message.payload))
        self._keep_receipts(receipts, t_ms)
        self.orders.heard_all([(receipt, epoch) for receipt, epoch, _ in receipts], t_ms)
        for receipt, _, _ in receipts:
            self.openadr.heard(receipt.hub, receipt.re, receipt.status, receipt.reason, t_ms // 1000)
        return taken

    def refuse(self, message: HeardMessage, why: str) -> Received:
        """A message that cannot be taken, counted as not believed; in a transaction of its own."""
        return self._intake.refuse(message, why)

    def _note_event(self, received: Received) -> None:
        assert received.envelope is not None
        fields = dict(received.fields)
        t_ms, event = fields.pop("t"), fields.pop("event")
        self._db.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (received.hub, received.envelope.epoch, received.envelope.number, t_ms, event, to_json(fields)),
        )
        self.alarms.heard(received)
        last, first = fields.get("last_registers"), fields.get("first_registers")
        if event == "meter.replaced" and isinstance(last, dict) and isinstance(first, dict):
            self.usage.enter_exchange(received.hub, t_ms, last, first)

    def _keep_receipts(self, receipts: Sequence[tuple[Receipt, int, bytes]], t_ms: int) -> None:
        self._db.executemany(
            "INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(receipt.hub, epoch, receipt.i, receipt.iat, receipt.re, receipt.status, receipt.reason, receipt.prev,
              chain_hash(message), t_ms) for receipt, epoch, message in receipts],
        )  # fmt: skip

    def commit(self) -> None:
        """Make durable what came and what was asked; only then may the broker be told, and commands go."""
        self._intake.commit()

    def undo(self) -> None:
        """Forget what was done since the last commit."""
        self._intake.undo()

    def due(self, now: float, t: int) -> list[CommandToSend]:
        """What to publish now: orders that were not heard, `resend` for what is missing. `now`: monotonic seconds; `t`:
        UTC epoch seconds. Commit before it is published."""
        self.book.begin()
        self.usage.settle_stale(t * 1000)
        return [*self.orders.due(t), *self.rollouts.due(t), *self._bookkeeper.questions(now, t)]

    @property
    def missing(self) -> int:
        """How many numbers have been missing for longer than is usual."""
        return self._bookkeeper.missing

    def bookings(self, t: int) -> list[CommandToSend]:
        """`booked` for the hubs of whom more is in the book than they were told."""
        self.book.begin()
        return self._bookkeeper.bookings(t)

    def note_deed(self, t_ms: int, client: str, action: str, detail: str) -> None:
        """The audit log of people and their programs."""
        self.book.begin()
        self._db.execute(
            "INSERT INTO audit (t_ms, client, action, detail) VALUES (?, ?, ?, ?)",
            (t_ms, client, action, detail[:_MAX_AUDIT_TEXT]),
        )

    def close(self) -> None:
        self.book.close()


def reader(place: Path | str) -> BookReader:
    """The database, to read: any number of these beside those that write."""
    return open_to_read(book_in(place))


def broken_chains(db: BookReader, hub: str = "", reach: Reach = EVERYBODY) -> list[tuple[str, int, int]]:
    """`(hub, epoch, i)` of each receipt, of all hubs or one, that does not fit the one before (design 3.3: `prev`,
    `i`). One whose predecessor has not come yet is not judged: the book asks for it."""
    one, values = ("a.hub = ?", (hub,)) if hub else (reach.clause("a.hub"), reach.values)
    return [
        tuple(row)
        for row in db.execute(
            "SELECT b.hub, b.epoch, b.i FROM receipt a JOIN receipt b ON b.hub = a.hub AND b.epoch = a.epoch"
            f" AND b.i = a.i + 1 WHERE {one} AND b.prev <> a.hash ORDER BY 1, 2, 3",
            values,
        )
    ]


def overview(db: BookReader, reach: Reach = EVERYBODY) -> dict[str, Any]:
    """Figures of the fleet, or of the hubs within reach. Cheap: consoles ask every few seconds."""
    within, values = reach.clause(), reach.values

    def counted(sql: str) -> dict[str, int]:
        return dict(db.execute(sql, values).fetchall())

    def total(sql: str) -> int:
        return int(db.execute(sql, values).fetchone()[0])

    states = counted(f"SELECT state, count(*) FROM hub WHERE {within} GROUP BY state")

    alarms = counted(f"SELECT severity, count(DISTINCT hub) FROM alarm WHERE {within} GROUP BY severity")
    at = f"SELECT broker, count(*) FROM hub WHERE state = 'online' AND {within} GROUP BY broker ORDER BY broker"
    return {
        "hubs": sum(states.values()),
        "online_at": counted(at),
        "online": states.get("online", 0),
        "offline": states.get("offline", 0),
        "never_seen": states.get("never seen", 0),
        "messages": total(f"SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE is_given_up = 0 AND {within}"),
        "readings": total(f"SELECT coalesce(sum(readings), 0) FROM series WHERE {within}"),
        "hubs_with_errors": alarms.get(ERROR, 0),
        "hubs_with_warnings": alarms.get(WARNING, 0),
        "faults": total(f"SELECT coalesce(sum(faults), 0) FROM hub WHERE {within}"),
    }
