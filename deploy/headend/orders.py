"""Orders: what a utility asks of one hub or of many. Stored before it goes; sent again to each hub that says nothing,
until it expires; what each hub made of it is written down, receipt by receipt."""

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from deploy.headend.reach import EVERYBODY, Reach
from deploy.headend.registry import Registry
from deploy.headend.usage import METER
from hub.headend.bookkeeper import CommandToSend
from hub.headend.command_signer import CommandSigner, topic_for
from hub.headend.database import BookDatabase, BookReader, found_by
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.uplink.cbor import decode, encode
from hub.wire.uplink.command import CTI_BYTES, MAX_COMMAND_BYTES
from hub.wire.uplink.reading import decimal_to_float
from hub.wire.uplink.receipt import FINAL, Receipt

WAITING, SENT, WITHDRAWN = "waiting", "sent", "withdrawn"
SILENT = "silent"
_FIRST_AGAIN_S, _MOST_AGAIN_S = 10, 300
_AT_ONCE = 200
_BEFORE_MS = 60_000
_LOOK_BACK_MS = 300_000  # a household whose meter was not heard for longer is in no sum
_CANCEL_VALID_S = 3600
_AROUND_ARGS_BYTES = 1024  # of a message: its header, the other claims, the signature


class Refusal(ValueError):
    """The order cannot be given, or not by this client; the text says why."""


class _Asked(NamedTuple):
    """An order that a receipt answers; `place`: (epoch, index) of the newest receipt that was heard of it."""

    id: str
    op: str
    args: str
    place: tuple[int, int]


