"""Alert rules, Alertmanager's and Prometheus' configuration, dashboards: judged by their own tools, and every query of
theirs is asked of a live Prometheus that watches a live service, its workers and the proxy."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from deploy.fleet.simulated_hub import SimulatedHub
from deploy.headend.control_point import ControlPoint
from deploy.headend.engines import EngineProcess, FleetEngines
from deploy.local_postgres import PostgresCluster
from deploy.waiting import wait_for
from hub.wire.keys.operators import Operators
from hub.wire.uplink.envelope import FileSigner, kid_of
from tests.deploy.headend.test_service import HUBS, Site

HEADEND = Path(__file__).resolve().parents[3] / "deploy/headend"
DASHBOARDS = sorted((HEADEND / "grafana").glob("*.json"))
# What is counted from when it happens on: there is none while all is well.
_SELDOM = {"meterhub_order_answers"}
# Of a control point that certifies, or that has subscribers.
_ELSEWHERE = {
    "meterhub_revocation_list_left_seconds", "meterhub_broker_files_failed_total", "meterhub_notices_given_up_total",
}  # fmt: skip
_METRIC = re.compile(r"\b(?:meterhub|haproxy)_[a-z_]+\b(?!\s*\()")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((HEADEND / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[tuple[str, str, str, str]]:
    """(dashboard and panel, data source, query, legend) of everything that is drawn."""
    return [
        (f"{file.stem}: {panel['title']}", target["datasource"]["uid"], target["expr"], target["legendFormat"])
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]


def judged(*words: str) -> None:
    done = subprocess.run(words, cwd=HEADEND, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_when_it_should_and_is_quiet_else() -> None:
    judged(program("promtool"), "test", "rules", "alerts_test.yml")


def test_the_tools_take_the_configurations() -> None:
    judged(program("promtool"), "check", "config", "prometheus.yml")
    judged(program("amtool"), "check-config", "alertmanager.yml")


def test_every_rule_has_a_case_that_fires_and_one_that_does_not() -> None:
    tests = yaml.safe_load((HEADEND / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_a_rule_says_what_is_so_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def test_dashboards_are_whole() -> None:
    assert len(DASHBOARDS) == 2
    uids = set()
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        uids.add(board["uid"])
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        names = {variable["name"] for variable in board["templating"]["list"]}
        cells = [
            (x, y)
            for panel in board["panels"]
            for place in [panel["gridPos"]]
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24, "panels lie beside each other"
        assert all(uid.strip("${}") in names for name, uid, _, _ in panels() if name.startswith(file.stem))
    assert len(uids) == 2


class MeterLost:
    """A hub that said so before the service starts, and was not heard since."""

    def __init__(self, database: str) -> None:
        self._database = database

    def __call__(self, site: Site, operator: ec.EllipticCurvePrivateKey, operators: Operators) -> None:
        cert_file, key_file = site.authority.issue("OLD-1", file_name="old")
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        t = time.time()
        hub = SimulatedHub("OLD-1", FileSigner(key, kid_of(certificate)), operators, t)
        point = ControlPoint(self._database, "op", FileSigner(operator, b""))
        point.enrol([certificate.public_bytes(Encoding.DER)], "test")
        message = hub.tell("meter.lost", {"reason": "unplugged"}, t)
        assert not point.take(message.topic, message.payload, int(t * 1000)).fault
        point.commit()
        point.close()


class Watched:
    """A service with workers, a proxy, a columnar store, and who watches them."""

    def __init__(self, folder: Path, cluster: PostgresCluster, engines: FleetEngines) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._folder = folder
        columns = engines.columns()
        assert columns is not None
        self._start(columns)
        url = engines.columns_url
        database = cluster.make_database("watched")
        lines = f'database = "{database}"\nworkers = 1\n[columns]\nurl = "{url}"\n'
        self.site = Site(folder, lines, MeterLost(database))
        for engine in (engines.proxy([self.site.broker.port]), engines.alerts(), engines.prometheus(self.site.port)):
            assert engine is not None
            self._start(engine)
            self.port = engine.port
        self.ports = {"${prometheus}": self.port, "${columns}": columns.port}

    def _start(self, engine: EngineProcess) -> None:
        with (self._folder / f"{engine.name}.log").open("wb") as log:
            self._running.append(subprocess.Popen([engine.program, *engine.arguments], stdout=log, stderr=log))

    def ask(self, query: str, source: str = "${prometheus}") -> list[dict[str, Any]]:
        """The series that a query gives now. AssertionError where it is none."""
        place = f"http://127.0.0.1:{self.ports[source]}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(place, timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []  # it listens, and is not ready yet
            raise AssertionError(f"{query}: {error.read().decode()}") from None
        except OSError:
            return []  # not there yet
        rows: list[dict[str, Any]] = found["data"]["result"]
        return rows

    def stop(self) -> None:
        for process in reversed(self._running):
            process.terminate()
            process.wait()
        self.site.stop()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, cluster: PostgresCluster) -> Iterator[Watched]:
    for name in ("prometheus", "prometheus-alertmanager", "haproxy", "victoria-metrics"):
        program(name)
    folder = tmp_path_factory.mktemp("watched")
    watched = Watched(folder, cluster, FleetEngines(folder))
    try:
        yield watched
    finally:
        watched.stop()


def test_every_query_of_a_dashboard_has_an_answer(watched: Watched) -> None:
    with watched.site.client("desk") as desk:
        order = {"op": "limit", "args": {"watts": 300, "duration": 1}, "target": {"hub": "SIM-1"}}
        desk.post("/v1/orders", json=order).raise_for_status()
    assert len(panels()) > 25
    for name, source, query, legend in panels():
        rows = wait_for(f"{name}: {query}", lambda: watched.ask(query, source))  # noqa: B023
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert all(label in row["metric"] for row in rows), f"{name}: nothing has {label}"


def test_every_metric_of_a_rule_is_there_and_no_rule_is_broken(watched: Watched) -> None:
    wait_for("all hubs", lambda: watched.ask(f'meterhub_hubs{{state="online"}} == {HUBS}'))
    for rule in rules():
        watched.ask(rule["expr"])  # AssertionError where it is no query
        for metric in set(_METRIC.findall(rule["expr"])) - _SELDOM - _ELSEWHERE:
            wait_for(f"{rule['alert']}: {metric}", lambda: watched.ask(metric))  # noqa: B023
    with urllib.request.urlopen(f"http://127.0.0.1:{watched.port}/api/v1/rules") as answer:
        groups = json.load(answer)["data"]["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(loaded) == {rule["alert"] for rule in rules()} and "err" not in loaded.values()


def test_prometheus_tells_alertmanager(watched: Watched) -> None:
    def told() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{watched.port}/api/v1/alertmanagers") as answer:
            return bool(json.load(answer)["data"]["activeAlertmanagers"])

    wait_for("Alertmanager to be known", told)
