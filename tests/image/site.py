"""Everything around one board: the factory's station, mosquitto, the control point, a clock, a radio with a home, QEMU.

Two authorities, as in life: the station's certifies hubs, the utility's own its servers and its control point."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from deploy.image.disk import ENV_BYTES
from deploy.image.drop import put_drop
from deploy.image.qemu import HOST_ADDRESS, Machine, machine_of
from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.lot import Lot
from tests.harness.operator import Operator, cti_of
from tests.harness.update_server import UpdateServer
from tests.harness.waiting import free_port, wait_for
from tests.image.clock import TimeServer
from tests.image.console import Console

ROOT = Path(__file__).resolve().parents[2]
HUB_ID = "MTR-1"
_YEARS_20 = timedelta(days=7300)
HOME = {
    "seed": 1,
    "devices": [
        {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "name": "Boiler", "period_s": 5,
         "appliance": {"kind": "boiler", "nominal_w": 2000}},
        {"kind": "plug", "ieee": "00:0d:6f:00:00:00:00:01", "name": "Kettle", "appliance": "kettle"},
    ],
}  # fmt: skip


class Site:
    """One home with its meter, and the utility. Everything lives in `folder` and ends with `close`. `token`: words for
    the station that say where the device's key is made; none: softhsm2. `toml`: more tables of the hub's configuration,
    `uplink`: more lines of that table; `station`: more words for the lot's beginning; `broker`: more of its
    configuration; `home`: what is in the home (None: no radio); `meter`: HOST:PORT of a meter's line; `ssh_port`,
    `udp_port`: where the board's sshd, and its MQTT-SN over UDP, are to be found; `ipv6`: the board has that, too."""

    def __init__(
        self,
        folder: Path,
        build: Path,
        token: Sequence[str] = (),
        *,
        toml: str = "",
        uplink: str = "",
        station: Sequence[str] = (),
        broker: str = "",
        home: Mapping[str, Any] | None = HOME,
        meter: str | None = None,
        ssh_port: int | None = None,
        udp_port: int | None = None,
        ipv6: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.machine: Machine = machine_of(build, folder / "board")
        self.machine.make()
        self.clock = TimeServer()
        self.authority = DevelopmentAuthority(folder / "utility", "utility", ends_in=_YEARS_20)
        self.authority.issue("broker", hosts=["localhost", "127.0.0.1", HOST_ADDRESS], ends_in=_YEARS_20)
        self.authority.issue("headend", ends_in=_YEARS_20)
        self.broker = Broker(folder / "broker", self.authority, extra=broker)
        self._toml, self._uplink, self._station = toml, uplink, station
        self._home, self._meter, self._doors = home, meter, (ssh_port, udp_port)
        self._ipv6 = ipv6
        self.lot = Lot(folder / "lot")
        self._make_lot(token)
        self.broker.start()
        self.control_point = ControlPoint(self.authority.directory, self.broker.port, HUB_ID)
        self.updates = UpdateServer(self.authority)
        self.console = Console(folder / "console.sock", folder / "console.log")
        self.operator = Operator()
        key = (self.lot.folder / "operators" / f"{self.operator.kid}.key").read_bytes()
        self.operator.key = serialization.load_pem_private_key(key, None)  # type: ignore[assignment]
        self._radio_port = free_port()
        self._radio = None if home is None else self._start_radio()
        self._qemu: subprocess.Popen[bytes] | None = None
        self.powered_at = 0.0
        self.online_after_s = self.online_cpu_s = 0.0

    # The factory

    def _make_lot(self, token: Sequence[str]) -> None:
        """The station's two commands, and what the utility takes of them: the certificates, the operator's key."""
        toml = self.folder / "hub.toml"
        toml.write_text(
            f'{self._radio_table()}[uplink]\nboot_spread_s = 0\nhost = "{HOST_ADDRESS}"\n'
            f'port = {self.broker.port}\nca_file = "/etc/meterhub/ca.pem"\ncert_file = "/etc/meterhub/hub.pem"\n'
            f'key_file = "/etc/meterhub/hub.key"\npack_interval_s = 5\n{self._uplink}\n[update]\nkb_s = 0\n'
            + self._toml
        )
        self.lot.do(
            "init", "--operator", "grid:limit,price,read,field,admin", "--hub-toml", str(toml),
            "--uplink-ca", str(self.authority.ca_file), "--ntp", f"{HOST_ADDRESS} port {self.clock.port} minpoll 4",
            *self._station,
        )  # fmt: skip
        assert "1 devices made" in self.lot.do("provision", "--serial", HUB_ID, *token)
        with self.authority.ca_file.open("ab") as file:  # whom the utility's servers let in: this lot's hubs, too
            file.write((self.lot.folder / "ca.pem").read_bytes())
        certificate = self.lot.device(HUB_ID) / "etc-meterhub/hub.pem"
        shutil.copy(certificate, self.authority.directory / f"{HUB_ID}.pem")

    def _radio_table(self) -> str:
        return "" if self._home is None else f'[radio]\npath = "{self.machine.board.radio}"\n\n'

    def provision(self, base: Path | None = None) -> None:
        """What the factory does with a medium."""
        put_drop(self.machine.disk, self.lot.device(HUB_ID), base)

    # Power

    def power_on(self) -> int:
        """Start the board; returns a mark of the console to look from."""
        mark = self.console.mark()
        radio = None if self._home is None else f"127.0.0.1:{self._radio_port}"
        command = self.machine.command(
            f"socket,path={self.console.path}", radio, self._meter, *self._doors, ipv6=self._ipv6
        )
        log = (self.folder / "qemu.log").open("ab")
        self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.powered_at = time.monotonic()
        return mark

    def power_off(self) -> None:
        """Pull the plug: nothing of the board hears of it."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    # What the utility sees and does

    def command_update(self, bundle: Path, version: str) -> bytes:
        """Command an update to a bundle that the utility's server has; its cti. As a utility would it commands anew
        while the hub, which has just started, does not know the time yet."""
        url = self.updates.add(bundle).replace("localhost", HOST_ADDRESS)
        digest = hashlib.sha256(bundle.read_bytes()).hexdigest()

        def taken() -> bytes | None:
            command = self.operator.command("update", {"url": url, "sha256": digest, "version": version})
            self.control_point.send(command)
            cti = cti_of(command)
            wait_for("the first receipt", lambda: self.control_point.receipts(cti), 120, 0.2)
            refused = self.control_point.receipts(cti) == ["refused"]
            return None if refused and self.control_point.receipt(cti, "refused")["reason"] == "no-clock" else cti

        cti = wait_for("the hub's clock", taken, 120, 2)
        assert cti is not None
        return cti

    def wait_story(self, cti: bytes, *statuses: str, timeout_s: float = 600) -> None:
        """Wait until a command's receipts are these."""
        wait_for(f"the receipts {statuses}", lambda: self.control_point.receipts(cti) == list(statuses), timeout_s, 0.2)

    def states(self) -> list[dict[str, object]]:
        """Every state that hubs told, oldest first."""
        with self.control_point.lock:
            return [json.loads(state) for state in self.control_point.states]

    def wait_online(self, after: int, timeout_s: float = 240) -> dict[str, object]:
        """Wait until a hub said "online" after so many states were known; returns what it said."""

        def found() -> dict[str, object] | None:
            assert self._qemu is not None and self._qemu.poll() is None, "QEMU has ended: see qemu.log"
            return next((state for state in self.states()[after:] if state["state"] == "online"), None)

        state = wait_for("the hub to be online", found, timeout_s)
        assert state is not None
        self.online_after_s = time.monotonic() - self.powered_at
        self.online_cpu_s = self.qemu_cpu_s()
        return state

    def qemu_cpu_s(self) -> float:
        """CPU time that the board's QEMU has used, seconds."""
        assert self._qemu is not None
        fields = Path(f"/proc/{self._qemu.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def plugs(self) -> list[str]:
        """ZCL devices that readings have come from."""
        with self.control_point.lock:
            return [row[0] for row in self.control_point.books.readings if row[0].startswith("zb-")]

    def lanes(self) -> set[str]:
        """The lanes of which some message has come, and was verified."""
        with self.control_point.lock:
            return {lane for _, _, lane, _ in self.control_point.books.messages}

    def update_state(self) -> str:
        """The last step of an update that an event told of."""
        with self.control_point.lock:
            told = [event for event in self.control_point.books.events if event["event"] == "update.progress"]
        return str(told[-1]["state"]) if told else ""

    def assert_nothing_missing(self) -> None:
        """Every number of every lane is there, repeats are the same bytes, receipts are a chain."""
        wait_for("every number", lambda: not self.control_point.books.missing(), 60)
        with self.control_point.lock:
            assert not self.control_point.books.altered and not self.control_point.faults
        assert not self.control_point.chain_faults()

    # What the console says

    def status(self) -> dict[str, Any]:
        """The hub's own view of itself; that something ails it (exit status 1) is for the caller to judge."""
        status: dict[str, Any] = json.loads(self.console.ask("meterhub status --json || [ $? = 1 ]"))
        return status

    def environment(self) -> dict[str, str]:
        """U-Boot's variables as they are on the medium."""
        return dict(line.split("=", 1) for line in self.console.ask("fw_printenv").splitlines() if "=" in line)

    def costs(self) -> dict[str, float]:
        """What the hub and the board use: cpu_s, rss_kb, used_kb, total_kb, written_b."""
        pid = self.console.ask("systemctl show -p MainPID --value meterhub")
        stat = self.console.ask(f"cat /proc/{pid}/stat").rpartition(")")[2].split()
        memory = dict(re.findall(r"(\w+):\s+(\d+) kB", self.console.ask(f"cat /proc/meminfo /proc/{pid}/status")))
        disk = self.machine.board.disk["device"]
        sectors = int(self.console.ask(f"cat /sys/class/block/{disk}p5/stat").split()[6])
        return {
            "cpu_s": (int(stat[11]) + int(stat[12])) / 100,
            "rss_kb": int(memory["VmRSS"]),
            "used_kb": int(memory["MemTotal"]) - int(memory["MemAvailable"]),
            "total_kb": int(memory["MemTotal"]),
            "written_b": sectors * 512,
        }

    def sealed_environment(self, variables: bytes, number: int) -> bytes:
        """U-Boot's environment as it lies on the medium: CRC-32, the flag that tells which copy is newer, the text."""
        text = variables.ljust(ENV_BYTES - 5, b"\0")
        return zlib.crc32(text).to_bytes(4, "little") + bytes([number + 1]) + text

    def count_events(self, name: str) -> int:
        """How many events of a name have come."""
        with self.control_point.lock:
            return sum(event["event"] == name for event in self.control_point.books.events)

    # The rest

    def _start_radio(self) -> "subprocess.Popen[bytes]":
        home = self.folder / "home.json"
        home.write_text(json.dumps(self._home))
        words = [sys.executable, "-m", "tests.emulators.serve", "--tcp", f"127.0.0.1:{self._radio_port}"]
        words += ["--home", str(home), "--state", str(self.folder / "radio.json")]
        words += ["--control", str(self.folder / "radio.sock")]
        with (self.folder / "radio.log").open("wb") as log:
            radio = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
        wait_for("the radio to be ready", lambda: b"ready" in (self.folder / "radio.log").read_bytes())
        return radio

    def close(self) -> None:
        """End every part."""
        self.power_off()
        self.console.close()
        if self._radio is not None:
            self._radio.terminate()
            self._radio.wait()
        self.control_point.stop()
        self.broker.stop()
        self.clock.close()
        self.updates.close()
