"""Certificates: hubs renew by EST, a revoked hub is out everywhere, lists never go out of date; keys in tokens."""

import base64
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key, pkcs7

from deploy.certificates import name_of
from deploy.fleet.simulated_hub import HubMessage
from deploy.headend.authorities import Authorities, make_list
from deploy.headend.certificates import (
    digest_of,
    inventory_of,
    issuers_in_use,
    key_identifier_of,
    lists_as_pem,
)
from deploy.headend.config import AuthorityConfig, BadConfig, load
from deploy.headend.control_point import ControlPoint, overview, reader
from deploy.headend.crl import BrokerFiles, RevocationLists
from deploy.headend.est import Enrolment
from deploy.headend.intake import HeardMessage, PackIntake
from deploy.headend.metrics import metrics
from deploy.pki import DevelopmentAuthority
from deploy.provision.authority import DeviceAuthority, create
from deploy.waiting import wait_for
from hub.headend.bookkeeper import CommandToSend
from hub.wire.uplink.command import split_command
from hub.wire.uplink.envelope import FileSigner, verify
from tests.deploy.headend.home import Fleet
from tests.deploy.headend.works import PASSPHRASE, ROOT, Works, request_for
from tests.harness.house import House
from tests.harness.token import MISSING, SoftToken

DAY_S = 86_400


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    works = Works(tmp_path_factory.mktemp("works"))
    works.hub("MTR-1", "ca-1", file_name="hub")
    for name in ("MTR-2", "MTR-3", "MTR-4"):
        works.hub(name, "ca-1")
    works.hub("MTR-9", "ca-1", known=False)
    works.hub("MTR-8", "ca-strange", known=False)
    works.configure("ca-1")
    works.start_broker()
    works.start()
    try:
        yield works
    finally:
        works.end()


@pytest.fixture
def desk(works: Works) -> Iterator[httpx.Client]:
    with works.desk() as desk:
        yield desk


def asks(works: Works, name: str | None, path: str, body: bytes, kind: str = "application/pkcs10") -> httpx.Response:
    """One request, with a hub's certificate or with none."""
    context = ssl.create_default_context(cafile=str(works.uplink.ca_file))
    if name is not None:
        context.load_cert_chain(works.folder / f"pki/{name}.pem", works.folder / f"pki/{name}.key")
    with httpx.Client(verify=context) as client:
        method = "GET" if path == "cacerts" else "POST"
        return client.request(method, f"{works.est_url}/{path}", content=body, headers={"Content-Type": kind})


def certificates_of(answer: httpx.Response) -> list[x509.Certificate]:
    assert answer.headers["content-type"] == "application/pkcs7-mime; smime-type=certs-only"
    assert answer.headers["content-transfer-encoding"] == "base64"
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))


