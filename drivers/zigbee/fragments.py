"""Messages in fragments (Zigbee R22, 2.2.8.4.5). bellows puts together what comes, up to EZSP 13, and sends none.

From EZSP 14 on the fields of incomingMessageHandler have another order, and bellows reads those of before. Tests
(tests/drivers/zigbee/test_fragments.py) tell when it does either by itself; then that half of this file goes.

The tunnel sends none: a datagram of MQTT-SN is at most a frame (MQTT-SN 1.2, 5.2.1: it "does not support message
fragmentation"), so an adapter needs no memory to put one together, and each fragment costs a wait for its
acknowledgement. What is longer than a frame here is ZCL: a text for a display, an attribute that is a long string.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import bellows.types as t
from bellows.exception import PayloadTooLongError
from bellows.ezsp.fragmentation import FragmentManager

from drivers.zigbee.protocols import extend_protocols

FIRST_VERSION = 14
_HANDLER = "incomingMessageHandler"
# The second byte of the APS options, after type, profile, cluster and both endpoints; its highest bit (UG100,
# EmberApsOption: fragment).
_OPTIONS_AT, _IS_FRAGMENT = 8, b"\x80"
# No radio takes more in a frame: nor can it be asked, since its line's frames are hardly longer (UG101).
FRAME_BYTES = 82
# What fits one frame beside two bytes of a fragment's own, the link key's nine, and a source route of several hops.
PART_BYTES = 60


class Part(bytes):
    """One fragment, in the place of a frame's bytes. All of a message have the APS counter of the first, which is the
    radio's choice (UG100, EmberApsFrame)."""

    number: int
    message: "LongMessage"

    def mark(self, aps: Any) -> None:
        """Make the APS frame that of this fragment."""
        aps.options |= t.EmberApsOption.APS_OPTION_FRAGMENT | t.EmberApsOption.APS_OPTION_RETRY
        aps.groupId = t.uint16_t(self.message.count << 8 | self.number)
        if self.number:
            aps.sequence = t.uint8_t(self.message.sequence)


class LongMessage:
    """A message that no frame has room for: `parts`, each to be sent once the one before is acknowledged."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.count = -(-len(data) // PART_BYTES)
        self.sequence = 0

    def parts(self) -> Iterator[Part]:
        """In order."""
        for number in range(self.count):
            part = Part(self._data[number * PART_BYTES : (number + 1) * PART_BYTES])
            part.number, part.message = number, self
            yield part


def takes(device: Any, size: int) -> bool:
    """Whether a device puts together messages of so many bytes: its node descriptor says so (R22, 2.3.2.3.9)."""
    descriptor = None if device is None else device.node_desc
    return descriptor is not None and int(descriptor.maximum_incoming_transfer_size) >= size


def one_by_one(prepare: Callable[..., Any]) -> Callable[..., Any]:
    """bellows' preparation of the command that does several in one, where a radio has it: a fragment goes by the plain
    one, as does what is too long for it."""

    def prepared(*arguments: Any, data: bytes, **more: Any) -> Any:
        if isinstance(data, Part):
            raise PayloadTooLongError
        return prepare(*arguments, data=data, **more)

    return prepared


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


def _fragmenting(handler: Any) -> Any:
    """The class of a protocol version with the right patience, that sends fragments."""

    class Fragmenting(handler):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._fragment_manager = Fragments()

        async def send_unicast(self, *, aps_frame: Any, data: bytes, **more: Any) -> Any:
            if not isinstance(data, Part):
                return await super().send_unicast(aps_frame=aps_frame, data=data, **more)
            data.mark(aps_frame)
            status, sequence = await super().send_unicast(aps_frame=aps_frame, data=bytes(data), **more)
            data.message.sequence = int(sequence)
            return status, sequence

    return Fragmenting


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
    """Have bellows put fragments together, and send them, whatever version its radio speaks."""
    extend_protocols(
        lambda version, handler: (
            _reassembling(_fragmenting(handler)) if version >= FIRST_VERSION else _fragmenting(handler)
        )
    )
