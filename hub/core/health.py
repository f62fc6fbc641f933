"""Health: a table of conditions, each with what it means and what an engineer can do about it.

Code raises a condition by its code and adds the details of the moment; the words and the remedy stand here, so that
`meterhub status`, `doctor` and the journal say the same. A condition whose cause is also raised hides behind it.
"""

import threading
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """One row of the table. severity: "error" (something does not work) or "warning" (it will not, or not well)."""

    severity: str
    title: str
    remedy: str
    depends_on: tuple[str, ...] = ()


CONDITIONS: dict[str, Kind] = {
    "uplink-dns": Kind(
        "error",
        "the broker's name cannot be resolved",
        "check uplink.host in hub.toml and the DNS server that the modem hands out",
    ),
    "uplink-unreachable": Kind(
        "error",
        "the broker cannot be reached",
        "check the modem and its antenna, then uplink.host and uplink.port in hub.toml",
    ),
    "uplink-server-untrusted": Kind(
        "error",
        "the broker's certificate is not accepted",
        "compare the broker's certificate (issuer, names, dates) with uplink.ca_file and uplink.host; check the clock",
    ),
    "uplink-refused": Kind(
        "error",
        "the broker closes the connection before a session exists",
        "check the dates and issuer of uplink.cert_file: the broker may not accept it; its log says why",
        depends_on=("certificate-expired", "certificate-not-yet-valid"),
    ),
    "uplink-not-authorised": Kind(
        "error",
        "the broker does not let this hub in",
        "let the utility enable this hub's identity at the broker",
    ),
    "operator-expires-soon": Kind(
        "warning",
        "an operator's time ends within thirty days, or has ended",
        "let the utility send a new list of operators (`trust`) while an admin is still valid",
        depends_on=("operators-without-admin",),
    ),
    "operators-without-admin": Kind(
        "error",
        "no admin among the operators is valid any more: nobody can bring another list over the uplink",
        "have the manufacturer sign a new list for this hub; a field engineer brings it: meterhub operators recover",
    ),
    "operators-on-trial": Kind(
        "warning",
        "a new list of operators is on trial",
        "let one of its admins send `trust.confirm`; else the list before it returns",
    ),
    "operators-unreadable": Kind(
        "error",
        "the operators' file does not read: who commanded before still does",
        "mend control.operators_file (meterhub check-config says what is wrong), then meterhub reload",
    ),
    "uplink-nobody-listens": Kind(
        "error",
        "the broker has nobody who takes what this hub sends",
        "let the utility start its control point, or look at what it subscribes to; nothing is lost meanwhile",
    ),
    "uplink-not-booked": Kind(
        "warning",
        "the control point has not said for a week that it keeps what arrives",
        "let the utility send `booked` (meterhub headend keep does); the hub goes on, and a broker's loss stays unseen",
    ),
    "uplink-busy": Kind("warning", "the broker asks hubs to stay away", "none: the hub comes back by itself, slowly"),
    "uplink-redirected": Kind(
        "warning", "the broker sends hubs to another server", "none: the hub goes there, if uplink.hosts has it"
    ),
    "uplink-taken-over": Kind(
        "error",
        "another client uses this hub's identity",
        "find the second device with this hub's certificate, and revoke it: the key has been copied",
    ),
    "uplink-portal": Kind(
        "error",
        "something that is not the broker answers at its address",
        "check the modem: a captive portal or a proxy may be in the way; then uplink.port in hub.toml",
    ),
    "uplink-lost": Kind("warning", "the session to the broker was lost", "none: the hub reconnects by itself"),
    "uplink-message-refused": Kind(
        "error",
        "the broker refuses messages of this hub",
        "check the broker's access list for meters/{hub}/# and its quota; nothing is lost, the hub keeps trying",
    ),
    "uplink-commands-refused": Kind(
        "error",
        "the broker does not let this hub hear commands",
        "check the broker's access list: the hub subscribes to its commands, its groups' and everybody's",
    ),
    "certificate-expired": Kind("error", "this hub's certificate has expired", "give the hub a new certificate"),
    "certificate-not-yet-valid": Kind(
        "error",
        "this hub's certificate is not valid yet",
        "check the hub's clock (date -u) before the certificate",
    ),
    "certificate-expires-soon": Kind("warning", "this hub's certificate expires soon", "renew the certificate"),
    "certificate-not-renewed": Kind(
        "warning",
        "the hub's certificate could not be renewed",
        "look at the EST server's log (uplink.est_url) and at what the broker says; the hub tries again by itself",
    ),
    "store-full": Kind(
        "error",
        "no space is left for readings: adapters are told to wait",
        "free space on the file system of hub.data_dir; the hub goes on by itself",
    ),
    "store-read-only": Kind(
        "error",
        "the file system of hub.data_dir lets nobody write: adapters are told to wait",
        "the kernel makes a failing flash read-only (dmesg says why): exchange the board; else mount it writable",
    ),
    "store-failing": Kind(
        "error",
        "the flash answers with errors: adapters are told to wait",
        "look at the kernel's journal (dmesg) for the device; the adapters keep what they have; exchange the board",
    ),
    "store-slow": Kind(
        "warning",
        "the flash takes seconds to write: adapters wait for their answers",
        "see what else writes (meterhub bundle), and the flash's wear; a flash that stays so is near its end",
    ),
    "store-worn": Kind(
        "warning",
        "the flash says that its life is nearly over",
        "plan the exchange of this board; what it holds is at the utility as soon as it is booked",
    ),
    "store-salvaged": Kind(
        "warning",
        "the database was damaged, set aside and salvaged",
        "collect a support bundle; check the flash's health when it happens again",
    ),
    "store-wear": Kind(
        "warning",
        "more is written to flash than a day's budget: adapters wait for their answers",
        "none if it passes; if it lasts, see who reports so often (meterhub adapters), or raise store.daily_write_mb",
    ),
    "radio-missing": Kind(
        "error",
        "the Zigbee radio's port cannot be opened",
        "check radio.path in hub.toml and that the radio is plugged in",
    ),
    "radio-silent": Kind(
        "error",
        "the Zigbee radio does not answer",
        "none at first: the hub resets it by itself; if it lasts, check radio.baudrate and the radio's firmware",
    ),
    "radio-refuses": Kind(
        "error",
        "the Zigbee radio answers and sends nothing",
        "none at first: the hub resets it by itself; if it lasts, replace the radio: the network moves to the new one",
    ),
    "radio-other-network": Kind(
        "error",
        "the Zigbee radio has another network than the home's",
        "none: the home's network is put into the radio; if the other is meant, `meterhub radio restore` its backup",
    ),
    "radio-unstable": Kind(
        "warning",
        "the Zigbee radio restarts again and again",
        "check its supply and its cable; then its firmware. Replaced, the network moves to the new one",
        depends_on=("radio-missing", "radio-silent", "radio-refuses"),
    ),
    "radio-undelivered": Kind(
        "warning",
        "more than half of the frames to Zigbee devices are not acknowledged",
        "see which (meterhub radio); look for interference (meterhub radio scan), for a router that was taken away",
    ),
    "radio-starting": Kind("warning", "the Zigbee radio is starting", "wait"),
    "adapter-not-interviewed": Kind(
        "warning",
        "an appliance does not say what it is",
        "none at first: the hub asks again by itself; if it lasts, let the appliance join again near the hub",
        depends_on=("radio-missing", "radio-silent"),
    ),
    "adapter-withheld": Kind(
        "warning",
        "values of an appliance are withheld: what they count is not certain",
        "send `meterhub adapters --json` to the maintainers: the table of exceptions lacks this kind of appliance",
    ),
    "adapter-babbles": Kind(
        "warning",
        "an appliance says more than its share: most of it is dropped",
        "look at the appliance (meterhub adapters); a restart or a new firmware of it may help",
    ),
    "meter-missing": Kind(
        "error", "the meter's port cannot be opened", "check meter.path in hub.toml and the cable to the register port"
    ),
    "meter-silent": Kind(
        "warning",
        "the meter says nothing that can be read",
        "check the cable and meter.protocol in hub.toml; on a P1 port, that the request line is high",
        depends_on=("meter-missing", "meter-unreadable"),
    ),
    "meter-unreadable": Kind(
        "error",
        "the meter speaks, and cannot be read",
        "ask the utility for the meter's key, write it into a file and name that in meter.key_file in hub.toml; "
        "`meterhub meter` shows the last telegram",
    ),
    "meter-garbled": Kind(
        "warning",
        "more than one in twenty of the meter's telegrams is damaged or in doubt",
        "check the cable to the register port and how the head sits; `meterhub meter` shows the last telegram",
        depends_on=("meter-missing", "meter-silent"),
    ),
    "radio-unusable": Kind(
        "error",
        "the Zigbee radio's software does not load; everything else is served",
        "send a support bundle to the maintainers; an update or a restart may bring it back",
    ),
    "loop-stuck": Kind(
        "error",
        "a part of meterhub does not answer any more; the watchdog is about to restart it",
        "none: systemd starts the hub anew; send a support bundle when it happens again",
    ),
    "link-unusable": Kind("error", "an address to listen on cannot be used", "check han.udp.listen in hub.toml"),
    "adapters-crowded": Kind(
        "warning",
        "one address in the home brings more adapters than it may: its newest wait, or replace its silent ones",
        "find the device at that address (meterhub adapters); if it is no adapter, take it off the home's network",
    ),
    "adapters-full": Kind(
        "warning",
        "no place is left for another adapter",
        "see who is there (meterhub adapters) and forget who does not belong: meterhub adapters forget CLIENT_ID",
    ),
    "retained-full": Kind(
        "warning",
        "a message to be retained found no place: its adapter was told so",
        "see who publishes so much (meterhub trace); retained messages go when an empty one is published",
    ),
    "nameless-full": Kind(
        "warning",
        "more devices publish without connecting than the hub keeps apart: the newest are not heard",
        "see who they are (meterhub trace); restart the hub once those that do not belong are gone",
    ),
    "home-flooded": Kind(
        "warning",
        "a device in the home sends more than the hub can read; what is too much of it is dropped",
        "find the device at that address and take it off the home's network; others are served meanwhile",
    ),
    "slot-not-marked": Kind(
        "warning",
        "the boot loader was not told that this slot is good; the board will be started anew",
        "look at the journal (journalctl -u meterhub-slots -u rauc) and at `rauc status`",
    ),
    "data-unencrypted": Kind(
        "error",
        "readings and keys rest unencrypted in this hub's flash",
        "provision the board's hardware secret (deploy/README.md), then write its image anew",
    ),
    "clock-untrusted": Kind(
        "warning",
        "the clock is not synchronised; readings are flagged until it is",
        "check NTP (chronyc tracking) and the network",
    ),
    "internal-error": Kind("error", "meterhub met an error of its own", "send a support bundle to the maintainers"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that holds now."""

    code: str
    severity: str
    text: str
    remedy: str


class Health:
    """The conditions that hold now. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._details: dict[str, str] = {}

    def raise_condition(self, code: str, detail: str = "") -> None:
        """Say that a condition of the table holds; again with another detail replaces the detail."""
        if code not in CONDITIONS:
            raise KeyError(f"{code} is not in hub/health.py")
        with self._lock:
            self._details[code] = detail

    def clear_condition(self, *codes: str) -> None:
        with self._lock:
            for code in codes:
                self._details.pop(code, None)

    def set_condition(self, code: str, holds: bool, detail: str = "") -> None:
        if holds:
            self.raise_condition(code, detail)
        else:
            self.clear_condition(code)

    def holds(self, code: str) -> bool:
        """Whether a condition is there now."""
        with self._lock:
            return code in self._details

    def conditions(self) -> list[Condition]:
        """What holds, errors first, in the table's order; consequences of another condition are left out."""
        with self._lock:
            details = dict(self._details)
        found = [
            Condition(code, kind.severity, kind.title + (f": {details[code]}" if details[code] else ""), kind.remedy)
            for code, kind in CONDITIONS.items()
            if code in details and not any(cause in details for cause in kind.depends_on)
        ]
        return sorted(found, key=lambda condition: condition.severity != "error")
