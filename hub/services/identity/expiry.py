"""The end of the hub's certificate: conditions while it is near or past, and an event a day, restarts or not."""

import asyncio
from contextlib import suppress

from cryptography import x509

from hub.core.control.records import Journal
from hub.core.health import Health
from hub.wire.uplink.cbor import encode
from store import Store, StoreError

ITEM = "certificate"
_DAY_S = 86400
WARNED_BEFORE_S = 60 * _DAY_S


class Expiry:
    """Belongs to the daemon. `told`: the item that the store kept, which says what was told last."""

    def __init__(self, store: Store, health: Health, told: bytes | None) -> None:
        self._store = store
        self._health = health
        self._told = told

    async def look(self, certificate: x509.Certificate, t: float, is_trusted: bool) -> None:
        """`t`: UTC epoch seconds; only a trusted clock tells of the end."""
        begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        until = certificate.not_valid_after_utc.strftime("%Y-%m-%d")
        soon = t <= ends < t + WARNED_BEFORE_S
        self._health.set_condition("certificate-expired", t > ends, f"on {until}")
        self._health.set_condition("certificate-not-yet-valid", t < begins)
        self._health.set_condition("certificate-expires-soon", soon, f"on {until}")
        days = int((ends - t) / _DAY_S)
        item = encode([until, days])
        if soon and is_trusted and item != self._told:
            # The event and what remembers it are one step.
            event = ("certificate.expires_soon", {"not_after": until, "days": days})
            with suppress(StoreError):
                await asyncio.wrap_future(self._store.commit_control(Journal(kept={ITEM: item}, events=[event])))
                self._told = item
