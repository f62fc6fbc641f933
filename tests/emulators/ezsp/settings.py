# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the NCP itself: configuration, values, policies, endpoints, tokens and tables (UG100 §4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import zdo
from .codec import Fields
from .nv import NO_EUI, Network
from .stack import (
    CONFIG_ADDRESS_TABLE_SIZE,
    CONFIG_MULTICAST_TABLE_SIZE,
    COUNTERS,
    NO_NETWORK,
    NO_NODE,
    NULL_EUI,
    Stack,
    TableEntry,
)

Handler = Callable[[Stack, Fields, float], Fields]

VALUE_FREE_BUFFERS: Final = 0x03
VALUE_VERSION_INFO: Final = 0x11
GENERAL_AVAILABILITY: Final = 0xAA  # EmberVersionType
EXTENDED_ENDPOINT_FLAGS, EXTENDED_LEAVE_REASON, EXTENDED_SOURCE_ROUTE_OVERHEAD = 0x00, 0x01, 0x02
ENDPOINT_ENABLED: Final = 0x0001
VALUE_NWK_FRAME_COUNTER: Final = 0x23
VALUE_APS_FRAME_COUNTER: Final = 0x24

# EZSP version: EmberZNet release, as (major, minor, patch); the first that spoke it or a well-known one.
RELEASES: Final = {
    8: (6, 7, 10),
    9: (6, 9, 2),
    10: (6, 10, 3),
    11: (7, 0, 2),
    12: (7, 1, 5),
    13: (7, 4, 4),
    14: (8, 0, 2),
    16: (8, 1, 1),
    17: (8, 2, 0),
    18: (9, 0, 0),
    19: (10, 0, 0),
}
MFG_TOKENS: Final = {0x01: b"meterhub".ljust(16, b"\xff"), 0x02: b"EZSP emulator".ljust(16, b"\xff"), 0x0C: NO_EUI}

TOKEN_RESTORED_EUI: Final = 0xE12A  # creator codes of the stack's own tokens, with or without the 0x1xxxx domain
TOKEN_NODE_DATA: Final = 0xEE64
TOKEN_TRUST_CENTER: Final = 0xE124
TOKEN_NETWORK_MANAGEMENT: Final = 0xE125
TOKEN_CHILD_TABLE: Final = (0xFF0D, 0x0580)


def version(stack: Stack, _args: Fields, _now: float) -> Fields:
    major, minor, patch = RELEASES[stack.version]
    return {"version": stack.version, "stack_type": 2, "stack_version": major << 12 | minor << 8 | patch << 4}


