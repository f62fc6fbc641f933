"""The service whole: a real mosquitto, simulated hubs on real TLS sessions, the API over HTTP."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyarrow import parquet

from deploy.fleet.swarm import Swarm, make_session
from deploy.fleet.thin_tls import ThinTlsContext
from deploy.headend import console_parts
from deploy.headend.__main__ import operator_signer
from deploy.headend.access import Access, new_secret
from deploy.headend.config import ApiClient, BadConfig, load
from deploy.headend.control_point import ControlPoint
from deploy.headend.service import Service
from deploy.local_broker import Broker
from deploy.local_postgres import PostgresCluster
from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port, wait_for
from hub.headend.bookkeeper import CommandToSend
from hub.wire.keys.operators import operator_entry, parse_operators

ROOT = Path(__file__).resolve().parents[3]
HUBS = 4
ROLES = {"desk": ["fleet", "usage", "control", "admin"], "second": ["fleet", "approve"], "viewer": ["fleet"],
         "north": ["fleet", "usage", "control", "approve", "admin"]}  # fmt: skip
GROUPS = {"north": ["north"]}  # clients that are bound to groups


class Site:
    """Everything of a small utility. `database`: a line of the configuration; `before`: fills the book before the
    service starts."""

    def __init__(
        self, folder: Path, database: str = "", before: Callable[..., object] | None = None, hubs: int = HUBS
    ) -> None:  # fmt: skip
        self.folder = folder
        pki = folder / "pki"
        self.place = folder / "data"
        self.authority = authority = DevelopmentAuthority(pki)
        (pki / "hubs").mkdir()
        authority.issue("broker", hosts=["localhost"])
        authority.issue("headend")
        for number in range(hubs):
            authority.issue(f"SIM-{number}", file_name=f"hubs/SIM-{number}")
        self.broker = Broker(folder / "broker", authority, somebody=False).start()
        key = ec.generate_private_key(ec.SECP256R1())
        operators = parse_operators(operator_entry("op", key.public_key(), ["limit", "read", "admin"], "Test"))
        (folder / "operator.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.secrets = {}
        clients = ""
        for name, roles in ROLES.items():
            self.secrets[name], digest = new_secret()
            clients += f'[client.{name}]\nsecret_sha256 = "{digest}"\nroles = {json.dumps(roles)}\n'
            clients += f"groups = {json.dumps(GROUPS[name])}\n" if name in GROUPS else ""
        self.port = free_port()
        self.config = folder / "headend.toml"
        self.config.write_text(
            f'[service]\ndata_dir = "{folder}/data"\nlisten = "127.0.0.1:{self.port}"\n{database}'
            f'[broker]\nhost = "localhost"\nport = {self.broker.port}\nca_file = "{pki}/ca.pem"\n'
            f'cert_file = "{pki}/headend.pem"\nkey_file = "{pki}/headend.key"\n'
            f'[operator]\nkid = "op"\nkey_file = "{folder}/operator.key"\n[registry]\ncertificates = "{pki}/hubs"\n'
            f"[policy]\nsecond_person_above = {hubs - 1}\ngap_after_s = 2\nbooked_every_s = 5\n{clients}"
        )
        if before is not None:
            before(self, key, operators)
        addresses = [("localhost", self.broker.port)]
        tls = ThinTlsContext(authority.ca_file)
        self.swarm = Swarm(
            [make_session(tls, file, operators, addresses, interval_s=0.5, pack_s=1.0)
             for file in sorted((pki / "hubs").glob("*.pem"))], 50)  # fmt: skip
        self._thread = threading.Thread(target=self.swarm.run)
        self._thread.start()
        self.process: subprocess.Popen[bytes] | None = None
        self.start_service()

    def start_service(self) -> None:
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.headend", "serve", str(self.config)], cwd=ROOT, stdout=log, stderr=log
            )

        def answers() -> bool:
            assert self.process is not None and self.process.poll() is None, (self.folder / "service.log").read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for("the service to answer", answers)

    def kill_service(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self, name: str) -> httpx.Client:
        place = f"http://127.0.0.1:{self.port}"
        form = {"grant_type": "client_credentials"}
        answer = httpx.post(f"{place}/oauth/token", data=form, auth=(name, self.secrets[name]))
        token = answer.raise_for_status().json()["access_token"]
        return httpx.Client(base_url=place, timeout=30, headers={"Authorization": f"Bearer {token}"})

    def version(self, desk: httpx.Client) -> str:
        return str(desk.get("/v1/hubs/SIM-0").json()["version"])

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics").text

    def end_swarm(self) -> None:
        self.swarm.is_ending = True
        self._thread.join()

    def stop(self) -> None:
        self.end_swarm()
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(20) == 0, (self.folder / "service.log").read_text()
        self.broker.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    database = ""
    if request.param == "postgresql":
        cluster: PostgresCluster = request.getfixturevalue("cluster")
        database = f'database = "{cluster.make_database("site")}"\n'
    site = Site(tmp_path_factory.mktemp("site"), database)
    try:
        yield site
    finally:
        site.stop()


@pytest.fixture
def desk(site: Site) -> Iterator[httpx.Client]:
    with site.client("desk") as client:
        yield client


def counts(client: httpx.Client, order_id: str) -> dict[str, int]:
    found: dict[str, int] = client.get(f"/v1/orders/{order_id}").raise_for_status().json()["counts"]
    return found


def test_a_limit_for_all_waits_for_the_second_person_and_is_kept_by_every_hub(site: Site, desk: httpx.Client) -> None:
    wait_for("all hubs", lambda: desk.get("/v1/fleet").json()["online"] == HUBS)
    order = {"op": "limit", "args": {"watts": 300, "duration": 2}, "target": {"all": True}, "valid_s": 60}
    made = desk.post("/v1/orders", json=order)
    assert made.status_code == 201 and made.json()["state"] == "waiting"
    order_id = made.json()["id"]
    assert desk.post(f"/v1/orders/{order_id}/approve").status_code == 403
    with site.client("second") as second:
        assert second.post(f"/v1/orders/{order_id}/approve").json() == {"state": "sent"}
        assert second.post(f"/v1/orders/{order_id}/approve").status_code == 409
    wait_for("every hub to have kept it", lambda: counts(desk, order_id) == {"completed": HUBS})
    log = [(row["client"], row["action"]) for row in desk.get("/v1/audit").json()]
    assert ("second", "approve") in log and ("desk", "order") in log


def test_the_service_is_killed_and_nothing_is_missing(site: Site, desk: httpx.Client) -> None:
    before = desk.get("/v1/fleet").json()["messages"]
    site.kill_service()
    time.sleep(2)  # hubs go on meanwhile; the broker keeps it for the session
    site.start_service()
    with site.client("desk") as again:
        wait_for("more messages", lambda: again.get("/v1/fleet").json()["messages"] > before + HUBS)

        def is_whole() -> bool:
            books = [again.get(f"/v1/hubs/SIM-{n}/book").json() for n in range(HUBS)]
            return all(len({(row["epoch"], row["lane"]) for row in book}) == len(book) for book in books)

        wait_for("one range for each lane", is_whole)
        assert not any(row["is_lost"] for n in range(HUBS) for row in again.get(f"/v1/hubs/SIM-{n}/book").json())


def test_the_broker_is_killed_and_every_hub_comes_back(site: Site, desk: httpx.Client) -> None:
    site.broker.kill()
    wait_for("the sessions to be lost", lambda: site.swarm.open_sessions == 0)
    site.broker.start()
    before = desk.get("/v1/fleet").json()["messages"]
    wait_for("all of them", lambda: site.swarm.open_sessions == HUBS)
    wait_for("more messages", lambda: desk.get("/v1/fleet").json()["messages"] > before + 3 * HUBS)
    order = {"op": "limit", "args": {"watts": 300, "duration": 1}, "target": {"where": {"version": site.version(desk)}}}
    made = desk.post("/v1/orders", json=order).json()
    with site.client("second") as second:
        second.post(f"/v1/orders/{made['id']}/approve")
    wait_for("an order to reach them all", lambda: counts(desk, made["id"]) == {"completed": HUBS})


def test_usage_is_exact_in_every_form_and_looking_at_it_is_written_down(site: Site, desk: httpx.Client) -> None:
    span = {"from_s": int(time.time()) - 3600, "to_s": int(time.time()) + 60}
    wait_for("readings", lambda: desk.get("/v1/hubs/SIM-1/readings", params=span).json())
    answer = desk.get("/v1/hubs/SIM-1/readings", params=span | {"quantity": "energy"})
    assert answer.headers["content-type"].startswith("application/senml+json")
    records = answer.json()
    assert {record["n"] for record in records} == {"SIM-1/meter/energy"} and {r["u"] for r in records} == {"Wh"}
    assert [record["v"] for record in records] == sorted(record["v"] for record in records)
    sheet = desk.get("/v1/hubs/SIM-1/readings", params=span, headers={"Accept": "text/csv"}).text.splitlines()
    assert sheet[0] == "time,appliance,quantity,value,unit,flags" and ",meter,power," in sheet[1] + sheet[2]
    rows = desk.get("/v1/hubs/SIM-1/readings", params=span, headers={"Accept": "application/vnd.apache.parquet"})
    assert rows.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(rows.content)).to_pylist()
    assert len(table) >= len(records) and {row["unit"] for row in table} == {"W", "Wh"}
    today = str(datetime.now(UTC).date())
    assert desk.get("/v1/hubs/SIM-1/intervals", params={"day": today}).status_code == 200
    chart = desk.get("/v1/hubs/SIM-1/day.svg", params={"day": today})
    assert (
        chart.headers["content-type"] == "image/svg+xml"
        and chart.text.startswith("<svg")
        and "<script" not in chart.text
    )
    assert [row for row in desk.get("/v1/audit").json() if row["action"] == "readings" and "SIM-1" in row["detail"]]


def test_who_may_what(site: Site) -> None:
    bare = httpx.Client(base_url=f"http://127.0.0.1:{site.port}")
    paths = ["/v1/fleet", "/v1/hubs", "/v1/hubs/SIM-1", "/v1/orders", "/v1/audit", "/v1/live?seconds=1"]
    assert {bare.get(path).status_code for path in paths} == {401}
    assert bare.post("/v1/orders", json={}).status_code == 401
    wrong = {"grant_type": "client_credentials", "client_id": "desk", "client_secret": "x"}
    assert bare.post("/oauth/token", data=wrong).status_code == 401
    assert bare.post("/oauth/token", data={"grant_type": "password"}).status_code == 400
    with site.client("viewer") as viewer:
        assert viewer.get("/v1/hubs").status_code == 200
        for path in ("/v1/hubs/SIM-1/readings?from_s=0&to_s=1", "/v1/hubs/SIM-1/intervals?day=2027-01-01", "/v1/audit"):
            assert viewer.get(path).status_code == 403
        assert viewer.delete("/v1/hubs/SIM-1/usage").status_code == 403
        order = {"op": "limit", "args": {"watts": 300, "duration": 2}, "target": {"hub": "SIM-1"}}
        assert viewer.post("/v1/orders", json=order).status_code == 403


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"op": "explode", "target": {"all": True}}, "one of"),
        ({"op": "limit", "args": {"watts": 1}, "target": {"all": True}}, "duration"),
        ({"op": "limit", "args": {"watts": -1, "duration": 5}, "target": {"all": True}}, "watts"),
        ({"op": "limit", "args": {"watts": 1, "duration": 5}, "target": {}}, "exactly one"),
        ({"op": "limit", "args": {"watts": 1, "duration": 5}, "target": {"hub": "SIM-1", "all": True}}, "exactly one"),
        ({"op": "limit", "args": {"watts": 1, "duration": 5}, "target": {"hub": "nobody"}}, "no hub is"),
        ({"op": "limit.cancel", "args": {"cti": {"hex": "zz"}}, "target": {"all": True}}, ""),
        ({"op": "limit", "args": {"watts": 1, "duration": 5}, "target": {"where": {"state; --": "x"}}}, ""),
        (
            {"op": "limit", "args": {"watts": 1, "duration": 5}, "target": {"where": {"version": "' OR 1=1"}}},
            "no hub is",
        ),
    ],
)
def test_a_wrong_order_is_refused_in_words(desk: httpx.Client, order: dict[str, Any], said: str) -> None:
    before = len(desk.get("/v1/orders").json())
    answer = desk.post("/v1/orders", json=order)
    assert answer.status_code in (400, 422) and said in answer.text
    assert len(desk.get("/v1/orders").json()) == before


def test_what_hubs_say_is_followed_live(site: Site, desk: httpx.Client) -> None:
    told: list[str] = []

    def follow() -> None:
        with site.client("viewer") as viewer, viewer.stream("GET", "/v1/live?seconds=10") as lines:
            told.append("open")
            for line in lines.iter_lines():
                told.append(line)
                if line.startswith("data:") and '"applied"' in line:
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for("the stream to be open", lambda: ": connected" in told)
    order = {"op": "limit", "args": {"watts": 300, "duration": 1}, "target": {"hub": "SIM-2"}}
    assert desk.post("/v1/orders", json=order).json()["state"] == "sent"
    thread.join()
    assert [line for line in told if line.startswith("data:") and '"SIM-2"' in line and '"applied"' in line]
    assert "meter" not in "".join(told), "no consumption"


def test_who_may_see_the_fleet_sees_no_consumption_in_what_happened(site: Site, desk: httpx.Client) -> None:
    session = next(session for session in site.swarm.sessions if session.hub.hub == "SIM-2")
    fields = {"old_number": "4711", "new_number": "4712", "last_registers": {"energy": "987654321"},
              "first_registers": {"energy": "1"}}  # fmt: skip
    session.say([session.hub.tell("meter.replaced", fields, time.time())])

    def told() -> list[dict[str, Any]]:
        with site.client("viewer") as viewer:
            rows = viewer.get("/v1/hubs/SIM-2/events").json()
        return [row["fields"] for row in rows if row["event"] == "meter.replaced"]

    wait_for("the exchange", told)
    assert told() == [{"old_number": "4711", "new_number": "4712"}]


def test_nor_in_what_a_hub_answers_to_an_order(site: Site, desk: httpx.Client) -> None:
    """A real hub's receipt tells what its household draws as a limit ends."""
    session = next(session for session in site.swarm.sessions if session.hub.hub == "SIM-2")
    told = {"kept": True, "household_w": 987654321, "base_w": 987654321, "restricted": {"boiler": 500}}
    order = {"op": "limit", "args": {"watts": 500, "duration": 600}, "target": {"hub": "SIM-2"}}
    order_id = desk.post("/v1/orders", json=order).json()["id"]
    wait_for("its answer", lambda: counts(desk, order_id) == {"applied": 1})
    [limit] = [limit for limit in list(session.hub._limits.values()) if limit.limit_w == 500]
    session.say([session.hub._receipt(limit.command, limit.digest, "completed", time.time(), told)])
    wait_for("its end", lambda: counts(desk, order_id) == {"completed": 1})
    with site.client("viewer") as viewer:
        [answer] = viewer.get(f"/v1/orders/{order_id}").json()["answers"]
    assert answer["detail"] == {"kept": True, "restricted": {"boiler": 500}}
    back = {"op": "limit.cancel", "args": {}, "target": {"hub": "SIM-2"}}
    assert desk.post("/v1/orders", json=back).status_code == 201


