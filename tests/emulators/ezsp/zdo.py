# SPDX-License-Identifier: GPL-3.0-or-later
"""The Zigbee device profile: what any node answers about itself (Zigbee specification R22, §2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PROFILE: Final = 0x0000
NWK_ADDR_REQ: Final = 0x0000
IEEE_ADDR_REQ: Final = 0x0001
NODE_DESC_REQ: Final = 0x0002
POWER_DESC_REQ: Final = 0x0003
SIMPLE_DESC_REQ: Final = 0x0004
ACTIVE_EP_REQ: Final = 0x0005
MATCH_DESC_REQ: Final = 0x0006
DEVICE_ANNCE: Final = 0x0013
BIND_REQ: Final = 0x0021
UNBIND_REQ: Final = 0x0022
MGMT_LQI_REQ: Final = 0x0031
MGMT_RTG_REQ: Final = 0x0032
MGMT_BIND_REQ: Final = 0x0033
MGMT_LEAVE_REQ: Final = 0x0034
MGMT_PERMIT_JOINING_REQ: Final = 0x0036
MGMT_NWK_UPDATE_REQ: Final = 0x0038
MOVE: Final = 0xFE  # a ScanDuration that asks for another channel (R22 §2.4.3.3.9)
RESPONSE: Final = 0x8000

SUCCESS: Final = 0x00
INVALID_REQUEST_TYPE: Final = 0x80
DEVICE_NOT_FOUND: Final = 0x81
INVALID_EP: Final = 0x82
NOT_SUPPORTED: Final = 0x84
NO_MATCH: Final = 0x86
NO_ENTRY: Final = 0x88

COORDINATOR, ROUTER, END_DEVICE = 0, 1, 2
BROADCASTS: Final = (0xFFFC, 0xFFFD, 0xFFFF)


@dataclass(frozen=True)
class Endpoint:
    """A simple descriptor (R22 §2.3.2.5)."""

    profile: int
    device_id: int
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    version: int = 1


@dataclass
class Neighbor:
    """One row of Mgmt_Lqi_rsp (R22 §2.4.4.3.2)."""

    extended_pan_id: bytes
    ieee: bytes
    nwk: int
    logical_type: int
    rx_on_when_idle: bool
    relationship: int
    lqi: int


Binding = tuple[int, int, bytes, int]  # source endpoint, cluster, destination address, destination endpoint


@dataclass(eq=False)
class Node:
    """Anything with an address. `ieee` is 8 bytes, least significant first; capability: R22 table 2.23."""

    ieee: bytes
    nwk: int = 0xFFFF
    logical_type: int = ROUTER
    capability: int = 0x8E
    manufacturer_code: int = 0x1234
    endpoints: dict[int, Endpoint] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    neighbors: list[Neighbor] = field(default_factory=list)
    most_bytes: int = 82  # of a message, either way: more than a frame's where it has a memory for fragments

    @property
    def rx_on_when_idle(self) -> bool:
        return bool(self.capability & 0x08)


def u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def le16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def answer(node: Node, cluster: int, data: bytes, *, broadcast: bool) -> bytes | None:
    """The response to a request, with the transaction number in front; None when none is due.

    `data` begins with the transaction number. Malformed requests get no response, as they would on air. A request that
    is for another node, or a broadcast that cannot be served, is not answered (R22 §2.4.4).
    """
    if not data or cluster & RESPONSE or cluster == DEVICE_ANNCE:
        return None
    handler = _ANSWERS.get(cluster)
    if handler is None:
        return None if broadcast else data[:1] + bytes((NOT_SUPPORTED,))
    try:
        body = handler(node, data[1:])
    except IndexError:
        return None
    return None if body is None or (broadcast and body[0] != SUCCESS) else data[:1] + body


def _nwk_addr(node: Node, body: bytes) -> bytes | None:
    return bytes((SUCCESS,)) + node.ieee + le16(node.nwk) if body[:8] == node.ieee else None


def _ieee_addr(node: Node, body: bytes) -> bytes | None:
    return bytes((SUCCESS,)) + node.ieee + le16(node.nwk) if u16(body, 0) == node.nwk else None


def _node_desc(node: Node, body: bytes) -> bytes | None:
    if u16(body, 0) != node.nwk:
        return bytes((DEVICE_NOT_FOUND,)) + body[:2]
    server_mask = 0x2C41 if node.logical_type == COORDINATOR else 0x2C00
    descriptor = bytes((node.logical_type, 0x40, node.capability)) + le16(node.manufacturer_code)
    descriptor += bytes((82,)) + le16(node.most_bytes) + le16(server_mask) + le16(node.most_bytes) + b"\0"
    return bytes((SUCCESS,)) + le16(node.nwk) + descriptor


def _power_desc(node: Node, body: bytes) -> bytes | None:
    if u16(body, 0) != node.nwk:
        return bytes((DEVICE_NOT_FOUND,)) + body[:2]
    return bytes((SUCCESS,)) + le16(node.nwk) + le16(0xC110 if node.rx_on_when_idle else 0xC441)


def _active_ep(node: Node, body: bytes) -> bytes | None:
    if u16(body, 0) != node.nwk:
        return bytes((DEVICE_NOT_FOUND,)) + body[:2] + b"\0"
    return bytes((SUCCESS,)) + le16(node.nwk) + bytes((len(node.endpoints), *sorted(node.endpoints)))


def _simple_desc(node: Node, body: bytes) -> bytes | None:
    number = body[2]
    endpoint = node.endpoints.get(number)
    if u16(body, 0) != node.nwk or endpoint is None:
        return bytes((INVALID_EP,)) + body[:2] + b"\0"
    descriptor = bytes((number,)) + le16(endpoint.profile) + le16(endpoint.device_id) + bytes((endpoint.version,))
    for clusters in (endpoint.inputs, endpoint.outputs):
        descriptor += bytes((len(clusters),)) + b"".join(map(le16, clusters))
    return bytes((SUCCESS,)) + le16(node.nwk) + bytes((len(descriptor),)) + descriptor


def _match_desc(node: Node, body: bytes) -> bytes | None:
    profile, n_in = u16(body, 2), body[4]
    inputs = {u16(body, 5 + 2 * i) for i in range(n_in)}
    at = 5 + 2 * n_in
    outputs = {u16(body, at + 1 + 2 * i) for i in range(body[at])}
    matches = [
        number
        for number, endpoint in sorted(node.endpoints.items())
        if endpoint.profile == profile and (inputs & set(endpoint.inputs) or outputs & set(endpoint.outputs))
    ]
    status = SUCCESS if matches else NO_MATCH
    return bytes((status,)) + le16(node.nwk) + bytes((len(matches), *matches))


def _parse_binding(body: bytes) -> Binding | None:
    """Source address, endpoint, cluster, address mode 3, destination address, endpoint (R22 §2.4.3.2.2)."""
    if len(body) < 21 or body[11] != 0x03:
        return None
    return body[8], u16(body, 9), body[12:20], body[20]


def _bind(node: Node, body: bytes) -> bytes | None:
    binding = _parse_binding(body)
    if binding is None or body[:8] != node.ieee or binding[0] not in node.endpoints:
        return bytes((NOT_SUPPORTED if binding is None else INVALID_EP,))
    if binding not in node.bindings:
        node.bindings.append(binding)
    return bytes((SUCCESS,))


def _unbind(node: Node, body: bytes) -> bytes | None:
    binding = _parse_binding(body)
    if binding is None or binding not in node.bindings:
        return bytes((NO_ENTRY,))
    node.bindings.remove(binding)
    return bytes((SUCCESS,))


def _mgmt_bind(node: Node, body: bytes) -> bytes | None:
    rows = node.bindings[body[0] : body[0] + 3]
    out = bytes((SUCCESS, len(node.bindings), body[0], len(rows)))
    for endpoint, cluster, ieee, destination in rows:
        out += node.ieee + bytes((endpoint,)) + le16(cluster) + b"\x03" + ieee + bytes((destination,))
    return out


def _mgmt_lqi(node: Node, body: bytes) -> bytes | None:
    rows = node.neighbors[body[0] : body[0] + 3]
    out = bytes((SUCCESS, len(node.neighbors), body[0], len(rows)))
    for row in rows:
        kind = row.logical_type | row.rx_on_when_idle << 2 | row.relationship << 4
        out += row.extended_pan_id + row.ieee + le16(row.nwk) + bytes((kind, 0x02, 1, row.lqi))
    return out


def _mgmt_rtg(_node: Node, body: bytes) -> bytes | None:
    return bytes((SUCCESS, 0, body[0], 0))


def _mgmt_success(_node: Node, _body: bytes) -> bytes | None:
    return bytes((SUCCESS,))


def _mgmt_nwk_update(node: Node, body: bytes) -> bytes | None:
    """An energy scan: a quiet, slightly uneven spectrum, always the same for the same node (R22 §2.4.4.3.9)."""
    mask, duration = int.from_bytes(body[:4], "little"), body[4]
    if duration > 5:
        return None
    channels = [channel for channel in range(11, 27) if mask >> channel & 1]
    energies = bytes(60 + (channel * 37 + node.ieee[0]) % 90 for channel in channels)
    head = bytes((SUCCESS,)) + body[:4] + le16(100) + le16(2)
    return head + bytes((len(channels),)) + energies


_ANSWERS: Final = {
    NWK_ADDR_REQ: _nwk_addr,
    IEEE_ADDR_REQ: _ieee_addr,
    NODE_DESC_REQ: _node_desc,
    POWER_DESC_REQ: _power_desc,
    SIMPLE_DESC_REQ: _simple_desc,
    ACTIVE_EP_REQ: _active_ep,
    MATCH_DESC_REQ: _match_desc,
    BIND_REQ: _bind,
    UNBIND_REQ: _unbind,
    MGMT_LQI_REQ: _mgmt_lqi,
    MGMT_RTG_REQ: _mgmt_rtg,
    MGMT_BIND_REQ: _mgmt_bind,
    MGMT_LEAVE_REQ: _mgmt_success,
    MGMT_PERMIT_JOINING_REQ: _mgmt_success,
    MGMT_NWK_UPDATE_REQ: _mgmt_nwk_update,
}
