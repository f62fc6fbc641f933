"""The home's network, remembered beside the radio: what it is, and what a new stick needs to be its heart again.

A network is its extended PAN id and its key; the coordinator's EUI-64 is the trust centre's name, by which devices know
it. The frame counter must never fall: devices drop what is numbered lower than they have heard (Zigbee R22, 4.3.1.2).
What a stick had counted when it died is not known; what it had at the last snapshot and how fast it counted is.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zigpy import types as t
from zigpy.backups import NetworkBackup

from drivers.durable_file import replace_file
from drivers.zigbee.address import hex_of
from drivers.zigbee.service import read_backup

log = logging.getLogger(__name__)

FILE = "radio-network.json"
# Left by a factory reset: the radio's network is to be given up and another formed.
FORM_ANEW = "radio-form-anew"

# The counter runs on while nobody looks: at least so many frames a second are allowed for, and so long where the time
# that has passed is not known. The whole of it is a small part of the counter's 32 bits.
_LEAST_RATE, _UNKNOWN_S, _MOST_RAISED = 1.0, 30 * 86400.0, 200_000_000
# What is added when nobody acknowledges all the same.
RAISED_AGAIN = 1 << 22
_COUNTER_MOST = 0xFFFF_0000


@dataclass(frozen=True, slots=True)
class NetworkIdentity:
    """What makes two networks the same one."""

    extended_pan_id: str
    key_hash: str
    ieee: str


def identity_of(backup: NetworkBackup) -> NetworkIdentity:
    """The identity of the network that a backup holds, or that an application's state describes."""
    info = backup.network_info
    key = bytes(info.network_key.key.serialize())
    return NetworkIdentity(hex_of(info.extended_pan_id), _hash_of(key), hex_of(backup.node_info.ieee))


def _hash_of(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


class HomeNetwork:
    """The snapshot: a backup in the open coordinator format, when it was taken, how fast the counter ran, who belongs.

    `utc`s are UTC epoch seconds, None while the clock is not trustworthy.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        self._mark = data_dir / FORM_ANEW
        self.document: dict[str, Any] | None = _read(self._path)

    # A factory reset

    @property
    def is_to_be_formed(self) -> bool:
        return self._mark.exists()

    def formed(self) -> None:
        """Another network was formed: nothing of the old one counts."""
        self._mark.unlink(missing_ok=True)
        self.document = None

    # The snapshot

    def offer(self, document: Any) -> None:
        """A snapshot kept elsewhere: it counts where it is newer than the file's, or that one is lost."""
        if not _is_one(document):
            return
        mine = -1.0 if self.document is None else self.document.get("saved_at") or 0.0
        if (document.get("saved_at") or 0.0) > mine:
            self.document = document

    def backup(self) -> NetworkBackup | None:
        return None if self.document is None else read_backup(self.document["backup"])

    def devices(self) -> dict[str, int]:
        """Who belongs to the network, and the address it last had."""
        return {} if self.document is None else dict(self.document.get("devices", {}))

    def is_same(self, backup: NetworkBackup) -> bool:
        """Whether this is the home's network; any is where none is remembered."""
        mine, theirs = self.backup(), identity_of(backup)
        if mine is None or self.document is None:
            return True
        ours = identity_of(mine)
        # A hub that died between two keys does not know which of them is in use.
        return theirs in (ours, replace(ours, key_hash=self.document.get("next_key", ours.key_hash)))

    def expect_key(self, key: bytes) -> dict[str, Any] | None:
        """The network will have this key from now on; the document is the caller's to write before it is so."""
        if self.document is not None:
            self.document = self.document | {"next_key": _hash_of(key)}
        return self.document

    def note(self, backup: NetworkBackup, devices: dict[str, int], utc: float | None) -> dict[str, Any]:
        """Take a snapshot; it is the caller's to write."""
        counter = int(backup.network_info.network_key.tx_counter)
        before, rate = self.document, 0.0
        if before is not None and self.is_same(backup):
            rate = float(before.get("rate", 0.0))
            elapsed_s = 0.0 if utc is None or not before.get("saved_at") else utc - before["saved_at"]
            if elapsed_s >= 60:
                rate = max(rate, (counter - before["counter"]) / elapsed_s)
        self.document = {
            "saved_at": utc,
            "counter": counter,
            "rate": round(rate, 3),
            "devices": devices,
            "backup": backup.as_open_coordinator_json(),
        }
        return self.document

    def write(self, document: dict[str, Any]) -> None:
        """Keep it, whole and durable, readable by the hub alone. Blocks: for another thread. Raises OSError."""
        replace_file(self._path, json.dumps(document, separators=(",", ":")).encode())

    def to_restore(self, utc: float | None, raised: int = 0) -> NetworkBackup | None:
        """The network for a radio that has lost it: its counter is as high as the old one's can have become."""
        backup, document = self.backup(), self.document
        if backup is None or document is None:
            return None
        saved_at = document.get("saved_at")
        elapsed_s = _UNKNOWN_S if utc is None or not saved_at else max(0.0, utc - saved_at)
        ran_on = min(_MOST_RAISED, int(elapsed_s * max(_LEAST_RATE, 2 * float(document.get("rate", 0.0)))))
        key = backup.network_info.network_key
        counter: Any = t.uint32_t
        raised_to = counter(min(_COUNTER_MOST, int(key.tx_counter) + ran_on + raised))
        # What goes under a link key has a counter of its own, which no radio gives away. Each such frame is one of the
        # network's as well, so that this is no lower.
        link_key = backup.network_info.tc_link_key
        info = backup.network_info.replace(
            network_key=key.replace(tx_counter=raised_to),
            tc_link_key=link_key.replace(tx_counter=max(link_key.tx_counter, raised_to)),
        )
        return replace(backup, network_info=info)


def _is_one(document: Any) -> bool:
    try:
        read_backup(document["backup"])
        return isinstance(document["counter"], int)
    except (KeyError, TypeError, ValueError):
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s: %s", path, error)
        return None
    return document if _is_one(document) else None