def get_configuration_value(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["id"] not in stack.config:
        return {"status": "NOT_FOUND"}
    return {"value": stack.config[args["id"]]}


def set_configuration_value(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["id"] not in stack.config:
        return {"status": "NOT_FOUND"}
    stack.config[args["id"]] = args["value"]
    return {}


def set_policy(stack: Stack, args: Fields, _now: float) -> Fields:
    stack.policies[args["id"]] = args["decision"]
    return {}


def get_policy(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"decision": stack.policies.get(args["id"], 0)}


def get_value(stack: Stack, args: Fields, _now: float) -> Fields:
    major, minor, patch = RELEASES[stack.version]
    known = {
        VALUE_FREE_BUFFERS: b"\xfa",
        VALUE_VERSION_INFO: bytes((0, 0, major, minor, patch, 0, GENERAL_AVAILABILITY)),  # EmberVersion
        VALUE_NWK_FRAME_COUNTER: stack.frame_counter.to_bytes(4, "little"),
        VALUE_APS_FRAME_COUNTER: stack.nv.aps_counter.to_bytes(4, "little"),
    } | stack.values
    return {"value": known[args["id"]]} if args["id"] in known else {"status": "NOT_FOUND"}


def get_extended_value(stack: Stack, args: Fields, _now: float) -> Fields:
    """EzspExtendedValueId: the flags of an endpoint, why a device left, what a source route costs in bytes."""
    overhead = bytes((stack.source_route_overhead(args["characteristics"] & 0xFFFF),))
    known = {EXTENDED_LEAVE_REASON: b"\0\0\0", EXTENDED_SOURCE_ROUTE_OVERHEAD: overhead}
    if args["characteristics"] in stack.node.endpoints:
        known[EXTENDED_ENDPOINT_FLAGS] = zdo.le16(ENDPOINT_ENABLED)
    if args["id"] in known:
        return {"value": known[args["id"]]}
    return {"status": "NOT_FOUND", "value": b"\0\0"}  # the value's bytes come even so


def set_value(stack: Stack, args: Fields, _now: float) -> Fields:
    number = int.from_bytes(args["value"], "little")
    if args["id"] in (VALUE_NWK_FRAME_COUNTER, VALUE_APS_FRAME_COUNTER):
        if stack.state != NO_NETWORK:
            return {"status": "INVALID_CALL"}
        if args["id"] == VALUE_NWK_FRAME_COUNTER:
            stack.nv.frame_counter = stack.frame_counter = number
        else:
            stack.nv.aps_counter = number
        stack.nv.changed()
    else:
        stack.values[args["id"]] = args["value"]
    return {}


def add_endpoint(stack: Stack, args: Fields, _now: float) -> Fields:
    if stack.state != NO_NETWORK:
        return {"status": "INVALID_CALL"}
    clusters = [zdo.u16(args["clusters"], at) for at in range(0, len(args["clusters"]) - 1, 2)]
    n_in = args["n_in"]
    if len(clusters) != n_in + args["n_out"]:
        return {"status": "FAIL"}
    stack.node.endpoints[args["endpoint"]] = zdo.Endpoint(
        args["profile"], args["device_id"], tuple(clusters[:n_in]), tuple(clusters[n_in:]), args["device_version"]
    )
    return {}


def custom_frame(_stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"status": "NOT_SUPPORTED"}


def echo(_stack: Stack, args: Fields, _now: float) -> Fields:
    return {"data": args["data"]}


def get_random_number(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"value": stack.dice.randint(0, 0xFFFF)}


def _counters(stack: Stack) -> Fields:
    return {"counters": b"".join(zdo.le16(count & 0xFFFF) for count in stack.counters)}


def read_counters(stack: Stack, _args: Fields, _now: float) -> Fields:
    return _counters(stack)


def read_and_clear_counters(stack: Stack, _args: Fields, _now: float) -> Fields:
    values = _counters(stack)
    stack.counters = [0] * COUNTERS
    return values


# -- tokens ------------------------------------------------------------------------------------------------------


def get_mfg_token(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"data": stack.nv.mfg.get(args["id"], MFG_TOKENS.get(args["id"], b"\xff\xff"))}


def set_mfg_token(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["id"] in stack.nv.mfg:
        return {"status": "INVALID_CALL"}  # can be written once
    stack.nv.mfg[args["id"]] = args["data"]
    stack.nv.changed()
    return {}


def get_token(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"data": stack.nv.tokens.get(f"user-{args['id']}", b"\xff" * 8)}


def set_token(stack: Stack, args: Fields, _now: float) -> Fields:
    stack.nv.tokens[f"user-{args['id']}"] = args["data"][:8]
    stack.nv.changed()
    return {}


def _network_token(stack: Stack, token: int) -> bytes | None:
    network, keys = stack.nv.network, stack.nv.keys
    if network is None or keys is None:
        return None
    if token == TOKEN_NODE_DATA:
        head = zdo.le16(network.pan_id) + bytes((network.tx_power & 0xFF, network.channel, 2, 1))
        return head + zdo.le16(0) + network.extended_pan_id
    if token == TOKEN_TRUST_CENTER:
        return zdo.le16(keys.bitmask) + stack.nv.own_eui + keys.link_key
    if token == TOKEN_NETWORK_MANAGEMENT:
        return network.channels.to_bytes(4, "little") + zdo.le16(network.manager) + bytes((network.update_id, 0))
    return None


def get_token_data(stack: Stack, args: Fields, _now: float) -> Fields:
    token, index = args["token"] & 0xFFFF, args["index"]
    value: bytes | None
    if token == TOKEN_RESTORED_EUI:
        value = stack.nv.restored_eui
    elif token in TOKEN_CHILD_TABLE and index in stack.nv.children:
        eui, nwk, _kind = stack.nv.children[index]
        value = eui + zdo.le16(nwk) + b"\x80"
    else:
        value = _network_token(stack, token) or stack.nv.tokens.get(f"{token:04x}-{index}")
    return {"status": "NOT_FOUND"} if value is None else {"value": value}


def set_token_data(stack: Stack, args: Fields, _now: float) -> Fields:
    token, value = args["token"] & 0xFFFF, args["value"]
    network: Network | None = stack.nv.network
    if token == TOKEN_RESTORED_EUI and len(value) == 8:
        stack.nv.restored_eui = value
    elif token == TOKEN_NODE_DATA and network is not None and len(value) == 16:
        network.pan_id, network.tx_power, network.channel = zdo.u16(value, 0), value[2], value[3]
        network.extended_pan_id = value[8:16]
    elif token == TOKEN_NETWORK_MANAGEMENT and network is not None and len(value) == 8:
        network.channels, network.manager = int.from_bytes(value[:4], "little"), zdo.u16(value, 4)
        network.update_id = value[6]
    else:
        stack.nv.tokens[f"{token:04x}-{args['index']}"] = value
    stack.nv.changed()
    return {}


# -- tables ------------------------------------------------------------------------------------------------------


def get_multicast_table_entry(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["index"] >= stack.config[CONFIG_MULTICAST_TABLE_SIZE]:
        return {"status": "INDEX_OUT_OF_RANGE"}
    return {"value": stack.multicast.get(args["index"], {})}


def set_multicast_table_entry(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["index"] >= stack.config[CONFIG_MULTICAST_TABLE_SIZE]:
        return {"status": "INDEX_OUT_OF_RANGE"}
    stack.multicast[args["index"]] = args["value"]
    return {}


def _address(stack: Stack, index: int) -> TableEntry:
    return stack.addresses.get(index, TableEntry())


def get_address_table_remote_eui(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"eui": _address(stack, args["index"]).eui}


def get_address_table_remote_id(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"id": _address(stack, args["index"]).nwk}


def get_address_table_info(stack: Stack, args: Fields, _now: float) -> Fields:
    entry = _address(stack, args["index"])
    if entry.eui == NULL_EUI:
        return {"status": "NOT_FOUND", "id": NO_NODE, "eui": NULL_EUI}
    return {"id": entry.nwk, "eui": entry.eui}


def replace_address_table_entry(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["index"] >= stack.config[CONFIG_ADDRESS_TABLE_SIZE]:
        return {"status": "INDEX_OUT_OF_RANGE"}
    old = _address(stack, args["index"])
    stack.addresses[args["index"]] = TableEntry(args["eui"], args["id"], bool(args["on"]))
    stack.extended_timeouts.discard(old.eui)
    if args["on"]:
        stack.extended_timeouts.add(args["eui"])
    return {"old_eui": old.eui, "old_id": old.nwk, "old_on": old.extended_timeout}


def set_extended_timeout(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["on"]:
        stack.extended_timeouts.add(args["eui"])
    else:
        stack.extended_timeouts.discard(args["eui"])
    return {}


def get_extended_timeout(stack: Stack, args: Fields, _now: float) -> Fields:
    on = args["eui"] in stack.extended_timeouts
    # As a flag up to version 13, as a status after that; the codec takes the one the layout asks for.
    return {"on": on, "status": "OK" if on else "FAIL"}


def lookup_node_id(stack: Stack, args: Fields, _now: float) -> Fields:
    nwk = stack.known_nwk(args["eui"])
    return {"id": nwk, "status": "NOT_FOUND" if nwk == NO_NODE else "OK"}


def lookup_eui(stack: Stack, args: Fields, _now: float) -> Fields:
    device = stack.air.by_nwk(args["id"])
    return {"status": "NOT_FOUND"} if device is None else {"eui": device.ieee}


def get_binding(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"value": stack.bindings.get(args["index"], {})}


def set_binding(stack: Stack, args: Fields, _now: float) -> Fields:
    stack.bindings[args["index"]] = args["value"]
    return {}


def delete_binding(stack: Stack, args: Fields, _now: float) -> Fields:
    stack.bindings.pop(args["index"], None)
    return {}


def clear_binding_table(stack: Stack, _args: Fields, _now: float) -> Fields:
    stack.bindings.clear()
    return {}


HANDLERS: Final[dict[str, Handler]] = {
    "version": version,
    "getConfigurationValue": get_configuration_value,
    "setConfigurationValue": set_configuration_value,
    "setPolicy": set_policy,
    "getPolicy": get_policy,
    "getValue": get_value,
    "getExtendedValue": get_extended_value,
    "setValue": set_value,
    "addEndpoint": add_endpoint,
    "customFrame": custom_frame,
    "echo": echo,
    "getRandomNumber": get_random_number,
    "readCounters": read_counters,
    "readAndClearCounters": read_and_clear_counters,
    "getMfgToken": get_mfg_token,
    "setMfgToken": set_mfg_token,
    "getToken": get_token,
    "setToken": set_token,
    "getTokenData": get_token_data,
    "setTokenData": set_token_data,
    "getMulticastTableEntry": get_multicast_table_entry,
    "setMulticastTableEntry": set_multicast_table_entry,
    "getAddressTableRemoteEui64": get_address_table_remote_eui,
    "getAddressTableRemoteNodeId": get_address_table_remote_id,
    "getAddressTableInfo": get_address_table_info,
    "replaceAddressTableEntry": replace_address_table_entry,
    "setExtendedTimeout": set_extended_timeout,
    "getExtendedTimeout": get_extended_timeout,
    "lookupNodeIdByEui64": lookup_node_id,
    "lookupEui64ByNodeId": lookup_eui,
    "getBinding": get_binding,
    "setBinding": set_binding,
    "deleteBinding": delete_binding,
    "clearBindingTable": clear_binding_table,
}
