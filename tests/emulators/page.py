# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/appliances.md out of the data: the devices that are played to the driver, and its table of exceptions.

python -m tests.emulators.page
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

from .faults import GROUP_FAULTS, GROUP_UNCONFIRMED, LINE_FAULTS, MESH_FAULTS, RADIO_FAULTS

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "docs/appliances.md"
DEVICES: Final = ROOT / "tests/emulators/devices"
EXCEPTIONS: Final = ROOT / "drivers/zigbee/exceptions.toml"

HEAD: Final = """# Zigbee radios and appliances

Written by `python -m tests.emulators.page`; a test compares.

## Radios

Any EmberZNet network co-processor that speaks EZSP 8 or later over ASH: on a serial port, a pseudo-terminal or a TCP
port. The versions 8, 13, 14, 16, 18 and 19 are tried with every change, with the hub and with zigbee-herdsman as hosts.
A radio that dies is noticed within 15 s; a blank one, or one with another network, is given the home's network.

## What an appliance has to be

Any device whose endpoints speak ZCL on the profiles Home Automation, Light Link or Smart Energy. What it measures is
sent when its scale is certain: the device gives its divisors, or the table below knows its kind. What is not certain is
withheld, and said: the event `adapter.withheld`, the condition `adapter-withheld`, `meterhub adapters --json`.

Quantities: `state`, `power`, `energy`, `energy.export`, `energy.t1`.., `voltage`, `current`, phases `.b` and `.c`,
`power_factor`, `temperature`, `humidity`, `setpoint`, `demand`, `battery`, `contact`, `motion`. A second endpoint with
the same quantity adds its number: `state.2`. IAS zones make events (`adapter.alarm`).

## Smart Energy

There: price and time for displays, and in words the limit that the household is held to (Messaging); metering of
devices on the profile 0x0109; load control (DRLC): a relay is held by events that end in the relay itself, and its
opt-out is told. One that says what it switches (DeviceClassValue, D.2.3.2.4: compressor, heater, water heater, pool
pump or electric vehicle, and one of them alone) is held by the household's limit as an adapter is; one that does not
say is left alone.

A meter on a battery (gas, water, heat) that asks for a mirror has one, three of them at most: it wakes, reports to
the mirror under its link key, and sleeps on. What it counts is told as `meter-gas`, `meter-water` or `meter-heat`, as
what the meter's own port passes on, in m3 (heat also in Wh or GJ); displays read the mirror. `meterhub radio info` says
which device is which, or why nothing of it is told.

Not there: key establishment by certificates (CBKE, cluster 0x0800). It needs a certificate of the Zigbee certificate
authority for each hub, and an NCP firmware with the elliptic curve library; devices that insist on it, as those of a
SMETS2 home do, cannot be let in. They stay with their own communications hub, and this one reads the meter's own port.

## Firmware of appliances

Out of the folder `zigbee-firmware` of the hub's data: the maker's image, `NAME.ota`, beside the note by which an
operator with the role `admin` vouches for it, `NAME.ota.cose`:
`meterhub headend firmware NAME.ota --key FILE --kid KID`. Without one, or with another file's, an image is not offered
(condition `firmware-refused`). One appliance loads at a time, ten blocks a second at most; what became of it:
`adapter.updated`, `adapter.update_failed`, `meterhub radio firmware`.

## What is held back without an end of its own

A charger with a level of amperes, a heater with a setpoint: the household's limit reaches them as it does an adapter,
but they do not let go by themselves. The hub gives each back what it had when the order is over, and after a restart
what an earlier life of it had taken. Should it be gone for good, a charger goes on with the amperes that it was left
with, never less than 6, and a room is three degrees colder, 16 at the least, until somebody turns the knob. Nothing
else is asked of them, and a switch is never used for it. A householder who sets another temperature meanwhile has
opted out.
"""


