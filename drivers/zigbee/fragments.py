"""Messages that a device sends in fragments (Zigbee R22, 2.2.8.4.5): bellows puts them together up to EZSP 13 alone.

From EZSP 14 on the fields of incomingMessageHandler have another order, and bellows reads those of before. A test
(tests/drivers/zigbee/test_fragments.py) tells when it does so no more; then this file goes.
"""

import asyncio
from typing import Any

import bellows.ezsp
import bellows.types as t
from bellows.ezsp.fragmentation import FragmentManager

FIRST_VERSION = 14
_HANDLER = "incomingMessageHandler"
# The second byte of the APS options, after type, profile, cluster and both endpoints; its highest bit (UG100,
# EmberApsOption: fragment).
_OPTIONS_AT, _IS_FRAGMENT = 8, b"\x80"


class Fragments(FragmentManager):  # type: ignore[misc]
    """Forgets an incomplete message ten seconds after its last fragment, not after its first: bellows lets the timer of
    each run on, which ends a later message of the same number."""

    def handle_incoming_fragment(self, sender_nwk: int, aps_sequence: int, *place: Any, **more: Any) -> Any:
        """As FragmentManager's."""
        key = (sender_nwk, aps_sequence, more.get("profile_id"), more.get("cluster_id"))
        timer = self._cleanup_timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        return super().handle_incoming_fragment(sender_nwk, aps_sequence, *place, **more)


def _patient(handler: Any) -> Any:
    """The class of a protocol version with the right patience."""

    class Patient(handler):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._fragment_manager = Fragments()

    return Patient


def _reassembling(handler: Any) -> Any:
    """The class of a protocol version that puts fragments together."""

    class Reassembling(handler):  # type: ignore[misc]
        def __call__(self, data: bytes) -> None:
            _, frame_id, body = self._ezsp_frame_rx(data)
            number, _, schema = self.COMMANDS[_HANDLER]
            # Only what is a fragment is read here: each frame from the air comes this way.
            if frame_id == number and body[_OPTIONS_AT : _OPTIONS_AT + 1] >= _IS_FRAGMENT:
                self._take(t.deserialize_dict(body, schema)[0])
            else:
                super().__call__(data)

        def _take(self, fields: dict[str, Any]) -> None:
            aps, sender = fields["aps_frame"], fields["nwk"]
            complete, whole, count, index = self._fragment_manager.handle_incoming_fragment(
                sender_nwk=sender,
                aps_sequence=aps.sequence,
                profile_id=aps.profileId,
                cluster_id=aps.clusterId,
                fragment_count=aps.groupId >> 8,
                fragment_index=aps.groupId & 0xFF,
                payload=fields["message"],
            )
            acknowledging = asyncio.create_task(self._send_fragment_ack(sender, aps, count, index))
            self._fragment_ack_tasks.add(acknowledging)
            acknowledging.add_done_callback(self._fragment_ack_tasks.discard)
            if complete:
                self._handle_callback(_HANDLER, list((fields | {"message": whole}).values()))

    return Reassembling


def put_together() -> None:
    """Have bellows put fragments together whatever version its radio speaks."""
    versions = bellows.ezsp.EZSP._BY_VERSION
    for version, handler in versions.items():
        if handler.__module__ != __name__:
            patient = _patient(handler)
            versions[version] = _reassembling(patient) if version >= FIRST_VERSION else patient
