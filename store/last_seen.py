"""The last QoS 1 or 2 publish of each client, kept when the rows of the log that tell of it go.

With one exchange at a time (MQTT-SN 1.2 section 6.13) a client can only repeat its last one, however long it waits; so
the rest of the duplicate window may be forgotten, and that not. It rides along with the transaction that forgets the
rows, as marks: no message costs a page for it.
"""

from collections.abc import Iterable, Iterator, Mapping

from hub.core.records import Seen
from store.logbody import Names, seen_of

PREFIX = "seen:"  # of a mark: the ClientId follows


def last_marks(names: Names, bodies: Iterable[bytes]) -> dict[str, int]:
    """The marks for the rows with these bodies, oldest first. Raises StoreCorrupt for one that does not read."""
    last: dict[int, tuple[int, int, int]] = {}
    for body in bodies:
        for head, msg_id, digest in seen_of(body):
            last[head >> 2] = (head & 3, msg_id, digest)
    return {
        PREFIX + names.client_by_id[number]: (qos << 16 | msg_id) << 32 | digest
        for number, (qos, msg_id, digest) in last.items()
        if number in names.client_by_id
    }


def seen_marks(marks: Mapping[str, int]) -> Iterator[Seen]:
    """What the marks remember."""
    for name, value in marks.items():
        if name.startswith(PREFIX):
            yield Seen(name[len(PREFIX) :], value >> 32 & 0xFFFF, value & 0xFFFF_FFFF, value >> 48 & 3)