def render() -> str:
    """The page."""
    lines = [
        HEAD,
        "## Kinds with something of their own",
        "",
        "| manufacturer | model | what is known |",
        "|---|---|---|",
    ]
    for row in tomllib.loads(EXCEPTIONS.read_text("utf-8"))["device"]:
        known = "; ".join(filter(None, (_words(key, row[key]) for key in row)))
        lines.append(f"| {_names(row.get('manufacturer'))} | {_names(row.get('model'))} | {known} |")
    lines += [
        "",
        "## What befalls a radio",
        "",
        "| fault | noticed within | back within | told as |",
        "|---|---|---|---|",
    ]
    for fault in RADIO_FAULTS:
        told = f"`{fault.condition}`" if fault.condition else "`radio.down`, `radio.up`"
        lines.append(f"| {fault.name} | {fault.noticed_s:.0f} s | {fault.back_s:.0f} s | {told} |")
    lines += [f"| {fault.name} | | | nothing: the line's protocol mends it |" for fault in LINE_FAULTS]
    for mesh in MESH_FAULTS:
        seen = f"nothing; counted as `{mesh.seen}`" if mesh.seen else "nothing: the network mends it"
        noticed = f"{mesh.noticed_s:.0f} s" if mesh.told or mesh.seen else ""
        lines.append(f"| {mesh.name} | {noticed} | {mesh.back_s:.0f} s | {f'`{mesh.told}`' if mesh.told else seen} |")
    for lost in GROUP_FAULTS:
        lines.append(f"| {lost.name} | 1 s | {lost.back_s:.0f} s | nothing: it is switched by itself |")
    lines.append(f"| {GROUP_UNCONFIRMED} | 5 s | 5 s | nothing: the group gets another number |")
    lines += ["", "## Devices that are played with every change", "", "| device | what comes of it | why it is there |"]
    lines.append("|---|---|---|")
    for path in sorted(DEVICES.glob("*.json")):
        row = json.loads(path.read_text("utf-8"))
        device = row["device"]
        name = f"{device['manufacturer']} {device['model']}".strip() or "(nameless)"
        comes = ", ".join(f"`{quantity}`" for quantity in row["expect"]) or "nothing"
        if row.get("withheld"):
            comes += "; withheld: " + ", ".join(f"`{quantity}`" for quantity in row["withheld"])
        if row.get("zone", {}).get("alarm"):
            comes += f"; alarm: {row['zone']['alarm']}"
        lines.append(f"| {name} | {comes} | {row['why']} |")
    return "\n".join(lines) + "\n"


def _names(patterns: Any) -> str:
    if patterns is None:
        return "any"
    return ", ".join(f"`{pattern}`" for pattern in ([patterns] if isinstance(patterns, str) else patterns))


def _words(key: str, value: Any) -> str:
    def pairs(found: dict[str, Any]) -> str:
        return ", ".join(f"{name} {multiplier}/{divisor}" for name, (multiplier, divisor) in found.items())

    if key in ("scale", "factor"):
        return ("where it gives none: " if key == "scale" else "times ") + pairs(value)
    if key == "lies":
        return f"whatever it gives: {pairs(value)}" if value else "gives the true ones"
    if key == "either":
        choices = {name: " or ".join(f"{m}/{d}" for m, d in found) for name, found in value.items()}
        return ", ".join(f"{name} {text}, as its power tells" for name, text in choices.items())
    if key == "poll":
        return "polled: " + ("everything" if value == ["*"] else ", ".join(value))
    if key == "moves":
        return "its scale moves: " + ", ".join(value)
    if key == "analog":
        return "Analog Inputs: " + ", ".join(f"{what[0]} on endpoint {endpoint}" for endpoint, what in value.items())
    if key == "software_below":
        return f"while its software is below {value}"
    if key == "skip":
        return "has no " + ", ".join(value)
    if key == "skip_endpoints":
        return "endpoint " + ", ".join(map(str, value)) + " answers nobody"
    if key == "limit":
        if value["by"] == "setpoint":
            return f"can be held: {value['back_c']:g} degrees less"
        return f"can be held: {value['least_a']} to {value['most_a']} A"
    return ""


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(render(), "utf-8")


if __name__ == "__main__":
    main()
