# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the network and its keys: start, form, leave, permit, scan, security, children (UG100 §5 and §7)."""

from __future__ import annotations

from typing import Final

from . import zdo
from .codec import Fields
from .nv import Keys, Network
from .settings import Handler
from .stack import (
    CONFIG_KEY_TABLE_SIZE,
    JOINED_NETWORK,
    NO_FRAME_COUNTER_RESET,
    NO_NETWORK,
    NO_NODE,
    WILDCARD,
    Stack,
)

NODE_TYPE_COORDINATOR: Final = 1
ENERGY_SCAN: Final = 0
KEY_NETWORK, KEY_TC_LINK = 1, 2  # SecurityManagerKeyType
CURRENT_NETWORK_KEY, TRUST_CENTER_LINK_KEY = 3, 1  # EmberKeyType
KEY_HAS_SEQUENCE, KEY_HAS_TX_COUNTER, KEY_HAS_PARTNER = 0x01, 0x02, 0x08
CURRENT_SECURITY: Final = 0x0014  # global link key, have the trust center's link key
HASHED_LINK_KEY: Final = 0x0084
NO_INDEX: Final = 0xFF
FIRST_VERSION_WITH_ROUTES_OF_ITS_OWN: Final = 9


def network_init(stack: Stack, _args: Fields, now: float) -> Fields:
    if stack.state != NO_NETWORK:
        return {"status": "INVALID_CALL"}
    if stack.nv.network is None or stack.nv.keys is None:
        return {"status": "NOT_JOINED"}
    stack.network_up(now)
    return {}


def network_state(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"state": stack.state}


def form_network(stack: Stack, args: Fields, now: float) -> Fields:
    if stack.state != NO_NETWORK:
        return {"status": "INVALID_CALL"}
    if stack.initial_security is None:
        return {"status": "SECURITY_STATE_NOT_SET"}
    wanted = args["parameters"]
    if not 11 <= wanted["channel"] <= 26 or wanted["pan_id"] == 0xFFFF:
        return {"status": "INVALID_PARAMETER"}
    security = stack.initial_security
    stack.nv.network = Network(**wanted)
    # The real one ignores the update id here; hosts write it to a token afterwards.
    stack.nv.network.update_id = 0
    stack.nv.keys = Keys(security["bitmask"], security["link_key"], security["network_key"], security["key_sequence"])
    if not security["bitmask"] & NO_FRAME_COUNTER_RESET:
        stack.nv.frame_counter = 0
    stack.network_up(now)
    return {}


def leave_network(stack: Stack, _args: Fields, now: float) -> Fields:
    if stack.state == NO_NETWORK:
        return {"status": "INVALID_CALL"}
    stack.nv.network = stack.nv.keys = None
    stack.nv.children.clear()
    stack.nv.changed()
    stack.network_down(now)
    return {}


def get_network_parameters(stack: Stack, _args: Fields, _now: float) -> Fields:
    network = stack.nv.network
    if network is None or stack.state != JOINED_NETWORK:
        return {"status": "NOT_JOINED"}
    return {"node_type": NODE_TYPE_COORDINATOR, "parameters": vars(network)}


def get_eui(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"eui": stack.node.ieee}


def get_node_id(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"id": 0 if stack.state == JOINED_NETWORK else 0xFFFE}


def get_parent_child_parameters(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"child_count": len(stack.nv.children), "parent_eui": WILDCARD, "parent": NO_NODE}


def permit_joining(stack: Stack, args: Fields, now: float) -> Fields:
    if stack.state != JOINED_NETWORK:
        return {"status": "NOT_JOINED"}
    stack.permit(args["duration_s"], now)
    return {}


def set_concentrator(stack: Stack, args: Fields, _now: float) -> Fields:
    stack.air.wants_route_records = bool(args["on"])
    return {}


def set_source_route(stack: Stack, args: Fields, _now: float) -> Fields:
    """The way of the next message to this address. From version 9 on the stack keeps its own routes: it says yes, and
    does nothing."""
    relays: bytes = args["relays"]
    if stack.version < FIRST_VERSION_WITH_ROUTES_OF_ITS_OWN:
        if not relays or len(relays) < 1 + 2 * relays[0]:
            return {"status": "INVALID_PARAMETER"}
        stack.source_routes[args["id"]] = tuple(zdo.u16(relays, 1 + 2 * n) for n in range(relays[0]))
    return {}


def remove_device(stack: Stack, args: Fields, now: float) -> Fields:
    device = stack.air.devices.get(args["eui"])
    if device is not None and device.joined and device.powered and device.in_range:
        stack.air.leave(device, now)
    return {}


