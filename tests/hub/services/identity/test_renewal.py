"""A certificate is renewed in time, shown at the next connect, and rolled back where the broker refuses it."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.pki import DevelopmentAuthority
from hub.core.health import Health
from hub.services.identity import renewal
from hub.services.identity.renewal import TABLE, adopted_file
from hub.wire.uplink.envelope import split_sign1
from hub.wire.uplink.event import decode_event
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.est_server import EstServer, certs_only
from tests.harness.house import House
from tests.harness.hub import Hub
from tests.harness.proxy import Proxy
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

Make = Callable[..., House]
Sealed = tuple[int, bytes, dict[str, Any]]


@pytest.fixture
def pki(tmp_path: Path) -> DevelopmentAuthority:
    """A certificate of the hub that has served two years and ends in three weeks."""
    authority = DevelopmentAuthority(tmp_path / "short-pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub", begins_in=timedelta(days=-700), ends_in=timedelta(days=21))
    authority.issue("headend")
    return authority


@pytest.fixture
def broker(tmp_path: Path, pki: DevelopmentAuthority) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", pki).start()
    yield broker
    broker.stop()


@pytest.fixture
def make_est(pki: DevelopmentAuthority) -> Iterator[Callable[..., EstServer]]:
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
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer]
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
        _announces_once_by_each(heard, old_kid, pki.directory / "hub.pem", adopted_file(tmp_path / "home" / "data"))
        house.read(1)
        house.wait_drained()
        wait_for("a message sealed with the new key", lambda: new_kid in _kids(heard))
        assert json.loads(heard.states[-1])["kid"] == new_kid.hex()
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


@pytest.mark.parametrize("delay_s", [pytest.param(0, marks=pytest.mark.slow), 0.3])
def test_a_certificate_that_the_broker_refuses_is_rolled_back(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer], delay_s: float
) -> None:
    # With a slow line it is enrolled while the old one is still being shown: that one's success says nothing of it.
    proxy = Proxy(broker.port)
    proxy.delay_s = delay_s
    est = make_est(issuer=DevelopmentAuthority(tmp_path / "unknown-pki", name="an authority the broker does not know"))
    house = House(tmp_path / "home", pki, [proxy.port], est_url=est.url)
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
        proxy.close()


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [("busy", 202, b""), ("error", 500, b"sorry"), ("garbage", 200, b"AAAA"), ("no base64", 200, b"\xff")],
)
def test_a_server_that_gives_nothing_useful_costs_nothing(
    tmp_path: Path,
    pki: DevelopmentAuthority,
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
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer], wrong: str
) -> None:
    def answer(request: x509.CertificateSigningRequest) -> tuple[int, bytes]:
        if wrong == "end":
            return 200, certs_only(pki.certify(request, ends_in=timedelta(days=2)))
        cert_file, _ = pki.issue("MTR-1" if wrong == "key" else "MTR-2", file_name="other")
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        return 200, certs_only(certificate)

    _refuses_to_change(tmp_path, pki, broker, make_est(answer=answer))


def _refuses_to_change(tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, est: EstServer) -> None:
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        before = house.identity.signer.kid
        house.wait_condition("certificate-not-renewed")
        house.wait_state("up")
        assert house.status()["sessions"] == 1 and house.identity.signer.kid == before
        assert len(est.requests) == 1, "it asks again in hours, not at once"
        assert "certificate.rolled_back" not in _events(house), "it was shown to the broker"
    finally:
        house.stop()


def test_a_certificate_with_a_long_life_is_left_alone(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    pki.issue("MTR-1", file_name="hub", begins_in=timedelta(days=-365), ends_in=timedelta(days=365))
    est = make_est()
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url)
    try:
        house.wait_state("up")
        house.wait_drained()
        assert not est.requests
    finally:
        house.stop()


@pytest.fixture
def successor(tmp_path: Path, pki: DevelopmentAuthority) -> DevelopmentAuthority:
    """Another authority, which began later; brokers that start from here on believe both. The hub's certificate has
    twenty years yet."""
    pki.issue("MTR-1", file_name="hub", ends_in=timedelta(days=7300))
    successor = DevelopmentAuthority(tmp_path / "next-pki", name="its successor", begins_in=timedelta(hours=-1))
    pki.ca_file.write_bytes(pki.ca_file.read_bytes() + successor.ca_file.read_bytes())
    return successor


def _looks(est: EstServer, more: int) -> None:
    """The hub looks so many times more."""
    upto = est.looks + more
    wait_for("looks at the authorities", lambda: est.looks >= upto)


def test_a_hub_of_twenty_years_renews_once_another_authority_certifies(
    tmp_path: Path,
    pki: DevelopmentAuthority,
    successor: DevelopmentAuthority,
    broker: Broker,
    make_est: Callable[..., EstServer],
) -> None:
    est = make_est(issuer=successor)
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url, est_look_s=0.2)
    try:
        house.wait_state("up")
        _looks(est, 2)
        assert not est.requests, "the list has its own authority alone"
        est.listed.insert(0, successor.certificate)
        wait_for("the event", lambda: "certificate.renewed" in _events(house))
        house.identity.certificate.verify_directly_issued_by(successor.certificate)
        assert house.identity.certificate.not_valid_after_utc < pki.certificate.not_valid_after_utc, "two years will do"
        house.wait_state("up")
        _looks(est, 3)
        assert len(est.requests) == 1
        house.read(1)
        house.wait_drained()
    finally:
        house.stop()


def test_a_list_that_says_nothing_of_a_successor_renews_nothing(
    tmp_path: Path,
    pki: DevelopmentAuthority,
    successor: DevelopmentAuthority,
    broker: Broker,
    make_est: Callable[..., EstServer],
) -> None:
    older = DevelopmentAuthority(tmp_path / "older-pki", name="its predecessor", begins_in=timedelta(days=-9))
    est = make_est(issuer=successor, listed=[older.certificate, pki.certificate])
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url, est_look_s=0.2)
    try:
        house.wait_state("up")
        _looks(est, 2)
        est.listed[:] = [successor.certificate]  # none of its own: some other utility's
        _looks(est, 2)
        est.listed.clear()
        _looks(est, 2)
        assert not est.requests and not house.health.holds("certificate-not-renewed")
    finally:
        house.stop()


def test_an_authority_that_began_later_and_certifies_nothing_is_asked_for_once(
    tmp_path: Path,
    pki: DevelopmentAuthority,
    successor: DevelopmentAuthority,
    broker: Broker,
    make_est: Callable[..., EstServer],
) -> None:
    est = make_est(listed=[pki.certificate, successor.certificate])
    for starts in range(2):
        house = House(tmp_path / "home", pki, [broker.port], est_url=est.url, est_look_s=0.2)
        try:
            wait_for("the renewal", lambda: len(est.requests) == 1)
            house.wait_state("up")
            _looks(est, 3)
            assert len(est.requests) == 1, f"start {starts}"
        finally:
            house.stop()


def test_a_successor_whom_the_broker_does_not_know_yet_is_tried_again_at_another_look(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    pki.issue("MTR-1", file_name="hub", ends_in=timedelta(days=7300))
    unknown = DevelopmentAuthority(tmp_path / "unknown-pki", name="nobody knows it", begins_in=timedelta(hours=-1))
    est = make_est(issuer=unknown, listed=[pki.certificate, unknown.certificate])
    house = House(tmp_path / "home", pki, [broker.port], est_url=est.url, est_look_s=3600)
    try:
        before = house.identity.signer.kid
        wait_for("the event", lambda: "certificate.rolled_back" in _events(house))
        house.wait_state("up")
        house.wait_condition("certificate-not-renewed")
        assert house.identity.signer.kid == before and len(est.requests) == est.looks == 1
        est.listed.pop()
        house.loop.call_soon_threadsafe(house.renewal.look_every, 0.2)
        wait_for("it to be given up", lambda: not house.health.holds("certificate-not-renewed"))
        assert len(est.requests) == 1
    finally:
        house.stop()


def test_a_renewed_certificate_of_another_hub_or_an_older_one_does_not_count(
    tmp_path: Path, pki: DevelopmentAuthority
) -> None:
    files = pki.directory / "hub.pem", pki.directory / "hub.key"
    file = adopted_file(tmp_path)
    file.parent.mkdir()
    for cn, begins, counts in (("MTR-1", 0, True), ("MTR-2", 0, False), ("MTR-1", -900, False)):
        cert, key = pki.issue(cn, file_name="renewed", begins_in=timedelta(days=begins))
        file.write_bytes(key.read_bytes() + cert.read_bytes())
        identity, cert_file, _ = renewal.newest_identity(*files, tmp_path)
        assert (cert_file == file) is counts and identity.hub_id == "MTR-1"
    file.write_bytes(b"torn")
    assert renewal.newest_identity(*files, tmp_path)[1] == files[0], "a damaged file costs no start"


def test_a_whole_hub_tells_of_the_end_and_renews(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker, make_est: Callable[..., EstServer]
) -> None:
    # So little is left that the draw, which spreads a fleet, is over in seconds.
    pki.issue("MTR-1", file_name="hub", begins_in=timedelta(days=-700), ends_in=timedelta(seconds=60))
    est = make_est()
    hub = Hub(tmp_path / "hub", pki, broker.port, uplink__est_url=est.url)
    heard = ControlPoint(pki.directory, broker.port)
    try:
        hub.start()
        wait_for("the new certificate", lambda: adopted_file(hub.data_dir).exists())
        hub.wait_uplink()
        names = [event["event"] for event in hub.ask("events")]
        assert names.count("certificate.expires_soon") == 1 and "certificate.renewed" in names
        wait_for("the condition to clear", lambda: "certificate-expires-soon" not in hub.conditions())
        adapter = UdpAdapter(hub.udp_port, "boiler")
        adapter.connect()
        adapter.publish(0x0001, b"1")
        kid = _kid(adopted_file(hub.data_dir))
        wait_for("a message sealed with the new key", lambda: kid in _kids(heard))
        assert hub.cli("check-config", str(hub.config)).returncode == 0
    finally:
        hub.kill()
        heard.stop()


def test_the_end_is_told_once_a_day_also_by_a_hub_that_starts_often(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker
) -> None:
    hub = Hub(tmp_path / "hub", pki, broker.port)
    try:
        for _ in range(2):
            hub.start()
            wait_for("the condition", lambda: "certificate-expires-soon" in hub.conditions())
            names = [event["event"] for event in hub.ask("events")]
            assert names.count("certificate.expires_soon") == 1
            hub.kill()
    finally:
        hub.kill()


def test_a_connect_that_showed_the_old_one_is_no_verdict_on_the_new(tmp_path: Path, pki: DevelopmentAuthority) -> None:
    present = renewal.newest_identity(pki.directory / "hub.pem", pki.directory / "hub.key", tmp_path)
    cert, key = pki.issue("MTR-1", file_name="new")
    told: list[str] = []
    adopted: list[Any] = []
    waiting = adopted_file(tmp_path).with_name("next.pem")
    waiting.parent.mkdir()
    waiting.write_bytes(key.read_bytes() + cert.read_bytes())
    one = renewal.Renewal(
        None,
        pki.ca_file,
        tmp_path,
        present,
        Health(),
        lambda name, _fields: told.append(name),
        adopted.append,
        lambda: 0,
        look_every_s=1,
    )
    one.let_in()
    for _ in range(renewal.MAX_UNCLEAR + 1):
        one.failed("uplink-not-authorised")
    assert one.waits and not told and not adopted, "nobody has seen it yet"
    assert one.files() == (waiting, waiting)
    one.failed("uplink-unreachable")
    assert one.files() == (waiting, waiting), "a line that fails says nothing of a certificate"
    one.let_in()
    assert told == [] and len(adopted) == 1
    assert one.files() == (adopted_file(tmp_path), adopted_file(tmp_path))


def test_a_certificate_exchanged_while_the_hub_stood_still_is_told_of_first(
    tmp_path: Path, pki: DevelopmentAuthority, broker: Broker
) -> None:
    hub = Hub(tmp_path / "hub", pki, broker.port)
    heard = ControlPoint(pki.directory, broker.port)
    try:
        hub.start()
        hub.wait_uplink()
        assert hub.stop() == 0
        pki.issue("MTR-1", file_name="hub")
        hub.start()
        hub.wait_uplink()
        kid = _kid(pki.directory / "hub.pem")
        wait_for("events of the new key", lambda: kid in [key for _, key, _ in _sealed_events(heard)])
        name = next(event["event"] for _, key, event in _sealed_events(heard) if key == kid)
        assert name == "certificate.renewed", "before anything else that it seals"
        assert hub.stop() == 0
        hub.start()
        hub.wait_uplink()
        names = [event["event"] for event in hub.ask("events")]
        assert names.count("certificate.renewed") == 1, "told once, and by nobody who is new from the factory"
    finally:
        hub.kill()
        heard.stop()


def test_the_table_knows_every_case() -> None:
    states = {renewal.OWN, renewal.NEW, renewal.OLD}
    assert set(TABLE) == {(state, event) for state in states for event in ("enrolled", "let in", "turned away")}
    assert {state for state, _ in TABLE.values()} == states


def _kid(cert_file: Path) -> bytes:
    from hub.wire.uplink.envelope import kid_of

    return kid_of(x509.load_pem_x509_certificate(cert_file.read_bytes()))


def _announces_once_by_each(heard: ControlPoint, old_kid: bytes, old: Path, new: Path) -> None:
    """The chain is told by the key before, and then first of all by the key that it is of (design 3.3)."""
    sealed = wait_for("the event, by both keys", lambda: _two_of(_sealed_events(heard), "certificate.renewed"))
    (_, kid, _), (at, next_kid, event) = sealed
    der = x509.load_pem_x509_certificate(new.read_bytes()).public_bytes(Encoding.DER)
    assert (kid, next_kid) == (old_kid, _kid(new)) and event["x5c"] == [der]
    assert next(number for number, key, _ in _sealed_events(heard) if key == next_kid) == at
    assert _kid(old) == old_kid


def _two_of(events: list[Sealed], name: str) -> list[Sealed]:
    found = [row for row in events if row[2]["event"] == name]
    return found if len(found) == 2 else []


def _sealed_events(heard: ControlPoint) -> list[Sealed]:
    """(number, kid, event) of what came on the lane of events, in the order of their numbers."""
    found = []
    for topic, payload in list(heard.raw.queue):
        if topic.endswith("/events"):
            header, content = split_sign1(payload)[0], split_sign1(payload)[1]
            found.append((header[-65537][3], header[4], decode_event(content)))
    return sorted(found, key=lambda row: row[0])


def _kids(heard: ControlPoint) -> set[bytes]:
    found = set()
    while not heard.raw.empty():
        topic, payload = heard.raw.get()
        if topic.endswith("/readings"):
            found.add(split_sign1(payload)[0][4])
    return found
