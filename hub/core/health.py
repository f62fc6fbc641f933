"""Health: a table of conditions, each with what it means and what an engineer can do about it.

Code raises a condition by its code and adds the details of the moment; the words and the remedy stand here, so that
`meterhub status`, `doctor` and the journal say the same. A condition whose cause is also raised hides behind it.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """One row of the table. severity: "error" (something does not work) or "warning" (it will not, or not well).

    `title`: what is so; `remedy`: what to do, a command or an action; `why`: why it matters; `depends_on`: the
    conditions that it is a consequence of.
    """

    severity: str
    title: str
    remedy: str
    depends_on: tuple[str, ...] = ()
    why: str = ""


# What keeps the hub from a session, or a session from being of use.
_UPLINK = (
    "uplink-dns",
    "uplink-unreachable",
    "uplink-server-untrusted",
    "uplink-refused",
    "uplink-not-authorised",
    "uplink-nobody-listens",
    "uplink-busy",
    "uplink-taken-over",
    "uplink-portal",
    "uplink-lost",
    "uplink-message-refused",
    "uplink-ends-at-message",
)
_RADIO = ("radio-missing", "radio-silent", "radio-refuses", "radio-unusable", "radio-starting", "radio-other-network")
_UNWRITABLE = ("store-full", "store-read-only", "store-failing")

CONDITIONS: dict[str, Kind] = {
    "uplink-dns": Kind(
        "error",
        "the broker's name cannot be resolved",
        "check uplink.host in hub.toml and the DNS server that the modem hands out",
        why="Nothing is lost: readings wait in the hub, and the home goes on. No command reaches the hub.",
    ),
    "uplink-unreachable": Kind(
        "error",
        "the broker cannot be reached",
        "check the modem and its antenna, then uplink.host and uplink.port in hub.toml",
        why="Nothing is lost: readings wait in the hub, and the home goes on. No command reaches the hub.",
    ),
    "uplink-server-untrusted": Kind(
        "error",
        "the broker's certificate is not accepted",
        (
            "compare the broker's certificate (issuer, names, dates) with uplink.ca_file and uplink.host; check "
            "the clock"
        ),
        why=(
            "The hub says nothing to a peer that it cannot verify: that may be a thief, or the utility's new "
            "certificate."
        ),
        depends_on=("certificate-not-yet-valid",),
    ),
    "uplink-refused": Kind(
        "error",
        "the broker closes the connection before a session exists",
        "check the dates and issuer of uplink.cert_file: the broker may not accept it; its log says why",
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. The broker is there and says no "
            "before it says why."
        ),
        depends_on=("certificate-expired", "certificate-not-yet-valid"),
    ),
    "uplink-not-authorised": Kind(
        "error",
        "the broker does not let this hub in",
        "let the utility enable this hub's identity at the broker",
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. The broker knows who this is, and "
            "has no place for it."
        ),
    ),
    "operator-expires-soon": Kind(
        "warning",
        "an operator's time ends within thirty days, or has ended",
        "let the utility send a new list of operators (`trust`) while an admin is still valid",
        why=(
            "An operator whose time has ended cannot be replaced from afar: when it was the last, nobody may "
            "command this hub."
        ),
        depends_on=("operators-without-admin",),
    ),
    "operators-without-admin": Kind(
        "error",
        "no admin among the operators is valid any more",
        "have the manufacturer sign a new list for this hub; a field engineer brings it: meterhub operators recover",
        why="Nobody can bring another list of operators over the uplink: this hub goes on, and cannot be changed.",
    ),
    "operators-on-trial": Kind(
        "warning",
        "a new list of operators is on trial",
        "let one of its admins send `trust.confirm`; else the list before it returns",
        why="Who commands is not settled: without a confirmation the old list returns.",
    ),
    "operators-unreadable": Kind(
        "error",
        "the operators' file does not read: who commanded before still does",
        "mend control.operators_file (meterhub check-config says what is wrong), then meterhub reload",
        why="A change of who may command has not taken place.",
    ),
    "operators-none": Kind(
        "warning",
        "nobody may command this hub",
        "put the utility's operators into control.operators_file, then meterhub reload",
        why="No limit, no price, no update can be sent to it.",
        depends_on=("operators-unreadable",),
    ),
    "operators-not-loaded": Kind(
        "warning",
        "the operators' file was changed, and the hub has not read it",
        "meterhub reload",
        why="Whoever was added may not command yet, and whoever was removed still may.",
        depends_on=("operators-unreadable",),
    ),
    "uplink-nobody-listens": Kind(
        "error",
        "the broker has nobody who takes what this hub sends",
        ("let the utility start its control point, or look at what it subscribes to; nothing is lost meanwhile"),
        why="What the hub sends reaches nobody. It keeps it and asks again, gently.",
    ),
    "uplink-not-booked": Kind(
        "warning",
        "the control point has not said for a week that it keeps what arrives",
        (
            "let the utility send `booked` (meterhub headend keep does); the hub goes on, and a broker's loss "
            "stays unseen"
        ),
        why="Custody ends in the control point's book: what a broker loses on the way stays unseen.",
        depends_on=("uplink-nobody-listens",),
    ),
    "uplink-busy": Kind(
        "warning",
        "the broker asks hubs to stay away",
        "none: the hub comes back by itself, slowly",
        why=("Nothing is lost: readings wait in the hub, and the home goes on. A broker in need of rest gets it."),
    ),
    "uplink-redirected": Kind(
        "warning",
        "the broker sends hubs to another server",
        "none: the hub goes there, if uplink.hosts has it",
        why="The session moves; readings wait for the moment.",
    ),
    "uplink-taken-over": Kind(
        "error",
        "another client uses this hub's identity",
        "find the second device with this hub's certificate, and revoke it: the key has been copied",
        why="Whoever has this hub's key can speak in its name; and each throws the other out.",
    ),
    "uplink-portal": Kind(
        "error",
        "something that is not the broker answers at its address",
        "check the modem: a captive portal or a proxy may be in the way; then uplink.port in hub.toml",
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. The modem's network wants "
            "something first."
        ),
    ),
    "uplink-lost": Kind(
        "warning",
        "the session to the broker was lost",
        "none: the hub reconnects by itself",
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. A session ends now and then; it "
            "matters when it does not come back."
        ),
        depends_on=("certificate-expired",),
    ),
    "uplink-message-refused": Kind(
        "error",
        "the broker refuses messages of this hub",
        ("check the broker's access list for meters/{hub}/# and its quota; nothing is lost, the hub keeps trying"),
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. But the utility gets nothing of "
            "what the broker refuses."
        ),
    ),
    "uplink-commands-refused": Kind(
        "error",
        "the broker does not let this hub hear commands",
        "check the broker's access list: the hub subscribes to its commands, its groups' and everybody's",
        why="Readings go up, but no load limit comes down.",
    ),
    "uplink-ends-at-message": Kind(
        "error",
        "the broker ends each session at the hub's first message",
        ("check the broker's access list for meters/{hub}/#, and its limits of size and rate; its log says why"),
        why=(
            "Nothing is lost: readings wait in the hub, and the home goes on. But nothing arrives at the "
            "utility, and each attempt costs a handshake."
        ),
    ),
    "readings-old": Kind(
        "warning",
        "readings have waited here for more than a day",
        "see what keeps them (meterhub queue, meterhub uplink); nothing is lost while there is space",
        why="The utility bills by them; and when space runs out the oldest are thinned first.",
        depends_on=(*_UPLINK, "certificate-expired", *_UNWRITABLE),
    ),
    "certificate-expired": Kind(
        "error",
        "this hub's certificate has expired",
        "give the hub a new certificate",
        why="A broker need not let this hub in any more.",
    ),
    "certificate-not-yet-valid": Kind(
        "error",
        "this hub's certificate is not valid yet",
        "check the hub's clock (date -u) before the certificate",
        why=("The clock stands before the certificate's first day: what the hub signs now carries a wrong time."),
    ),
    "certificate-expires-soon": Kind(
        "warning",
        "this hub's certificate expires soon",
        "renew the certificate",
        why="After that day a broker need not let this hub in any more.",
    ),
    "certificate-not-renewed": Kind(
        "warning",
        "the hub's certificate could not be renewed",
        ("look at the EST server's log (uplink.est_url) and at what the broker says; the hub tries again by itself"),
        why="The present certificate ends, and the next one is not there.",
    ),
    "store-full": Kind(
        "error",
        "no space is left for readings: adapters are told to wait",
        "free space on the file system of hub.data_dir; the hub goes on by itself",
        why="Custody is what the hub promises: what it cannot keep, it does not take.",
    ),
    "store-read-only": Kind(
        "error",
        "the file system of hub.data_dir lets nobody write: adapters are told to wait",
        ("the kernel makes a failing flash read-only (dmesg says why): exchange the board; else mount it writable"),
        why="Custody is what the hub promises: what it cannot keep, it does not take.",
    ),
    "store-failing": Kind(
        "error",
        "the flash answers with errors: adapters are told to wait",
        ("look at the kernel's journal (dmesg) for the device; the adapters keep what they have; exchange the board"),
        why="Custody is what the hub promises: what it cannot keep, it does not take.",
    ),
    "store-slow": Kind(
        "warning",
        "the flash takes seconds to write: adapters wait for their answers",
        ("see what else writes (meterhub bundle), and the flash's wear; a flash that stays so is near its end"),
        why="An acknowledgement waits for the flash: adapters send again, and a limit is acted on late.",
        depends_on=("store-failing", "store-worn"),
    ),
    "store-worn": Kind(
        "warning",
        "the flash says that its life is nearly over",
        "plan the exchange of this board; what it holds is at the utility as soon as it is booked",
        why="A flash at its end loses what it was given, first one block, then all.",
    ),
    "store-salvaged": Kind(
        "warning",
        "the database was damaged, set aside and salvaged",
        "collect a support bundle; check the flash's health when it happens again",
        why="A part of what was kept may be lost; the event store.salvaged and its gap record say what.",
    ),
    "store-wear": Kind(
        "warning",
        "more is written to flash than a day's budget: adapters wait for their answers",
        ("none if it passes; if it lasts, see who reports so often (meterhub adapters), or raise store.daily_write_mb"),
        why="The flash has to last for fifteen years: what is written beyond its daily share shortens that.",
    ),
    "radio-missing": Kind(
        "error",
        "the Zigbee radio's port cannot be opened",
        "check radio.path in hub.toml and that the radio is plugged in",
        why=("Nothing on Zigbee is served: adapters there keep what they have, and let go of limits by themselves."),
    ),
    "radio-silent": Kind(
        "error",
        "the Zigbee radio does not answer",
        ("none at first: the hub resets it by itself; if it lasts, check radio.baudrate and the radio's firmware"),
        why=("Nothing on Zigbee is served: adapters there keep what they have, and let go of limits by themselves."),
    ),
    "radio-refuses": Kind(
        "error",
        "the Zigbee radio answers and sends nothing",
        (
            "none at first: the hub resets it by itself; if it lasts, replace the radio: the network moves to "
            "the new one"
        ),
        why="Nothing on Zigbee is answered: adapters there send again, and let go of limits by themselves.",
    ),
    "radio-other-network": Kind(
        "error",
        "the Zigbee radio has another network than the home's",
        ("none: the home's network is put into the radio; if the other is meant, `meterhub radio restore` its backup"),
        why="The home's devices know another network: none of them would be heard.",
    ),
    "radio-unstable": Kind(
        "warning",
        "the Zigbee radio restarts again and again",
        "check its supply and its cable; then its firmware. Replaced, the network moves to the new one",
        why=(
            "Each restart is some seconds without the home's devices, and something is wrong with its supply or "
            "with it."
        ),
        depends_on=("radio-missing", "radio-silent", "radio-refuses"),
    ),
    "radio-undelivered": Kind(
        "warning",
        "more than half of the frames to Zigbee devices are not acknowledged",
        ("see which (meterhub radio); look for interference (meterhub radio scan), for a router that was taken away"),
        why="Orders and acknowledgements do not arrive: readings come twice, limits late.",
        depends_on=("radio-missing", "radio-silent", "radio-refuses", "radio-starting"),
    ),
    "radio-database": Kind(
        "warning",
        "the Zigbee radio's database cannot be opened: the home is served without it",
        "none at first: the hub looks for it each minute; if it lasts, send a support bundle (meterhub bundle)",
        why="The home's devices are asked anew what they are, and those that join are known by their address alone.",
        depends_on=("radio-missing", "radio-silent", "radio-refuses", *_UNWRITABLE),
    ),
    "radio-slow": Kind(
        "warning",
        "frames wait for the Zigbee radio: it carries less than it is given",
        "see who is not reached, or says too much (meterhub adapters, meterhub radio info); then look for interference",
        why="What waits for ten seconds is given up: orders come late, adapters ask twice.",
        depends_on=("radio-missing", "radio-silent", "radio-refuses", "radio-starting", "radio-undelivered"),
    ),
    "radio-starting": Kind(
        "warning",
        "the Zigbee radio is starting",
        "wait",
        why="The home's Zigbee devices are served in a moment.",
        depends_on=("radio-missing", "radio-silent", "radio-refuses"),
    ),
    "adapter-not-interviewed": Kind(
        "warning",
        "an appliance does not say what it is",
        ("none at first: the hub asks again by itself; if it lasts, let the appliance join again near the hub"),
        why="Nothing of what it measures can be taken until it says what that is.",
        depends_on=("radio-missing", "radio-silent", "radio-refuses", "radio-starting", "radio-undelivered"),
    ),
    "adapter-withheld": Kind(
        "warning",
        "values of an appliance are withheld: what they count is not certain",
        ("send `meterhub adapters --json` to the maintainers: the table of exceptions lacks this kind of appliance"),
        why="A reading is exact or absent: one whose scale is in doubt is not sent.",
    ),
    "adapter-babbles": Kind(
        "warning",
        "an appliance says more than its share: most of it is dropped",
        "look at the appliance (meterhub adapters); a restart or a new firmware of it may help",
        why="The air is shared: one that talks without end takes it from the others.",
    ),
    "firmware-refused": Kind(
        "warning",
        "firmware for an appliance is not offered: it is not what an operator signed",
        "sign it (meterhub headend firmware) or take it out of the folder zigbee-firmware",
        why="Whoever could change an appliance's firmware could do with it as he likes.",
    ),
    "adapters-silent": Kind(
        "error",
        "every adapter that was in this home is silent",
        (
            "look at what they have in common: the access point or the radio (meterhub radio scan), a supply, "
            "the hub's address"
        ),
        why="Nothing of this home is measured, and nothing obeys: each lets go of its limit by itself.",
        depends_on=(*_RADIO, "link-unusable", "home-flooded", "radio-undelivered", *_UNWRITABLE),
    ),
    "adapter-silent": Kind(
        "warning",
        "an adapter has been silent for more than a day",
        "look at it: its supply, its place; if it was taken away: meterhub adapters forget CLIENT_ID",
        why="What it would measure is missing, and it does not obey; it lets go of its limit by itself.",
        depends_on=("adapters-silent", *_RADIO, "link-unusable"),
    ),
    "meter-missing": Kind(
        "error",
        "the meter's port cannot be opened",
        "check meter.path in hub.toml and the cable to the register port",
        why="The household's own power is not known: limits are held by what the appliances say.",
    ),
    "meter-silent": Kind(
        "warning",
        "the meter says nothing that can be read",
        "check the cable and meter.protocol in hub.toml; on a P1 port, that the request line is high",
        why="The household's own power is not known: limits are held by what the appliances say.",
        depends_on=("meter-missing", "meter-unreadable"),
    ),
    "meter-unreadable": Kind(
        "error",
        "the meter speaks, and cannot be read",
        (
            "ask the utility for the meter's key, write it into a file and name that in meter.key_file in "
            "hub.toml; `meterhub meter` shows the last telegram"
        ),
        why="The household's own power is not known: limits are held by what the appliances say.",
    ),
    "meter-garbled": Kind(
        "warning",
        "more than one in twenty of the meter's telegrams is damaged or in doubt",
        ("check the cable to the register port and how the head sits; `meterhub meter` shows the last telegram"),
        why="A doubtful telegram is never a reading: power is known late and with holes.",
        depends_on=("meter-missing", "meter-silent"),
    ),
    "radio-unusable": Kind(
        "error",
        "the Zigbee radio's software does not load; everything else is served",
        "send a support bundle to the maintainers; an update or a restart may bring it back",
        why="Nothing on Zigbee is served.",
    ),
    "loop-stuck": Kind(
        "error",
        "a part of meterhub does not answer any more; the watchdog is about to restart it",
        "none: systemd starts the hub anew; send a support bundle when it happens again",
        why="What that part did is not done: commands, sending or the radio.",
    ),
    "hub-restarts": Kind(
        "warning",
        "the hub was started again and again",
        "journalctl -u meterhub says what it ended of; send a support bundle",
        why="Each start costs the home some seconds, and something makes the hub end.",
        depends_on=("store-read-only", "store-failing", "loop-stuck"),
    ),
    "link-unusable": Kind(
        "error",
        "an address to listen on cannot be used",
        "check han.udp.listen in hub.toml",
        why="Adapters on Wi-Fi, Thread or Ethernet are not heard.",
    ),
    "adapters-crowded": Kind(
        "warning",
        ("one address in the home brings more adapters than it may: its newest wait, or replace its silent ones"),
        ("find the device at that address (meterhub adapters); if it is no adapter, take it off the home's network"),
        why="A device that invents names would take the places of others.",
    ),
    "adapter-out-of-class": Kind(
        "warning",
        "an adapter publishes what the class that it says it is of has not: that is refused",
        "see what it says of itself (meterhub trace) and set its class right, or replace the adapter",
        why="A device that gives itself out for another falsifies what the home is said to use.",
    ),
    "adapters-full": Kind(
        "warning",
        "no place is left for another adapter",
        ("see who is there (meterhub adapters) and forget who does not belong: meterhub adapters forget CLIENT_ID"),
        why="A new adapter is told to come again later.",
    ),
    "retained-full": Kind(
        "warning",
        "a message to be retained found no place: its adapter was told so",
        "see who publishes so much (meterhub trace); retained messages go when an empty one is published",
        why="Who subscribes later does not get that message.",
    ),
    "nameless-full": Kind(
        "warning",
        "more devices publish without connecting than the hub keeps apart: the newest are not heard",
        "see who they are (meterhub trace); restart the hub once those that do not belong are gone",
        why="The readings of a new device that does not connect are not taken.",
    ),
    "home-flooded": Kind(
        "warning",
        "a device in the home sends more than the hub can read; what is too much of it is dropped",
        "find the device at that address and take it off the home's network; others are served meanwhile",
        why="A part of what is sent to the hub is lost before it is read; honest adapters send again.",
    ),
    "slot-not-marked": Kind(
        "warning",
        "the boot loader was not told that this slot is good; the board will be started anew",
        "look at the journal (journalctl -u meterhub-slots -u rauc) and at `rauc status`",
        why="The boot loader counts starts without a good word, and then takes the other slot.",
    ),
    "slot-damaged": Kind(
        "error",
        "the slot that runs cannot be read everywhere; the board starts anew in the other, if that is good",
        "let the utility update this board: an update writes the other slot anew; if it comes back, exchange the board",
        why="What the hub has not read yet of its own programs may end it at any moment.",
    ),
    "data-in-memory": Kind(
        "error",
        "the data partition cannot be used: the home is served from memory, and each start forgets it",
        "switch the board off and on once; if it stays, exchange the board, or bring it a card with its identity",
        why="What has not gone up when the power fails is lost; the readings of before stay where nobody reads them.",
    ),
    "data-unencrypted": Kind(
        "error",
        "readings and keys rest unencrypted in this hub's flash",
        "provision the board's hardware secret (deploy/README.md), then write its image anew",
        why="Whoever takes the board reads what this home drew, and takes its keys.",
    ),
    "packet-filter-missing": Kind(
        "error",
        "this board's packet filter is not loaded: whoever reaches the board reaches each of its ports",
        "look at the journal (journalctl -u nftables); let the utility update this board, or start it anew",
        why="The network stays up all the same: a hub that nobody reaches can be neither commanded nor mended.",
    ),
    "clock-untrusted": Kind(
        "warning",
        "the clock is not synchronised; readings are flagged until it is",
        "check NTP (chronyc tracking) and the network",
        why=("What is measured now carries the flag of an uncertain time, and commands are refused with no-clock."),
    ),
    "internal-error": Kind(
        "error",
        "meterhub met an error of its own",
        "send a support bundle to the maintainers",
        why="The hub went on, but something of what it was to do was not done.",
    ),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that holds now."""

    code: str
    severity: str
    text: str
    remedy: str
    why: str