def start_scan(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["type"] == ENERGY_SCAN:
        for channel in (c for c in range(11, 27) if args["channels"] >> c & 1):
            rssi = stack.air.noise.get(channel, -95 + channel * 7 % 30)
            stack.callback("energyScanResultHandler", channel=channel, rssi=rssi)
    stack.callback("scanCompleteHandler", channel=0)
    return {}


def get_child_data(stack: Stack, args: Fields, _now: float) -> Fields:
    child = stack.nv.children.get(args["index"])
    if child is None:
        return {"status": "NOT_JOINED"}
    eui, nwk, kind = child
    return {"child": {"eui": eui, "type": kind, "id": nwk, "timeout": stack.timeout_of(eui)}}


def set_child_data(stack: Stack, args: Fields, _now: float) -> Fields:
    child = args["child"]
    stack.nv.children[args["index"]] = (child["eui"], child["id"], child["type"])
    stack.nv.changed()
    return {}


def get_neighbor(stack: Stack, args: Fields, _now: float) -> Fields:
    rows = stack.air.neighbors()
    if args["index"] >= len(rows):
        return {"status": "INDEX_OUT_OF_RANGE"}
    row = rows[args["index"]]
    return {"value": {"id": row.nwk, "lqi": row.lqi, "in_cost": 1, "out_cost": 1, "age": 3, "eui": row.ieee}}


def neighbor_count(stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"value": len(stack.air.neighbors())}


def get_route(_stack: Stack, _args: Fields, _now: float) -> Fields:
    return {"value": {"destination": NO_NODE, "next_hop": NO_NODE, "status": 3}}


# -- keys ----------------------------------------------------------------------------------------------------------


def set_initial_security_state(stack: Stack, args: Fields, _now: float) -> Fields:
    if stack.state != NO_NETWORK:
        return {"status": "INVALID_CALL"}
    stack.initial_security = args["state"]
    return {}


def get_current_security_state(stack: Stack, _args: Fields, _now: float) -> Fields:
    if stack.nv.keys is None:
        return {"status": "NOT_JOINED"}
    hashed = stack.nv.keys.bitmask & HASHED_LINK_KEY
    return {"state": {"bitmask": CURRENT_SECURITY | hashed, "tc_eui": stack.nv.own_eui}}


def export_key(stack: Stack, args: Fields, _now: float) -> Fields:
    keys, kind = stack.nv.keys, args["context"]["type"]
    if keys is None or kind not in (KEY_NETWORK, KEY_TC_LINK):
        return {"status": "NOT_FOUND", "context": args["context"]}
    return {"key": keys.network_key if kind == KEY_NETWORK else keys.link_key, "context": args["context"]}


def get_network_key_info(stack: Stack, _args: Fields, _now: float) -> Fields:
    if stack.nv.keys is None:
        return {"info": {}}
    return {"info": {"set": 1, "sequence": stack.nv.keys.key_sequence, "counter": stack.frame_counter}}


def get_key(stack: Stack, args: Fields, _now: float) -> Fields:
    keys = stack.nv.keys
    if keys is None:
        return {"status": "NOT_FOUND"}
    entry = {"type": args["type"], "bitmask": KEY_HAS_TX_COUNTER}
    if args["type"] == CURRENT_NETWORK_KEY:
        bitmask = KEY_HAS_TX_COUNTER | KEY_HAS_SEQUENCE
        entry |= {"bitmask": bitmask, "key": keys.network_key, "sequence": keys.key_sequence}
        entry["tx_counter"] = stack.frame_counter
    elif args["type"] == TRUST_CENTER_LINK_KEY:
        entry |= {"bitmask": KEY_HAS_TX_COUNTER | KEY_HAS_PARTNER, "key": keys.link_key, "partner": stack.nv.own_eui}
        entry["tx_counter"] = stack.nv.aps_counter
    else:
        return {"status": "NOT_FOUND"}
    return {"entry": entry}


def get_key_table_entry(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["index"] >= stack.config[CONFIG_KEY_TABLE_SIZE]:
        return {"status": "INDEX_OUT_OF_RANGE"}
    entry = stack.nv.link_keys.get(args["index"])
    if entry is None:
        return {"status": "TABLE_ENTRY_ERASED"}
    return {"entry": {"bitmask": KEY_HAS_PARTNER, "type": 5, "partner": entry[0], "key": entry[1]}}


def export_link_key_by_index(stack: Stack, args: Fields, _now: float) -> Fields:
    entry = stack.nv.link_keys.get(args["index"])
    if entry is None:
        return {"status": "NOT_FOUND"}
    return {"eui": entry[0], "key": entry[1], "context": {"eui": entry[0], "index": args["index"]}}


def export_transient_key_by_index(stack: Stack, args: Fields, now: float) -> Fields:
    alive = [(eui, key, until) for eui, (key, until) in stack.transient_keys.items() if until > now]
    if args["index"] >= len(alive):
        return {"status": "NOT_FOUND"}
    eui, key, until = alive[args["index"]]
    return {"context": {"eui": eui}, "key": key, "data": {"ttl_s": int(until - now)}}


def import_link_key(stack: Stack, args: Fields, _now: float) -> Fields:
    if args["index"] >= stack.config[CONFIG_KEY_TABLE_SIZE]:
        return {"status": "INDEX_OUT_OF_RANGE"}
    stack.nv.link_keys[args["index"]] = (args["eui"], args["key"])
    stack.nv.changed()
    return {}


def add_key(stack: Stack, args: Fields, _now: float) -> Fields:
    index = _key_index(stack, args["eui"])
    free = (i for i in range(stack.config[CONFIG_KEY_TABLE_SIZE]) if i not in stack.nv.link_keys)
    index = next(free, NO_INDEX) if index == NO_INDEX else index
    if index == NO_INDEX:
        return {"status": "INDEX_OUT_OF_RANGE"}
    return import_link_key(stack, args | {"index": index}, _now)


def _key_index(stack: Stack, eui: bytes) -> int:
    return next((index for index, (partner, _) in stack.nv.link_keys.items() if partner == eui), NO_INDEX)


def find_key(stack: Stack, args: Fields, _now: float) -> Fields:
    return {"index": _key_index(stack, args["eui"])}


def erase_key(stack: Stack, args: Fields, _now: float) -> Fields:
    if stack.nv.link_keys.pop(args["index"], None) is None:
        return {"status": "INDEX_OUT_OF_RANGE"}
    stack.nv.changed()
    return {}


def clear_keys(stack: Stack, _args: Fields, _now: float) -> Fields:
    stack.nv.link_keys.clear()
    stack.nv.changed()
    return {}


def import_transient_key(stack: Stack, args: Fields, now: float) -> Fields:
    stack.transient_key(args["eui"], args["key"], now)
    return {}


def clear_transient_keys(stack: Stack, _args: Fields, _now: float) -> Fields:
    stack.transient_keys.clear()
    return {}


def broadcast_next_network_key(stack: Stack, args: Fields, now: float) -> Fields:
    if stack.state != JOINED_NETWORK:
        return {"status": "NETWORK_DOWN"}
    stack.next_key = args["key"]
    stack.count_frame()
    stack.air.spread_key(args["key"], now)
    return {}


def unicast_network_key(stack: Stack, args: Fields, now: float) -> Fields:
    stack.count_frame()
    stack.air.spread_key(args["key"], now, args["eui"])
    return {}


def broadcast_network_key_switch(stack: Stack, _args: Fields, _now: float) -> Fields:
    if stack.next_key is None or stack.nv.keys is None or stack.state != JOINED_NETWORK:
        return {"status": "INVALID_CALL"}
    stack.nv.keys.network_key, stack.next_key = stack.next_key, None
    stack.nv.keys.key_sequence = (stack.nv.keys.key_sequence + 1) & 0xFF
    stack.nv.changed()
    assert stack.network_id is not None
    stack.air.switch_key(stack.network_id)
    return {}


def token_factory_reset(stack: Stack, args: Fields, _now: float) -> Fields:
    counter = stack.nv.frame_counter
    stack.nv.factory_reset()
    if args["exclude_counter"]:
        stack.nv.frame_counter = counter
        stack.nv.changed()
    return {}


HANDLERS: Final[dict[str, Handler]] = {
    "networkInit": network_init,
    "networkState": network_state,
    "formNetwork": form_network,
    "leaveNetwork": leave_network,
    "getNetworkParameters": get_network_parameters,
    "getEui64": get_eui,
    "getNodeId": get_node_id,
    "getParentChildParameters": get_parent_child_parameters,
    "permitJoining": permit_joining,
    "setConcentrator": set_concentrator,
    "removeDevice": remove_device,
    "setSourceRoute": set_source_route,
    "startScan": start_scan,
    "getChildData": get_child_data,
    "setChildData": set_child_data,
    "getNeighbor": get_neighbor,
    "neighborCount": neighbor_count,
    "getRouteTableEntry": get_route,
    "setInitialSecurityState": set_initial_security_state,
    "getCurrentSecurityState": get_current_security_state,
    "exportKey": export_key,
    "getNetworkKeyInfo": get_network_key_info,
    "getKey": get_key,
    "getKeyTableEntry": get_key_table_entry,
    "exportLinkKeyByIndex": export_link_key_by_index,
    "exportTransientKeyByIndex": export_transient_key_by_index,
    "importLinkKey": import_link_key,
    "addOrUpdateKeyTableEntry": add_key,
    "findKeyTableEntry": find_key,
    "eraseKeyTableEntry": erase_key,
    "clearKeyTable": clear_keys,
    "importTransientKey": import_transient_key,
    "addTransientLinkKey": import_transient_key,
    "clearTransientLinkKeys": clear_transient_keys,
    "broadcastNextNetworkKey": broadcast_next_network_key,
    "broadcastNetworkKeySwitch": broadcast_network_key_switch,
    "unicastNwkKeyUpdate": unicast_network_key,
    "tokenFactoryReset": token_factory_reset,
}
