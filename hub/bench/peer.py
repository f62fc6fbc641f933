"""What benchmarks talk to: a mosquitto of their own on the loopback, with certificates of its own, and a real hub."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.services.admin.client import NoDaemon, ask

_START_S = 10.0
_READY_S = 30.0


class NoBroker(Exception):
    """There is no mosquitto to measure against; the text says what to do."""


def self_signed(directory: Path, name: str, common_name: str = "") -> None:
    """Write `NAME.pem` and `NAME.key`: a P-256 certificate for this name, or `common_name`, and the loopback that signs
    itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = directory / f"{name}.key"
    key_file.touch(0o600)  # the hub takes no key that others may read
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class LocalBroker:
    """mosquitto with mutual TLS on a free port; certificates `broker`, `hub` and `headend` lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise NoBroker("bench uplink drains into a mosquitto of its own: apt-get install mosquitto")
        self_signed(directory, "broker", "localhost")
        for name in ("hub", "headend"):
            self_signed(directory, name)
        (directory / "clients.pem").write_bytes(
            (directory / "hub.pem").read_bytes() + (directory / "headend.pem").read_bytes()
        )
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        config = directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {directory}/clients.pem\n"
            f"certfile {directory}/broker.pem\nkeyfile {directory}/broker.key\n"
            "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nuser root\n"
        )
        self._process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
        self._await_port()

    def _await_port(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        raise NoBroker("mosquitto did not start on the loopback")

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


def start_hub(directory: Path, port: int, udp_port: int, more: str) -> "subprocess.Popen[bytes]":
    """A hub in a process of its own, its uplink up. `more`: tables of its configuration. Raises TimeoutError.

    It has no budget for a day's flash: a second of a bench writes what a home writes in an hour, and beyond the budget
    commits wait for company (store/write_budget.py), which would be measured instead.
    """
    (directory / "hub.toml").write_text(
        f'[hub]\ndata_dir = "{directory}/data"\nrun_dir = "{directory}/run"\n[store]\ndaily_write_mb = 0\n'
        f'[han.udp]\nlisten = "127.0.0.1:{udp_port}"\n'
        f'[uplink]\nhost = "127.0.0.1"\nport = {port}\nca_file = "{directory}/broker.pem"\n'
        f'cert_file = "{directory}/hub.pem"\nkey_file = "{directory}/hub.key"\n{more}'
    )
    hub = subprocess.Popen(
        [sys.executable, "-m", "hub", "run", "--config", str(directory / "hub.toml")], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        try:
            if ask(directory / "run" / "admin.sock", "status")["uplink"]["state"] == "up":
                return hub
        except NoDaemon:
            pass
        time.sleep(0.05)
    hub.kill()
    raise TimeoutError("the hub did not come up")


def free_udp_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
