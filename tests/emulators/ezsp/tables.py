# SPDX-License-Identifier: GPL-3.0-or-later
"""EZSP as data: statuses, structures, and for every frame its number and layouts, per protocol version (UG100).

A layout is a line of `name:type`. Types: u8 u16 u32 i8, eui (8 bytes, least significant first), key (16 bytes), lv
(bytes after a length byte), lv32 (after a 32-bit length), rest (all that follows), status, ezsp and sl (see STATUS),
or the name of a structure. `resolve(version)` gives what one version speaks; `codec.py` turns it into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

VERSIONS: Final = (8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19)
FIRST_SL_STATUS_VERSION: Final = 14  # from here every status is a 32-bit sl_status_t

# name: (EmberStatus, EzspStatus, sl_status_t)
STATUS: Final[dict[str, tuple[int, int, int]]] = {
    "OK": (0x00, 0x00, 0x0000),
    "FAIL": (0x01, 0x36, 0x0001),
    "INVALID_PARAMETER": (0x02, 0x36, 0x0021),
    "NOT_FOUND": (0x03, 0x37, 0x002D),
    "DELIVERY_FAILED": (0x66, 0x36, 0x0C02),
    "NO_BUFFERS": (0x18, 0x36, 0x0019),
    "INVALID_CALL": (0x70, 0x38, 0x0002),
    "MAX_MESSAGE_LIMIT_REACHED": (0x72, 0x36, 0x0C03),
    "MESSAGE_TOO_LONG": (0x74, 0x36, 0x0038),
    "NETWORK_UP": (0x90, 0x36, 0x0015),
    "NETWORK_DOWN": (0x91, 0x36, 0x0016),
    "NOT_JOINED": (0x93, 0x36, 0x0017),
    "NETWORK_BUSY": (0xA1, 0x36, 0x0004),
    "PAN_ID_CHANGED": (0x9A, 0x36, 0x0C16),
    "SOURCE_ROUTE_FAILURE": (0xA9, 0x36, 0x0C13),
    "MANY_TO_ONE_ROUTE_FAILURE": (0xAA, 0x36, 0x0C14),
    "NETWORK_OPENED": (0x9C, 0x36, 0x0C18),
    "NETWORK_CLOSED": (0x9D, 0x36, 0x0C19),
    "SECURITY_STATE_NOT_SET": (0xA8, 0x36, 0x0C0B),
    "INDEX_OUT_OF_RANGE": (0xB1, 0x36, 0x0027),
    "TABLE_ENTRY_ERASED": (0xB6, 0x36, 0x002D),
    "NOT_SUPPORTED": (0xB5, 0x37, 0x000F),
}
ERROR_VERSION_NOT_SET: Final = 0x30  # EzspStatus values that only invalidCommand carries
ERROR_INVALID_FRAME_ID: Final = 0x31
ERROR_TRUNCATED: Final = 0x33

STRUCTURES: Final[dict[str, str]] = {
    "aps": "profile:u16 cluster:u16 src_ep:u8 dst_ep:u8 options:u16 group:u16 sequence:u8",
    "network": (
        "extended_pan_id:eui pan_id:u16 tx_power:u8 channel:u8 join_method:u8 manager:u16 update_id:u8 channels:u32"
    ),
    "security": "bitmask:u16 link_key:key network_key:key key_sequence:u8 tc_eui:eui",
    "current_security": "bitmask:u16 tc_eui:eui",
    "key_entry": "bitmask:u16 type:u8 key:key tx_counter:u32 rx_counter:u32 sequence:u8 partner:eui",
    "child7": "eui:eui type:u8 id:u16 phy:u8 power:u8 timeout:u8",
    "child10": "eui:eui type:u8 id:u16 phy:u8 power:u8 timeout:u8 timeout_remaining:u32",
    "multicast": "group:u16 endpoint:u8 network_index:u8",
    "transient": "eui:eui key:key bitmask:u16 remaining_s:u16",
    "context": "type:u8 index:u8 derived:u8 eui:eui network_index:u8 flags:u8 permission:u32",
    "context13": "type:u8 index:u8 derived:u16 eui:eui network_index:u8 flags:u8 permission:u32",
    "key_data": "bitmask:u16 tx_counter:u32 rx_counter:u32 ttl_s:u16",
    "network_key": "set:u8 alternate_set:u8 sequence:u8 alternate_sequence:u8 counter:u32",
    "binding": "type:u8 local:u8 cluster:u16 remote:u8 identifier:eui network_index:u8",
    "neighbor": "id:u16 lqi:u8 in_cost:u8 out_cost:u8 age:u8 eui:eui",
    "route": "destination:u16 next_hop:u16 status:u8 age:u8 concentrator:u8 record_state:u8",
}

# frame number, name: request -> response. A callback (…Handler) has only a response.
FRAMES: Final[dict[int, str]] = {
    8: """
