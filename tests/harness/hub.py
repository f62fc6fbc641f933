"""A hub in its own process, as systemd would run it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.pki import DevelopmentAuthority
from hub.services.admin.client import NoDaemon, ask
from tests.harness.folders import folder_until_exit
from tests.harness.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]


class Hub:
    """Writes a configuration, runs `meterhub run`, asks it. Keyword arguments replace or add `table.key` settings."""

    def __init__(self, directory: Path, authority: DevelopmentAuthority, broker_port: int, **settings: Any) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "hub.toml"
        self.run_dir = folder_until_exit("mh-")
        self.data_dir = directory / "data"
        self.udp_port = free_port(__import__("socket").SOCK_DGRAM)
        pki = authority.directory
        tables: dict[str, dict[str, Any]] = {
            "hub": {"data_dir": str(self.data_dir), "run_dir": str(self.run_dir)},
            "han.udp": {"listen": f"127.0.0.1:{self.udp_port}"},
            "uplink": {
                "host": "localhost",
                "port": broker_port,
                "ca_file": str(authority.ca_file),
                "cert_file": str(pki / "hub.pem"),
                "key_file": str(pki / "hub.key"),
                "pack_interval_s": 0.3,
                "boot_spread_s": 0,
            },
        }
        for name, value in settings.items():
            table, _, key = name.replace("__", ".").rpartition(".")
            tables.setdefault(table, {})[key] = value
        if "hosts" in tables["uplink"]:
            del tables["uplink"]["host"], tables["uplink"]["port"]
        self.config.write_text(_toml(tables))
        self._process: subprocess.Popen[bytes] | None = None
        self.env: dict[str, str] = {}  # beside this process's own
        self.within: list[str] = []  # a command that it is started by
        self.log_file = directory / "hub.log"

    def start(self, wait: bool = True) -> "Hub":
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.within, sys.executable, "-m", "hub", "run", "--verbose", "--config", str(self.config)],
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, **self.env},
            )  # fmt: skip
        if wait:
            wait_for("the hub to answer", self.is_up)
        return self

    def is_up(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        try:
            self.ask("queue")
        except NoDaemon:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ask(self, what: str, **arguments: Any) -> Any:
        return ask(self.run_dir / "admin.sock", what, **arguments)

    def peak_bytes(self) -> int:
        """The most that was ever resident (VmHWM, proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("status")
        return answer

    def conditions(self) -> dict[str, str]:
        return {condition["code"]: condition["text"] for condition in self.status()["conditions"]}

    def wait_uplink(self, state: str = "up") -> None:
        wait_for(f"the uplink to be {state}", lambda: self.status()["uplink"]["state"] == state)

    def has_ended(self) -> bool:
        """Whether the process has ended by itself, with status 0."""
        return self._process is not None and self._process.poll() == 0

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status. Fails when it takes more than the promised 5 s."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(10)
        self._process = None
        return status

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-6000:]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this hub's configuration."""
        command = [sys.executable, "-m", "hub", *words, "--config", str(self.config)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    lines = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
