"""Control's steps into their tables (hub/control/records.py), and the chain of receipts."""

from contextlib import suppress
from dataclasses import replace

import cbor2

from hub.contract.receipt import CONTENT_TYPE, FIRST_PREV, chain_hash, decode_receipt, encode_receipt
from hub.control.records import Journal, answered_name
from store.database import Database
from store.envelopes import payload_of
from store.errors import StoreCorrupt
from store.outbox import Outbox, Sealed, read_sealed


class Chain:
    """Where the chain of receipts ends. It is read from the newest receipt, so no state can disagree with it."""

    def __init__(self, db: Database) -> None:
        self.prev, self.i = FIRST_PREV, 0
        for sealed in read_sealed("receipts", db.run("receipt_newest"), skip=True):
            # What is no receipt starts a new chain, which an audit sees; it must not keep the hub from starting.
            with suppress(ValueError, StoreCorrupt):
                self.prev, self.i = chain_hash(sealed.body), decode_receipt(payload_of(sealed.body)).i


def write_journal(db: Database, outbox: Outbox, chain: Chain, journal: Journal, t_ms: int) -> list[Sealed]:
    """Write one step (inside a transaction); return the sealed receipts. Events are the engine's."""
    sealed = []
    for receipt in journal.receipts:
        payload = encode_receipt(replace(receipt, prev=chain.prev, i=chain.i + 1))
        message = outbox.add("receipts", t_ms, CONTENT_TYPE, payload)
        chain.prev, chain.i = chain_hash(message.body), chain.i + 1
        sealed.append(message)
        if receipt.re is not None and journal.remembers(receipt):
            where = cbor2.dumps([message.epoch, message.number, receipt.iat])
            db.run("control_put", (answered_name(receipt.re), where))
    for answer in journal.answers:
        outbox.add("answers", t_ms, answer.content_type, answer.payload, answer.extra)
    for name, value in journal.kept.items():
        if value is None:
            db.run("control_drop", (name,))
        else:
            db.run("control_put", (name, value))
    return sealed
