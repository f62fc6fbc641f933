# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages: what the host sends, what becomes of it, and what arrives (UG100 §6)."""

from __future__ import annotations

from typing import Final

from . import zdo
from .air import Incoming, Route, Sent
from .codec import Fields
from .device import APS_OPTION_ENCRYPTION, COORDINATOR_NWK, FRAGMENT, ApsFrame
from .settings import Handler
from .stack import (
    CONFIG_APPLICATION_ZDO_FLAGS,
    CONFIG_APS_UNICAST_MESSAGE_COUNT,
    JOINED_NETWORK,
    NO_NODE,
    POLICY_MESSAGE_CONTENTS,
    RX_UNICAST,
    TX_BROADCAST,
    TX_UNICAST_FAILED,
    TX_UNICAST_SUCCESS,
    Pending,
    Stack,
)

DIRECT, VIA_ADDRESS_TABLE = 0, 1  # EmberOutgoingMessageType (UG100)
MULTICAST, MULTICAST_WITH_ALIAS, BROADCAST_WITH_ALIAS, BROADCAST = 3, 4, 5, 6
INCOMING: Final = {"unicast": 0, "multicast": 2, "broadcast": 4}  # EmberIncomingMessageType
MAXIMUM_PAYLOAD: Final = 82
APS_SECURITY_BYTES: Final = 9
FRAGMENT_BYTES: Final = 2  # how many there are and its number
CONTENTS_IN_CALLBACK: Final = 0x41
APP_RECEIVES_SUPPORTED: Final = 0x01
APP_HANDLES_UNSUPPORTED: Final = 0x02
NO_ALIAS: Final = 0xFFFF
NOTHING_TO_REPORT: Final = 0  # handle of frames the host knows nothing of


def maximum_payload_length(_stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"length": MAXIMUM_PAYLOAD}


def _refusal(stack: Stack, args: Fields) -> str | None:
    limit = MAXIMUM_PAYLOAD - (APS_SECURITY_BYTES if args["aps"]["options"] & APS_OPTION_ENCRYPTION else 0)
    limit -= FRAGMENT_BYTES if args["aps"]["options"] & FRAGMENT else 0
    limit -= stack.source_route_overhead(args.get("destination", NO_NODE))
    if stack.state != JOINED_NETWORK:
        return "NETWORK_DOWN"
    if stack.refusing:
        return stack.refusing
    if len(args["message"]) > limit:
        return "MESSAGE_TOO_LONG"
    return None


def _submit(
    stack: Stack, args: Fields, kind: int, destination: int, frame: ApsFrame, now: float, route: Route = None
) -> Fields:
    """Give a frame its APS sequence number, put it on the air, remember whom to tell."""
    sequence = frame.sequence
    if not _is_later_fragment(args["aps"]):
        stack.aps_sequence = sequence
    stack.count_frame()
    aps = args["aps"] | {"sequence": sequence}
    handle, stack.next_handle = stack.next_handle, stack.next_handle + 1
    stack.pending[handle] = Pending(kind, destination, aps, args.get("tag", 0), args["message"])
    stack.air.send(frame, handle, now, route)
    return {"sequence": sequence}


def _is_later_fragment(aps: Fields) -> bool:
    """Whether the host says the APS counter: that of the message's first fragment (UG100, EmberApsFrame)."""
    return bool(aps["options"] & FRAGMENT and aps["group"] & 0xFF)


def _frame(stack: Stack, args: Fields, dst: int) -> ApsFrame:
    aps = args["aps"]
    sequence = aps["sequence"] if _is_later_fragment(aps) else (stack.aps_sequence + 1) & 0xFF
    aps_counter, aps_key = None, b""
    if aps["options"] & APS_OPTION_ENCRYPTION and stack.nv.keys is not None:
        stack.count_encrypted()
        aps_counter, aps_key = stack.aps_counter, stack.nv.keys.link_key
    return ApsFrame(
        COORDINATOR_NWK,
        dst,
        aps["profile"],
        aps["cluster"],
        aps["src_ep"],
        aps["dst_ep"],
        args["message"],
        sequence,
        aps["options"],
        counter=stack.frame_counter,
        group=aps["group"],
        aps_counter=aps_counter,
        aps_key=aps_key,
    )


