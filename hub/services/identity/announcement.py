"""Which key signs: the utility hears of a new certificate from the old key, and first of all from the new (design 3.3).

The store remembers the key id that was announced. So a hub that lost its power between a renewal and the telling, or
whose certificate was exchanged while it stood still, tells of it at its next start.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from hub.core.control.records import Journal
from hub.wire.keys.identity import Identity
from hub.wire.uplink.cbor import encode
from store import Store, StoreError

ITEM = "certificate-announced"


def _event(identity: Identity) -> tuple[str, dict[str, Any]]:
    until = identity.certificate.not_valid_after_utc.strftime("%Y-%m-%d")
    chain = [certificate.public_bytes(Encoding.DER) for certificate in identity.chain]
    return "certificate.renewed", {"not_after": until, "x5c": chain}


def _told(identity: Identity) -> dict[str, bytes | None]:
    return {ITEM: encode(identity.signer.kid)}


def announce_at_start(store: Store, identity: Identity) -> None:
    """Before anything else of this start is sealed: tell of the certificate if it is not the one announced last.

    A hub that announced none yet is new: the utility has its certificate from the factory.
    """
    try:
        told = store.control_state().result().get(ITEM)
        if told != encode(identity.signer.kid):
            events = [] if told is None else [_event(identity)]
            store.commit_control(Journal(kept=_told(identity), events=events)).result()
    except StoreError:
        pass  # there is no database now: the next start looks again


def hand_over(store: Store, identity: Identity, use: Callable[[], None]) -> "Future[None]":
    """Seal the event with the old key, call `use()` on the store's thread, seal it with the new one. Nothing is sealed
    in between. `use` is called also where the event finds no space; the next start tells of it then."""
    event = _event(identity)
    return store.change_key(Journal(events=[event]), use, Journal(kept=_told(identity), events=[event]))
