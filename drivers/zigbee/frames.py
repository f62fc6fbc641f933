"""APS frames as zigpy has them: the few that the hub makes itself, and what it reads off those that arrive."""

from dataclasses import dataclass
from typing import Any

from zigpy import types as t
from zigpy.zdo import types as zdo_t

_t: Any = t  # zigpy's integers carry no annotations of their constructors

SMART_ENERGY = 0x0109
HOME_AUTOMATION = 0x0104
LIGHT_LINK = 0xC05E
ZDO_PROFILE = 0x0000
ZDO_ENDPOINT = 0
_OUR_ENDPOINT = 1
_CLUSTER_COMMAND, _NO_DEFAULT_RESPONSE = 0x01, 0x10  # frame control (ZCL 2.4.1.1)
NO_NWK: t.NWK = _t.NWK(0xFFFE)  # "unknown", and not a broadcast address (Zigbee R22, 3.6.1.4)
FIRST_RESERVED_NWK = 0xFFF8
# ZDO messages that say whose an address is: the only ones that are read from a stranger.
_INTRODUCTIONS = (zdo_t.ZDOCmd.Device_annce, zdo_t.ZDOCmd.IEEE_addr_rsp, zdo_t.ZDOCmd.NWK_addr_rsp)


@dataclass(frozen=True, slots=True)
class Preset:
    """Where in APS the MQTT-SN messages travel."""

    profile_id: int
    cluster_id: int
    endpoint_id: int

    def carries(self, packet: t.ZigbeePacket) -> bool:
        """Whether this frame is one of the tunnel's."""
        return (
            packet.profile_id == self.profile_id
            and packet.cluster_id == self.cluster_id
            and packet.dst_ep == self.endpoint_id
        )


def nwk_of(packet: t.ZigbeePacket) -> t.NWK:
    """The sender's NWK address; bellows never gives another kind."""
    assert packet.src is not None
    nwk: t.NWK = _t.NWK(packet.src.address)
    return nwk


def is_introduction(packet: t.ZigbeePacket) -> bool:
    """Whether a stranger may say this."""
    return packet.dst_ep == ZDO_ENDPOINT and packet.cluster_id in _INTRODUCTIONS


def as_home_automation(packet: t.ZigbeePacket) -> t.ZigbeePacket:
    """The frame as zigpy can parse it: it reads ZCL on the Home Automation profile alone, the bytes are the same."""
    if packet.profile_id != SMART_ENERGY or packet.src_ep == ZDO_ENDPOINT:
        return packet
    replaced: t.ZigbeePacket = packet.replace(profile_id=_t.uint16_t(HOME_AUTOMATION))
    return replaced


def tunnel_unicast(preset: Preset, nwk: t.NWK, sequence: int, data: bytes, *, sleepy: bool) -> t.ZigbeePacket:
    """A message for one device, acknowledged end to end. A sleepy one fetches it when it wakes: the verdict is late."""
    return _frame(
        t.AddrModeAddress(t.AddrMode.NWK, nwk),
        (preset.profile_id, preset.cluster_id, preset.endpoint_id),
        sequence,
        data,
        tx_options=t.TransmitOptions.ACK,
        extended_timeout=sleepy,
    )


def tunnel_broadcast(preset: Preset, sequence: int, data: bytes) -> t.ZigbeePacket:
    """A message for every device that listens all the time."""
    return _frame(
        t.AddrModeAddress(t.AddrMode.Broadcast, t.BroadcastAddress.RX_ON_WHEN_IDLE),
        (preset.profile_id, preset.cluster_id, preset.endpoint_id),
        sequence,
        data,
        tx_options=t.TransmitOptions.NONE,
    )


def zcl_answer(to: t.AddrModeAddress, place: tuple[int, int, int, int], sequence: int, data: bytes) -> t.ZigbeePacket:
    """A ZCL frame of ours. `place`: profile, cluster, our endpoint, theirs. Smart Energy wants the link key as well
    (07-5356, 5.4.6)."""
    profile_id, cluster_id, endpoint_id, theirs = place
    options = t.TransmitOptions.ACK
    if profile_id == SMART_ENERGY:
        options |= t.TransmitOptions.APS_Encryption
    frame: t.ZigbeePacket = _frame(to, (profile_id, cluster_id, endpoint_id), sequence, data, tx_options=options)
    answer: t.ZigbeePacket = frame.replace(dst_ep=_t.uint8_t(theirs))
    return answer


def group_command(group_id: int, cluster_id: int, sequence: int, command: int) -> t.ZigbeePacket:
    """A command without arguments to all members of a group: a broadcast, which nobody answers (ZCL 2.4.1.1.4)."""
    data = bytes((_CLUSTER_COMMAND | _NO_DEFAULT_RESPONSE, sequence, command))
    group = t.AddrModeAddress(t.AddrMode.Group, _t.Group(group_id))
    options = {"tx_options": t.TransmitOptions.NONE, "priority": t.PacketPriority.HIGH}
    return _frame(group, (HOME_AUTOMATION, cluster_id, _OUR_ENDPOINT), sequence, data, **options)


def is_match_of_smart_energy(packet: t.ZigbeePacket) -> bool:
    """Match_Desc_req for our Smart Energy endpoint (Zigbee R22, 2.4.3.1.7): the radio answers it by itself, and zigpy
    would say that there is none."""
    if packet.dst_ep != ZDO_ENDPOINT or packet.cluster_id != zdo_t.ZDOCmd.Match_Desc_req:
        return False
    return bool(packet.data.serialize()[3:5] == SMART_ENERGY.to_bytes(2, "little"))


def ieee_addr_req(nwk: t.NWK, sequence: int) -> t.ZigbeePacket:
    """Ask a device for its IEEE address (Zigbee R22, 2.4.3.1.2): for itself alone, from index 0."""
    data = bytes((sequence,)) + nwk.serialize() + b"\x00\x00"
    dst = t.AddrModeAddress(t.AddrMode.NWK, nwk)
    return _frame(dst, (ZDO_PROFILE, zdo_t.ZDOCmd.IEEE_addr_req, ZDO_ENDPOINT), sequence, data)


def loopback(sequence: int) -> t.ZigbeePacket:
    """A question of the coordinator to itself, Node_Desc_req (Zigbee R22, 2.4.3.1.3): it never is on the air."""
    nwk: t.NWK = _t.NWK(0x0000)
    dst = t.AddrModeAddress(t.AddrMode.NWK, nwk)
    data = bytes((sequence,)) + nwk.serialize()
    place = (ZDO_PROFILE, zdo_t.ZDOCmd.Node_Desc_req, ZDO_ENDPOINT)
    return _frame(dst, place, sequence, data, priority=t.PacketPriority.CRITICAL)


def _frame(
    dst: t.AddrModeAddress, place: tuple[int, int, int], sequence: int, data: bytes, **options: Any
) -> t.ZigbeePacket:
    profile_id, cluster_id, endpoint_id = place
    return t.ZigbeePacket(
        src=t.AddrModeAddress(t.AddrMode.NWK, _t.NWK(0)),
        src_ep=_t.uint8_t(endpoint_id),
        dst=dst,
        dst_ep=_t.uint8_t(endpoint_id),
        tsn=_t.uint8_t(sequence),
        profile_id=_t.uint16_t(profile_id),
        cluster_id=_t.uint16_t(cluster_id),
        data=t.SerializableBytes(data),
        **options,
    )