def without_consequences(codes: Iterable[str]) -> list[str]:
    """The codes of which no other one is the cause, directly or through a third; what is no condition is kept."""
    present = set(codes)
    return [code for code in codes if not _causes(code) & present]


def text_of(code: str, detail: str = "") -> str:
    """A condition in words, with what there is to say of this moment."""
    return CONDITIONS[code].title + (f": {detail}" if detail else "")


def _causes(code: str, known: frozenset[str] = frozenset()) -> set[str]:
    """Every condition that this one may be a consequence of."""
    found: set[str] = set()
    for cause in CONDITIONS[code].depends_on if code in CONDITIONS else ():
        if cause not in known:
            found |= {cause} | _causes(cause, known | {code, cause})
    return found


class Health:
    """The conditions that hold now. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._details: dict[str, str] = {}
        self._raised: dict[str, int] = {}

    def raise_condition(self, code: str, detail: str = "") -> None:
        """Say that a condition of the table holds; again with another detail replaces the detail."""
        if code not in CONDITIONS:
            raise KeyError(f"{code} is not in hub/core/health.py")
        with self._lock:
            self._details[code] = detail
            self._raised[code] = self._raised.get(code, 0) + 1

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

    def times_raised(self, code: str) -> int:
        """How often it was raised so far: who has it go after a while sees by this that it was raised again."""
        with self._lock:
            return self._raised.get(code, 0)

    def conditions(self) -> list[Condition]:
        """What holds, errors first, in the table's order; consequences of another condition are left out."""
        with self._lock:
            details = dict(self._details)
        shown = set(without_consequences(list(details)))
        found = [
            Condition(code, kind.severity, text_of(code, details[code]), kind.remedy, kind.why)
            for code, kind in CONDITIONS.items()
            if code in shown
        ]
        return sorted(found, key=lambda condition: condition.severity != "error")