class GridOrders:
    """Tables `grid_order`, `order_message`, `order_hub`. The caller opens and ends transactions, and publishes what is
    returned once the transaction is durable."""

    def __init__(self, db: BookDatabase, registry: Registry, signer: CommandSigner, second_above: int) -> None:
        self._db = db
        self._registry = registry
        self._signer = signer
        self._second_above = second_above

    def give(
        self, op: str, args: dict[str, Any], target: dict[str, Any], valid_s: int, client: str, t: int,
        together: int = 0,
    ) -> tuple[str, list[CommandToSend]]:  # fmt: skip
        """A new order, and what to publish of it: nothing yet where a second person has to approve. `args` were
        checked; `t`: UTC epoch seconds; `together`: hubs of all the orders that it is one with. Raises Refusal,
        ValueError."""
        hubs = self._registry.members(target)
        state = WAITING if self.wants_second_person(max(len(hubs), together)) else SENT
        order_id = self._store(op, args_to_store(op, args), target, hubs, valid_s, client, t, state)
        return order_id, self._send(order_id, t) if state == SENT else []

    def wants_second_person(self, hubs: int) -> bool:
        """Whether so many hubs are not for one person to command."""
        return hubs > self._second_above

    def hubs_together(self, targets: Iterable[dict[str, Any]]) -> int:
        """How many hubs some targets name, each of them once. Raises ValueError."""
        named = {json.dumps(target): target for target in targets}
        return len({hub for target in named.values() for hub in self._registry.members(target)})

    def hubs_of(self, order_id: str) -> int:
        """How many hubs an order is for."""
        return int(self._db.execute("SELECT hubs FROM grid_order WHERE id = ?", (order_id,)).fetchone()[0])

    def give_to(
        self, hubs: list[str], op: str, args_json: str, valid_s: int, client: str, t: int
    ) -> tuple[str, list[CommandToSend]]:
        """An order to these hubs: a wave of a roll-out, which somebody stands for already."""
        order_id = self._store(op, args_json, {"hubs": hubs}, hubs, valid_s, client, t, SENT)
        return order_id, self._send(order_id, t)

    def _store(
        self, op: str, args_json: str, target: dict[str, Any], hubs: list[str], valid_s: int, client: str, t: int,
        state: str,
    ) -> str:  # fmt: skip
        order_id = uuid.uuid4().hex
        self._db.execute(
            "INSERT INTO grid_order (id, op, args, target, hubs, made_ms, valid_s, exp_s, asked_by, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (order_id, op, args_json, json.dumps(target), len(hubs), t * 1000, valid_s, t + valid_s, client, state),
        )
        self._db.executemany(
            "INSERT INTO order_hub (order_id, hub, status) VALUES (?, ?, ?)", ((order_id, hub, state) for hub in hubs)
        )
        return order_id

    def approve(self, order_id: str, client: str, t: int) -> list[CommandToSend]:
        """The second person's word. Raises Refusal."""
        row = self._waiting(order_id)
        if row["asked_by"] == client:
            raise Refusal("who asked cannot approve: a second person is needed")
        self._db.execute(
            "UPDATE grid_order SET state = ?, approved_by = ?, exp_s = ? WHERE id = ?",
            (SENT, client, t + row["valid_s"], order_id),
        )
        return self._send(order_id, t)

    def withdraw(self, order_id: str) -> None:
        """An order that waits for approval goes nowhere. Raises Refusal: what was sent is cancelled by an order."""
        self._waiting(order_id)
        self._db.execute("UPDATE grid_order SET state = ? WHERE id = ?", (WITHDRAWN, order_id))
        self._db.execute("UPDATE order_hub SET status = ? WHERE order_id = ?", (WITHDRAWN, order_id))

    def take_back(self, order_id: str, client: str, t: int) -> list[CommandToSend]:
        """An order is not wanted any more: what waits is withdrawn, a limit that went is cancelled by another."""
        row = self._db.execute("SELECT state, op, args, exp_s FROM grid_order WHERE id = ?", (order_id,)).fetchone()
        if row is None:
            return []
        state, op, args_json, exp_s = row
        if state == WAITING:
            self.withdraw(order_id)
        if state != SENT:
            return []
        sends: list[CommandToSend] = []
        if op == "limit":
            sends = self._cancel(order_id, _from_json(args_json), exp_s, client, t)
        self._db.execute(
            "UPDATE order_hub SET status = ? WHERE order_id = ? AND status = ?", (WITHDRAWN, order_id, SENT)
        )
        return sends

    def _cancel(self, order_id: str, limit: dict[str, Any], exp_s: int, client: str, t: int) -> list[CommandToSend]:
        """To each hub of the order, for as long as its limit may hold: a broker keeps the limit for a hub that is away
        until it expires, and one that has it may come back at any time before its end."""
        ends_s = max(exp_s, limit.get("start", 0)) + limit["duration"]
        ends_s += limit.get("randomise_end", limit.get("randomise", 0))
        valid_s = max(_CANCEL_VALID_S, int(ends_s) + _CANCEL_VALID_S - t)
        sends: list[CommandToSend] = []
        for (cti,) in self._db.execute("SELECT cti FROM order_message WHERE order_id = ?", (order_id,)).fetchall():
            hubs = [r[0] for r in self._db.execute("SELECT hub FROM order_hub WHERE cti = ?", (cti,))]
            if hubs:
                args = to_json({"cti": cti})
                sends += self.give_to(hubs, "limit.cancel", args, valid_s, client, t)[1]
        return sends

    def _waiting(self, order_id: str) -> dict[str, Any]:
        row = self._db.execute("SELECT state, asked_by, valid_s FROM grid_order WHERE id = ?", (order_id,)).fetchone()
        if row is None:
            raise Refusal(f"{order_id}: no such order")
        if row[0] != WAITING:
            raise Refusal(f"{order_id}: it does not wait for approval, it is {row[0]}")
        return {"asked_by": row[1], "valid_s": row[2]}

    def _send(self, order_id: str, t: int) -> list[CommandToSend]:
        """Sign: one message for a group or for all, else one for each hub."""
        self._db.execute("UPDATE grid_order SET sent_ms = ? WHERE id = ?", (t * 1000, order_id))
        op, args, target, valid_s = self._db.execute(
            "SELECT op, args, target, valid_s FROM grid_order WHERE id = ?", (order_id,)
        ).fetchone()
        args, target = _from_json(args), json.loads(target)
        hubs = [row[0] for row in self._db.execute("SELECT hub FROM order_hub WHERE order_id = ?", (order_id,))]
        if target.get("all"):
            audiences = {"all": hubs}
        elif "group" in target:
            audiences = {f"group:{target['group']}": hubs}
        else:
            audiences = {hub: [hub] for hub in hubs}
        found = []
        for aud, its_hubs in audiences.items():
            cti = os.urandom(CTI_BYTES)
            message = self._signer.sign(aud, op, args, cti=cti, t=t, valid_s=valid_s)
            topic = topic_for(aud)
            self._db.execute("INSERT INTO order_message VALUES (?, ?, ?, ?)", (cti, order_id, topic, message))
            self._db.executemany(
                "UPDATE order_hub SET cti = ?, status = ?, tries = 1, next_s = ? WHERE order_id = ? AND hub = ?",
                ((cti, SENT, t + _FIRST_AGAIN_S, order_id, hub) for hub in its_hubs),
            )
            found.append(CommandToSend(topic, message, op, aud))
        return found

    def due(self, t: int) -> list[CommandToSend]:
        """What has to be said again now, to each hub on its own topic: the same bytes, so a hub that has it answers
        with the receipt that it gave. Who said nothing until the end was silent."""
        rows = self._db.execute(
            "SELECT h.order_id, h.hub, h.tries, m.message, o.op, o.exp_s FROM order_hub h"
            " JOIN order_message m ON m.cti = h.cti JOIN grid_order o ON o.id = h.order_id"
            " WHERE h.status = 'sent' AND h.next_s <= ? ORDER BY h.next_s LIMIT ?",
            (t, _AT_ONCE),
        ).fetchall()
        found = []
        for order_id, hub, tries, message, op, exp_s in rows:
            if t >= exp_s:
                self._db.execute(
                    "UPDATE order_hub SET status = ? WHERE order_id = ? AND hub = ?", (SILENT, order_id, hub)
                )
                continue
            wait_s = min(_FIRST_AGAIN_S * 2**tries, _MOST_AGAIN_S)
            self._db.execute(
                "UPDATE order_hub SET tries = tries + 1, next_s = ? WHERE order_id = ? AND hub = ?",
                (min(t + wait_s, exp_s), order_id, hub),
            )
            found.append(CommandToSend(topic_for(hub), message, op, hub))
        return found

    def heard_all(self, receipts: Sequence[tuple[Receipt, int]], t_ms: int) -> None:
        """Receipts, verified, each with the epoch of its hub, in the order in which they came. What answers no order of
        ours changes nothing."""
        asked = self._asked_by({(receipt.hub, receipt.re) for receipt, _ in receipts if receipt.re is not None})
        places = {(order.id, hub): order.place for (hub, _), order in asked.items()}
        answers: dict[tuple[str, str], tuple[Any, ...]] = {}
        for receipt, epoch in receipts:
            order = asked.get((receipt.hub, receipt.re)) if receipt.re is not None else None
            if order is None:
                continue
            key = (order.id, receipt.hub)
            if (epoch, receipt.i) <= places[key]:
                continue  # an older one that came late
            if (receipt.status, receipt.reason) == ("refused", "replayed"):
                self._write(answers)
                if self._sign_anew(order.id, receipt, t_ms):
                    continue
            places[key] = (epoch, receipt.i)
            answers[key] = (*key, receipt.re, receipt.status, receipt.reason, to_json(receipt.detail), epoch, receipt.i,
                            t_ms)  # fmt: skip
            groups = _from_json(order.args).get("set", {}).get("hub.groups") if order.op == "config" else None
            if groups is not None and receipt.status in ("applied", "completed"):
                self._write(answers)
                if not self._moved_since(receipt.hub, (epoch, receipt.i)):
                    self._registry.set_groups(receipt.hub, [str(name) for name in groups])
        self._write(answers)

    def _moved_since(self, hub: str, place: tuple[int, int]) -> bool:
        """Whether a receipt that the hub gave later, though it came before this one, already said what groups it is in:
        whose hub it is follows from that."""
        rows = self._db.execute(
            "SELECT o.args FROM order_hub h JOIN grid_order o ON o.id = h.order_id WHERE h.hub = ? AND o.op = 'config'"
            " AND h.status IN ('applied', 'completed') AND (h.receipt_epoch, h.receipt_i) > (?, ?)",
            (hub, *place),
        ).fetchall()
        return any("hub.groups" in _from_json(args).get("set", {}) for (args,) in rows)

    def _asked_by(self, keys: set[tuple[str, bytes]]) -> dict[tuple[str, bytes], _Asked]:
        """The orders that receipts of `(hub, cti)` answer."""
        select = (
            "SELECT s.hub, s.cti, o.id, o.op, o.args, h.receipt_epoch, h.receipt_i FROM said s"
            " JOIN order_message m ON m.cti = s.cti JOIN grid_order o ON o.id = m.order_id"
            " LEFT JOIN order_hub h ON h.order_id = o.id AND h.hub = s.hub"
        )
        found = {}
        for hub, cti, order_id, op, args, epoch, i in found_by(self._db, "said", ("hub", "cti"), sorted(keys), select):
            found[hub, bytes(cti)] = _Asked(order_id, op, args, (epoch or 0, i or 0))
        return found

    def _write(self, answers: dict[tuple[str, str], tuple[Any, ...]]) -> None:
        # A hub that listens to a group we did not know it to be in has its line too.
        self._db.executemany(
            "INSERT INTO order_hub (order_id, hub, cti, status, reason, detail, receipt_epoch, receipt_i, heard_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id, hub) DO UPDATE SET status = excluded.status,"
            " reason = excluded.reason, detail = excluded.detail, receipt_epoch = excluded.receipt_epoch,"
            " receipt_i = excluded.receipt_i, heard_ms = excluded.heard_ms",
            [answers[key] for key in sorted(answers)],
        )
        answers.clear()

    def _sign_anew(self, order_id: str, receipt: Receipt, t_ms: int) -> bool:
        """A broker lost the order, and one of ours with a higher counter came first. The hub says that it did not do
        it, so it may be told once more, with a counter and an id of its own. False where it is too late for that, or
        the operator's token is away: what hubs say is taken all the same, and this one said that it refused."""
        row = self._db.execute(
            "SELECT o.op, o.args, o.exp_s FROM grid_order o JOIN order_hub h ON h.order_id = o.id"
            " WHERE o.id = ? AND h.hub = ? AND h.cti = ? AND h.status = 'sent'",
            (order_id, receipt.hub, receipt.re),
        ).fetchone()
        t = t_ms // 1000
        if row is None or row[2] - t < 1:
            return False
        cti = os.urandom(CTI_BYTES)
        try:
            message = self._signer.sign(receipt.hub, row[0], _from_json(row[1]), cti=cti, t=t, valid_s=row[2] - t)
        except HardwareError:
            return False
        topic = topic_for(receipt.hub)
        self._db.execute("INSERT INTO order_message VALUES (?, ?, ?, ?)", (cti, order_id, topic, message))
        self._db.execute(
            "UPDATE order_hub SET cti = ?, next_s = ? WHERE order_id = ? AND hub = ?", (cti, t, order_id, receipt.hub)
        )
        return True