0000 version: desired:u8 -> version:u8 stack_type:u8 stack_version:u16
0001 getLibraryStatus: library:u8 -> library_status:u8
0002 addEndpoint: endpoint:u8 profile:u16 device_id:u16 device_version:u8 n_in:u8 n_out:u8 clusters:rest -> status:ezsp
0003 getExtendedValue: id:u8 characteristics:u32 -> status:ezsp value:lv
0005 nop: ->
0006 callback: ->
0007 noCallbacks: ->
0009 setToken: id:u8 data:rest -> status:status
000A getToken: id:u8 -> status:status data:rest
000B getMfgToken: id:u8 -> data:lv
000C setMfgToken: id:u8 data:lv -> status:status
0010 setConcentrator: on:u8 type:u16 min_s:u16 max_s:u16 route_errors:u8 delivery_failures:u8 hops:u8 -> status:status
0011 setBrokenRouteErrorCode: code:u8 -> status:status
0015 setManufacturerCode: code:u16 ->
0016 setPowerDescriptor: descriptor:u16 ->
0017 networkInit: options:u16 -> status:status
0018 networkState: -> state:u8
0019 stackStatusHandler: -> status:status
001A startScan: type:u8 channels:u32 duration:u8 -> status:status
001C scanCompleteHandler: -> channel:u8 status:status
001D stopScan: -> status:status
001E formNetwork: parameters:network -> status:status
0020 leaveNetwork: -> status:status
0022 permitJoining: duration_s:u8 -> status:status
0023 childJoinHandler: -> index:u8 joining:u8 id:u16 eui:eui type:u8
0024 trustCenterJoinHandler: -> id:u16 eui:eui update:u8 decision:u8 parent:u16
0026 getEui64: -> eui:eui
0027 getNodeId: -> id:u16
0028 getNetworkParameters: -> status:status node_type:u8 parameters:network
0029 getParentChildParameters: -> child_count:u8 parent_eui:eui parent:u16
002A clearBindingTable: -> status:status
002B setBinding: index:u8 value:binding -> status:status
002C getBinding: index:u8 -> status:status value:binding
002D deleteBinding: index:u8 -> status:status
0033 maximumPayloadLength: -> length:u8
0034 sendUnicast: type:u8 destination:u16 aps:aps tag:u8 message:lv -> status:status sequence:u8
0035 getDutyCycleState: -> status:status state:u8
0036 sendBroadcast: destination:u16 aps:aps radius:u8 tag:u8 message:lv -> status:status sequence:u8
0037 proxyBroadcast: alias:u16 destination:u16 sn:u8 aps:aps radius:u8 tag:u8 message:lv -> status:status sequence:u8
0038 sendMulticast: aps:aps hops:u8 far_hops:u8 tag:u8 message:lv -> status:status sequence:u8
0039 sendReply: destination:u16 aps:aps message:lv -> status:status
003A sendMulticastWithAlias: aps:aps hops:u8 far_hops:u8 alias:u16 sn:u8 tag:u8 message:lv -> status:status sequence:u8
003F messageSentHandler: -> type:u8 destination:u16 aps:aps tag:u8 status:status message:lv
0045 incomingMessageHandler: -> type:u8 aps:aps lqi:u8 rssi:i8 sender:u16 binding:u8 address:u8 message:lv
0047 customFrame: payload:lv -> status:status reply:lv
0048 energyScanResultHandler: -> channel:u8 rssi:i8
0049 getRandomNumber: -> status:status value:u16
004A getChildData: index:u8 -> status:status child:child7
0052 getConfigurationValue: id:u8 -> status:ezsp value:u16
0053 setConfigurationValue: id:u8 value:u16 -> status:ezsp
0055 setPolicy: id:u8 decision:u8 -> status:ezsp
0056 getPolicy: id:u8 -> status:ezsp decision:u8
0057 sendPanIdUpdate: pan_id:u16 -> status:status
0058 invalidCommand: -> reason:ezsp
0059 incomingRouteRecordHandler: -> id:u16 eui:eui lqi:u8 rssi:i8 relays:rest
005A setSourceRouteDiscoveryMode: mode:u8 -> remaining_ms:u32
005E getAddressTableRemoteEui64: index:u8 -> eui:eui
005F getAddressTableRemoteNodeId: index:u8 -> id:u16
0060 lookupNodeIdByEui64: eui:eui -> id:u16
0061 lookupEui64ByNodeId: id:u16 -> status:status eui:eui
0063 getMulticastTableEntry: index:u8 -> status:status value:multicast
0064 setMulticastTableEntry: index:u8 value:multicast -> status:status
0065 readAndClearCounters: -> counters:rest
0066 addOrUpdateKeyTableEntry: eui:eui link_key:u8 key:key -> status:status
0068 setInitialSecurityState: state:security -> status:status
0069 getCurrentSecurityState: -> status:status state:current_security
006A getKey: type:u8 -> status:status entry:key_entry
006B clearTransientLinkKeys: ->
006C updateTcLinkKey: attempts:u8 -> status:status
0071 getKeyTableEntry: index:u8 -> status:status entry:key_entry
0073 broadcastNextNetworkKey: key:key -> status:status
0074 broadcastNetworkKeySwitch: -> status:status
0075 findKeyTableEntry: eui:eui link_key:u8 -> index:u8
0076 eraseKeyTableEntry: index:u8 -> status:status
0077 becomeTrustCenter: key:key -> status:status
0079 getNeighbor: index:u8 -> status:status value:neighbor
007A neighborCount: -> value:u8
007B getRouteTableEntry: index:u8 -> status:status value:route
007C idConflictHandler: -> id:u16
007E setExtendedTimeout: eui:eui on:u8 ->
007F getExtendedTimeout: eui:eui -> on:u8
0080 incomingRouteErrorHandler: -> status:status id:u16
0081 echo: data:lv -> data:lv
0082 replaceAddressTableEntry: index:u8 eui:eui id:u16 on:u8 -> status:status old_eui:eui old_id:u16 old_on:u8
0099 setRadioPower: power_dbm:i8 -> status:status
009D delayTest: delay_ms:u16 ->
00A8 removeDevice: id:u16 parent:eui eui:eui -> status:status
00A9 unicastNwkKeyUpdate: id:u16 eui:eui key:key -> status:status
00AA getValue: id:u8 -> status:ezsp value:lv
00AB setValue: id:u8 value:lv -> status:ezsp
00AE setSourceRoute: id:u16 relays:rest -> status:status
00AF addTransientLinkKey: eui:eui key:key -> status:status
00B1 clearKeyTable: -> status:status
00C4 incomingNetworkStatusHandler: -> error:u8 id:u16
00CD getSecurityKeyStatus: -> status:ezsp type:u32
00CE getTransientLinkKey: eui:eui -> status:status entry:transient
00D0 setRoutingShortcutThreshold: cost:u8 -> status:status
00E2 gpSinkTableClearAll: ->
00F1 readCounters: -> counters:rest
""",
    9: """
