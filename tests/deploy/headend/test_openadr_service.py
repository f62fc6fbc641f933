"""OpenADR 3 over HTTP, as others' clients speak it: VENs, subscriptions, and webhooks to a subscriber with TLS."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from deploy.pki import DevelopmentAuthority
from deploy.waiting import wait_for
from tests.deploy.headend.works import Works


class Subscriber:
    """Who is told: an HTTPS server that takes notices, or answers `refuses` times 503 first."""

    def __init__(self, authority: DevelopmentAuthority) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refuses = 0
        self.refused = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.directory / "broker.pem", authority.directory / "broker.key")
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                refuse = subscriber.refused < subscriber.refuses
                if refuse:
                    subscriber.refused += 1
                else:
                    subscriber.told.append((self.headers["Authorization"], body))
                self.send_response(503 if refuse else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.place = f"localhost:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class Vtn:
    """A service with its subscriber."""

    def __init__(self, works: Works) -> None:
        self.works = works
        self.subscriber = Subscriber(works.uplink)
        for name in ("MTR-1", "MTR-2"):
            works.hub(name, "ca-1")
        works.configure(
            "ca-1",
            more=f'[openadr]\ncallback_hosts = ["{self.subscriber.place}"]\n'
            f'callback_ca_file = "{works.uplink.ca_file}"\n',
        )
        works.start_broker()
        works.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.works.port}/openadr3"


@pytest.fixture(scope="module")
def vtn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vtn]:
    vtn = Vtn(Works(tmp_path_factory.mktemp("vtn")))
    try:
        yield vtn
    finally:
        vtn.subscriber.close()
        vtn.works.end()


@pytest.fixture
def desk(vtn: Vtn) -> Iterator[httpx.Client]:
    with vtn.works.desk() as desk:
        desk.base_url = vtn.url  # type: ignore[assignment]
        yield desk


def test_vens_and_resources_are_made_changed_and_deleted(desk: httpx.Client) -> None:
    made = desk.post("/vens", json={"venName": "street", "attributes": None, "targets": None}).json()
    assert made["objectType"] == "VEN" and made["venName"] == "street"
    path = f"/vens/{made['id']}"
    resource = desk.post(f"{path}/resources", json={"resourceName": "MTR-1", "venID": made["id"]})
    assert resource.status_code == 201
    one = f"{path}/resources/{resource.json()['id']}"
    assert desk.get(one).json() == desk.get(f"{path}/resources").json()[0] == resource.json()
    assert desk.put(one, json={"resourceName": "MTR-2"}).json()["resourceName"] == "MTR-2"
    assert desk.put(path, json={"venName": "lane"}).json()["createdDateTime"] == made["createdDateTime"]
    assert [ven["venName"] for ven in desk.get("/vens", params={"venName": "lane"}).json()] == ["lane"]
    assert desk.put("/vens/MTR-1", json={"venName": "x"}).status_code == 404, "a hub is what it is"
    assert desk.get("/vens/MTR-1").json()["venName"] == "MTR-1" and desk.get("/vens/MTR-1/resources").json() == []
    assert desk.post("/vens", json={"venName": "MTR-1"}).status_code == 400
    assert desk.delete(one).status_code == 200 and desk.get(one).status_code == 404
    assert desk.delete(path).status_code == 200 and desk.get(path).status_code == 404
    assert desk.get(f"{path}/resources").status_code == 404


def test_a_subscriber_is_told_and_told_again_until_it_takes_it(vtn: Vtn, desk: httpx.Client) -> None:
    row = {"objects": ["EVENT"], "operations": ["POST", "DELETE"],
           "callbackUrl": f"https://{vtn.subscriber.place}/told", "bearerToken": "for-the-desk"}  # fmt: skip
    body = {"clientName": "desk", "programID": "meterhub", "objectOperations": [row], "targets": None}
    elsewhere = {**body, "objectOperations": [{**row, "callbackUrl": "https://localhost:1/"}]}
    assert desk.post("/subscriptions", json=elsewhere).status_code == 400
    made = desk.post("/subscriptions", json=body)
    assert made.status_code == 201 and desk.get("/subscriptions").json() == [made.json()]
    vtn.subscriber.refuses = 1
    event = {
        "programID": "meterhub", "targets": [{"type": "VEN_NAME", "values": ["MTR-1"]}],
        "intervalPeriod": {"duration": "PT10M"},
        "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [0.4]}]}],
    }  # fmt: skip
    called = desk.post("/events", json=event).json()
    wait_for("the notice", lambda: vtn.subscriber.told)
    assert vtn.subscriber.refused == 1, "it was tried again"
    token, said = vtn.subscriber.told[0]
    assert token == "Bearer for-the-desk"
    assert said == {"objectType": "EVENT", "operation": "POST", "object": called}
    assert [report["eventID"] for report in desk.get("/reports").json()] == [called["id"]]
    assert desk.get("/events", params={"targetType": "VEN_NAME", "targetValues": ["MTR-1"]}).json() == [called]
    assert desk.get("/events", params={"targetType": "GROUP", "targetValues": ["MTR-1"]}).json() == []
    desk.delete(f"/events/{called['id']}")
    wait_for("the end", lambda: [said["operation"] for _, said in vtn.subscriber.told] == ["POST", "DELETE"])
    assert desk.delete(f"/subscriptions/{made.json()['id']}").status_code == 200
    assert desk.get(f"/subscriptions/{made.json()['id']}").status_code == 404
