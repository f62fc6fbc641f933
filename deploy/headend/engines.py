"""The engines of `make fleet`, each on the loopback in a folder of its own where it is installed: haproxy, PostgreSQL,
VictoriaMetrics, Prometheus, Alertmanager. What is shipped for each is what runs, with places and ports of this
folder."""

import json
import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deploy.local_postgres import PostgresCluster, postgres_programs
from deploy.waiting import free_port

_DEPLOY = Path(__file__).resolve().parents[1]
_PATH = os.environ.get("PATH", "") + ":/usr/sbin"


class EngineProcess(NamedTuple):
    """What to start, and where it listens then."""

    name: str
    program: str
    arguments: list[str]
    port: int


class FleetEngines:
    """`folder` is there; `missing`: what is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.missing: list[str] = []
        self.cluster: PostgresCluster | None = None
        self.front_port = self._proxy_metrics_port = self._columns_port = self._prometheus_port = self._alerts_port = 0

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=_PATH)
        if found is None:
            self.missing.append(name)
        return found or ""

    def database(self) -> PostgresCluster | None:
        """A cluster that was made and not started."""
        if postgres_programs() is None:
            self.missing.append("postgresql")
            return None
        if os.geteuid() == 0:
            self._folder.chmod(0o711)  # root's cluster is somebody else's, who has to get there
            if not all(parent.stat().st_mode & 1 for parent in self._folder.parents):
                self.missing.append("postgresql (whose user cannot get to this folder)")
                return None
        self.cluster = PostgresCluster(self._folder / "postgres")
        return self.cluster

    def proxy(self, brokers: Sequence[int]) -> EngineProcess | None:
        """haproxy before the brokers at these ports of the loopback."""
        program = self._program("haproxy")
        if not program:
            return None
        self.front_port, self._proxy_metrics_port = free_port(), free_port()
        lines = (_DEPLOY / "broker/haproxy.cfg").read_text().splitlines()
        kept = [line for line in lines if not line.strip().startswith("server ")]
        at = next(n for n, line in enumerate(kept) if "default-server" in line)
        kept[at + 1 : at + 1] = [
            f"    server broker{number} 127.0.0.1:{port}" for number, port in enumerate(brokers, 1)
        ]
        text = "\n".join(kept) + "\n"
        for there, here in (("bind :8883", f"bind 127.0.0.1:{self.front_port}"),
                            ("127.0.0.1:8405", f"127.0.0.1:{self._proxy_metrics_port}")):  # fmt: skip
            text = text.replace(there, here)
        file = self._folder / "haproxy.cfg"
        file.write_text(text)
        return EngineProcess("haproxy", program, ["-db", "-f", str(file)], self.front_port)

    def columns(self) -> EngineProcess | None:
        """VictoriaMetrics, each reading once."""
        program = self._program("victoria-metrics")
        if not program:
            return None
        self._columns_port = free_port()
        words = [
            "-storageDataPath", str(self._folder / "columns"), "-httpListenAddr", f"127.0.0.1:{self._columns_port}",
            "-retentionPeriod", "100y", "-dedup.minScrapeInterval", "1ms", "-search.latencyOffset", "1s",
        ]  # fmt: skip
        return EngineProcess("victoria-metrics", program, words, self._columns_port)

    @property
    def columns_url(self) -> str:
        """Empty where it is not there."""
        return f"http://127.0.0.1:{self._columns_port}" if self._columns_port else ""

    def alerts(self) -> EngineProcess | None:
        """Alertmanager."""
        program = self._program("prometheus-alertmanager")
        if not program:
            return None
        self._alerts_port = free_port()
        return EngineProcess("alertmanager", program, [
            f"--config.file={_DEPLOY / 'headend/alertmanager.yml'}", f"--storage.path={self._folder / 'alerts'}",
            f"--web.listen-address=127.0.0.1:{self._alerts_port}", "--cluster.listen-address=",
        ], self._alerts_port)  # fmt: skip

    def prometheus(self, service_port: int) -> EngineProcess | None:
        """Prometheus, with the rules; each two seconds, as a story is short."""
        program = self._program("prometheus")
        if not program:
            return None
        self._prometheus_port = free_port()
        text = (_DEPLOY / "headend/prometheus.yml").read_text()
        for there, here in (
            ("interval: 15s", "interval: 2s"), ("127.0.0.1:8080", f"127.0.0.1:{service_port}"),
            ("127.0.0.1:8405", f"127.0.0.1:{self._proxy_metrics_port}"),
            ("127.0.0.1:9093", f"127.0.0.1:{self._alerts_port}"),
            ("- alerts.yml", f"- {_DEPLOY / 'headend/alerts.yml'}"),
        ):  # fmt: skip
            text = text.replace(there, here)
        file = self._folder / "prometheus.yml"
        file.write_text(text)
        return EngineProcess("prometheus", program, [
            f"--config.file={file}", f"--storage.tsdb.path={self._folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._prometheus_port}",
        ], self._prometheus_port)  # fmt: skip

    def held(self) -> dict[str, str]:
        """What each of them has now, for the table. Raises OSError where one that was started does not answer."""
        found = {}
        if self.cluster is not None:
            found["PostgreSQL"] = self._database_held()
        if self.front_port:
            sessions = _figures(self._proxy_metrics_port, "haproxy_server_current_sessions", 'proxy="brokers"')
            found["haproxy"] = "sessions " + ", ".join(f"{count:.0f}" for count in sessions) + " by broker"
        if self._columns_port:
            found["VictoriaMetrics"] = f"{self.columns_held()} readings"
        if self._prometheus_port:
            up, targets = (self.ask(self._prometheus_port, query) for query in ("sum(up)", "count(up)"))
            found["Prometheus"] = f"{up:.0f} of {targets:.0f} targets up"
        if self._alerts_port:
            alerts = json.loads(_get(self._alerts_port, "/api/v2/alerts"))
            names = sorted({alert["labels"]["alertname"] for alert in alerts})
            found["Alertmanager"] = ", ".join(names) or "no alert stands"
        return found

    def columns_held(self, hubs: str = ".*") -> int:
        """Readings in the columnar store, of hubs whose name is like this. Raises OSError where it does not answer."""
        _get(self._columns_port, "/internal/force_flush")  # what was imported is found from now on
        query = f'sum(count_over_time({{__name__=~"meterhub_.*",hub=~"{hubs}"}}[1d]))'
        return int(self.ask(self._columns_port, query))

    def _database_held(self) -> str:
        import psycopg

        assert self.cluster is not None
        with psycopg.connect(self.cluster.url) as connection:
            messages = connection.execute("SELECT count(*) FROM message").fetchone()
            rows = connection.execute("SELECT name, messages FROM worker ORDER BY name").fetchall()
        workers = ", ".join(f"{name} {count}" for name, count in rows) or "the service alone"
        return f"{messages[0] if messages else 0} messages; packs taken by {workers}"

    @staticmethod
    def ask(port: int, query: str) -> float:
        """One number, by PromQL."""
        answer = json.loads(_get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": query})))
        rows: list[Any] = answer["data"]["result"]
        return float(rows[0]["value"][1]) if rows else 0.0


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        body: bytes = answer.read()
        return body


def _figures(port: int, name: str, label: str) -> list[float]:
    """Values of a metric that has this label, from a page for Prometheus."""
    lines = _get(port, "/metrics").decode().splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{") and label in line]