0102 getTokenData: token:u32 index:u32 -> status:status value:lv32
0103 setTokenData: token:u32 index:u32 value:lv32 -> status:status
0104 resetNode: ->
""",
    10: """
004A getChildData: index:u8 -> status:status child:child10
00AC setChildData: index:u8 child:child10 -> status:status
""",
    12: """
010E importLinkKey: index:u8 eui:eui key:key -> status:sl
010F exportLinkKeyByIndex: index:u8 -> eui:eui key:key data:key_data status:sl
0111 importTransientKey: eui:eui key:key flags:u8 -> status:sl
0112 exportTransientKeyByIndex: index:u8 -> context:context key:key data:key_data status:sl
0114 exportKey: context:context -> key:key status:sl
""",
    13: """
0077 tokenFactoryReset: exclude_counter:u8 exclude_boot_counter:u8 ->
0112 exportTransientKeyByIndex: index:u8 -> context:context13 key:key data:key_data status:sl
0114 exportKey: context:context13 -> key:key status:sl
0116 getNetworkKeyInfo: -> status:sl info:network_key
""",
    14: """
0111 importTransientKey: eui:eui key:key -> status:sl
0015 setManufacturerCode: code:u16 -> status:status
0016 setPowerDescriptor: descriptor:u16 -> status:status
0020 leaveNetwork: options:u8 -> status:status
0034 sendUnicast: type:u8 destination:u16 aps:aps tag:u16 message:lv -> status:status sequence:u8
0036 sendBroadcast: alias:u16 destination:u16 sn:u8 aps:aps radius:u8 tag:u16 message:lv -> status:status sequence:u8
0038 sendMulticast: aps:aps hops:u8 destination:u16 alias:u16 sn:u8 tag:u16 message:lv -> status:status sequence:u8
003F messageSentHandler: -> status:status type:u8 destination:u16 aps:aps tag:u16 message:lv
0045 incomingMessageHandler: -> type:u8 aps:aps sender:u16 eui:eui binding:u8 address:u8 lqi:u8 rssi:i8 t:u32 message:lv
0057 sendPanIdUpdate: pan_id:u16 -> accepted:u8
005E getAddressTableInfo: index:u8 -> status:status id:u16 eui:eui
0060 lookupNodeIdByEui64: eui:eui -> status:status id:u16
007E setExtendedTimeout: eui:eui on:u8 -> status:status
007F getExtendedTimeout: eui:eui -> status:status
010F exportLinkKeyByIndex: index:u8 -> status:sl context:context13 key:key data:key_data
0112 exportTransientKeyByIndex: index:u8 -> status:sl context:context13 key:key data:key_data
0114 exportKey: context:context13 -> status:sl key:key context:context13
""",
    17: """
