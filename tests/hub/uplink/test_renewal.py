"""A certificate is renewed in time, shown at the next connect, and rolled back where the broker refuses it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from deploy.pki import Authority
from hub.contract.envelope import split_sign1
from hub.uplink import renewal
from hub.uplink.renewal import TABLE, adopted_file
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.est_server import EstServer, certs_only
from tests.harness.house import House
from tests.harness.waiting import wait_for

Make = Callable[..., House]


@pytest.fixture
def pki(tmp_path: Path) -> Authority:
    """A certificate of the hub that ends in three weeks."""
    authority = Authority(tmp_path / "short-pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub", ends_in=timedelta(days=21))
    authority.issue("headend")
    return authority


@pytest.fixture
def broker(tmp_path: Path, pki: Authority) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", pki).start()
    yield broker
    broker.stop()


@pytest.fixture
def make_est(pki: Authority) -> Iterator[Callable[..., EstServer]]:
    servers: list[EstServer] = []

    def make(**options: Any) -> EstServer:
        servers.append(EstServer(pki, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def _events(house: House) -> list[str]:
    return [event["event"] for event in house.store.events(100).result(10)]


def test_a_new_key_is_certified_shown_and_signs_from_then_on(
    tmp_path: Path, pki: Authority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    est = make_est()
    old_kid = _kid(pki.directory / "hub.pem")
    heard = ControlPoint(pki.directory, broker.port)
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        wait_for("the event", lambda: "certificate.renewed" in _events(house))
        house.wait_state("up")
        assert est.requests[0][0] == "MTR-1", "the old certificate asks for the new one"
        new_kid = house.identity.signer.kid
        assert new_kid != old_kid
        house.read(1)
        house.wait_drained()
        wait_for("a message sealed with the new key", lambda: new_kid in _kids(heard))
        file = adopted_file(tmp_path / "home" / "data")
        assert file.stat().st_mode & 0o077 == 0, "the key is the hub's alone"
    finally:
        house.stop()
        heard.stop()
    asked = len(est.requests)
    again = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        again.wait_state("up")
        assert again.identity.signer.kid == new_kid, "a restart keeps to the new one"
        assert len(est.requests) == asked, "what was just renewed is not renewed again"
    finally:
        again.stop()


def test_a_certificate_that_the_broker_refuses_is_rolled_back(
    tmp_path: Path, pki: Authority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    est = make_est(issuer=Authority(tmp_path / "unknown-pki", name="an authority the broker does not know"))
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        before = house.identity.signer.kid
        wait_for("the event", lambda: "certificate.rolled_back" in _events(house))
        house.wait_state("up")
        house.wait_condition("certificate-not-renewed")
        assert house.identity.signer.kid == before and "certificate.renewed" not in _events(house)
        assert not adopted_file(tmp_path / "home" / "data").exists()
        house.read(1)
        house.wait_drained()
    finally:
        house.stop()


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [("busy", 202, b""), ("error", 500, b"sorry"), ("garbage", 200, b"AAAA"), ("no base64", 200, b"\xff")],
)
def test_a_server_that_gives_nothing_useful_costs_nothing(
    tmp_path: Path,
    pki: Authority,
    broker: Broker,
    make_est: Callable[..., EstServer],
    name: str,
    status: int,
    body: bytes,
) -> None:
    est = make_est(answer=lambda _request: (status, body))
    _refuses_to_change(tmp_path, pki, broker, est)


@pytest.mark.parametrize("wrong", ["key", "name", "end"])
def test_a_certificate_that_is_not_ours_is_not_taken(
    tmp_path: Path, pki: Authority, broker: Broker, make_est: Callable[..., EstServer], wrong: str
) -> None:
    def answer(request: x509.CertificateSigningRequest) -> tuple[int, bytes]:
        if wrong == "end":
            return 200, certs_only(pki.certify(request, ends_in=timedelta(days=2)))
        cert_file, _ = pki.issue("MTR-1" if wrong == "key" else "MTR-2", file_name="other")
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        return 200, certs_only(certificate)

    _refuses_to_change(tmp_path, pki, broker, make_est(answer=answer))


def _refuses_to_change(tmp_path: Path, pki: Authority, broker: Broker, est: EstServer) -> None:
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        before = house.identity.signer.kid
        house.wait_condition("certificate-not-renewed")
        house.wait_state("up")
        assert house.status()["sessions"] == 1 and house.identity.signer.kid == before
        assert len(est.requests) == 1, "it asks again in hours, not at once"
    finally:
        house.stop()


def test_a_certificate_with_a_long_life_is_left_alone(
    tmp_path: Path, pki: Authority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    pki.issue("MTR-1", file_name="hub", ends_in=timedelta(days=365))
    est = make_est()
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        house.wait_state("up")
        house.wait_drained()
        assert not est.requests
    finally:
        house.stop()


def test_a_renewed_certificate_of_another_hub_or_an_older_one_does_not_count(tmp_path: Path, pki: Authority) -> None:
    files = pki.directory / "hub.pem", pki.directory / "hub.key"
    file = adopted_file(tmp_path)
    file.parent.mkdir()
    for cn, begins, counts in (("MTR-1", 0, True), ("MTR-2", 0, False), ("MTR-1", -9, False)):
        cert, key = pki.issue(cn, file_name="renewed", begins_in=timedelta(days=begins))
        file.write_bytes(key.read_bytes() + cert.read_bytes())
        identity, cert_file, _ = renewal.newest_identity(*files, tmp_path)
        assert (cert_file == file) is counts and identity.hub_id == "MTR-1"
    file.write_bytes(b"torn")
    assert renewal.newest_identity(*files, tmp_path)[1] == files[0], "a damaged file costs no start"


def test_the_table_knows_every_case() -> None:
    states = {renewal.OWN, renewal.NEW, renewal.OLD}
    assert set(TABLE) == {(state, event) for state in states for event in ("enrolled", "let in", "turned away")}
    assert {state for state, _ in TABLE.values()} == states


def _kid(cert_file: Path) -> bytes:
    from hub.contract.envelope import kid_of

    return kid_of(x509.load_pem_x509_certificate(cert_file.read_bytes()))


def _kids(heard: ControlPoint) -> set[bytes]:
    found = set()
    while not heard.raw.empty():
        topic, payload = heard.raw.get()
        if topic.endswith("/readings"):
            found.add(split_sign1(payload)[0][4])
    return found
