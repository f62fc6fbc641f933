"""The emulated radio in its own process, on a pty, with its control socket."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.harness.folders import folder_until_exit
from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


class Radio:
    """An EZSP NCP on a pty with `devices` behind it (see tests/emulators/home.py for their form)."""

    def __init__(self, devices: list[dict[str, Any]], *, baudrate: int = 0) -> None:
        self.directory = folder_until_exit("mh-radio-")
        self.path = self.directory / "tty"
        self._home = self.directory / "home.json"
        self._home.write_text(json.dumps({"seed": 1, "devices": devices}))
        self._baudrate = baudrate
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Radio":
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.emulators.serve", "--link", str(self.path), "--home", str(self._home),
                 "--state", str(self.directory / "ncp.json"), "--control", str(self.directory / "control"),
                 "--baud", str(self._baudrate)],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), (self.directory / "log").read_text()
        return self

    def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """One request on the control socket; its answer. Fails on a refusal."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.directory / "control"))
            sock.sendall(json.dumps({"do": what, **arguments}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(sock.makefile("rb").readline())
        assert answer.get("ok"), answer
        return answer

    def device(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.do("devices")["devices"]
        return next(row for row in rows if name in (row.get("client_id"), row.get("name"), row.get("ieee")))

    def published(self, client_id: str) -> list[list[Any]]:
        """`[topic id, payload, return code or None]` of what an adapter published lately."""
        rows: list[list[Any]] = self.device(client_id)["published"]
        return rows

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_published(self, client_id: str, count: int) -> None:
        # An adapter whose answers were lost asks five times in 50 s, then connects anew (MQTT-SN 1.2, 6.13).
        wait_for(f"{count} publishes of {client_id}", lambda: len(self.published(client_id)) >= count, PATIENCE_S)
