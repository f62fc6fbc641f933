# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the radio's faults: what the emulator does, how soon the hub notices, how soon the home is served again
once it is mended, what it is told as. Played by tests/drivers/zigbee/test_faults.py, shown in docs/appliances.md."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class RadioFault(NamedTuple):
    """`do` and `undo`: requests of the emulator's control socket (undo None: it mends itself). `condition` "": it is
    over before it would be one, and told by the events radio.down and radio.up."""

    name: str
    do: dict[str, Any]
    undo: dict[str, Any] | None
    noticed_s: float
    back_s: float
    condition: str


class LineFault(NamedTuple):
    """A line that is not as it should be: the protocol of the line (ASH) mends it, and nobody notices."""

    name: str
    do: dict[str, Any]


class MeshFault(NamedTuple):
    """Something between the radio and its devices, in the home of tests/drivers/zigbee/test_mesh.py. `seen`: what of
    the hub's status says so (a counter, or ""); `told`: the event or condition, or "" where the network mends it and
    nobody is bothered. `back_s`: until every device is served again, after `undo` where that has to come first."""

    name: str
    do: tuple[dict[str, Any], ...]
    undo: tuple[dict[str, Any], ...]
    noticed_s: float
    back_s: float
    told: str = ""
    seen: str = ""


class GroupFault(NamedTuple):
    """A group command that does not reach everybody: `do` to one member before it, in the home of
    tests/drivers/zigbee/test_switching.py. Nobody is told: the one is switched by itself. `back_s`: until every
    appliance is as it was ordered."""

    name: str
    do: tuple[dict[str, Any], ...]
    back_s: float


RADIO_FAULTS: Final = (
    RadioFault("it resets by itself", {"do": "reset"}, None, 5, 5, ""),
    RadioFault("it loses its supply for a moment", {"do": "power-cycle"}, None, 15, 5, ""),
    RadioFault("it is pulled out", {"do": "unplug"}, {"do": "plug"}, 5, 5, "radio-missing"),
    RadioFault(
        "it is pulled out, and is another terminal afterwards", {"do": "unplug"}, {"do": "plug", "elsewhere": True},
        5, 5, "radio-missing",
    ),
    RadioFault("it falls silent", {"do": "mute", "layer": "ash"}, {"do": "unmute"}, 15, 5, "radio-silent"),
    RadioFault("it answers nothing", {"do": "mute", "layer": "ezsp"}, {"do": "unmute"}, 15, 5, "radio-silent"),
    RadioFault("it refuses every send", {"do": "refuse"}, {"do": "refuse", "status": ""}, 15, 5, "radio-refuses"),
    RadioFault(
        "its buffers are full for good", {"do": "refuse", "status": "NO_BUFFERS"}, {"do": "refuse", "status": ""},
        15, 5, "radio-refuses",
    ),
    RadioFault(
        "it never says what became of a send", {"do": "refuse", "status": "", "swallow": True},
        {"do": "refuse", "status": ""}, 15, 5, "radio-silent",
    ),
)  # fmt: skip

LINE_FAULTS: Final = (
    LineFault("one frame in fifty is lost, each way", {"lose": 0.02}),
    LineFault("one frame in ten comes twice, each way", {"double": 0.1}),
    LineFault("every frame comes a fifth of a second late", {"delay_s": 0.2}),
    LineFault("one byte in two thousand is damaged, each way", {"corrupt": 0.0005}),
)

MESH_FAULTS: Final = (
    MeshFault(
        "a router on the way loses its supply", ({"do": "set", "device": "near", "powered": False},), (), 15, 30,
    ),
    MeshFault(
        "two devices have one address", ({"do": "conflict", "device": "boiler-1", "other": "sleeper"},), (), 5, 15,
        seen="address_conflicts",
    ),
    MeshFault(
        "another network has the home's PAN id", ({"do": "pan-conflict", "pan_id": 0x2222},), (), 5, 30,
        told="radio.pan_id_changed",
    ),
    MeshFault(
        "somebody says again what a device said, as it was and sealed anew",
        ({"do": "replay", "device": "boiler-1"}, {"do": "replay", "device": "boiler-1", "sealed": True}), (), 5, 15,
    ),
    MeshFault(
        "half of all frames are lost to somebody else on the channel", ({"do": "jam", "rssi": -50},),
        ({"do": "jam", "rssi": -95},), 300, 60, told="radio-undelivered",
    ),
    MeshFault(
        "every device announces itself twenty times at once",
        tuple({"do": "announce", "device": name, "times": 20} for name in ("near", "second", "boiler-1", "sleeper")),
        (), 5, 15,
    ),
)  # fmt: skip

GROUP_FAULTS: Final = (
    GroupFault(
        "a command to a group is not heard by one of its members",
        ({"do": "set", "device": "p3", "hears_broadcasts": False},), 10,
    ),
    GroupFault("a member of the group lost its membership in a reset", ({"do": "forget", "device": "p3"},), 10),
    GroupFault(
        "a member of the group changed its address", ({"do": "rejoin", "device": "p3"},), 15,
    ),
)  # fmt: skip

GROUP_UNCONFIRMED: Final = "a member of the group is removed, and does not say that it left the group"
