"""A key that never leaves its token signs the TLS handshake and what the hub seals: one identity, one kid."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.est_server import EstServer
from tests.harness.hub import ROOT, Hub
from tests.harness.token import MISSING, NO_TPM, SoftToken, Token, TpmToken
from tests.harness.tpm import NetworkTpm
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

# Makes a key in the token (a TPM's has its first), in a process that has the token's environment, and prints a request
# for its certificate.
_REQUEST = """
import sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from drivers.pkcs11_token import HardwareKey, generate, let_go, read_public_key
from hub.wire.keys.pkcs11 import HardwareError, parse_uri
uri = parse_uri(sys.argv[1])
try:
    key = HardwareKey(uri, read_public_key(uri))
except HardwareError:
    key = generate(uri)
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "MTR-1")])
request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
sys.stdout.buffer.write(request.public_bytes(serialization.Encoding.PEM)); sys.stdout.flush()
let_go(uri.module)
import os; os._exit(0)
"""

# As the hub does it: its own login comes before OpenSSL knows the key; then many connects, each with a new context.
_HANDSHAKES = """
import socket, ssl, sys
from pathlib import Path
from cryptography import x509
from drivers.pkcs11_token import let_go, load_key
from hub.wire.keys.pkcs11 import parse_uri
from drivers.tls import client_context
uri, certificate, ca, port = sys.argv[1:]
load_key(parse_uri(uri), x509.load_pem_x509_certificate(Path(certificate).read_bytes()).public_key())
for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3] * 10:
    context = client_context(Path(ca), Path(certificate), uri)
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("localhost", int(port))) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(b"\\x10\\x0d\\x00\\x04MQTT\\x04\\x02\\x00\\x3c\\x00\\x01x")
            print(tls.version(), tls.recv(4).hex())
