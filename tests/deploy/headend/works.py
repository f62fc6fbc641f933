"""A utility with an authority of its own: the service as a process, a mosquitto with its files, hubs' certificates."""

import copy
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.certificates import leaf, name_of
from deploy.headend.access import new_secret
from deploy.local_broker import Broker
from deploy.pki import DevelopmentAuthority
from deploy.provision.authority import DeviceAuthority, create
from deploy.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[3]
PASSPHRASE = b"correct horse"
_PEM, _PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()


class Works:
    """`uplink`: who certifies broker, service and EST server. Hubs are certified by the authorities in `folder/ca-N`,
    whose keys are files. `env`: of the service's process; `operator`: lines of [operator] in place of a key file."""

    def __init__(self, folder: Path, *, env: dict[str, str] | None = None, operator: str = "") -> None:
        self.folder = folder
        self.uplink = DevelopmentAuthority(folder / "pki", name="uplink")
        self.uplink.issue("broker", hosts=["localhost"])
        self.uplink.issue("headend")
        self.uplink.revoke()
        (folder / "known").mkdir()
        (folder / "passphrase").write_bytes(PASSPHRASE)
        self.authorities: dict[str, DeviceAuthority] = {}
        self._env = {**os.environ, **(env or {})}
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / "operator.key").write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, _PLAIN))
        self._operator = operator or f'key_file = "{folder}/operator.key"'
        self.secret, self._digest = new_secret()
        self.port, self.est_port, self.broker_port = free_port(), free_port(), free_port()
        self.config = folder / "headend.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self.broker: Broker | None = None

    @property
    def est_url(self) -> str:
        return f"https://localhost:{self.est_port}/.well-known/est"

    def authority(self, name: str) -> DeviceAuthority:
        """One with its key in a file, made at the first call."""
        if name not in self.authorities:
            folder = self.folder / name
            folder.mkdir()
            create(folder, name, PASSPHRASE)
            self.authorities[name] = DeviceAuthority(folder, PASSPHRASE)
        return self.authorities[name]

    def hub(
        self, name: str, authority: str, *, file_name: str = "", known: bool = True,
        begins_in: timedelta = timedelta(days=-700), ends_in: timedelta = timedelta(days=21),
    ) -> Path:  # fmt: skip
        """A certificate of a hub that ends soon; its key lies beside it."""
        issuer = self.authority(authority)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = leaf(
            name_of(name),
            key.public_key(),
            issuer.certificate.subject,
            issuer.key,
            begins_in=begins_in,
            ends_in=ends_in,
        )
        file = self.folder / "pki" / f"{file_name or name}.pem"
        file.write_bytes(certificate.public_bytes(_PEM))
        file.with_suffix(".key").write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, _PLAIN))
        file.with_suffix(".key").chmod(0o600)
        if known:
            (self.folder / "known" / f"{name}.pem").write_bytes(certificate.public_bytes(_PEM))
        return file

    def configure(self, issuing: str, *earlier: str, more: str = "") -> None:
        """headend.toml, with these authorities."""
        folder, pki = self.folder, self.folder / "pki"
        self.config.write_text(
            f'[service]\ndata_dir = "{folder}/data"\nlisten = "127.0.0.1:{self.port}"\n'
            f'[broker]\nhost = "localhost"\nport = {self.broker_port}\nca_file = "{pki}/ca.pem"\n'
            f'cert_file = "{pki}/headend.pem"\nkey_file = "{pki}/headend.key"\n'
            f'[operator]\nkid = "op"\n{self._operator}\n[registry]\ncertificates = "{folder}/known"\n'
            f"[policy]\nsecond_person_above = 1000\ngap_after_s = 2\nbooked_every_s = 5\n"
            f'[authority]\nfolder = "{folder}/{issuing}"\npassphrase_file = "{folder}/passphrase"\n'
            f"earlier = {json.dumps([f'{folder}/{name}' for name in earlier])}\n"
            f'trusted = ["{pki}/ca.pem"]\nmore_crls = ["{pki}/crl.pem"]\n'
            f'trusted_file = "{folder}/trusted.pem"\ncrl_file = "{folder}/revoked.pem"\n'
            f'broker_command = ["sh", "-c", "kill -HUP $(cat {folder}/broker.pid)"]\n{more}'
            f'[est]\nlisten = "127.0.0.1:{self.est_port}"\n'
            f'cert_file = "{pki}/broker.pem"\nkey_file = "{pki}/broker.key"\n'
            f'[client.desk]\nsecret_sha256 = "{self._digest}"\nroles = ["fleet", "usage", "control", "admin"]\n'
        )

    def words(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """The service's command line."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.headend", *words, str(self.config)], cwd=ROOT, env=self._env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def start_broker(self) -> None:
        done = self.words("broker-files")
        assert done.returncode == 0, done.stderr
        shown = copy.copy(self.uplink)
        shown.ca_file = self.folder / "trusted.pem"
        extra = f"crlfile {self.folder}/revoked.pem\npid_file {self.folder}/broker.pid\n"
        self.broker = Broker(self.folder / "broker", shown, port=self.broker_port, extra=extra, somebody=False).start()

    def restart_broker(self) -> None:
        assert self.broker is not None
        self.broker.stop()
        self.broker.start()

    def start(self) -> None:
        log = (self.folder / "service.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deploy.headend", "serve", str(self.config)], cwd=ROOT, env=self._env,
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        wait_for("the service to answer", self._answers)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def desk(self) -> httpx.Client:
        place = f"http://127.0.0.1:{self.port}"
        form = {"grant_type": "client_credentials"}
        token = httpx.post(f"{place}/oauth/token", data=form, auth=("desk", self.secret)).json()["access_token"]
        return httpx.Client(base_url=place, timeout=30, headers={"Authorization": f"Bearer {token}"})

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(30) == 0, self.log()
            self._process = None

    def end(self) -> None:
        try:
            self.stop()
        finally:
            if self.broker is not None:
                self.broker.stop()


def request_for(name: str | x509.Name, key: ec.EllipticCurvePrivateKey | None = None, **extensions: Any) -> bytes:
    """A PKCS #10 request, DER."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = name_of(name) if isinstance(name, str) else name
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension in extensions.values():
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
