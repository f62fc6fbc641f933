"""Roll-outs: an update or a configuration goes to many hubs in waves. The next wave starts once enough of the last one
did it; too many that failed, refused or stayed silent stop it all, until a person looks. One for many hubs waits for a
second person, however small its waves are.

A wave is an order (orders.py). This decides when there is a next one; it has no clock.
"""

import json
import uuid
from typing import Any

from deploy.headend.orders import SILENT, WAITING, WITHDRAWN, GridOrders, Refusal, args_to_store, is_over
from deploy.headend.reach import EVERYBODY, Reach
from deploy.headend.registry import Registry
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import BookDatabase, BookReader

OPS = ("update", "config")
RUNNING, PAUSED, STOPPED, DONE = "running", "paused", "stopped", "done"
_DID_IT = ("completed",)


class Rollouts:
    """Tables `rollout`, `rollout_hub`. The caller opens and ends transactions and publishes what is returned."""

    def __init__(self, db: BookDatabase, registry: Registry, orders: GridOrders) -> None:
        self._db = db
        self._registry = registry
        self._orders = orders

    def begin(
        self, op: str, args: dict[str, Any], target: dict[str, Any], client: str, t: int, *, wave_hubs: int,
        success_share: float, error_share: float, valid_s: int,
    ) -> str:  # fmt: skip
        """A roll-out to the hubs that the target names now; its first wave is due at once, or once a second person has
        approved it. Raises Refusal, ValueError."""
        if op not in OPS:
            raise Refusal(f"a roll-out is of {' or '.join(OPS)}")
        hubs = self._registry.members(target)
        state = WAITING if self._orders.wants_second_person(len(hubs)) else RUNNING
        rollout_id = uuid.uuid4().hex
        self._db.execute(
            "INSERT INTO rollout VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
            (rollout_id, op, args_to_store(op, args), json.dumps(target), t * 1000, client, wave_hubs, success_share,
             error_share, valid_s, state),
        )  # fmt: skip
        self._db.executemany(
            "INSERT INTO rollout_hub (rollout_id, hub) VALUES (?, ?)", ((rollout_id, hub) for hub in hubs)
        )
        return rollout_id

    def due(self, t: int) -> list[CommandToSend]:
        """Waves that may start now."""
        found: list[CommandToSend] = []
        rows = self._db.execute("SELECT id FROM rollout WHERE state = ?", (RUNNING,)).fetchall()
        for (rollout_id,) in rows:
            found += self._go_on(rollout_id, t)
        return found

    def _go_on(self, rollout_id: str, t: int) -> list[CommandToSend]:
        op, args, client, wave_hubs, success_share, error_share, valid_s = self._db.execute(
            "SELECT op, args, asked_by, wave_hubs, success_share, error_share, valid_s FROM rollout WHERE id = ?",
            (rollout_id,),
        ).fetchone()
        asked = self._answers(rollout_id, t)
        over = [status for _, status in asked if is_over(status)]
        wrong = sum(status not in _DID_IT for status in over)
        if asked and wrong / len(asked) > error_share:
            self._set(rollout_id, STOPPED, f"{wrong} of {len(asked)} hubs did not do it")
            return []
        newest = self._newest_wave(rollout_id, t)
        done = sum(status in _DID_IT for status in newest)
        waits = any(not is_over(status) for status in newest)
        if newest and done / len(newest) < success_share:
            if not waits:
                self._set(rollout_id, STOPPED, f"{done} of {len(newest)} hubs of the last wave did it")
            return []
        hubs = [
            row[0]
            for row in self._db.execute(
                "SELECT hub FROM rollout_hub WHERE rollout_id = ? AND order_id = '' ORDER BY hub LIMIT ?",
                (rollout_id, wave_hubs),
            )
        ]
        if not hubs:
            if not any(not is_over(status) for _, status in asked):
                self._set(rollout_id, DONE, "")
            return []
        order_id, sends = self._orders.give_to(hubs, op, args, valid_s, client, t)
        self._db.executemany(
            "UPDATE rollout_hub SET order_id = ? WHERE rollout_id = ? AND hub = ?",
            ((order_id, rollout_id, hub) for hub in hubs),
        )
        return sends

    def _answers(self, rollout_id: str, t: int = 0) -> list[tuple[str, str]]:
        """(hub, status) of those that were asked; see `_by_now`."""
        rows = self._db.execute(
            "SELECT r.hub, o.status, g.exp_s + g.valid_s FROM rollout_hub r JOIN order_hub o ON o.order_id = r.order_id"
            " AND o.hub = r.hub JOIN grid_order g ON g.id = r.order_id WHERE r.rollout_id = ?",
            (rollout_id,),
        ).fetchall()
        return [(hub, _by_now(status, ends_s, t)) for hub, status, ends_s in rows]

    def _newest_wave(self, rollout_id: str, t: int) -> list[str]:
        rows = self._db.execute(
            "SELECT o.status, w.exp_s + w.valid_s FROM rollout_hub r JOIN order_hub o ON o.order_id = r.order_id"
            " AND o.hub = r.hub JOIN grid_order w ON w.id = r.order_id WHERE r.rollout_id = ?"
            " AND r.order_id = (SELECT g.id FROM grid_order g JOIN rollout_hub x"
            " ON x.order_id = g.id WHERE x.rollout_id = ? ORDER BY g.made_ms DESC, g.id DESC LIMIT 1)",
            (rollout_id, rollout_id),
        )
        return [_by_now(status, ends_s, t) for status, ends_s in rows]

    def _set(self, rollout_id: str, state: str, why: str) -> None:
        self._db.execute("UPDATE rollout SET state = ?, why = ? WHERE id = ?", (state, why, rollout_id))

    def approve(self, rollout_id: str, client: str) -> None:
        """The second person's word: its first wave is due. Raises Refusal."""
        if self._field(rollout_id, "asked_by") == client:
            raise Refusal("who asked cannot approve: a second person is needed")
        self._change(rollout_id, (WAITING,), RUNNING, f"approved by {client}")

    def withdraw(self, rollout_id: str) -> None:
        """One that waits for approval goes nowhere. Raises Refusal."""
        self._change(rollout_id, (WAITING,), WITHDRAWN)

    def state_of(self, rollout_id: str) -> str:
        """Raises Refusal."""
        return self._field(rollout_id, "state")

    def pause(self, rollout_id: str) -> None:
        """No further wave starts; what went is not taken back. Raises Refusal."""
        self._change(rollout_id, (RUNNING,), PAUSED)

    def resume(self, rollout_id: str, t: int) -> None:
        """After a pause, or after somebody looked at why it stopped: those that did not do it are asked again, with the
        next wave. Raises Refusal."""
        self._change(rollout_id, (PAUSED, STOPPED), RUNNING)
        again = [hub for hub, status in self._answers(rollout_id, t) if is_over(status) and status not in _DID_IT]
        self._db.executemany(
            "UPDATE rollout_hub SET order_id = '' WHERE rollout_id = ? AND hub = ?",
            ((rollout_id, hub) for hub in again),
        )

    def stop(self, rollout_id: str, client: str) -> None:
        """No further wave, until somebody resumes it. What went is not taken back: see `back`. Raises Refusal."""
        self._change(rollout_id, (RUNNING, PAUSED), STOPPED, f"by {client}")

    def back(self, rollout_id: str, args: dict[str, Any], client: str, t: int) -> str:
        """Stop it, and bring the hubs that did it, or may do it yet, back by a roll-out of `args` (the settings, or the
        version, of before) in waves like its own; the id of that. What a hub had before nobody but a person knows.
        For many hubs it waits for a second person, too: nobody but a person knows what its arguments do. Raises Refusal
        where no hub was asked."""
        row = self._db.execute(
            "SELECT op, state, wave_hubs, success_share, error_share, valid_s FROM rollout WHERE id = ?", (rollout_id,)
        ).fetchone()
        if row is None:
            raise Refusal(f"{rollout_id}: no such roll-out")
        op, state, wave_hubs, success_share, error_share, valid_s = row
        hubs = [hub for hub, status in self._answers(rollout_id) if status in _DID_IT or not is_over(status)]
        if not hubs:
            raise Refusal("no hub did it: there is nothing to bring back")
        if state != STOPPED:
            self._set(rollout_id, STOPPED, f"brought back by {client}")
        return self.begin(op, args, {"hubs": hubs}, client, t, wave_hubs=wave_hubs, success_share=success_share,
                          error_share=error_share, valid_s=valid_s)  # fmt: skip

    def op_of(self, rollout_id: str) -> str:
        """What it is of: "update" or "config". Raises Refusal."""
        return self._field(rollout_id, "op")

    def _field(self, rollout_id: str, name: str) -> str:
        row = self._db.execute(f"SELECT {name} FROM rollout WHERE id = ?", (rollout_id,)).fetchone()
        if row is None:
            raise Refusal(f"{rollout_id}: no such roll-out")
        return str(row[0])

    def _change(self, rollout_id: str, before: tuple[str, ...], after: str, why: str = "") -> None:
        state = self.state_of(rollout_id)
        if state not in before:
            raise Refusal(f"it is {state}")
        self._set(rollout_id, after, why)


