# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest possible EZSP host, to talk to the NCP without an event loop. Time is a number that it moves."""

from __future__ import annotations

from tests.emulators.ezsp import tables
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.ash import Ash, frame
from tests.emulators.ezsp.codec import Codec, Fields
from tests.emulators.ezsp.device import WELL_KNOWN_KEY, Device
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile

NETWORK = {"extended_pan_id": b"8 bytes!", "pan_id": 0x1A62, "tx_power": 8, "channel": 15, "channels": 0x07FFF800}
SECURITY = {"bitmask": 0x0384, "link_key": b"L" * 16, "network_key": b"N" * 16}
ALLOW_JOINS = 1


class Host:
    """Commands go in by name, answers come out as dicts; callbacks collect in `callbacks`."""

    def __init__(self, *devices: Device, version: int = 13, nv: NonVolatile | None = None) -> None:
        self.now = 100.0
        self.air = Air(devices)
        self.ncp = Ncp(nv or NonVolatile(b"ncp-eui8"), self.air, version=version)
        self.callbacks: list[tuple[str, Fields]] = []
        self._names, self._numbers = tables.by_name(version), tables.resolve(version)
        self._codec = Codec(version)
        self._version = version
        self._sequence = 0
        self._ash = Ash()
        self._answers: list[tuple[str, Fields]] = []
        self.start()

    def start(self) -> None:
        """RST, and the version command in both formats."""
        self.ncp.receive(frame(0xC0), self.now)
        self._ash = Ash()
        self.ncp.bytes_to_send()
        self._ash.send(bytes((0, 0, 0, self._version)), self.now)
        self._exchange()
        self.command("version", desired=self._version)

    def command(self, name: str, **fields: object) -> Fields:
        """Send one command; the fields of its answer, with statuses as numbers."""
        layout = self._names[name]
        self._sequence = (self._sequence + 1) & 0xFF
        head = bytes((self._sequence, 0, 1)) + layout.number.to_bytes(2, "little")
        self._answers.clear()
        self._ash.send(head + self._codec.encode(layout.request, fields), self.now)
        self._exchange()
        assert self._answers, f"no answer to {name}"
        answered, values = self._answers[0]
        assert answered == name, f"{answered}: {values}"
        return values

    def wait(self, seconds: float) -> None:
        """Let time pass, stopping wherever something is due."""
        end = self.now + seconds
        self.ncp.pump(self.now)
        self._exchange()
        while (timer := self.ncp.get_timer()) is not None and timer <= end:
            self.now = max(self.now, timer)
            self.ncp.handle_timer(self.now)
            self._exchange()
        self.now = end

    def form(self) -> None:
        self.command("setInitialSecurityState", state=SECURITY)
        assert self.command("formNetwork", parameters=NETWORK)["status"] == 0

    def open(self, duration_s: int = 60) -> None:
        """Let devices with the well-known key join."""
        self.command("setPolicy", id=0, decision=ALLOW_JOINS)
        name = "importTransientKey" if "importTransientKey" in self._names else "addTransientLinkKey"  # before EZSP 12
        self.command(name, eui=b"\xff" * 8, key=WELL_KNOWN_KEY)
        self.command("permitJoining", duration_s=duration_s)

    def named(self, name: str) -> list[Fields]:
        return [fields for called, fields in self.callbacks if called == name]

    def _exchange(self) -> None:
        while True:
            to_ncp = self._ash.bytes_to_send()
            if to_ncp:
                self.ncp.receive(to_ncp, self.now)
            to_host = self.ncp.bytes_to_send()
            if to_host:
                self._ash.receive(to_host, self.now)
                self._take()
                # The acknowledgement is due after a moment: say it at once instead.
                self._ash.handle_timer(self.now + 0.021)
            if not to_ncp and not to_host:
                return

    def _take(self) -> None:
        while (event := self._ash.next_event()) is not None:
            raw = event[1]
            if event[0] != "data" or len(raw) < 5 or raw[2] != 1:
                continue
            layout = self._numbers[int.from_bytes(raw[3:5], "little")]
            values = self._codec.decode(tuple((name, self._plain(kind)) for name, kind in layout.response), raw[5:])
            (self.callbacks if raw[1] & 0x10 else self._answers).append((layout.name, values))

    def _plain(self, kind: str) -> str:
        if kind not in ("status", "ezsp", "sl"):
            return kind
        return "u32" if kind == "sl" or self._version >= tables.FIRST_SL_STATUS_VERSION else "u8"
