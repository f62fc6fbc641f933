"""A real mosquitto: mutual TLS, persistence, to be killed and started again."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from deploy.pki import Authority
from tests.harness.waiting import free_port, wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """mosquitto on a free port of the loopback. `server` names its certificate's file stem in the PKI."""

    def __init__(
        self, directory: Path, authority: Authority, server: str = "broker", extra: str = "", port: int = 0
    ) -> None:
        self.port = port or free_port()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        pki = authority.directory
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"cafile {authority.ca_file}\ncertfile {pki / server}.pem\nkeyfile {pki / server}.key\n"
            "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            "persistence true\n"
            f"persistence_location {directory}/\nautosave_interval 1\nautosave_on_changes true\n"
            "max_queued_messages 0\nuser root\nlog_type all\n" + extra
        )

    def start(self, **options: Any) -> "Broker":
        """`options`: of subprocess.Popen."""
        assert MOSQUITTO, "mosquitto is missing: make setup installs it"
        log = (self._directory / "mosquitto.log").open("ab")
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stdout=log, stderr=log, **options)
        log.close()
        wait_for("mosquitto to listen", self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self._directory / "mosquitto.log").read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