def _by_now(status: str, ends_s: int, t: int) -> str:
    """A hub that took an order and was heard of it no more is as silent as one that never answered: firmware that kills
    it says nothing. It may be obeyed for so long, and then has as long again to be done."""
    return SILENT if t >= ends_s and not is_over(status) else status


def rollouts_of(db: BookReader, rollout_id: str = "", reach: Reach = EVERYBODY) -> list[dict[str, Any]]:
    """All of them, newest first, or one: with how many hubs are where, and wave by wave the order that it was.
    Those with no hub within reach are not there."""
    one, values = (" WHERE id = ?", (rollout_id,)) if rollout_id else ("", ())
    found = []
    for row in db.execute(f"SELECT * FROM rollout{one} ORDER BY made_ms DESC", values).fetchall():
        counts: dict[str, int] = {}
        waves: dict[str, dict[str, Any]] = {}
        for order_id, made_ms, status, hubs in db.execute(
            "SELECT r.order_id, g.made_ms, coalesce(o.status, 'to come'), count(*) FROM rollout_hub r"
            " LEFT JOIN order_hub o ON o.order_id = r.order_id AND o.hub = r.hub"
            " LEFT JOIN grid_order g ON g.id = r.order_id WHERE r.rollout_id = ?"
            f" AND {reach.clause('r.hub')}"
            " GROUP BY 1, 2, 3 ORDER BY 2, 1, 3",
            (row["id"], *reach.values),
        ):
            counts[status] = counts.get(status, 0) + hubs
            if order_id:
                wave = waves.setdefault(order_id, {"order_id": order_id, "made_ms": made_ms, "counts": {}})
                wave["counts"][status] = hubs
        if not counts:
            continue
        args, target = json.loads(row["args"]), json.loads(row["target"])
        if not reach.is_all and not reach.has_all_of_rollout(db, row["id"]):
            target = {"group": ", ".join(reach.values)}  # whom else it is for is not told
        found.append({**dict(row), "args": args, "target": target, "counts": counts, "waves": list(waves.values())})
    return found
