"""`make chaos SECONDS=600`: the fleet of `make fleet`, whose parts are killed at random while orders go out.

Brokers, the proxy before them, workers, the service, PostgreSQL and the columnar store, each as a machine that dies, up
to three at once, and started again after some seconds. Then all is let come to rest, and the database is held against
what the simulated hubs know that they said: every number of every lane is there once, every reading is once in the book
and once in the columnar store, and of every order the book knows of each hub what that hub did.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from deploy.child_processes import children_of
from deploy.headend.account import faults_of_book, faults_of_orders
from deploy.headend.control_point import reader
from deploy.headend.engines import EngineProcess
from deploy.headend.fleet import BACK_S, Fleet
from deploy.headend.pilot import REAL, live_once, say, story_parser
from deploy.janitor import Janitor
from deploy.waiting import wait_for
from hub.headend.database import BookReader

_AT_ONCE = 3
_BETWEEN_S = (1.0, 6.0)
_DEAD_S = (0.5, 10.0)
_ORDER_EVERY_S = 5.0
_ORDER_VALID_S = 45
_REST_S = 400.0
_REAL_RETRY_CAP_S = 10
_TOLD_EVERY_S = 30.0


class _Part(NamedTuple):
    """What can be killed. `may`: whether it can be started again now, as others are there that it needs."""

    name: str
    kill: Callable[[], None]
    start: Callable[[], None]
    may: Callable[[], bool] = lambda: True


class Chaos(Fleet):
    """A fleet, what happens to it, and the account that is taken then."""

    def __init__(
        self, folder: Path, janitor: Janitor, hubs: int, port: int, brokers: int, *, seconds: float, seed: int
    ) -> None:
        super().__init__(folder, janitor, hubs, port, brokers)
        self._seconds = seconds
        self._random = random.Random(seed)
        self._account_file = folder / "account.json"
        self._started_engines: dict[str, EngineProcess] = {}
        self._dead: dict[str, float] = {}  # which part, and when it starts again, monotonic seconds
        self._killed: Counter[str] = Counter()
        self._orders: Counter[str] = Counter()

    def _start_engine(self, engine: EngineProcess | None, text: str) -> None:
        if engine is not None:
            self._started_engines[engine.name] = engine
        super()._start_engine(engine, text)

    def _start_swarm(self, *_: str, program: str = "deploy.fleet.accounting_swarm") -> None:
        super()._start_swarm("--account", str(self._account_file), "--heartbeat-s", "10", program=program)

    def _start_real_hub(self, uplink: str = "") -> None:
        # A line that breaks every half minute without a reason looks like two hubs of one name: left to itself the hub
        # would keep its distance for half an hour, and what is missing could not be asked for.
        super()._start_real_hub(f"retry_cap_s = {_REAL_RETRY_CAP_S}\n{uplink}")

    def tell(self) -> bool:
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self._online() >= wanted, BACK_S)
        say("online", f"{wanted} of {wanted} hubs")
        parts = {part.name: part for part in self._parts()}
        ends_at = time.monotonic() + self._seconds
        kill_at = order_at = time.monotonic()
        told_at = kill_at + _TOLD_EVERY_S
        asking: threading.Thread | None = None
        while (now := time.monotonic()) < ends_at:
            if now >= order_at and not (asking and asking.is_alive()):
                order_at = now + _ORDER_EVERY_S
                asking = threading.Thread(target=self._order, args=(self._new_order(),), daemon=True)
                asking.start()
            for name in [name for name, at in self._dead.items() if at <= now and parts[name].may()]:
                self._revive(parts[name])
            if now >= kill_at:
                kill_at = now + self._random.uniform(*_BETWEEN_S)
                if len(self._dead) < _AT_ONCE:
                    self._strike(parts)
            if now >= told_at:
                told_at = now + _TOLD_EVERY_S
                say(
                    "chaos",
                    f"{ends_at - now:.0f} s to go; killed {_listed(self._killed)}; orders {_listed(self._orders)}",
                )
            time.sleep(0.1)
        while self._dead:
            for name in [name for name in self._dead if parts[name].may()]:
                self._revive(parts[name])
        say("chaos", f"over: killed {_listed(self._killed)}; orders {_listed(self._orders)}")
        return self._conclude(wanted)

    # What is killed

    def _parts(self) -> Iterator[_Part]:
        for number in range(len(self.ports)):
            yield _Part(f"broker{number}", partial(self.kill_broker, number), partial(self.start_broker, number))
        for name in ("haproxy", "victoria-metrics"):
            if name in self._started_engines:
                yield _Part(name, partial(self._kill, name), partial(self._restart, self._started_engines[name]))
        if self._engines.cluster is not None:
            yield _Part("postgres", self._kill_database, self._restart_database)
            yield _Part("a worker", self._kill_worker, lambda: None)
        yield _Part("service", partial(self._kill, "service"), self._restart_service, self._service_can_start)

    def _service_can_start(self) -> bool:
        """Its database is there, and one of its brokers."""
        brokers = (f"broker{number}" for number in range(len(self.ports)))
        return "postgres" not in self._dead and not all(broker in self._dead for broker in brokers)

    def _strike(self, parts: dict[str, _Part]) -> None:
        name = self._random.choice([name for name in parts if name not in self._dead])
        if name == "a worker" and "service" in self._dead:
            return  # they end with it
        parts[name].kill()
        self._killed["brokers" if name.startswith("broker") else name] += 1
        self._dead[name] = time.monotonic() + self._random.uniform(*_DEAD_S)

    def _revive(self, part: _Part) -> None:
        part.start()
        del self._dead[part.name]

    def _restart(self, engine: EngineProcess) -> None:
        self._children.spawn(engine.name, *engine.arguments, program=engine.program)
        self.wait(f"{engine.name} to listen", lambda: self._listens(engine.port))

    def _kill_database(self) -> None:
        assert self._engines.cluster is not None
        del self._children["postgres"]
        self._engines.cluster.kill()

    def _restart_database(self) -> None:
        cluster = self._engines.cluster
        assert cluster is not None
        cluster.start(self._children.enlist)
        assert cluster.process is not None
        self._children["postgres"] = cluster.process

    def _kill_worker(self) -> None:
        """The service starts it again."""
        service = self._children["service"].pid
        workers = [pid for pid in children_of(service) if b"worker" in _words_of(pid)]
        if workers:
            os.kill(self._random.choice(workers), signal.SIGKILL)

    def _restart_service(self) -> None:
        self._start_service_process()
        wait_for("the service to know its clients", self._can_sign_in)

    def _can_sign_in(self) -> bool:
        try:
            self._sign_in()
        except OSError:
            return False
        return True

    # Orders meanwhile

    def _new_order(self) -> dict[str, Any]:
        """A limit to all, or to one hub."""
        one = {"hub": f"SIM-{self._random.randrange(self.hubs):05d}"}
        target = {"all": True} if self._random.random() < 0.5 else one
        args = {"watts": self._random.randrange(500, 3000), "duration": 5}
        return {"op": "limit", "args": args, "target": target, "valid_s": _ORDER_VALID_S}

    def _order(self, order: dict[str, Any]) -> None:
        """The answer may not come: then the book alone knows whether it was taken."""
        try:
            made = self.desk.post("/v1/orders", order)
            if made["state"] == "waiting":
                self.second.post(f"/v1/orders/{made['id']}/approve", {})
            self._orders["taken"] += 1
        except (OSError, HTTPException):
            self._orders["not answered"] += 1

    # The account

    def _conclude(self, wanted: int) -> bool:
        self.wait("all hubs to be online", lambda: self._online() >= wanted, BACK_S)
        place = self._engines.cluster.url if self._engines.cluster is not None else self._folder / "headend"
        began = time.monotonic()
        faults: list[str] = []
        with closing(reader(place)) as db:
            while True:
                accounts = self._accounts()
                faults = [*faults_of_book(db, accounts), *faults_of_orders(db, accounts), *self._in_columns(accounts)]
                if not faults or time.monotonic() > began + _REST_S:
                    break
                time.sleep(2)
            say("rest", f"{len(faults)} faults {time.monotonic() - began:.0f} s after the last was started again")
            rows = self._table(db, accounts)
        print()
        for name, value in rows:
            print(f"  {name:30} {value}")
        for fault in faults[:20]:
            print(f"  FAULT: {fault}")
        return not faults

    def _accounts(self) -> list[dict[str, Any]]:
        self._account_file.unlink(missing_ok=True)
        self._children["swarm"].send_signal(signal.SIGUSR1)
        self.wait("the hubs' account", self._account_file.exists)
        found: list[dict[str, Any]] = json.loads(self._account_file.read_text())
        return found

    def _in_columns(self, accounts: list[dict[str, Any]]) -> Iterator[str]:
        if self._engines.columns_url:
            wanted, held = sum(account["readings"] for account in accounts), self._engines.columns_held("SIM-.*")
            if wanted != held:
                yield f"the columnar store has {held} readings of {wanted}"

    def _table(self, db: BookReader, accounts: list[dict[str, Any]]) -> list[tuple[str, object]]:
        def figure(sql: str) -> int:
            return int(db.execute(sql).fetchone()[0])

        fates = db.execute("SELECT status, count(*) FROM order_hub GROUP BY status ORDER BY status").fetchall()
        rows: list[tuple[str, object]] = [
            ("killed", f"{self._killed.total()} times: {_listed(self._killed)}"),
            ("orders", _listed(self._orders)),
            ("messages hubs sent", sum(sum(account["numbers"].values()) for account in accounts)),
            ("messages in the book", figure(f"SELECT count(*) FROM message WHERE hub <> '{REAL}'")),
            ("readings hubs sealed", sum(account["readings"] for account in accounts)),
            ("readings in the book", figure(
                f"SELECT count(*) FROM series JOIN reading ON series = id WHERE hub <> '{REAL}'")),
            ("given up by hubs", figure("SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE is_given_up = 1")),
            ("not believed", figure("SELECT coalesce(sum(faults), 0) FROM hub")),
            ("orders by hub, and their fates", ", ".join(f"{count} {status}" for status, count in fates)),
        ]  # fmt: skip
        if self._engines.columns_url:
            rows.append(("readings in the columnar store", self._engines.columns_held("SIM-.*")))
        return rows


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _words_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def main() -> int:
    parser = story_parser("chaos", __doc__ or "", hubs=60, brokers=3)
    parser.add_argument("--seconds", type=float, default=600.0, help="of chaos (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed, and when (default: %(default)s)")
    return live_once(Chaos, parser, "seconds", "seed")


if __name__ == "__main__":
    sys.exit(main())