005F gpClearProxyTable: ->
""",
}

# What a version no longer knows; the answer to it is invalidCommand.
REMOVED: Final[dict[int, str]] = {
    13: "addOrUpdateKeyTableEntry getKey getKeyTableEntry addTransientLinkKey getSecurityKeyStatus getTransientLinkKey",
    14: "proxyBroadcast sendMulticastWithAlias getAddressTableRemoteNodeId",
}


@dataclass(frozen=True)
class Frame:
    """One frame of one protocol version: layouts are ((field, type), ...)."""

    number: int
    name: str
    request: tuple[tuple[str, str], ...]
    response: tuple[tuple[str, str], ...]


def layout(text: str) -> tuple[tuple[str, str], ...]:
    """The fields of a layout line."""
    return tuple((name, kind) for name, _, kind in (field.partition(":") for field in text.split()))


def _parse(line: str) -> Frame:
    head, _, body = line.partition(":")
    number, name = head.split()
    request, _, response = body.partition("->")
    return Frame(int(number, 16), name, layout(request), layout(response))


@cache
def resolve(version: int) -> dict[int, Frame]:
    """All frames that a protocol version knows, by number. Raises ValueError for a version we do not speak."""
    if version not in VERSIONS:
        raise ValueError(f"EZSP version {version} is not one of {VERSIONS}")
    frames: dict[int, Frame] = {}
    for since, text in FRAMES.items():
        if since <= version:
            frames.update((frame.number, frame) for frame in map(_parse, text.strip().splitlines()))
    gone = {name for since, names in REMOVED.items() if since <= version for name in names.split()}
    return {number: frame for number, frame in frames.items() if frame.name not in gone}


@cache
def by_name(version: int) -> dict[str, Frame]:
    """The same by name."""
    return {frame.name: frame for frame in resolve(version).values()}
