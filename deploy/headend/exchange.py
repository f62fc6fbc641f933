"""The authority that certifies hubs is exchanged over a whole fleet, and no hub, no message and no order is missed.

    python -m deploy.headend.exchange --hubs 1000 --once

What `make fleet` starts (three brokers, simulated hubs, a real one), with an authority that certifies hubs and another
that certifies brokers, the service and its EST server. Every certificate has twenty years yet. The new authority
begins; the brokers believe both; every hub sees it at its next look at the EST server (once a week in a home, once in
some seconds here), and renews with its own client; a limit reaches all of them meanwhile. Then the old authority goes:
the brokers start again one after the other without it, and a certificate of it opens nothing any more.
"""

import shutil
import socket
import ssl
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.certificates import leaf, name_of
from deploy.headend.certificates import key_identifier_of
from deploy.headend.pilot import REAL, ROOT, Failed, Pilot, live, say
from deploy.provision.authority import DeviceAuthority, create
from deploy.waiting import free_port

_PASSPHRASE = b"of a pilot that is gone in an hour"
_BACK_S = 180.0
_LOOK_S_A_HUB = 0.05
_LEAST_LOOK_S = 10.0
_TWENTY_YEARS = timedelta(days=7300)
_OLD, _NEW = "old", "new"


class AuthorityExchange(Pilot):
    """A pilot with authorities of its own, and its story."""

    def __init__(self, folder: Path, *rest: Any) -> None:
        super().__init__(folder, *rest)
        self._est_port = free_port()
        self._issuing = _OLD
        self._earlier: list[str] = []
        self._given = 0
        self._clients = ""
        self._authorities: dict[str, DeviceAuthority] = {}

    def start(self, *, embedded: bool) -> None:
        if embedded:
            raise Failed("an exchange is one of mosquitto's files: the embedded broker has none")
        for name in (_OLD, _NEW):
            (self._folder / name).mkdir()
        self._begin_authority(_OLD)
        self._make_keys()
        self._authority.revoke()
        (self._folder / "passphrase").write_bytes(_PASSPHRASE)
        self._write_service_config("")
        self._write_broker_files()
        self._start_brokers(embedded=False)
        self._start_service()
        self._hubs_began = time.monotonic()
        look_s = max(_LEAST_LOOK_S, self.hubs * _LOOK_S_A_HUB)
        self._start_swarm(
            "--est", self._est_url, "--renewed", f"{self._folder}/renewed", "--look-s", f"{look_s:.0f}",
            program="deploy.fleet.renewing_swarm",
        )  # fmt: skip
        self._start_real_hub(f'est_url = "{self._est_url}"\nest_look_s = {look_s:.0f}\n')

    @property
    def _est_url(self) -> str:
        return f"https://localhost:{self._est_port}/.well-known/est"

    def _begin_authority(self, name: str) -> None:
        create(self._folder / name, f"pilot hubs {name}", _PASSPHRASE)
        self._authorities[name] = DeviceAuthority(self._folder / name, _PASSPHRASE)

    def _issuer(self, name: str) -> str:
        return key_identifier_of(self._authorities[name].certificate)

    def _certify_hub(self, name: str, file_name: str, ends_in: timedelta = _TWENTY_YEARS) -> None:
        authority, key = self._authorities[_OLD], ec.generate_private_key(ec.SECP256R1())
        certificate = leaf(name_of(name), key.public_key(), authority.certificate.subject, authority.key,
                           begins_in=timedelta(days=-700), ends_in=ends_in)  # fmt: skip
        file = self._pki / f"{file_name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file = file.with_suffix(".key")
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        shutil.copy(file, self._known / f"{name}.pem")

    def _certify_real_hub(self) -> None:
        self._certify_hub(REAL, "real/hub")

    def _write_service_config(self, clients: str) -> None:
        super()._write_service_config(clients)
        self._clients = clients
        folder, pki = self._folder, self._pki
        pids = " ".join(f"{folder}/broker{number}.pid" for number in range(len(self.ports)))
        earlier = ", ".join(f'"{folder}/{name}"' for name in self._earlier)
        with self._config.open("a") as config:
            config.write(
                f'[authority]\nfolder = "{folder}/{self._issuing}"\npassphrase_file = "{folder}/passphrase"\n'
                f'earlier = [{earlier}]\ntrusted = ["{pki}/ca.pem"]\nmore_crls = ["{pki}/crl.pem"]\n'
                f'trusted_file = "{folder}/trusted.pem"\ncrl_file = "{folder}/revoked.pem"\n'
                f'broker_command = ["sh", "-c", "for file in {pids}; do kill -HUP $(cat $file); done"]\n'
                f'[est]\nlisten = "127.0.0.1:{self._est_port}"\n'
                f'cert_file = "{pki}/broker.pem"\nkey_file = "{pki}/broker.key"\n'
            )

    def _write_broker_files(self) -> None:
        words = [sys.executable, "-m", "deploy.headend", "broker-files", str(self._config)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"broker-files: {done.stderr}")

    def _mosquitto_conf(self, place: Path, port: int) -> Path:
        file = super()._mosquitto_conf(place, port)
        text = file.read_text().replace(f"cafile {self._pki}/ca.pem", f"cafile {self._folder}/trusted.pem")
        file.write_text(f"{text}crlfile {self._folder}/revoked.pem\npid_file {self._folder}/{place.name}.pid\n")
        return file

    def _certify_by(self, issuing: str, *earlier: str) -> None:
        """Another configuration, for which the service starts again; what hubs send meanwhile waits at the brokers."""
        self._issuing, self._earlier = issuing, list(earlier)
        self._write_service_config(self._clients)
        child = self._children.pop("service")
        child.terminate()
        child.wait()
        self._start_service_process()

    def tell(self) -> bool:
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self.desk.get("/v1/fleet")["online"] >= wanted, _BACK_S)
        say("online", f"{wanted} of {wanted} hubs, with certificates of the old authority for twenty years")
        began = time.monotonic()
        self._begin_authority(_NEW)
        self._certify_by(_NEW, _OLD)
        self._sign_in()
        self.wait("the brokers to be told", lambda: self._figure("broker_files") >= 1)
        say("exchange", "a new authority certifies; brokers believe both")
        renewing = time.monotonic()
        self.wait("the first to renew", lambda: self._with_new() > 0, _BACK_S)
        self.limit_all(wanted)
        self.wait("every hub to sign with its new key", lambda: self._with_new() >= wanted, 1200)
        took_s = time.monotonic() - renewing
        say("exchange", f"{wanted} of {wanted} hubs sign with keys of the new authority after {took_s:.1f} s")
        self._certify_by(_NEW)
        self._sign_in()
        self.wait("the brokers' files", lambda: self._figure("broker_files") >= 1)
        for number in range(len(self.ports)):
            self._restart_broker(number)
        opened = [port for port in self.ports if self._lets_in("SIM-00000", self._pki / "hubs", port)]
        renewed = [port for port in self.ports if self._lets_in("headend", self._pki, port)]
        say("exchange", f"the old authority is gone {time.monotonic() - began:.1f} s after the new one began; its"
            f" certificates open {len(opened)} of {len(self.ports)} brokers")  # fmt: skip
        self.wait("all hubs to be online", lambda: self.desk.get("/v1/fleet")["online"] >= wanted, _BACK_S)
        order = self.limit_all(wanted)
        self.wait("no number to be missing", lambda: not self.missing(), _BACK_S)
        more = {
            "sign with the new authority's": f"{self._with_new()} of {wanted}",
            "certificates given": str(self._given),
            "seconds until all had renewed": f"{took_s:.1f}",
        }
        return self.conclude(order, wanted, more) and not opened and len(renewed) == len(self.ports)

    def _figure(self, name: str) -> int:
        return int(self.desk.get("/v1/fleet")["service"].get(name, 0))

    def _with_new(self) -> int:
        self._given = max(self._given, self._figure("enrolled"))
        return int(self.desk.get("/v1/certificates/issuers").get(self._issuer(_NEW), 0))

    def _restart_broker(self, number: int) -> None:
        child = self._children.pop(f"broker{number}")
        child.terminate()
        child.wait()
        self.start_broker(number)
        wanted = self.hubs + 1
        self.wait("hubs to be back", lambda: self.desk.get("/v1/fleet")["online"] >= wanted, _BACK_S)

    def _lets_in(self, name: str, folder: Path, port: int) -> bool:
        """Whether a broker answers a CONNECT of whoever has that certificate."""
        context = ssl.create_default_context(cafile=f"{self._pki}/ca.pem")
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        try:
            with (
                socket.create_connection(("localhost", port), 10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02xy")
                return tls.recv(4) == b"\x20\x02\x00\x00"
        except OSError:
            return False


def main() -> int:
    return live(AuthorityExchange, "exchange", __doc__ or "", hubs=300, brokers=3)


if __name__ == "__main__":
    sys.exit(main())