def send_unicast(stack: Stack, args: Fields, now: float) -> Fields:
    refusal = _refusal(stack, args)
    if refusal is not None:
        return {"status": refusal}
    unicasts = sum(1 for pending in stack.pending.values() if pending.kind in (DIRECT, VIA_ADDRESS_TABLE))
    if unicasts >= stack.config[CONFIG_APS_UNICAST_MESSAGE_COUNT]:
        return {"status": "MAX_MESSAGE_LIMIT_REACHED"}
    destination = args["destination"]
    if args["type"] == VIA_ADDRESS_TABLE and destination in stack.addresses:
        destination = stack.addresses[destination].nwk
    frame = _frame(stack, args, destination)
    if destination != COORDINATOR_NWK:
        route = stack.source_routes.pop(destination, None)
        return _submit(stack, args, args["type"], args["destination"], frame, now, route)
    return _loop_back(stack, args, frame)


def _loop_back(stack: Stack, args: Fields, frame: ApsFrame) -> Fields:
    """A message to ourselves: sent, and answered or delivered, without ever being on the air."""
    stack.aps_sequence = (stack.aps_sequence + 1) & 0xFF
    aps = args["aps"] | {"sequence": stack.aps_sequence}
    _report(stack, Pending(args["type"], args["destination"], aps, args["tag"], args["message"]), ok=True)
    if frame.profile == zdo.PROFILE and frame.dst_ep == 0:
        if frame.cluster == zdo.MGMT_NWK_UPDATE_REQ and len(frame.payload) >= 7 and frame.payload[5] == zdo.MOVE:
            stack.move(int.from_bytes(frame.payload[1:5], "little").bit_length() - 1, frame.payload[6])
        response = _zdo_answer(stack, frame)
        if response is not None:
            _deliver(stack, frame, response, frame.cluster | zdo.RESPONSE)
    else:
        _deliver(stack, frame, frame.payload, frame.cluster)
    return {"sequence": stack.aps_sequence}


def _deliver(stack: Stack, frame: ApsFrame, payload: bytes, cluster: int) -> None:
    aps = {"profile": frame.profile, "cluster": cluster, "src_ep": frame.dst_ep, "dst_ep": frame.src_ep}
    aps["sequence"] = stack.aps_sequence
    _incoming(stack, 0, aps, 255, 0, COORDINATOR_NWK, stack.nv.own_eui, payload)


def send_reply(stack: Stack, args: Fields, now: float) -> Fields:
    refusal = _refusal(stack, args)
    if refusal is not None:
        return {"status": refusal}
    frame = _frame(stack, args, args["destination"])
    stack.count_frame()
    stack.air.send(frame, NOTHING_TO_REPORT, now)
    return {}


def send_broadcast(stack: Stack, args: Fields, now: float) -> Fields:
    refusal = _refusal(stack, args)
    if refusal is not None:
        return {"status": refusal}
    if args["destination"] not in zdo.BROADCASTS:
        return {"status": "INVALID_PARAMETER"}
    if not stack.take_broadcast(now):
        return {"status": "NETWORK_BUSY"}
    kind = BROADCAST if args.get("alias", NO_ALIAS) == NO_ALIAS else BROADCAST_WITH_ALIAS
    stack.counters[TX_BROADCAST] += 1
    frame = _with_mode(_frame(stack, args, args["destination"]), "broadcast")
    return _submit(stack, args, kind, args["destination"], frame, now)


def send_multicast(stack: Stack, args: Fields, now: float) -> Fields:
    refusal = _refusal(stack, args)
    if refusal is not None:
        return {"status": refusal}
    if not stack.take_broadcast(now):
        return {"status": "NETWORK_BUSY"}
    kind = MULTICAST if args.get("alias", NO_ALIAS) == NO_ALIAS else MULTICAST_WITH_ALIAS
    stack.counters[TX_BROADCAST] += 1
    group = args["aps"]["group"]
    return _submit(stack, args, kind, group, _with_mode(_frame(stack, args, group), "multicast"), now)


def _with_mode(frame: ApsFrame, mode: str) -> ApsFrame:
    return ApsFrame(**(vars(frame) | {"mode": mode}))


# -- from the air ----------------------------------------------------------------------------------------------------