def lets_in(works: Works, name: str) -> bool:
    """Whether the broker does."""
    context = ssl.create_default_context(cafile=str(works.uplink.ca_file))
    context.load_cert_chain(works.folder / f"pki/{name}.pem", works.folder / f"pki/{name}.key")
    try:
        with (
            socket.create_connection(("localhost", works.broker_port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
            return tls.recv(4) == b"\x20\x02\x00\x00"
    except OSError:
        return False


def test_a_hub_renews_by_its_own_client_and_is_believed_from_the_first_message_on(
    works: Works, desk: httpx.Client, tmp_path: Path
) -> None:
    house = House(tmp_path, works.uplink, [works.broker_port], est_url=works.est_url)
    try:
        old_kid = house.identity.signer.kid.hex()
        wait_for("the renewal", lambda: house.identity.signer.kid.hex() != old_kid)
        new_kid = house.identity.signer.kid.hex()
        house.wait_state("up")
        house.read(1)
        wait_for("a hub that says so", lambda: desk.get("/v1/hubs/MTR-1").json()["kid"] == new_kid)
        house.wait_drained()
        hub = desk.get("/v1/hubs/MTR-1").json()
        assert hub["faults"] == 0, hub["fault"]
    finally:
        house.stop()
    found = desk.get("/v1/certificates", params={"hub": "MTR-1"}).json()
    assert [(row["kid"], row["state"]) for row in found] == [(old_kid, "spare"), (new_kid, "in use")]
    assert [row["source"] for row in found] == ["known", "est"]
    assert found[1]["not_after_s"] - time.time() > 700 * DAY_S
    issuer = key_identifier_of(works.authority("ca-1").certificate)
    assert {row["issuer"] for row in found} == {issuer} and desk.get("/v1/certificates/issuers").json()[issuer] >= 1
    soon = desk.get("/v1/certificates", params={"ends_before_s": int(time.time()) + 30 * DAY_S}).json()
    assert {row["hub"] for row in soon} == {"MTR-1", "MTR-2", "MTR-3", "MTR-4"}
    assert [row["not_after_s"] for row in soon] == sorted(row["not_after_s"] for row in soon)


def test_whoever_asks_is_told_the_authorities(works: Works) -> None:
    found = certificates_of(asks(works, None, "cacerts", b""))
    assert works.authority("ca-1").certificate in found


@pytest.mark.parametrize("path", ["simpleenroll", "simplereenroll"])
def test_a_request_for_the_own_name_is_certified(works: Works, path: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    body = base64.encodebytes(request_for("MTR-2", key))
    (certificate,) = certificates_of(asks(works, "MTR-2", path, body))
    certificate.verify_directly_issued_by(works.authority("ca-1").certificate)
    assert certificate.public_key() == key.public_key() and certificate.subject == name_of("MTR-2")


def test_a_certificate_is_never_shorter_than_the_one_it_replaces(works: Works) -> None:
    file = works.hub("MTR-2", "ca-1", file_name="long", known=False, ends_in=timedelta(days=7000))
    present = x509.load_pem_x509_certificate(file.read_bytes())
    (certificate,) = certificates_of(asks(works, "long", "simplereenroll", base64.encodebytes(request_for("MTR-2"))))
    assert certificate.not_valid_after_utc > present.not_valid_after_utc


_OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
_TWO_NAMES = x509.Name([*name_of("MTR-2"), x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "x")])


@pytest.mark.parametrize(
    ("who", "body", "kind", "status", "said"),
    [
        (None, request_for("MTR-2"), "", 403, "client certificate"),
        ("MTR-2", request_for("MTR-3"), "", 403, "own name"),
        ("MTR-2", request_for(_TWO_NAMES), "", 403, "present certificate"),
        ("MTR-2", request_for("MTR-2", a=x509.SubjectAlternativeName([x509.DNSName("a")])), "", 403, "alternative"),
        ("MTR-2", request_for("MTR-2", _OTHER_CURVE), "", 400, "P-256"),
        ("MTR-2", request_for("MTR-2")[:-9] + b"forgotten", "", 400, "P-256"),
        ("MTR-2", b"\x30\x03\x02\x01\x05", "", 400, "PKCS #10"),
        ("MTR-2", b"", "", 400, "PKCS #10"),
        ("MTR-2", bytes(20_000), "", 413, "at most"),
        ("MTR-2", request_for("MTR-2"), "text/plain", 415, "application/pkcs10"),
        ("MTR-9", request_for("MTR-9"), "", 403, "no hub of that name"),
        ("headend", request_for("headend"), "", 403, "no hub of that name"),
    ],
)
def test_what_is_not_right_gets_no_certificate(
    works: Works, desk: httpx.Client, who: str | None, body: bytes, kind: str, status: int, said: str
) -> None:
    before = len(desk.get("/v1/certificates").json())
    answer = asks(works, who, "simplereenroll", base64.encodebytes(body), kind or "application/pkcs10")
    assert answer.status_code == status and said in answer.text
    assert len(desk.get("/v1/certificates").json()) == before


def test_what_is_no_base64_and_what_does_not_exist(works: Works) -> None:
    assert asks(works, "MTR-2", "simplereenroll", b"\xff\xfe").status_code == 400
    assert asks(works, "MTR-2", "fullcmc", b"").status_code == 404


def test_a_stranger_does_not_even_shake_hands(works: Works) -> None:
    with pytest.raises(httpx.TransportError):
        asks(works, "MTR-8", "simplereenroll", base64.encodebytes(request_for("MTR-8")))


def test_a_hub_that_asks_all_day_is_given_ten(works: Works) -> None:
    body = base64.encodebytes(request_for("MTR-4"))
    answers = [asks(works, "MTR-4", "simplereenroll", body) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1].headers["retry-after"]


def test_a_revoked_hub_is_out_at_the_broker_at_the_book_and_at_the_authority(
    works: Works, desk: httpx.Client, tmp_path: Path
) -> None:
    assert lets_in(works, "MTR-3") and lets_in(works, "MTR-2")
    assert desk.post("/v1/hubs/MTR-3/revoke", json={"reason": "because"}).status_code == 422
    assert desk.post("/v1/hubs/nobody/revoke", json={}).status_code == 404
    assert desk.post("/v1/hubs/MTR-3/revoke", json={"reason": "keyCompromise"}).json() == {"certificates": 1}
    wait_for("the broker to refuse it", lambda: not lets_in(works, "MTR-3"))
    assert lets_in(works, "MTR-2"), "and nobody else"
    answer = asks(works, "MTR-3", "simplereenroll", base64.encodebytes(request_for("MTR-3")))
    assert answer.status_code == 403 and "revoked" in answer.text
    assert [row["state"] for row in desk.get("/v1/certificates", params={"hub": "MTR-3"}).json()] == ["revoked"]
    assert ("desk", "revoke") in [(row["client"], row["action"]) for row in desk.get("/v1/audit").json()]
    text = httpx.get(f"http://127.0.0.1:{works.port}/crl.pem").content
    revoked = x509.load_pem_x509_crl(text)
    serial = x509.load_pem_x509_certificate((works.folder / "pki/MTR-3.pem").read_bytes()).serial_number
    entry = revoked.get_revoked_certificate_by_serial_number(serial)
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise
    assert "meterhub_revocation_list_left_seconds 1.2" in httpx.get(f"http://127.0.0.1:{works.port}/metrics").text


def test_what_a_revoked_hub_signs_is_believed_no_more_nor_what_it_says_of_another_key(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"])
    fleet.start()
    assert not any(received.fault for received in fleet.received)
    fleet.point.book.begin()
    assert fleet.point.registry.revoke("SIM-1", "keyCompromise", int(fleet.t)) == 1
    fleet.point.commit()
    for _ in range(2):
        fleet.received.clear()
        fleet.run(120)
        for hub, is_believed in (("SIM-1", False), ("SIM-2", True)):
            sealed = [received for received in fleet.received if received.hub == hub and received.kind == "readings"]
            assert sealed and all(bool(received.fault) is not is_believed for received in sealed)
        fleet.close()
        fleet.open()  # what is revoked stays so, though the certificate still lies where hubs are known from
    fleet.close()


def test_a_worker_beside_the_service_believes_it_no_more_either(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], place)
    fleet.start()
    worker = PackIntake(place, 24_000)
    packs: list[HubMessage] = []

    def keep(message: HubMessage | CommandToSend) -> bool:
        if isinstance(message, HubMessage):
            packs.append(message)
        return isinstance(message, HubMessage)

    fleet.drops = keep

    def faults() -> set[bool]:
        packs.clear()
        fleet.run(120)
        messages = [HeardMessage(pack.topic, pack.payload) for pack in packs if pack.topic.endswith("readings")]
        taken = worker.take_all(messages, int(fleet.t * 1000))
        worker.commit()
        return {bool(received.fault) for received in taken}

    assert faults() == {False}
    fleet.point.book.begin()
    fleet.point.registry.revoke("SIM-1", "keyCompromise", int(fleet.t))
    fleet.point.commit()
    worker.distrust_revoked()
    assert faults() == {True}
    worker.close()
    worker = PackIntake(place, 24_000)  # nor one that starts later
    assert faults() == {True}
    worker.close()
    fleet.close()


def test_inventory_and_lists_on_either_engine(tmp_path: Path, place: Path | str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"], place)
    fleet.start()
    db, now_s = reader(place), int(time.time())
    rows = inventory_of(db, "", "", 1 << 40, now_s, 10)
    assert [(row["hub"], row["state"]) for row in rows] == [("SIM-1", "in use"), ("SIM-2", "in use")]
    issuer = rows[0]["issuer"]
    assert issuers_in_use(db) == {issuer: 2}
    assert [row["hub"] for row in inventory_of(db, "SIM-2", issuer, 1 << 40, now_s, 10)] == ["SIM-2"]
    assert {row["state"] for row in inventory_of(db, "", "", 1 << 40, now_s + 3000 * DAY_S, 10)} == {"ended"}
    (tmp_path / "ca").mkdir()
    create(tmp_path / "ca", "ca", PASSPHRASE)
    authority = DeviceAuthority(tmp_path / "ca", PASSPHRASE)
    fleet.point.book.begin()
    fleet.point.registry.revoke("SIM-1", "superseded", now_s)
    certificates = fleet.point.certificates
    entries = certificates.entries(issuer, now_s)
    for number in (1, 2):
        certificates.keep_list(issuer, make_list(authority, entries, number, now_s, 10))
    fleet.point.commit()
    kept = certificates.kept_list(issuer)
    assert kept is not None and (kept.number, kept.digest) == (2, digest_of(entries))
    assert len(x509.load_pem_x509_crl(lists_as_pem(db))) == 1
    assert [row["state"] for row in inventory_of(db, "SIM-1", "", 1 << 40, now_s, 10)] == ["revoked"]
    assert issuers_in_use(db) == {issuer: 1}, "it will not renew: an exchange is over without it"
    fleet.point.book.begin()
    fleet.point.book.db.execute("UPDATE hub SET not_after_s = ?", (now_s + DAY_S,))
    fleet.point.commit()
    assert 'meterhub_certificates_expiring{days="7"} 1\n' in metrics(overview(db), Counter(), 0, db)
    fleet.point.book.begin()
    certificates.forget_lists([])
    fleet.point.commit()
    assert lists_as_pem(db) == b""
    db.close()
    fleet.close()


class Lists:
    """Revocation lists of two authorities on a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("old", "new"):
            (folder / name).mkdir()
            create(folder / name, name, PASSPHRASE)
        (folder / "passphrase").write_bytes(PASSPHRASE)
        self.config = AuthorityConfig(
            folder / "new", folder / "passphrase", (folder / "old",), crl_days=10,
            crl_file=folder / "revoked.pem", trusted_file=folder / "trusted.pem",
        )  # fmt: skip
        self.authorities = Authorities(self.config)
        self.local = threading.local()  # the loop under test has a thread, and so a connection, of its own
        self.lists = RevocationLists(self.config, self.authorities, self.ask)

    def ask(self, do: Any) -> Any:
        if not hasattr(self.local, "point"):
            signer = FileSigner(ec.generate_private_key(ec.SECP256R1()), b"")
            self.local.point = ControlPoint(self.folder / "data", "op", signer)
        self.local.point.book.begin()
        answer, _ = do(self.local.point)
        self.local.point.commit()
        return answer

    def hub(self, name: str, authority: int, days: int = 700) -> x509.Certificate:
        request = x509.load_der_x509_csr(request_for(name))
        certificate = self.authorities.with_keys[authority].certify(request, name, days)
        self.ask(lambda point: (point.certified(name, certificate, int(time.time())), []))
        return certificate

    def made(self, now_s: int) -> list[x509.CertificateRevocationList]:
        return [x509.load_der_x509_crl(kept.der) for kept in self.lists.renew(now_s)]


@pytest.fixture
def lists(tmp_path: Path) -> Lists:
    return Lists(tmp_path)


def enrolled(lists: Lists, name: str) -> bytes:
    """The certificate (DER) of a hub that the registry knows."""
    der = lists.hub(name, 0).public_bytes(Encoding.DER)
    lists.ask(lambda point: (point.registry.enrol(der, "test"), []))
    return der


def test_a_hub_that_is_revoked_while_its_request_is_signed_gets_nothing(lists: Lists) -> None:
    der = enrolled(lists, "MTR-1")
    asked = []

    def ask(do: Any) -> Any:
        answer = lists.ask(do)
        if not asked:  # a person does so between two words of the same request
            lists.ask(lambda point: (point.registry.revoke("MTR-1", "keyCompromise", int(time.time())), []))
        asked.append(1)
        return answer

    counts: dict[str, int] = {}
    enrolment = Enrolment(lists.authorities, ask, counts)
    with pytest.raises(Exception, match="was revoked"):
        enrolment.enrol(der, base64.b64encode(request_for("MTR-1")), again=True)
    assert counts == {"enrolled": 0, "enrolments_refused": 1}
    with contextlib.closing(reader(lists.folder / "data")) as db:
        assert [row["state"] for row in inventory_of(db, "MTR-1", "", 1 << 40, 0, 10)] == ["revoked"]


def test_a_hub_that_asks_many_times_at_once_is_given_ten(lists: Lists) -> None:
    der, body = enrolled(lists, "MTR-1"), base64.b64encode(request_for("MTR-1"))
    together = threading.Barrier(20)
    turn = threading.Lock()
    first = threading.local()

    def ask(do: Any) -> Any:
        with turn:
            answer = lists.ask(do)
        if not hasattr(first, "was"):
            first.was = True
            together.wait(30)  # all of them were told that they may
        return answer

    enrolment, given = Enrolment(lists.authorities, ask, {}), []

    def request() -> None:
        with contextlib.suppress(Exception):
            given.append(enrolment.enrol(der, body, again=True))

    threads = [threading.Thread(target=request) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 9, "the one that it shows is the tenth"


def number_of(made: x509.CertificateRevocationList) -> int:
    return made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_list_is_made_anew_in_time_and_at_once_when_a_hub_is_revoked(lists: Lists) -> None:
    now_s = int(time.time())
    seen = []
    for day in range(40):  # a look a day: at each there is a list that holds, and its number only rises
        at = now_s + day * DAY_S
        for made, authority in zip(lists.made(at), lists.authorities.with_keys, strict=True):
            assert made.is_signature_valid(authority.key.public_key())
            assert made.next_update_utc is not None and made.next_update_utc.timestamp() - at >= 5 * DAY_S
            assert made.last_update_utc.timestamp() <= at - DAY_S, "a broker's clock may be slow"
            seen.append(number_of(made))
    assert seen == sorted(seen) and seen[-1] == 8, "and not oftener than at half of its life"
    lists.hub("MTR-1", 0)
    lists.hub("MTR-2", 1)
    lists.ask(lambda point: (point.registry.revoke("MTR-2", "unspecified", at), []))
    new, old = lists.made(at)
    assert (len(new), len(old)) == (0, 1) and (number_of(new), number_of(old)) == (8, 9)


def test_a_revoked_certificate_stays_on_the_list_beyond_its_end(lists: Lists) -> None:
    certificate, now_s = lists.hub("MTR-1", 0, days=1), int(time.time())
    lists.ask(lambda point: (point.registry.revoke("MTR-1", "superseded", now_s), []))
    sizes = [len(lists.made(now_s + day * DAY_S)[0]) for day in (0, 10, 20, 40)]
    assert sizes == [1, 1, 1, 0], f"ends {certificate.not_valid_after_utc}"  # RFC 5280, 3.3


def test_brokers_are_told_when_something_changed_and_again_until_they_could_be(lists: Lists) -> None:
    (lists.folder / "others.pem").write_bytes(DevelopmentAuthority(lists.folder / "other").revoke().read_bytes())
    told = lists.folder / "told"
    config = replace(
        lists.config, more_crls=(lists.folder / "others.pem",),
        broker_command=("sh", "-c", f"test -e {told} && echo told >>{told}"),
    )  # fmt: skip
    counts: dict[str, int] = {}
    files = BrokerFiles(config, lists.authorities, lists.ask, counts, retry_s=0.05)
    files.start()
    try:
        wait_for("failures", lambda: counts["broker_files_failed"] >= 2)
        told.touch()
        wait_for("the broker", lambda: counts["broker_files"] == 1 and told.read_text() == "told\n")
        assert config.crl_file is not None and config.crl_file.read_text().count("BEGIN X509 CRL") == 3
        assert config.trusted_file is not None and config.trusted_file.read_text().count("BEGIN CERT") == 2
    finally:
        files.stop()
    assert not BrokerFiles(config, lists.authorities, lists.ask, counts).write(), "what is there is left alone"


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_authoritys_and_the_operators_keys_are_in_a_token(tmp_path: Path) -> None:
    token = SoftToken(tmp_path / "token")
    env = {"SOFTHSM2_CONF": token.env["SOFTHSM2_CONF"]}
    make = (
        "import sys; from pathlib import Path; from deploy.provision.authority import create;"
        "from drivers.pkcs11_token import generate; from hub.wire.keys.pkcs11 import parse_uri;"
        "Path(sys.argv[1]).mkdir(); create(Path(sys.argv[1]), 'in a token', b'', sys.argv[2]);"
        "generate(parse_uri(sys.argv[3]))"
    )
    words = [sys.executable, "-c", make, str(tmp_path / "ca-token"), token.uri("authority"), token.uri("operator")]
    subprocess.run(words, cwd=ROOT, env={**os.environ, **env}, check=True)
    assert b"PRIVATE KEY" not in (tmp_path / "ca-token/ca.key").read_bytes()
    uri = token.uri("operator").partition("&")[0]
    works = Works(tmp_path, env=env, operator=f'key_uri = "{uri}"\npin_file = "{tmp_path}/token/pin"')
    works.hub("MTR-1", "ca-1", file_name="hub")
    works.configure("ca-token", "ca-1")
    works.start_broker()
    try:
        works.start()
        house = House(tmp_path / "home", works.uplink, [works.broker_port], est_url=works.est_url)
        try:
            old = house.identity.signer.kid
            wait_for("the renewal", lambda: house.identity.signer.kid != old)
            authority = x509.load_pem_x509_certificate((tmp_path / "ca-token/ca.pem").read_bytes())
            house.identity.certificate.verify_directly_issued_by(authority)
            house.wait_state("up")
            with works.desk() as desk:
                issuer = key_identifier_of(authority)
                wait_for("it to be in use", lambda: desk.get("/v1/certificates/issuers").json() == {issuer: 1})
                order = {"op": "limit", "args": {"watts": 300, "duration": 60}, "target": {"hub": "MTR-1"}}
                assert desk.post("/v1/orders", json=order).status_code == 201
                wait_for("a command that the token signed", lambda: house.commands)
                (token.folder / "tokens").rename(token.folder / "away")
                answer = desk.post("/v1/orders", json=order)
                assert answer.status_code == 503 and "operator's key" in answer.text
                booked = desk.get("/v1/fleet").json()["messages"]
                house.read(1)
                wait_for("what hubs send", lambda: desk.get("/v1/fleet").json()["messages"] > booked)
                (token.folder / "away").rename(token.folder / "tokens")
            works.stop()  # softhsm2 does not look again: its module has to be begun anew
            works.start()
            with works.desk() as desk:
                assert desk.post("/v1/orders", json=order).status_code == 201
        finally:
            house.stop()
        verify(split_command(house.commands[0]), read_public(env, token.uri("operator")))
    finally:
        works.end()


def read_public(env: dict[str, str], uri: str) -> ec.EllipticCurvePublicKey:
    """In a process of its own: the module reads its settings once."""
    words = (
        "import sys; from drivers.pkcs11_token import read_public_key; from hub.wire.keys.pkcs11 import parse_uri;"
        "from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat;"
        "key = read_public_key(parse_uri(sys.argv[1]));"
        "sys.stdout.buffer.write(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))"
    )
    done = subprocess.run(
        [sys.executable, "-c", words, uri], cwd=ROOT, env={**os.environ, **env}, check=True, capture_output=True
    )
    key = load_pem_public_key(done.stdout)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kid = "op"', 'kid = "op"\nkey_uri = "pkcs11:token=a;object=b"', "operator: expected either"),
        (
            'kid = "op"\nkey_file',
            'kid = "op"\nkey_uri = "pkcs11:token=a"\n#',
            "operator.key_uri: expected",
        ),
        ("[authority]", "[client.x]", "client.x.folder: not one of"),
        ('passphrase_file = "', 'crl_days = 0\npassphrase_file = "', "authority.crl_days: expected a whole number"),
        ('broker_command = ["', 'broker_command = [1, "', "authority.broker_command: expected a command"),
        ("[est]\nlisten = ", "[est]\nlisten = 1 #", "est.listen: expected HOST:PORT"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(tmp_path: Path, works: Works, old: str, new: str, said: str) -> None:
    text = works.config.read_text()
    assert old in text
    file = tmp_path / "headend.toml"
    file.write_text(text.replace(old, new))
    with pytest.raises(BadConfig, match=said):
        load(file)


@pytest.mark.parametrize(("what", "said"), [("ca.pem", "ca.pem"), ("passphrase", "not with this passphrase")])
def test_an_authority_that_cannot_be_opened_is_one_clear_line(lists: Lists, what: str, said: str) -> None:
    if what == "ca.pem":
        (lists.folder / "old/ca.pem").unlink()
    else:
        (lists.folder / "passphrase").write_bytes(b"another")
    with pytest.raises(BadConfig, match=said):
        Authorities(lists.config)
