# SPDX-License-Identifier: GPL-3.0-or-later
"""A home out of a JSON file: which devices there are and what hangs on them.

    {"seed": 1, "loss": 0.0, "devices": [
      {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "name": "Kettle", "appliance": "kettle"},
      {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler-1",
       "appliance": {"kind": "boiler", "nominal_w": 2000}}]}

A "zcl" is any ZCL device, out of its endpoints, attributes and habits: see ezsp/player.py.

A "relay" is a Smart Energy load control device: see ezsp/relay.py.

A "sleeping-meter" has a mirror for its readings: see ezsp/sleeping_meter.py.

A "display" is a Smart Energy in-premises display: it asks for price and time.

Every device may have name, join (look for a network at once: true), lqi, rssi, loss, delay_s, poll_s (a sleeping end
device), hears_broadcasts (true), timeout (the End Device Timeout that such a one asks its parent for, 0 to 14),
powered, in_range, hears (its neighbours on the way to the hub, best first: addresses, and "hub"), link_key (32 hex
digits, what its install code gives), groups (which it is in already). A plug: manufacturer, model, profile.
An adapter: client_id, tunnel ("native" or "digi"), search, period_s, sleep_s, keepalive_s, about.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from . import appliances
from .ezsp.air import Air
from .ezsp.device import HUB, Device
from .ezsp.device import parse_ieee as parse_ieee
from .ezsp.display import Display
from .ezsp.player import Player
from .ezsp.plug import Plug
from .ezsp.relay import Relay
from .ezsp.sleeping_meter import SleepingMeter

COMMON: Final = (
    "name",
    "lqi",
    "rssi",
    "loss",
    "delay_s",
    "poll_s",
    "timeout",
    "powered",
    "in_range",
    "hears_broadcasts",
)
PLUG: Final = ("manufacturer", "model", "profile")
PLAYER: Final = ("manufacturer", "model", "endpoints", "habits")
RELAY: Final = ("minute_s", "opts_out", "device_class")
ADAPTER: Final = ("tunnel", "search", "period_s", "sleep_s", "keepalive_s", "about")
END_DEVICE_CAPABILITY: Final = 0x80  # allocate an address; receiver off when idle, battery


def load(path: Path | None, now: float) -> Air:
    """The air with all devices of a file, or none without one. Raises ValueError that names the entry at fault."""
    if path is None:
        return Air()
    try:
        home = json.loads(path.read_text())
        devices = [build(entry, now) for entry in home.get("devices", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return Air(devices, seed=home.get("seed", 0), loss=home.get("loss", 0.0))


def build(entry: dict[str, Any], now: float) -> Device:
    """One device. Raises ValueError, KeyError or TypeError for an entry that makes none."""
    rest = dict(entry)
    kind, ieee, join = rest.pop("kind"), parse_ieee(rest.pop("ieee")), rest.pop("join", True)
    common: dict[str, Any] = {name: rest.pop(name) for name in COMMON if name in rest}
    if "hears" in rest:
        common["hears"] = tuple(HUB if name == "hub" else parse_ieee(name) for name in rest.pop("hears"))
        common["hop"] = common["hears"][0]
    if "link_key" in rest:
        common["link_key"] = bytes.fromhex(rest.pop("link_key"))
    if common.get("poll_s") is not None:
        common |= {"logical_type": 2, "capability": END_DEVICE_CAPABILITY}
    appliance, in_groups = _appliance(rest.pop("appliance", "plain"), now), rest.pop("groups", [])
    device: Device
    if kind == "plug":
        options: dict[str, Any] = {name: rest.pop(name) for name in PLUG if name in rest}
        device = Plug(ieee, appliance.power_w, switched=appliance.set_supply, now=now, **options, **common)
    elif kind == "zcl":
        device = Player({name: rest.pop(name) for name in PLAYER if name in rest}, ieee, **common)
    elif kind == "sleeping-meter":
        device = SleepingMeter({name: rest.pop(name) for name in PLAYER if name in rest}, ieee, **common)
    elif kind == "relay":
        device = Relay(ieee, **{name: rest.pop(name) for name in RELAY if name in rest}, **common)
    elif kind == "display":
        device = Display(ieee, **common)
    elif kind == "adapter":
        device = _adapter(ieee, appliance, rest, common)
    else:
        raise ValueError(
            f"a device is a plug, a display, a relay, a zcl device, a sleeping meter or an adapter, not {kind!r}"
        )
    if rest:
        raise ValueError(f"{entry['ieee']}: unknown {', '.join(sorted(rest))}")
    device.wants_join = join
    device.groups.entries = {(group, endpoint) for group in in_groups for endpoint in device.endpoints}
    return device


def _adapter(ieee: bytes, appliance: appliances.Appliance, rest: dict[str, Any], common: dict[str, Any]) -> Device:
    from .ezsp.adapter import Adapter  # only a home with adapters needs the MQTT-SN client

    options: dict[str, Any] = {name: rest.pop(name) for name in ADAPTER if name in rest}
    return Adapter(ieee, rest.pop("client_id"), appliance, **options, **common)


def _appliance(entry: str | dict[str, Any], now: float) -> appliances.Appliance:
    options = {"kind": entry} if isinstance(entry, str) else dict(entry)
    return appliances.create(options.pop("kind"), now, **options)
