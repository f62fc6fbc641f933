"""Frames as a file that Wireshark reads: pcapng (draft-ietf-opsawg-pcapng), written a block at a time. No I/O.

What the hub sees is above the line: a datagram's payload, a message out of TLS, an APS frame whose keys the radio has
taken off. Around each is put what a dissector needs to find it, and nothing is claimed by that: addresses and sequence
numbers of those layers are made up where the hub does not know them, and checksums are right.

* MQTT-SN: UDP in IP (link type 101), the hub at port 1883. A Zigbee device has the link-local address of its EUI-64
  (RFC 4291, appendix A). Wireshark has no port of its own for MQTT-SN: `-d udp.port==1883,mqttsn`.
* MQTT: PUBLISH packets (MQTT 3.1.1 section 3.3) as exported PDUs (link type 252) for the dissector `mqtt`.
* Zigbee: IEEE 802.15.4 data frames without FCS (link type 230), unsecured NWK and APS headers (Zigbee R22, 3.3.1,
  2.2.5.1) around ZCL and ZDO.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import pack

MQTT_SN_PORT = 1883
DECODE_AS = f"udp.port=={MQTT_SN_PORT},mqttsn"

_RAW_IP, _EXPORTED_PDU, _IEEE_802_15_4 = 101, 252, 230
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_NAME, _PRECISION, _COMMENT, _APPLICATION = 2, 9, 1, 4
_HOME, _UPLINK, _ZIGBEE = range(3)

# Exported PDU tags (epan/exported_pdu.h).
_END, _DISSECTOR, _IPV4_SRC, _IPV4_DST, _PORT_TYPE, _SRC_PORT, _DST_PORT = 0, 12, 20, 21, 24, 25, 26
_TCP = 2
# TEST-NET-1 (RFC 5737): nobody has them.
_HUB_V4, _BROKER_V4 = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
_HUB_V6 = IPv6Address("fe80::1")
_EVERYBODY_V6 = IPv6Address("ff02::1")
_MQTTS_PORT, _HUB_PORT = 8883, 49152

_UDP_PROTOCOL = 17
_QOS_1_PUBLISH = 0x32
_COORDINATOR = 0x0000
_FIRST_BROADCAST = 0xFFF8


def beginning(software: str) -> bytes:
    """The blocks that a file begins with."""
    section = pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(_APPLICATION, software.encode()) + _option(0, b"")
    interfaces = (
        (_RAW_IP, "home", "MQTT-SN; IP and UDP are made up where it came over Zigbee"),
        (_EXPORTED_PDU, "uplink", "MQTT out of TLS; packet ids are made up"),
        (_IEEE_802_15_4, "zigbee", "ZCL and ZDO; MAC and NWK headers are made up, without security"),
    )
    return _block(_SECTION, section) + b"".join(_interface(*each) for each in interfaces)


def mqtt_sn(t_us: int, peer: str, data: bytes, *, to_hub: bool) -> bytes:
    """A message between the hub and `peer`: "udp:HOST:PORT" or "zigbee:" and 16 hex digits, or "*" for everybody."""
    device, port = _address_of(peer)
    if isinstance(device, IPv4Address):
        hub: IPv4Address | IPv6Address = device if device.is_loopback else _HUB_V4
    else:
        hub = _HUB_V6
    ends = ((device, port), (hub, MQTT_SN_PORT))
    return _packet(_HOME, t_us, _udp(*(ends if to_hub else ends[::-1]), data))


def mqtt(t_us: int, packet_id: int, topic: str, payload: bytes, *, to_hub: bool) -> bytes:
    """A message between the hub and its broker."""
    name = topic.encode()
    body = pack(">H", len(name)) + name + pack(">H", packet_id % 0xFFFF + 1) + payload
    ends = ((_BROKER_V4, _MQTTS_PORT), (_HUB_V4, _HUB_PORT))
    (source, source_port), (target, target_port) = ends if to_hub else ends[::-1]
    tags = (
        (_DISSECTOR, b"mqtt"), (_IPV4_SRC, source.packed), (_IPV4_DST, target.packed), (_PORT_TYPE, pack(">I", _TCP)),
        (_SRC_PORT, pack(">I", source_port)), (_DST_PORT, pack(">I", target_port)), (_END, b""),
    )  # fmt: skip
    header = b"".join(pack(">HH", tag, len(value)) + value for tag, value in tags)
    return _packet(_UPLINK, t_us, header + bytes((_QOS_1_PUBLISH,)) + _variable(len(body)) + body)


def zigbee(t_us: int, aps: dict[str, int], data: bytes, *, to_hub: bool) -> bytes:
    """An APS frame between the coordinator and a device; `aps`: nwk, pan_id, profile, cluster, hub_ep, device_ep,
    counter."""
    nwk, counter = aps["nwk"] & 0xFFFF, aps["counter"] & 0xFF
    source, target = (nwk, _COORDINATOR) if to_hub else (_COORDINATOR, nwk)
    source_ep, target_ep = (aps["device_ep"], aps["hub_ep"]) if to_hub else (aps["hub_ep"], aps["device_ep"])
    is_broadcast = target >= _FIRST_BROADCAST
    mac_target = 0xFFFF if is_broadcast else target
    mac = pack("<HBHHH", 0x8841 if is_broadcast else 0x8861, counter, aps["pan_id"] & 0xFFFF, mac_target, source)
    network = pack("<HHHBB", 0x0008, target, source, 30, counter)
    control = 0x08 if is_broadcast else 0x40
    support = pack("<BBHHBB", control, target_ep, aps["cluster"], aps["profile"], source_ep, counter)
    return _packet(_ZIGBEE, t_us, mac + network + support + data)


def _address_of(peer: str) -> tuple[IPv4Address | IPv6Address, int]:
    link, _, rest = peer.partition(":")
    if link == "zigbee":
        if rest == "*":
            return _EVERYBODY_V6, MQTT_SN_PORT
        eui = bytearray(bytes.fromhex(rest))
        eui[0] ^= 0x02  # the universal bit, inverted (RFC 4291, 2.5.1)
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes(eui)), MQTT_SN_PORT
    host, _, port = rest.rpartition(":")
    if not port.isdigit():
        return IPv4Address("255.255.255.255"), MQTT_SN_PORT  # everybody
    return ip_address(host.strip("[]").partition("%")[0]), int(port) & 0xFFFF


def _udp(
    source: tuple[IPv4Address | IPv6Address, int], target: tuple[IPv4Address | IPv6Address, int], data: bytes
) -> bytes:
    ends, length = source[0].packed + target[0].packed, len(data) + 8
    pseudo = ends + pack(">IHH", length, 0, _UDP_PROTOCOL) if source[0].version == 6 else ends + pack(">HH", 17, length)
    head = pack(">HHH", source[1], target[1], length)
    udp = head + pack(">H", _checksum(pseudo + head + b"\0\0" + data) or 0xFFFF) + data
    if source[0].version == 6:
        return pack(">IHBB", 0x60000000, len(udp), _UDP_PROTOCOL, 64) + ends + udp
    before, after = pack(">BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, _UDP_PROTOCOL), ends
    return before + pack(">H", _checksum(before + b"\0\0" + after)) + after + udp


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) & 1)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _variable(count: int) -> bytes:
    """MQTT 3.1.1 section 2.2.3."""
    out = bytearray()
    while True:
        count, digit = divmod(count, 128)
        out.append(digit | (0x80 if count else 0))
        if not count:
            return bytes(out)


def _interface(link_type: int, name: str, comment: str) -> bytes:
    options = _option(_COMMENT, comment.encode()) + _option(_NAME, name.encode()) + _option(_PRECISION, b"\x06")
    return _block(_INTERFACE, pack("<HHI", link_type, 0, 0) + options + _option(0, b""))


def _packet(interface: int, t_us: int, data: bytes) -> bytes:
    head = pack("<IIIII", interface, t_us >> 32, t_us & 0xFFFFFFFF, len(data), len(data))
    return _block(_PACKET, head + data + bytes(-len(data) % 4))


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = pack("<I", len(body) + 12)
    return pack("<I", kind) + length + body + length
