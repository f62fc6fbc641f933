"""Control's steps (hub/core/control/records.py) into their tables, the chain of receipts, what a salvage leaves to
say."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hub.core.control.records import FORGOT, Journal, answered_name
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.receipt import CONTENT_TYPE, FIRST_PREV, Receipt, chain_hash, decode_receipt, encode_receipt
from store.cbor import load_own
from store.database import Database
from store.envelopes import content_of, payload_of
from store.errors import StoreCorrupt
from store.outbox import Outbox, Sealed, read_sealed
from store.queries import LANES

# An item of the store's own among control's: salvages that no event tells of yet, as CBOR `[fields, ...]`.
UNTOLD = "store/untold"
# What is said anew at each salvage.
NOT_SALVAGED = (UNTOLD, FORGOT)


def write_loss(db: Database, untold: list[dict[str, Any]]) -> None:
    """Note in a database that starts a new epoch (inside a transaction) what events are still to tell of, and that
    control's memory may have holes: see FORGOT in hub/core/control/records.py."""
    write_items(db, {UNTOLD: encode(untold), FORGOT: encode(None)})


def read_untold(db: Database) -> list[dict[str, Any]]:
    """Salvages that no event tells of yet. What does not read is told as what it is."""
    found = db.one("control_one", (UNTOLD,))
    if found is None:
        return []
    with suppress(StoreCorrupt):
        fields = load_own(found[0], "what is to be told of a salvage")
        if isinstance(fields, list) and all(isinstance(each, dict) for each in fields):
            return fields
    return [{"reason": "not known", "kept": {}, "set_aside": ""}]


class Chain:
    """Where the chain of receipts ends. It is read from the newest receipt, so no state can disagree with it."""

    def __init__(self, db: Database) -> None:
        self.prev, self.i = FIRST_PREV, 0
        for sealed in read_sealed("receipts", db.run("sealed_newest/receipts"), skip=True):
            # What is no receipt starts a new chain, which an audit sees; it must not keep the hub from starting.
            with suppress(ValueError, StoreCorrupt):
                self.prev, self.i = chain_hash(sealed.body), decode_receipt(payload_of(sealed.body)).i


def read_items(db: Database) -> dict[str, bytes]:
    """What control kept, by name."""
    return {name: value for name, value in db.run("control_all") if name != UNTOLD}


def write_items(db: Database, items: Mapping[str, bytes | None]) -> None:
    """Keep items, or forget those that are None (inside a transaction)."""
    for name, value in items.items():
        if value is None:
            db.do("control_drop", (name,))
        else:
            db.do("control_put", (name, value))


def write_journal(
    db: Database, outbox: Outbox, chain: Chain, journal: Journal, t_ms: int
) -> tuple[list[Sealed], dict[str, bytes | None]]:
    """Write one step (inside a transaction); return the sealed receipts, and the items that it changed. Events are the
    engine's."""
    sealed, items = [], dict(journal.kept)
    for receipt in journal.receipts:
        message = _add_receipt(outbox, chain, receipt, t_ms)
        sealed.append(message)
        kid = journal.answered.get(receipt.re or b"")
        if receipt.re is not None and kid is not None:
            items[answered_name(receipt.re)] = encode([message.epoch, message.number, kid])
    for answer in journal.answers:
        outbox.add("answers", t_ms, answer.content_type, answer.payload, answer.extra)
    write_items(db, items)
    return sealed, items


def _add_receipt(outbox: Outbox, chain: Chain, receipt: Receipt, t_ms: int) -> Sealed:
    payload = encode_receipt(replace(receipt, prev=chain.prev, i=chain.i + 1))
    message = outbox.add("receipts", t_ms, CONTENT_TYPE, payload)
    chain.prev, chain.i = chain_hash(message.body), chain.i + 1
    return message


def renumber(
    db: Database, outbox: Outbox, epoch: int, known: Mapping[str, bytes]
) -> tuple[Chain, dict[str, bytes | None]]:
    """Seal what was sealed in the outbox's epoch once more, in another (inside a transaction): nobody has seen any of
    it, and there are no packs among it. Returns where the chain of receipts ends then, and the items that changed."""
    taken = {lane: outbox.take_back(lane) for lane in LANES if lane != "readings"}
    outbox.enter(epoch)
    chain, items = Chain(db), dict[str, bytes | None]()
    for message in taken.pop("receipts"):
        receipt = decode_receipt(payload_of(message.body))
        again = _add_receipt(outbox, chain, receipt, message.t_ms)
        name = answered_name(receipt.re or b"")
        if name in known:
            kid = load_own(known[name], "where a receipt is")[2]
            items[name] = encode([again.epoch, again.number, kid])
    for lane, messages in taken.items():
        for message in messages:
            outbox.add(lane, message.t_ms, *content_of(message.body))
    write_items(db, items)
    return chain, items
