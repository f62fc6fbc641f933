"""OpenADR 3 over HTTP, as others' clients speak it: VENs, subscriptions, and webhooks to a subscriber with TLS."""

import json
import os
import ssl
import subprocess
import sys
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


# Through the library's own doors: a grid operator's side, and a VEN's for the subscription.
_CLIENT = """
import sys
from datetime import datetime, timedelta, timezone
from openadr3_client._models.common.interval import Interval
from openadr3_client._models.common.interval_period import IntervalPeriod
from openadr3_client.bl.http_factory import BusinessLogicHttpClientFactory
from openadr3_client.oadr301._vtn.interfaces.filters import PaginationFilter, TargetFilter
from openadr3_client.oadr301.models.event.event import NewEvent
from openadr3_client.oadr301.models.event.event_payload import EventPayload, EventPayloadType
from openadr3_client.oadr301.models.subscriptions import subscription as subscriptions
from openadr3_client.oadr301.models.target import Target
from openadr3_client.oadr301.models.ven.resource import NewResource
from openadr3_client.oadr301.models.ven.ven import NewVen, VenUpdate
from openadr3_client.ven.http_factory import VirtualEndNodeHttpClientFactory
from openadr3_client.version import OADRVersion

url, secret, callback = sys.argv[1:]
how = dict(vtn_base_url=url, client_id="desk", client_secret=secret, token_url=url + "/auth/token",
           version=OADRVersion.OADR_301, allow_insecure_http=True)
desk = BusinessLogicHttpClientFactory.create_http_bl_client(**how)
(program,) = desk.programs.get_programs(None, None)
ven = desk.vens.create_ven(NewVen(ven_name="avenue"))
resource = desk.vens.create_ven_resource(ven.id, NewResource(resource_name="MTR-1", ven_id=ven.id))
page = PaginationFilter(skip=0, limit=50)
assert {"avenue", "MTR-1", "MTR-2"} <= {each.ven_name for each in desk.vens.get_vens(None, None, page)}
assert [each.resource_name for each in desk.vens.get_ven_resources(ven.id, None, None, None)] == ["MTR-1"]
ven = desk.vens.update_ven_by_id(ven.id, ven.update(VenUpdate(ven_name="alley")))
home = VirtualEndNodeHttpClientFactory.create_http_ven_client(**how)
operation = subscriptions.ObjectOperation(
    objects=(subscriptions.Object.EVENT,), operations=(subscriptions.Operation.POST,), callback_url=callback,
    bearer_token="t")
told = home.subscriptions.create_subscription(subscriptions.NewSubscription(
    client_name="desk", program_id=program.id, object_operations=(operation,)))
assert len(home.subscriptions.get_subscriptions(None, None, None, None, None)) == 1
limit = EventPayload(type=EventPayloadType.IMPORT_CAPACITY_LIMIT, values=(0.4,))
called = desk.events.create_event(NewEvent(
    programID=program.id, event_name="peak", targets=(Target(type="VEN_NAME", values=("alley",)),),
    interval_period=IntervalPeriod(start=datetime.now(timezone.utc), duration=timedelta(minutes=10)),
    intervals=(Interval(id=0, payloads=(limit,)),)))
alley = TargetFilter(target_type="VEN_NAME", target_values=["alley"])
assert [each.id for each in desk.events.get_events(page, alley, None)] == [called.id]
(report,) = desk.reports.get_reports(None, None, called.id, None)
assert report.client_name == "MTR-1" and desk.reports.get_report_by_id(report.id).event_id == called.id
desk.events.delete_event_by_id(called.id)
home.subscriptions.delete_subscription_by_id(told.id)
desk.vens.delete_ven_resource_by_id(ven.id, resource.id)
desk.vens.delete_ven_by_id(ven.id)
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="openadr3-client needs Python 3.12")
def test_anothers_client_understands_all_of_it(vtn: Vtn) -> None:
    words = [sys.executable, "-c", _CLIENT, vtn.url, vtn.works.secret, f"https://{vtn.subscriber.place}/told"]
    env = {**os.environ, "OAUTHLIB_INSECURE_TRANSPORT": "1"}  # the loopback has no TLS: a proxy's business
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
