"""Alarms: what hubs say is wrong with them, since when, and whether it still is.

A hub sends no event for each of its conditions (its health is its own, and goes nowhere by itself). What does come:

- events whose name means trouble, listed below with what ends each of them and why it matters;
- a hub's conditions in its own words, where it was asked: the answer to `diagnose` (what: "status").

An alarm that no event ends stays until a person dismisses it. Events may come late and out of order: each is placed by
its epoch and number.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hub.headend.database import BookDatabase, BookReader
from hub.headend.inbox import Received
from hub.wire.printable import plain
from hub.wire.uplink.event import CONSUMPTION

ERROR, WARNING = "error", "warning"
# Where an alarm came from.
EVENT, ASKED = "event", "asked"
_MAX_SUBJECT, _MAX_TEXT = 64, 200
_MOST_OF_A_HUB = 200  # a hub that says more than that is a fault of one kind


class AlarmRule(NamedTuple):
    """An event that means trouble. `subject`: the fields that say what in the home it is about: one alarm each. `ends`:
    the events (of the same subject, where they name one) that end it. `holds`: a field that is false where the event
    itself says that it is over. `why`: what it means to the utility."""

    event: str
    code: str
    severity: str
    why: str
    subject: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    holds: str = ""


_CLIENT = ("client",)
_HERE_AGAIN = ("adapter.joined", "adapter.left", "adapter.moved")
RULES: tuple[AlarmRule, ...] = (
    AlarmRule("adapter.alarm", "adapter-alarm", ERROR, "An appliance says so itself.", _CLIENT),
    AlarmRule("adapter.lost", "adapter-lost", WARNING, "It is neither heard nor limited.", _CLIENT, _HERE_AGAIN),
    AlarmRule("adapter.interview_failed", "adapter-unknown", WARNING,
              "It joined and does not say what it is: nothing of it is read or limited.", _CLIENT, _HERE_AGAIN),
    AlarmRule("adapter.withheld", "value-withheld", WARNING,
              "A value whose scale is not certain is not sent: it is missing here.", ("client", "quantity"),
              ("adapter.left",)),
    AlarmRule("adapter.update_failed", "adapter-update-failed", WARNING, "An appliance did not take its firmware.",
              _CLIENT, ("adapter.updated", "adapter.left")),
    AlarmRule("limit.ignored", "limit-ignored", WARNING, "It was told a limit and draws more.", _CLIENT,
              ("adapter.left",)),
    AlarmRule("limit.opted_out", "limit-opted-out", WARNING, "The household took it out of a limit.", _CLIENT,
              ("adapter.left",)),
    AlarmRule("radio.down", "radio-down", ERROR, "No appliance on the radio is heard or limited.", (), ("radio.up",)),
    AlarmRule("radio.unstable", "radio-unstable", ERROR, "The radio goes again and again: exchange it, perhaps."),
    AlarmRule("radio.other_network", "radio-other-network", WARNING,
              "The radio came with another network; the home's is put back.", (), ("radio.restored", "radio.up")),
    AlarmRule("meter.lost", "meter-lost", ERROR, "Nothing can be billed from then on.", (), ("meter.up",)),
    AlarmRule("certificate.expires_soon", "certificate-expires-soon", WARNING,
              "It should have renewed by itself; once it has ended, the hub has to be visited.", (),
              ("certificate.renewed",)),
    AlarmRule("certificate.rolled_back", "certificate-rolled-back", WARNING,
              "The new certificate was of no use, the old one is back.", (), ("certificate.renewed",)),
    AlarmRule("store.gap", "readings-given-up", WARNING, "Space ran out: there is less than was measured.", ("what",)),
    AlarmRule("store.salvaged", "store-salvaged", WARNING, "The database was damaged; what could be read was kept."),
    AlarmRule("store.set_aside", "store-set-aside", WARNING, "The flash held another hub's data."),
    AlarmRule("store.wear", "store-wear", WARNING, "So much is written that the flash would not last.",
              holds="stretched"),
    AlarmRule("store.in_memory", "store-in-memory", ERROR, "The next power cut takes what has not gone up.", (),
              ("hub.started",)),
    AlarmRule("flash.aged", "flash-aged", WARNING, "The flash chip is that much older: plan an exchange."),
    AlarmRule("control.lost", "control-lost", WARNING,
              "An operator's heartbeats stopped: what it had commanded ended.", ("operator",)),
    AlarmRule("operators.returned", "operators-returned", ERROR,
              "Nobody confirmed the new list of operators: the old one is back.", (), ("operators.changed",)),
    AlarmRule("operators.recovered", "operators-recovered", WARNING,
              "A field engineer brought another list of operators, signed by the manufacturer."),
    AlarmRule("update.failed", "update-failed", ERROR, "The new firmware was not installed.", (), ("update.good",)),
    AlarmRule("update.rolled_back", "update-rolled-back", ERROR, "The new firmware was no good, the old one runs.", (),
              ("update.good",)),
    AlarmRule("slot.fell_back", "slot-fell-back", ERROR, "The board starts another system than it should.", (),
              ("update.good",)),
)  # fmt: skip
_WHY = {rule.code: rule.why for rule in RULES}
_TOGETHER = "adapter.many"  # so many events of one kind at once: told as one, with the first clients


class Alarms:
    """Table `alarm`. The caller opens and ends transactions, and nobody else writes of the hub meanwhile."""

    def __init__(self, db: BookDatabase) -> None:
        self._db = db

    def heard(self, received: Received) -> None:
        """A new message of a hub that was believed: an event, or an answer."""
        assert received.envelope is not None
        place = (received.envelope.epoch, received.envelope.number)
        if received.kind == "events":
            for event, fields in _one_by_one(received.fields["event"], received.fields):
                self._heard_event(received.hub, event, fields, place)
        elif received.kind == "answers" and isinstance(status := received.fields.get("status"), dict):
            self._heard_status(received.hub, status.get("conditions"), place)

    def _heard_event(self, hub: str, event: str, fields: dict[str, Any], place: tuple[int, int]) -> None:
        for rule in RULES:
            if event == rule.event and (not rule.holds or fields.get(rule.holds)):
                if not self._ended_since(hub, rule, fields, place):
                    code, since_ms = rule.code, fields["t"]
                    row = (hub, EVENT, code, _subject(rule, fields), rule.severity, since_ms, *place, _text(fields))
                    self._begin(row)
            elif _may_end(rule, event, fields):
                # What names nothing that the rule asks for ends all of it.
                subject = _subject(rule, fields)
                sql = "DELETE FROM alarm WHERE hub = ? AND source = ? AND code = ? AND (epoch, n) < (?, ?)"
                values = [hub, EVENT, rule.code, *place]
                if subject:
                    sql += " AND (subject = ? OR substr(subject, 1, ?) = ?)"
                    values += [subject, len(subject) + 1, f"{subject} "]
                self._db.execute(sql, values)

    def _ended_since(self, hub: str, rule: AlarmRule, fields: dict[str, Any], place: tuple[int, int]) -> bool:
        """Whether what came before this event, though it is newer, says that it is over."""
        later = self._db.execute(
            "SELECT event, fields FROM event WHERE hub = ? AND (epoch, n) > (?, ?)", (hub, *place)
        ).fetchall()
        subject = _subject(rule, fields)
        for name, text in later:
            for event, said in _one_by_one(name, json.loads(text)):
                if _may_end(rule, event, said) and f"{subject} ".startswith(f"{_subject(rule, said)} ".lstrip()):
                    return True
        return False

    def _begin(self, row: tuple[Any, ...]) -> None:
        count = self._db.execute("SELECT count(*) FROM alarm WHERE hub = ?", (row[0],)).fetchone()[0]
        if count >= _MOST_OF_A_HUB:
            known = "SELECT 1 FROM alarm WHERE hub = ? AND source = ? AND code = ? AND subject = ?"
            if self._db.execute(known, row[:4]).fetchone() is None:
                return
        # Since when: what was said first. What it says: what was said last.
        self._db.execute(
            "INSERT INTO alarm (hub, source, code, subject, severity, since_ms, epoch, n, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hub, source, code, subject) DO UPDATE SET"
            " severity = excluded.severity,"
            " since_ms = CASE WHEN (alarm.epoch, alarm.n) < (excluded.epoch, excluded.n) THEN alarm.since_ms"
            " ELSE excluded.since_ms END,"
            " text = CASE WHEN (alarm.epoch, alarm.n) < (excluded.epoch, excluded.n) THEN excluded.text"
            " ELSE alarm.text END,"
            " epoch = CASE WHEN alarm.epoch < excluded.epoch THEN excluded.epoch ELSE alarm.epoch END,"
            " n = CASE WHEN (alarm.epoch, alarm.n) < (excluded.epoch, excluded.n) THEN excluded.n ELSE alarm.n END",
            row,
        )

    def _heard_status(self, hub: str, conditions: Any, place: tuple[int, int]) -> None:
        """All the conditions that hold, in the hub's words: what it does not name is over."""
        if not isinstance(conditions, list):
            return
        newer = "SELECT 1 FROM alarm WHERE hub = ? AND source = ? AND (epoch, n) > (?, ?)"
        if self._db.execute(newer, (hub, ASKED, *place)).fetchone() is not None:
            return
        t_ms = self._db.execute("SELECT seen_ms FROM hub WHERE hub = ?", (hub,)).fetchone()
        for condition in conditions[:_MOST_OF_A_HUB]:
            if not isinstance(condition, dict):
                continue
            code, severity, text = (condition.get(name) for name in ("code", "severity", "text"))
            if not isinstance(code, str) or not isinstance(text, str) or severity not in (ERROR, WARNING):
                continue
            row = (hub, ASKED, plain(code), "", severity, t_ms[0] if t_ms else 0, *place, plain(text, _MAX_TEXT))
            self._begin(row)
        over = "DELETE FROM alarm WHERE hub = ? AND source = ? AND (epoch, n) < (?, ?)"
        self._db.execute(over, (hub, ASKED, *place))

    def dismiss(self, hub: str, code: str, subject: str) -> int:
        """A person has seen to it; it begins anew when the hub says it again. How many went."""
        sql = "DELETE FROM alarm WHERE hub = ? AND code = ? AND subject = ?"
        return self._db.execute(sql, (hub, code, subject)).rowcount


