"""Webhooks of OpenADR 3 (openadr3.yaml, `notification`): what subscribers are told, and how often it is tried.

A notice is durable with what it tells of. It is tried at growing intervals, MOST_TRIES times, and then given up and
counted; a subscriber that is away for long loses the oldest beyond MOST_WAITING. No answer is followed elsewhere.
"""

import json
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from deploy.headend.background import Background
from deploy.headend.openadr_objects import OpenAdrObjects
from drivers.https import HttpsClient, HttpsFault
from hub.headend.database import BookDatabase
from hub.wire.printable import why

_LOG = logging.getLogger("headend")
MOST_TRIES, MOST_WAITING = 8, 1_000
_FIRST_AGAIN_S, _MOST_AGAIN_S = 5, 900
_AT_ONCE = 50
_ANSWER_S = 10.0
_ROUND_S = 1.0


class DueNotice(NamedTuple):
    """To be sent now. `token`: the subscriber's, empty where it gave none."""

    number: int
    url: str
    token: str
    body: str


class OpenAdrNotices:
    """Table `openadr_notice`. A machine: the caller opens and ends transactions, and sends."""

    def __init__(self, db: BookDatabase, objects: OpenAdrObjects) -> None:
        self._db = db
        self._objects = objects

    def tell(self, kind: str, operation: str, body: dict[str, Any], t: int) -> None:
        """Something happened to an object; whoever subscribed to that is told."""
        text = ""
        for subscription_id, subscription in self._objects.subscriptions():
            for row in subscription["objectOperations"]:
                if kind in row["objects"] and operation in row["operations"]:
                    # A subscription tells of itself without its secret.
                    text = text or json.dumps({"objectType": kind, "operation": operation, "object": _public(body)})
                    self._add(subscription_id, row, text, t)

    def _add(self, subscription_id: str, row: dict[str, Any], text: str, t: int) -> None:
        self._db.execute(
            "INSERT INTO openadr_notice (subscription, url, token, body, next_s) VALUES (?, ?, ?, ?, ?)",
            (subscription_id, row["callbackUrl"], row["bearerToken"] or "", text, t),
        )
        self._db.execute(
            "DELETE FROM openadr_notice WHERE subscription = ? AND number <= (SELECT number FROM openadr_notice"
            " WHERE subscription = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (subscription_id, subscription_id, MOST_WAITING),
        )

    def due(self, t: int) -> list[DueNotice]:
        """What to send now; of one whose subscription has ended nothing."""
        self._db.execute(
            "DELETE FROM openadr_notice WHERE subscription NOT IN (SELECT id FROM openadr_object)"
        )  # fmt: skip
        rows = self._db.execute(
            "SELECT number, url, token, body FROM openadr_notice WHERE next_s <= ? ORDER BY number LIMIT ?",
            (t, _AT_ONCE),
        ).fetchall()
        return [DueNotice(*row) for row in rows]

    def tried(self, number: int, t: int, *, is_sent: bool) -> bool:
        """It was sent, or the subscriber did not take it; True where that was the last try."""
        if is_sent:
            self._forget(number)
            return False
        row = self._db.execute("SELECT tries FROM openadr_notice WHERE number = ?", (number,)).fetchone()
        if row is None:
            return False
        tries = row[0] + 1
        if tries >= MOST_TRIES:
            self._forget(number)
            return True
        wait_s = min(_FIRST_AGAIN_S * 4 ** (tries - 1), _MOST_AGAIN_S)
        self._db.execute(
            "UPDATE openadr_notice SET tries = ?, next_s = ? WHERE number = ?", (tries, t + wait_s, number)
        )
        return False

    def _forget(self, number: int) -> None:
        self._db.execute("DELETE FROM openadr_notice WHERE number = ?", (number,))


def _public(body: dict[str, Any]) -> dict[str, Any]:
    if "objectOperations" not in body:
        return body
    return {**body, "objectOperations": [{**row, "bearerToken": None} for row in body["objectOperations"]]}


class Webhooks(Background):
    """The loop: sends what is due. `ask(do)` does something with the control point, in a transaction."""

    def __init__(self, ca_file: Path | None, ask: Callable[[Any], Any], counts: dict[str, int]) -> None:
        super().__init__("webhooks")
        self._context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._ask, self._counts = ask, counts
        for name in ("notices_sent", "notices_failed", "notices_given_up"):
            counts.setdefault(name, 0)

    def _run(self) -> None:
        while not self._stopping.wait(_ROUND_S):
            try:
                self.round(int(time.time()))
            except Exception as error:  # the database, or the service that ends: what is due stays due
                _LOG.error("webhooks: %s", why(error))

    def round(self, t: int) -> None:
        """Everything that is due, once. A subscriber that does not answer holds up the others for seconds, not more:
        after its first failure the rest of its own has to wait."""
        silent: set[str] = set()
        for notice in self._ask(lambda point: (point.openadr.notices.due(t), [])):
            if self._stopping.is_set():
                return
            is_sent = notice.url not in silent and self._send(notice)
            if not is_sent:
                silent.add(notice.url)
            is_last = self._ask(
                lambda point, n=notice.number, ok=is_sent: (point.openadr.notices.tried(n, t, is_sent=ok), [])
            )
            self._counts["notices_sent"] += is_sent
            self._counts["notices_given_up"] += is_last

    def _send(self, notice: DueNotice) -> bool:
        headers = {"Content-Type": "application/json"}
        if notice.token:
            headers["Authorization"] = f"Bearer {notice.token}"
        try:
            with HttpsClient(notice.url, self._context, _ANSWER_S) as server:
                answer = server.request("POST", server.path, notice.body.encode(), headers)
                status = answer.status
        except (HttpsFault, OSError, ValueError) as error:
            _LOG.warning("a subscriber was not told: %s", why(error))
            status = 0
        if 200 <= status < 300:
            return True
        self._counts["notices_failed"] += 1
        return False