def test_a_days_limit_begins_when_the_hub_took_it(site: Site, desk: httpx.Client) -> None:
    """Not when somebody asked for it: a second person may take an hour."""
    order = {"op": "limit", "args": {"watts": 321, "duration": 2}, "target": {"all": True}}
    order_id = desk.post("/v1/orders", json=order).json()["id"]
    made_s = desk.get(f"/v1/orders/{order_id}").json()["made_ms"] // 1000
    wait_for("some seconds", lambda: time.time() > made_s + 3)
    with site.client("second") as second:
        assert second.post(f"/v1/orders/{order_id}/approve").status_code == 200
    wait_for("all", lambda: counts(desk, order_id) == {"completed": HUBS})
    found = [
        (limit["from_s"], limit["to_s"] - limit["from_s"])
        for day in (datetime.fromtimestamp(t, UTC).date() for t in (made_s, time.time()))
        for limit in desk.get("/v1/hubs/SIM-1/day", params={"day": str(day)}).json()["limits"]
        if limit["limit_w"] == 321
    ]
    assert found and all(from_s >= made_s + 3 and lasted_s <= 2 for from_s, lasted_s in found)


def test_figures_for_prometheus_have_no_household_in_them(site: Site) -> None:
    text = httpx.get(f"http://127.0.0.1:{site.port}/metrics").text
    assert f'meterhub_hubs{{state="online"}} {HUBS}' in text and "SIM-" not in text
    for line in text.splitlines():
        assert line.startswith("#") or len(line.split()) == 2, line