def _one_by_one(event: str, fields: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each event that one of them tells of."""
    clients, what = fields.get("clients"), fields.get("what")
    if event == _TOGETHER and isinstance(clients, list) and isinstance(what, str):
        for client in clients[:_MOST_OF_A_HUB]:
            yield what, {"t": fields.get("t"), "client": client}
    else:
        yield event, fields


def _may_end(rule: AlarmRule, event: str, fields: dict[str, Any]) -> bool:
    return event in rule.ends or bool(rule.holds and event == rule.event and not fields.get(rule.holds))


def _subject(rule: AlarmRule, fields: dict[str, Any]) -> str:
    words = (fields.get(name) for name in rule.subject)
    return plain(" ".join(word for word in words if isinstance(word, str)), _MAX_SUBJECT)


def _text(fields: dict[str, Any]) -> str:
    """What the event says, in a line; nothing that is nested, and nothing of consumption."""
    words = (
        f"{name} {value}"
        for name, value in fields.items()
        if name not in ("t", "event", "clock", *CONSUMPTION) and isinstance(value, str | int | float | bool)
    )
    return plain(", ".join(words), _MAX_TEXT)


def alarms_of(
    db: BookReader, where: Sequence[str] = (), values: Sequence[Any] = (), most: int = 1000
) -> list[dict[str, Any]]:
    """Alarms that hold, errors first and then the newest. `where`: clauses about the table `alarm`, for `values`."""
    sql = "SELECT hub, source, code, subject, severity, since_ms, text FROM alarm"
    if where:
        sql += " WHERE " + " AND ".join(where)
    rows = db.execute(sql + " ORDER BY severity, since_ms DESC, hub, code, subject LIMIT ?", (*values, most))
    return [{**dict(row), "why": _WHY.get(row["code"], "") if row["source"] == EVENT else ""} for row in rows]