let_go(parse_uri(uri).module)
"""


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return SoftToken(tmp_path / "token")


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Token]:
    if NO_TPM:
        pytest.skip(NO_TPM)
    chip = NetworkTpm(tmp_path / "chip")
    yield TpmToken(tmp_path / "tpm", chip)
    chip.close()


@pytest.fixture(params=["token", "tpm"])
def each_token(request: pytest.FixtureRequest) -> Token:
    token: Token = request.getfixturevalue(request.param)
    return token


def certify(
    token: Token, authority: DevelopmentAuthority, name: str = "hub", ends_in: timedelta = timedelta(days=700)
) -> Path:
    """A new key in the token and its certificate."""
    done = subprocess.run(
        [sys.executable, "-c", _REQUEST, token.uri(name)], cwd=ROOT, env={**os.environ, **token.env},
        capture_output=True,
    )  # fmt: skip
    assert done.stdout, done.stderr.decode()
    token.rest()
    request = x509.load_pem_x509_csr(done.stdout)
    assert request.is_signature_valid
    file = token.folder / f"{name}.pem"
    file.write_bytes(authority.certify(request, ends_in).public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def certificate(token: Token, authority: DevelopmentAuthority) -> Path:
    file = certify(token, authority)
    (authority.directory / "hardware.pem").write_bytes(file.read_bytes())
    return file


@pytest.fixture
def watcher(authority: DevelopmentAuthority, broker: Any, certificate: Path) -> Iterator[ControlPoint]:
    watcher = ControlPoint(authority.directory, broker.port, "hardware")
    yield watcher
    watcher.stop()


@pytest.mark.parametrize("form", ["uri", "pem"])
def test_one_key_in_hardware_shows_itself_and_signs(
    make_hub: Callable[..., Hub], token: Token, certificate: Path, watcher: ControlPoint, form: str
) -> None:
    key_file = token.uri("hub")
    if form == "pem":
        from hub.wire.keys.pkcs11 import parse_uri, to_pem

        (token.folder / "hub.key").write_bytes(to_pem(parse_uri(key_file)))
        key_file = str(token.folder / "hub.key")
    hub = make_hub(uplink__cert_file=str(certificate), uplink__key_file=key_file)
    hub.env |= token.env
    assert "fine; hub MTR-1" in _check(hub).stdout
    hub.start()
    hub.wait_uplink()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(0x0001, b"42") == 0
    wait_for("the reading, verified with that key", lambda: watcher.values("boiler") == [42.0])
    assert not watcher.faults and not watcher.books.missing()
    adapter.close()
    assert hub.stop() == 0, "and it ends in good order"


def _check(hub: Hub) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hub", "check-config", str(hub.config)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **hub.env}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ("object=hub", "object=other", 1, ["0 keys of that name"]),
        ("token=meterhub", "token=lost", 1, ["no such token"]),
        ("libsofthsm2.so", "none.so", 1, ["none.so"]),
        ("/pin", "/no-pin", 1, ["pin-source", "No such file"]),
        ("object=hub;", "", 2, ["names the key by object= or id="]),
        ("token=", "tokens=", 2, ["uplink.key_file", "'tokens'"]),
    ],
)
def test_a_key_that_cannot_be_used_is_one_clear_line(
    make_hub: Callable[..., Hub], token: Token, certificate: Path, old: str, new: str, status: int, words: list[str]
) -> None:
    hub = make_hub(uplink__cert_file=str(certificate), uplink__key_file=token.uri("hub").replace(old, new, 1))
    hub.env |= token.env
    done = _check(hub)
    assert done.returncode == status and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_another_keys_certificate_and_an_openssl_without_provider_are_told(
    make_hub: Callable[..., Hub], token: Token, certificate: Path, authority: DevelopmentAuthority
) -> None:
    certify(token, authority, "other")
    hub = make_hub(uplink__cert_file=str(certificate), uplink__key_file=token.uri("other"))
    hub.env |= token.env
    done = _check(hub)
    assert done.returncode == 2 and "is not the key of" in done.stderr
    hub = make_hub(uplink__cert_file=str(certificate), uplink__key_file=token.uri("hub"))
    hub.env |= {**token.env, "OPENSSL_CONF": "/nonexistent"}
    done = _check(hub)
    assert done.returncode == 2 and "OPENSSL_CONF has to name" in done.stderr


# Nothing has used OpenSSL before.
_LOGIN_FIRST = """
import sys
from drivers.pkcs11_token import let_go, read_public_key
from hub.wire.keys.pkcs11 import parse_uri
uri = parse_uri(sys.argv[1])
print(read_public_key(uri).curve.name)
let_go(uri.module)
"""


def test_a_module_and_openssl_do_not_wait_for_one_another(each_token: Token, authority: DevelopmentAuthority) -> None:
    certify(each_token, authority)
    words = [sys.executable, "-c", _LOGIN_FIRST, each_token.uri("hub")]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **each_token.env}, capture_output=True, timeout=60)
    assert done.stdout == b"secp256r1\n", done.stderr.decode()


def test_every_handshake_of_a_process_verifies_the_broker(
    broker: Broker, each_token: Token, authority: DevelopmentAuthority
) -> None:
    uri, certificate = each_token.uri("hub"), certify(each_token, authority)
    words = [sys.executable, "-c", _HANDSHAKES, uri, certificate, authority.ca_file, str(broker.port)]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **each_token.env}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["TLSv1.2 20020000", "TLSv1.3 20020000"] * 10, done.stderr


def test_a_certificate_is_renewed_with_a_new_key_beside_the_old_one(
    make_hub: Callable[..., Hub], each_token: Token, authority: DevelopmentAuthority
) -> None:
    token = each_token
    certificate = certify(token, authority, "hub", timedelta(seconds=100))
    est = EstServer(authority)
    try:
        hub = make_hub(
            uplink__cert_file=str(certificate), uplink__key_file=token.uri("hub"), uplink__est_url=est.url
        )  # fmt: skip
        hub.env |= token.env
        hub.start()

        def told(name: str) -> bool:
            return name in [event["event"] for event in hub.ask("events")]

        wait_for("the renewal", lambda: told("certificate.renewed"))
        hub.wait_uplink()
        renewed = (hub.data_dir / "identity/renewed.pem").read_text()
        assert "PKCS#11 PROVIDER URI" in renewed and "PRIVATE KEY" not in renewed
        hub.stop()
        token.rest()
        hub.start()
        hub.wait_uplink()
        assert len(est.requests) == 1, "the new one is what a restart goes on with"
    finally:
        est.close()
