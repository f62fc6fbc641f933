"""A real mosquitto: mutual TLS, persistence, to be killed and started again."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port, wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
_PRODUCTION = Path(__file__).resolve().parent / "broker"


def production_config(place: Path, port: int, pki: Path) -> Path:
    """deploy/broker's own configuration with its access list, for a mosquitto at this port of the loopback that keeps
    its sessions in the new folder `place`."""
    place.mkdir()
    shutil.copy(_PRODUCTION / "acl", place / "acl")
    text = (_PRODUCTION / "mosquitto.conf").read_text()
    for there, here in (
        ("listener 8883", f"listener {port} 127.0.0.1"),
        ("/etc/mosquitto/meterhub/acl", f"{place}/acl"),
        ("/etc/mosquitto/meterhub", str(pki)),
        ("/var/lib/mosquitto/", f"{place}/"),
    ):
        assert there in text, f"{_PRODUCTION}/mosquitto.conf has no {there!r}"
        text = text.replace(there, here)
    (place / "mosquitto.conf").write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    return place / "mosquitto.conf"


class Broker:
    """mosquitto on a free port of the loopback. `server` names its certificate's file stem in the PKI."""

    def __init__(
        self,
        directory: Path,
        authority: DevelopmentAuthority,
        server: str = "broker",
        extra: str = "",
        port: int = 0,
        *,
        somebody: bool = True,
    ) -> None:
        """`somebody`: a client that takes whatever hubs send, so that they are not told that nobody does."""
        self.port = port or free_port()
        self._somebody: mqtt.Client | None = None
        self._authority, self._wants_somebody = authority, somebody
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
        if self._wants_somebody and self._somebody is None:
            self._somebody = self._subscribed()
        return self

    def _subscribed(self) -> mqtt.Client:
        pki = self._authority.directory
        if not (pki / "somebody.pem").exists():
            self._authority.issue("somebody")
        client = mqtt.Client(CallbackAPIVersion.VERSION2, "somebody", clean_session=False)
        client.tls_set(
            str(self._authority.ca_file), str(pki / "somebody.pem"), str(pki / "somebody.key"),
            cert_reqs=ssl.CERT_NONE,  # tests have brokers that are misnamed, or of another authority
        )  # fmt: skip
        subscribed = threading.Event()
        client.on_connect = lambda client, *_: client.subscribe("meters/#", 0)
        client.on_subscribe = lambda *_: subscribed.set()
        client.reconnect_delay_set(1, 1)
        client.connect("localhost", self.port, keepalive=10)
        client.loop_start()
        assert subscribed.wait(30), "nobody could subscribe"
        return client

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self._directory / "mosquitto.log").read_text(errors="replace")

    def stop(self) -> None:
        self._leave()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _leave(self) -> None:
        if self._somebody is not None:
            self._somebody.disconnect()
            self._somebody.loop_stop()
            self._somebody = None

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
