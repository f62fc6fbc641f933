"""What Smart Energy displays show in words: the Messaging cluster. A codec and its answers; no I/O, no clock.

Source: Smart Energy Profile 1.2b (07-5356-19) annex D.5. The hub is the server: it says that the household is held to a
limit, for how long, and when that is over. Times are on the machine's clock; on the air a message begins now and lasts
so many minutes, so that no display needs to know the time.
"""

from typing import NamedTuple

from hub.wire.zigbee import zcl

CLUSTER = 0x0703

_FOR_CLUSTER, _FROM_SERVER, _NO_DEFAULT_RESPONSE = 0x01, 0x08, 0x10
_DISPLAY_MESSAGE, _CANCEL_MESSAGE = 0x00, 0x01
_GET_LAST_MESSAGE, _MESSAGE_CONFIRMATION = 0x00, 0x01
_SUCCESS, _UNSUP_COMMAND, _NOT_FOUND = 0x00, 0x81, 0x8B
# MessageControl (D.5.2.3.1.1.1): over the network alone, of high importance, no confirmation wanted.
_CONTROL = 0x08
_NOW = bytes(4)
_UNTIL_CHANGED, _LONGEST_MIN = 0xFFFF, 0xFFFE
# What is left of a frame under the link key, less header and fields: 82 - 9 - 15 bytes (application.py).
TEXT_MOST = 58


class DisplayText(NamedTuple):
    """One message. `ends_at` None: until it is cancelled. A newer one has a greater id, and replaces it."""

    message_id: int
    text: str
    ends_at: float | None

    def applies(self, now: float) -> bool:
        """Whether it is to be shown still."""
        return self.ends_at is None or now < self.ends_at


def is_question(cluster_id: int, frame: bytes) -> bool:
    """Whether a ZCL frame is a client's command of this cluster."""
    return cluster_id == CLUSTER and zcl.is_client_command(frame)


def display_message(message: DisplayText, now: float, tsn: int) -> bytes:
    """DisplayMessage (D.5.2.3.1.1): identifier, control, start, minutes, text."""
    minutes = _UNTIL_CHANGED
    if message.ends_at is not None:
        minutes = max(1, min(_LONGEST_MIN, -int(-(message.ends_at - now) // 60)))
    text = message.text.encode()[:TEXT_MOST].decode(errors="ignore").encode()  # no half characters
    return (
        bytes((_FOR_CLUSTER | _FROM_SERVER, tsn, _DISPLAY_MESSAGE))
        + _identifier(message.message_id)
        + bytes((_CONTROL,))
        + _NOW
        + minutes.to_bytes(2, "little")
        + bytes((len(text),))
        + text
    )


def cancel_message(message_id: int, tsn: int) -> bytes:
    """CancelMessage (D.5.2.3.2.1)."""
    head = bytes((_FOR_CLUSTER | _FROM_SERVER, tsn, _CANCEL_MESSAGE))
    return head + _identifier(message_id) + bytes((_CONTROL,))


def answers(frame: bytes, message: DisplayText | None, now: float) -> list[bytes]:
    """The ZCL frames that answer a client's command (is_question). `message`: the one that counts."""
    control, tsn, command = frame[:3]
    if command == _GET_LAST_MESSAGE:
        if message is not None and message.applies(now):
            return [display_message(message, now, tsn)]
        return [zcl.status_response(tsn, command, _NOT_FOUND)]
    status = _SUCCESS if command == _MESSAGE_CONFIRMATION else _UNSUP_COMMAND
    if status == _SUCCESS and control & _NO_DEFAULT_RESPONSE:
        return []
    return [zcl.status_response(tsn, command, status)]


def _identifier(message_id: int) -> bytes:
    return (message_id & 0xFFFF_FFFF).to_bytes(4, "little")
