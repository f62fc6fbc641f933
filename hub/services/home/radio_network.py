"""The Zigbee network's snapshot in the store: the radio's driver keeps a file of its own, and files are lost singly."""

import json
import logging
import zlib
from concurrent.futures import Future
from typing import Any, Protocol

from hub.core.control.records import Journal

log = logging.getLogger(__name__)

ITEM = "radio.network"
# A home of two hundred devices has 40 kB of JSON; what inflates to more than this is none of ours.
_LARGEST = 1 << 20


class ControlKeeper(Protocol):
    """What is needed of the store."""

    def commit_control(self, journal: Journal) -> "Future[Any]": ...


class RadioNetwork:
    """`kept`: what the store gave back at the start, under ITEM."""

    def __init__(self, store: ControlKeeper, kept: bytes | None) -> None:
        self._store = store
        self._kept = kept

    def document(self) -> dict[str, Any] | None:
        """The last snapshot; None when there is none, or it is damaged."""
        if not self._kept:
            return None
        try:
            inflater = zlib.decompressobj()
            document = json.loads(inflater.decompress(self._kept, _LARGEST))
        except (zlib.error, ValueError) as error:
            log.warning("the radio's network in the store: %s", error)
            return None
        return document if isinstance(document, dict) else None

    def keep(self, document: dict[str, Any]) -> None:
        """Make a snapshot durable, some time soon."""
        self._kept = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
        self._store.commit_control(Journal(kept={ITEM: self._kept})).add_done_callback(_look)


def _look(done: "Future[Any]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:  # the driver's file has it; the next snapshot comes within the hour
        log.warning("keeping the radio's network: %s", error)
