"""The store: outbox, readings log, sessions. One thread owns the one connection; nobody else touches the database."""

from store.errors import StoreError, StoreFailing, StoreFull, StoreReadOnly, StoreUnwritable
from store.outbox import Sealed
from store.store import Store

__all__ = ["Sealed", "Store", "StoreError", "StoreFailing", "StoreFull", "StoreReadOnly", "StoreUnwritable"]