def sent(stack: Stack, event: Sent) -> None:
    """The air says what became of a frame."""
    pending = stack.pending.pop(event.handle, None)
    if pending is not None:
        if pending.kind in (DIRECT, VIA_ADDRESS_TABLE):
            stack.counters[TX_UNICAST_SUCCESS if event.ok else TX_UNICAST_FAILED] += 1
        _report(stack, pending, ok=event.ok)


def _report(stack: Stack, pending: Pending, *, ok: bool) -> None:
    if stack.swallows:
        return
    contents = stack.policies.get(POLICY_MESSAGE_CONTENTS) == CONTENTS_IN_CALLBACK
    stack.callback(
        "messageSentHandler",
        type=pending.kind,
        destination=pending.destination,
        aps=pending.aps,
        tag=pending.tag,
        status="OK" if ok else "DELIVERY_FAILED",
        message=pending.message if contents else b"",
    )


def incoming(stack: Stack, event: Incoming, now: float) -> None:
    """A frame from a device: the stack answers for itself, the host gets what concerns it."""
    frame, device = event.frame, event.device
    if stack.state != JOINED_NETWORK:
        return
    stack.counters[RX_UNICAST] += frame.mode == "unicast"
    if frame.mode != "unicast":
        stack.take_broadcast(now)  # heard for the first time, it is passed on if there is room for it
    if frame.profile == zdo.PROFILE and frame.dst_ep == 0:
        if not _zdo_incoming(stack, frame, now):
            return
    elif frame.mode == "multicast":
        if not any(entry["group"] == frame.dst and entry["endpoint"] for entry in stack.multicast.values()):
            return
    elif frame.dst_ep not in stack.node.endpoints and frame.dst_ep != 0xFF:
        # Delivered all the same: a host that forms a network resets the NCP and does not add its endpoints again,
        # and it is heard. The count lets a test see that they are missing.
        stack.air.counters["no_such_endpoint"] = stack.air.counters.get("no_such_endpoint", 0) + 1
    aps = {"profile": frame.profile, "cluster": frame.cluster, "src_ep": frame.src_ep, "dst_ep": frame.dst_ep}
    aps |= {"options": frame.options, "sequence": frame.sequence}
    aps["group"] = frame.dst if frame.mode == "multicast" else frame.group
    _incoming(stack, INCOMING[frame.mode], aps, device.lqi, device.rssi, frame.src, device.ieee, frame.payload)


def _incoming(
    stack: Stack, kind: int, aps: Fields, lqi: int, rssi: int, sender: int, eui: bytes, message: bytes
) -> None:
    stack.callback(
        "incomingMessageHandler",
        type=kind,
        aps=aps,
        lqi=lqi,
        rssi=rssi,
        sender=sender,
        eui=eui,
        binding=0xFF,
        address=0xFF,
        message=message,
    )


def _zdo_answer(stack: Stack, frame: ApsFrame) -> bytes | None:
    stack.node.neighbors = stack.air.neighbors()
    return zdo.answer(stack.node, frame.cluster, frame.payload, broadcast=frame.mode != "unicast")


def _zdo_incoming(stack: Stack, frame: ApsFrame, now: float) -> bool:
    """Answer a request; whether the host is to see the frame as well."""
    if frame.cluster & zdo.RESPONSE or frame.cluster == zdo.DEVICE_ANNCE:
        return True
    flags = stack.config[CONFIG_APPLICATION_ZDO_FLAGS]
    response = _zdo_answer(stack, frame)
    if response is not None and response[1:] == bytes((zdo.NOT_SUPPORTED,)) and flags & APP_HANDLES_UNSUPPORTED:
        return True
    if response is not None:
        cluster = frame.cluster | zdo.RESPONSE
        reply = ApsFrame(
            COORDINATOR_NWK, frame.src, zdo.PROFILE, cluster, 0, 0, response, frame.sequence,
            counter=stack.frame_counter,
        )  # fmt: skip
        stack.count_frame()
        stack.air.send(reply, NOTHING_TO_REPORT, now)
    return bool(flags & APP_RECEIVES_SUPPORTED)


HANDLERS: Final[dict[str, Handler]] = {
    "maximumPayloadLength": maximum_payload_length,
    "sendUnicast": send_unicast,
    "sendReply": send_reply,
    "sendBroadcast": send_broadcast,
    "proxyBroadcast": send_broadcast,
    "sendMulticast": send_multicast,
    "sendMulticastWithAlias": send_multicast,
}
