"""`make fleet`: the control point over several brokers, and a fleet that outlives the death of one.

What `make headend` starts (deploy/headend/pilot.py), with three brokers and, where they are installed, what else a
utility has: haproxy before the brokers, PostgreSQL with workers, VictoriaMetrics, Prometheus with Alertmanager. A limit
reaches everybody; a broker is killed, as a machine that dies; its hubs go to the others by themselves and lose nothing;
a limit reaches everybody again; the broker comes back with what it had of before, and nobody is misled by that. The
book is held against what hubs sent."""

import sys
import time

from deploy.headend.engines import EngineProcess, FleetEngines
from deploy.headend.pilot import Pilot, live, say

OUTAGE_READINGS = 2  # of each hub, while a broker is dead
BACK_S = 180.0


class Fleet(Pilot):
    """A pilot with several brokers and the engines that a utility has, and its story. `workers`: that take packs;
    `are_one`: the brokers stand for each other, and the service goes to them as hubs do."""

    workers = 2
    are_one = False

    def start(self, *, embedded: bool) -> None:
        self._engines = FleetEngines(self._folder)
        self._make_keys()
        self._start_database()
        self._start_brokers(embedded=embedded)
        self._start_engine(
            self._engines.proxy(self.ports), "one address for hubs, before the brokers; TLS passes through"
        )
        self._start_engine(self._engines.columns(), "a columnar store; each reading once")
        self._start_service()
        self._start_engine(self._engines.alerts(), "tells whom it concerns")
        self._start_engine(self._engines.prometheus(self._http_port), "figures of service and proxy, alert rules")
        if self._engines.missing:
            say("engines", f"not there: {', '.join(self._engines.missing)}; deploy/setup.sh fleet has them")
        self._start_hubs()

    def _start_database(self) -> None:
        cluster = self._engines.database()
        if cluster is None:
            return
        cluster.start(self._children.enlist)
        assert cluster.process is not None
        self._children["postgres"] = cluster.process
        beside = f"with {self.workers} workers that take packs" if self.workers else "and no worker beside the service"
        say("engines", f"PostgreSQL at {cluster.port}: the book, {beside}")

    def _start_engine(self, engine: EngineProcess | None, text: str) -> None:
        if engine is not None:
            self._children.spawn(engine.name, *engine.arguments, program=engine.program)
            self.wait(f"{engine.name} to listen", lambda: self._listens(engine.port))
            say("engines", f"{engine.name} at {engine.port}: {text}")

    @property
    def _hub_ports(self) -> list[int]:
        return [self._engines.front_port] if self._engines.front_port else self.ports

    @property
    def _service_ports(self) -> list[int]:
        return self._hub_ports if self.are_one else self.ports

    def _service_lines(self) -> tuple[str, str]:
        cluster, url = self._engines.cluster, self._engines.columns_url
        return (
            f'database = "{cluster.url}"\nworkers = {self.workers}\n' if cluster is not None else "",
            f'[columns]\nurl = "{url}"\n' if url else "",
        )

    def tell(self) -> bool:
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self._online() >= wanted, BACK_S)
        at = self._online_at()
        say("online", f"{wanted} of {wanted} hubs: " + ", ".join(f"{n} at {where}" for where, n in at.items()))
        self.limit_all(wanted)
        dead = max(range(len(self.ports)), key=lambda number: at.get(self._address(number), 0))
        moved = at.get(self._address(dead), 0)
        self.kill_broker(dead)
        killed = time.monotonic()
        say("outage", f"the broker at {self._address(dead)} is killed; {moved} hubs were there")
        self.wait("them at the others", lambda: self._online(without=self._address(dead)) >= wanted, BACK_S)
        say("outage", f"{moved} of {moved} are at the others after {time.monotonic() - killed:.1f} s")
        readings = self.desk.get("/v1/fleet")["readings"]
        self.wait(
            "readings of each hub",
            lambda: self.desk.get("/v1/fleet")["readings"] >= readings + OUTAGE_READINGS * wanted, BACK_S,
        )  # fmt: skip
        order = self.limit_all(wanted)
        self.start_broker(dead)
        say("outage", "the broker is back, with the retained words and sessions of before")
        self.wait("no number to be missing", lambda: not self.missing(), BACK_S)
        self.wait_for_columns()
        still = self._online(without=self._address(dead))
        more = {"believed to be where they are": f"{still} of {wanted}", **self._engines.held()}
        return self.conclude(order, wanted, more) and still == wanted

    def wait_for_columns(self) -> None:
        """Until the columnar store has as many readings as the book has now."""
        if self._engines.columns_url:
            readings = self.desk.get("/v1/fleet")["readings"]
            self.wait("the columnar store", lambda: self._engines.columns_held() >= readings, BACK_S)

    def _address(self, number: int) -> str:
        return f"localhost:{self.ports[number]}"

    def _online_at(self) -> dict[str, int]:
        at: dict[str, int] = self.desk.get("/v1/fleet")["online_at"]
        return at

    def _online(self, without: str = "") -> int:
        return sum(count for where, count in self._online_at().items() if where != without)


def main() -> int:
    return live(Fleet, "fleet", __doc__ or "", hubs=300, brokers=3)


if __name__ == "__main__":
    sys.exit(main())