def is_over(status: str) -> bool:
    """Whether nothing more is to come of an order at a hub."""
    return status in FINAL or status in (SILENT, WITHDRAWN)


def args_to_store(op: str, args: dict[str, Any]) -> str:
    """JSON of them. Raises ValueError where no message can hold them, or no hub would read it: who asks has to hear so,
    not the thread that signs a second person's order, or a wave, later on."""
    text = to_json(args)
    try:
        decode(encode({"op": op, "args": _from_json(text)}), max_bytes=MAX_COMMAND_BYTES - _AROUND_ARGS_BYTES)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"args: no message can hold them: {error}") from None
    return text


def to_json(value: Any) -> str:
    """JSON; bytes as {"hex": ...}."""
    return json.dumps(value, default=lambda data: {"hex": bytes(data).hex()})


def _from_json(text: str) -> Any:
    return json.loads(text, object_hook=lambda d: bytes.fromhex(d["hex"]) if set(d) == {"hex"} else d)


class Spread(NamedTuple):
    """How an order reached its hubs, by seconds after it was sent. `obeyed`: how many had said so; `watts`: what the
    households with a meter that was heard drew together, from a minute before; `above`: of that, what each drew more
    than it was asked to; `asked`: what they may draw together, from when to when, where it is a limit of import.
    `households`: how many are in these sums."""

    obeyed: list[tuple[float, int]]
    watts: list[tuple[float, float]]
    above: list[tuple[float, float]]
    asked: tuple[float, float, float] | None  # from_s, to_s, watts
    households: int


