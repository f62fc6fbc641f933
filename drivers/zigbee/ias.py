"""IAS zones (ZCL revision 8, 8.2.2): what a zone warns of, and what its status says. No I/O."""

ZONE_STATE, ZONE_TYPE, ZONE_STATUS, CIE_ADDRESS = 0x0000, 0x0001, 0x0002, 0x0010

# Table 8-5. The words are what an alarm's event says.
ZONE_TYPES = {
    0x000D: "motion",
    0x0015: "contact",
    0x0016: "door handle",
    0x0028: "smoke",
    0x002A: "leak",
    0x002B: "carbon monoxide",
    0x002C: "personal emergency",
    0x002D: "vibration",
    0x010F: "remote control",
    0x0115: "key fob",
    0x021D: "keypad",
    0x0225: "standard warning",
    0x0226: "glass break",
}
_UNKNOWN = "alarm"
# Table 8-6: bits of ZoneStatus. The second alarm means the same danger, told apart by some sensors.
_ALARMS, _TAMPER, _BATTERY, _TROUBLE, _AC = 0x0003, 0x0004, 0x0008, 0x0040, 0x0080
_OTHERS = ((_TAMPER, "tamper"), (_BATTERY, "battery low"), (_TROUBLE, "trouble"), (_AC, "mains fault"))
# Who walks through a door or past a sensor raises no alarm: that is a reading, 1 or 0, which can be thinned.
_EVERYDAY = {0x000D: "motion", 0x0015: "contact", 0x0016: "contact", 0x002D: "vibration"}
_SILENT = frozenset((0x010F, 0x0115, 0x021D))  # what people hold in their hand


def word_of(zone_type: int) -> str:
    """What a zone of this type warns of."""
    return ZONE_TYPES.get(zone_type, _UNKNOWN)


class Zone:
    """One zone's alarms: each is told when it begins and when it ends, once."""

    def __init__(self, zone_type: int) -> None:
        self.zone_type = zone_type
        self._standing: set[str] = set()

    @property
    def quantity(self) -> str | None:
        """The reading that this zone's alarms make; None: they make events."""
        return _EVERYDAY.get(self.zone_type)

    def take(self, status: int) -> list[str]:
        """The texts of the events that a zone status makes; none for one that brings nothing new."""
        now = {word for bit, word in _OTHERS if status & bit}
        if status & _ALARMS and self.quantity is None and self.zone_type not in _SILENT:
            now.add(word_of(self.zone_type))
        begun, ended = now - self._standing, self._standing - now
        self._standing = now
        return sorted(begun) + [f"{word} is over" for word in sorted(ended)]

    def reading(self, status: int) -> str:
        """1 while the zone is open, or somebody moves."""
        return "1" if status & _ALARMS else "0"