def test_the_console_is_served_with_nothing_from_elsewhere(site: Site) -> None:
    console_parts.fetch()  # as `deploy/setup.sh test` has done
    page = httpx.get(f"http://127.0.0.1:{site.port}/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy and "unsafe" not in policy
    assert "http" not in page.text.replace("http-equiv", "") and "<script>" not in page.text
    for name in ("main.js", "console.css", "pages/fleet.js", *(f"parts/{name}" for name in console_parts.PARTS)):
        answer = httpx.get(f"http://127.0.0.1:{site.port}/console/{name}")
        assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert answer.headers["content-type"].partition(";")[0] == kind, name
    for name in ("..%2fapi.py", "schema.sql", "package.json", "parts/..%2f..%2fpackage.json", "pages"):
        assert httpx.get(f"http://127.0.0.1:{site.port}/console/{name}").status_code == 404


def test_a_grid_event_of_openadr_is_called_reported_and_ended(site: Site) -> None:
    place = f"http://127.0.0.1:{site.port}/openadr3"
    form = {"grant_type": "client_credentials", "client_id": "desk", "client_secret": site.secrets["desk"]}
    token = httpx.post(f"{place}/auth/token", data=form).json()["access_token"]
    with httpx.Client(base_url=place, headers={"Authorization": f"Bearer {token}"}) as client:
        program = client.get("/programs").json()[0]["id"]
        event = {
            "programID": program, "targets": [{"type": "VEN_NAME", "values": ["SIM-0"]}],
            "intervalPeriod": {"duration": "PT10M"},
            "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [0.4]}]}],
        }  # fmt: skip
        assert client.post("/events", json=event | {"intervals": []}).status_code == 400
        called = client.post("/events", json=event)
        assert called.status_code == 201 and called.json()["objectType"] == "EVENT"
        event_id = called.json()["id"]

        def statuses() -> list[str]:
            reports = client.get("/reports", params={"eventID": event_id}).json()
            return [report["resources"][0]["intervals"][0]["payloads"][0]["values"][0] for report in reports]

        wait_for("the hub's report", lambda: statuses() == ["applied"])
        assert client.get(f"/events/{event_id}").json() == called.json()
        assert client.delete(f"/events/{event_id}").status_code == 200
        assert client.get(f"/events/{event_id}").status_code == client.delete(f"/events/{event_id}").status_code == 404
    with site.client("desk") as desk:
        cancelled = next(order for order in desk.get("/v1/orders").json() if order["op"] == "limit.cancel")["id"]
        wait_for("the limit to be cancelled", lambda: counts(desk, cancelled) == {"completed": 1})


def test_the_api_does_what_it_says_of_itself(site: Site, tmp_path: Path) -> None:
    """schemathesis, from the API's own description: no internal error, no answer that is not described."""
    with site.client("desk") as desk:
        token = desk.headers["Authorization"]
    words = [
        sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{site.port}/openapi.json",
        "-H", f"Authorization: {token}", "--exclude-path-regex", "live|token|usage", "--max-examples", "5",
        "--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_household_is_forgotten(site: Site, desk: httpx.Client) -> None:
    span = {"from_s": 0, "to_s": int(time.time()) - 1}
    wait_for("readings", lambda: desk.get("/v1/hubs/SIM-3/readings", params=span).json())
    assert desk.delete("/v1/hubs/SIM-3/usage").json()["readings"] > 0
    assert desk.get("/v1/hubs/SIM-3/readings", params=span).json() == []
    assert desk.get("/v1/hubs/nobody/events").status_code == 404


def test_a_token_ends() -> None:
    now = [0.0]
    secret, digest = new_secret()
    access = Access({"a": ApiClient("a", "a", digest, frozenset({"fleet"}))}, lambda: now[0])
    token = access.token_for("a", secret)
    assert token is not None and access.client_of(token) is not None
    assert access.token_for("a", "wrong") is None and access.token_for("b", secret) is None
    now[0] = 3601.0
    assert access.client_of(token) is None


def test_who_asks_for_tokens_without_end_takes_nobody_elses() -> None:
    secret, digest = new_secret()
    access = Access({name: ApiClient(name, name, digest, frozenset({"fleet"})) for name in ("desk", "viewer")})
    token = access.token_for("desk", secret)
    asked = [access.token_for("viewer", secret) for _ in range(10_100)]
    assert token is not None and access.client_of(token) is not None
    kept = [one for one in asked if one is not None and access.client_of(one) is not None]
    assert kept == asked[-len(kept) :] and 0 < len(kept) <= 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[service]", "[serviec]"), r"\[serviec\]: not one of"),
        (("port = ", "prot = "), r"broker.prot: not one of"),
        (("port = ", 'hosts = ["a"] # '), r"broker.hosts: expected a list of HOST:PORT"),
        (("port = ", 'hosts = ["a:8883"] # '), "broker: expected either host, or hosts"),
        (("data_dir = ", "#"), "service.data_dir: is missing"),
        (("data_dir = ", 'database = "x.db"\ndata_dir = '), "service.database: expected postgresql://"),
        (("[policy]", '[columns]\nurl = "x"\n[policy]'), "columns.url: expected http"),
        (("listen = ", "listen = 8080 #"), "service.listen: expected HOST:PORT"),
        (('kid = "op"', "kid = 5"), "operator.kid: expected a text of"),
        (("roles = [", 'roles = ["king", '), "roles: expected some of"),
        (("groups = [", "groups = [5, "), "north.groups: expected a list of groups' names"),
        (("secret_sha256", "secret"), "secret: not one of name, secret_sha256, roles, groups"),
        (("[policy]", 'timezone = "Mars"\n[policy]'), "registry.timezone: not one of"),
        (("listen = ", 'timezone = "Mars/Olympus"\nlisten = '), "service.timezone: expected a name"),
        (("[service]", "service]"), "headend.toml"),
        (("[policy]", "x = " + "9" * 5000 + "\n[policy]"), "headend.toml.*digits"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(
    tmp_path: Path, site: Site, change: tuple[str, str], said: str
) -> None:
    file = tmp_path / "headend.toml"
    lines = site.config.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("database")).replace(*change))
    with pytest.raises(BadConfig, match=said):
        load(file)


def test_the_services_command_line(site: Site, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.headend", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )

    assert run("check", str(site.config)).returncode == 0
    wrong = run("check", str(tmp_path / "none.toml"))
    assert wrong.returncode == 2 and len(wrong.stderr.splitlines()) == 1
    assert "secret_sha256" in run("secret").stdout
    described = json.loads(run("openapi").stdout)
    assert "/v1/orders" in described["paths"]


def test_what_was_given_up_is_not_done_behind_the_answer(site: Site) -> None:
    """Who is told that the service is busy asks again, and would have limited everybody twice."""
    assert site.process is not None
    site.process.terminate()
    site.process.wait(20)
    config = load(site.config)
    service = Service(config, operator_signer(config.operator_key_file), lambda _: None)
    service.start()
    done: list[str] = []
    is_busy, may_go_on = threading.Event(), threading.Event()

    def occupy(_: ControlPoint) -> tuple[str, list[CommandToSend]]:
        is_busy.set()
        assert may_go_on.wait(30)
        return "late", []

    def note(word: str) -> Callable[[ControlPoint], tuple[None, list[CommandToSend]]]:
        return lambda _: (done.append(word), [])

    try:
        with ThreadPoolExecutor(1) as pool:
            occupied = pool.submit(service.ask, occupy, 0.1)
            assert is_busy.wait(30)
            with pytest.raises(TimeoutError):
                service.ask(note("given up"), 0.2)
            may_go_on.set()
            assert occupied.result(30) == "late", "what has begun is waited for"
        service.ask(note("again"))
        assert done == ["again"]
    finally:
        may_go_on.set()
        service.stop()
        site.start_service()