def spread_of(db: BookReader, order_id: str, seconds: int, least: int = 1, reach: Reach = EVERYBODY) -> Spread:
    """Of an order that was sent; up to `seconds` after. No sum is of fewer than `least` households. Raises Refusal
    where there is no such order."""
    row = db.execute("SELECT sent_ms, op, args FROM grid_order WHERE id = ?", (order_id,)).fetchone()
    if row is None or not row[0]:
        raise Refusal(f"{order_id}: no such order, or it was not sent")
    sent_ms, op, args = row[0], row[1], _from_json(row[2])
    firsts = db.execute(
        "SELECT min(r.heard_ms) FROM order_message m JOIN receipt r ON r.cti = m.cti WHERE m.order_id = ?"
        " AND r.status IN ('accepted', 'applied', 'partial', 'completed')"
        f" AND {reach.clause('r.hub')} GROUP BY r.hub ORDER BY 1",
        (order_id, *reach.values),
    ).fetchall()
    obeyed = [(max(0.0, (heard_ms - sent_ms) / 1000), count) for count, (heard_ms,) in enumerate(firsts, 1)]
    is_limit = op == "limit" and args.get("direction", "import") == "import"
    limit_w = float(args["watts"]) if is_limit else 0.0
    latest: dict[int, float] = {}
    watts: list[tuple[float, float]] = []
    above: list[tuple[float, float]] = []
    sum_w = above_w = 0.0
    for series, t_ms, mantissa, exponent in db.execute(
        "SELECT r.series, r.t_ms, r.mantissa, r.exponent FROM order_hub h JOIN series s ON s.hub = h.hub"
        " AND s.client = ? AND s.quantity = 'power' JOIN reading r ON r.series = s.id"
        f" WHERE h.order_id = ? AND r.t_ms BETWEEN ? AND ? AND {reach.clause('h.hub')} ORDER BY r.t_ms",
        (METER, order_id, sent_ms - _LOOK_BACK_MS, sent_ms + seconds * 1000, *reach.values),
    ):
        power_w, before_w = decimal_to_float(mantissa, exponent), latest.get(series)
        sum_w += power_w - (before_w or 0.0)
        above_w += max(0.0, power_w - limit_w) - (0.0 if before_w is None else max(0.0, before_w - limit_w))
        latest[series] = power_w
        if t_ms < sent_ms - _BEFORE_MS or len(latest) < least:
            continue
        after_s = (t_ms - sent_ms) // 1000
        for line, value in ((watts, sum_w), (above, above_w if is_limit else 0.0)):
            if line and line[-1][0] == after_s:
                line.pop()
            line.append((after_s, value))
    asked = None
    if is_limit and watts:
        begin_s = max(0.0, float(args.get("start", 0)) - sent_ms / 1000)
        asked = (begin_s, begin_s + float(args["duration"]), limit_w * len(latest))
    return Spread(obeyed, watts, above if is_limit else [], asked, len(latest) if watts else 0)


def watts_of(spread: Spread, hubs: int) -> dict[str, Any]:
    """Watts asked against watts reached, as the book knows them by now; `households` is 0 where it knows too little.
    `before_w`: when it was sent; `now_w`, `above_w`: at the last reading while it held."""
    ends_s = spread.asked[1] if spread.asked else float("inf")
    before = [value for after_s, value in spread.watts if after_s < 0]
    while_held = [value for after_s, value in spread.watts if 0 <= after_s < ends_s]
    above = [value for after_s, value in spread.above if 0 <= after_s < ends_s]
    return {
        "hubs": hubs, "households": spread.households, "asked_w": spread.asked[2] if spread.asked else None,
        "before_w": before[-1] if before else None, "now_w": while_held[-1] if while_held else None,
        "above_w": above[-1] if above else None,
    }  # fmt: skip
