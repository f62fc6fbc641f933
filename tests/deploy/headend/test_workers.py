"""Workers beside the service, on one PostgreSQL: a pack is taken once, whoever dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.headend.config import BadConfig, load
from deploy.headend.control_point import reader
from deploy.headend.intake import HeardMessage, PackIntake
from deploy.headend.worker import WorkersPart
from deploy.local_postgres import PostgresCluster
from deploy.waiting import wait_for
from tests.deploy.headend.home import Fleet
from tests.deploy.headend.test_service import HUBS, ROOT, Site


class Ingest:
    """A utility whose service has two workers."""

    def __init__(self, folder: Path, cluster: PostgresCluster) -> None:
        self.place = cluster.url
        self.site = Site(folder, f'database = "{self.place}"\nworkers = 2\n')

    def taken(self) -> dict[str, int]:
        """Messages by worker, since each started."""
        with closing(reader(self.place)) as db:
            return dict(tuple(row) for row in db.execute("SELECT name, messages FROM worker").fetchall())

    def pids(self) -> dict[str, int]:
        """Which process each worker is."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "worker" in words and str(self.site.config) in words:
                found[words[words.index(str(self.site.config)) + 1]] = int(folder.name)
        return found

    def messages(self) -> int:
        with closing(reader(self.place)) as db:
            return int(db.execute("SELECT count(*) FROM message").fetchone()[0])

    def is_whole(self) -> bool:
        """One range from 1 on for each lane of each hub: nothing is missing now."""
        with closing(reader(self.place)) as db:
            rows = db.execute("SELECT hub, lane, min(first), count(*) FROM range GROUP BY hub, epoch, lane").fetchall()
        return len(rows) >= 2 * HUBS and all(row[2] == 1 and row[3] == 1 for row in rows)

    def audit(self) -> None:
        """The ledger is what the evidence says, readings are counted as they are, none is lost."""
        with closing(reader(self.place)) as db:
            in_ranges = db.execute("SELECT sum(last - first + 1), sum(is_given_up) FROM range").fetchone()
            assert (int(in_ranges[0]), int(in_ranges[1])) == (self.messages(), 0)
            counted = db.execute("SELECT sum(readings) FROM series").fetchone()[0]
            assert int(counted) == db.execute("SELECT count(*) FROM reading").fetchone()[0] > 0
            orphans = "SELECT count(*) FROM reading WHERE series NOT IN (SELECT id FROM series)"
            assert db.execute(orphans).fetchone()[0] == 0
            assert db.execute("SELECT sum(faults) FROM hub").fetchone()[0] == 0


@pytest.fixture
def ingest(tmp_path: Path, own_cluster: PostgresCluster) -> Iterator[Ingest]:
    ingest = Ingest(tmp_path, own_cluster)
    try:
        yield ingest
    finally:
        ingest.site.stop()
        wait_for("the workers to end with the service", lambda: not ingest.pids())


def test_two_workers_share_packs_and_the_death_of_one_or_of_the_database_costs_none(
    ingest: Ingest, own_cluster: PostgresCluster
) -> None:
    site = ingest.site
    wait_for("both to have taken packs", lambda: len([n for n in ingest.taken().values() if n]) == 2)
    assert set(ingest.taken()) == set(ingest.pids()) == {"worker-1", "worker-2"}
    victim = ingest.pids()["worker-1"]
    os.kill(victim, signal.SIGKILL)
    wait_for("it to be started again", lambda: ingest.pids().get("worker-1", victim) != victim)
    before = ingest.messages()
    wait_for("more packs", lambda: ingest.messages() > before + 4 * HUBS)
    own_cluster.kill()
    order = {"op": "limit", "args": {"watts": 300, "duration": 1}, "target": {"hub": "SIM-1"}}
    with site.client("desk") as desk:
        assert desk.get("/v1/fleet").status_code == 503
        refused = desk.post("/v1/orders", json=order)
        assert refused.status_code == 503 and "not written" in refused.text, "said, and not waited for"
    own_cluster.start()
    wait_for("more packs after the database was away", lambda: ingest.messages() > before + 12 * HUBS)
    with site.client("desk") as desk:
        made = desk.post("/v1/orders", json=order).raise_for_status().json()
        wait_for(
            "an order to be kept",
            lambda: desk.get(f"/v1/orders/{made['id']}").json()["counts"] == {"completed": 1},
        )
    text = site.metrics()
    assert 'meterhub_worker_readings_total{worker="worker-2"}' in text and "meterhub_worker_starts_total 3" in text
    wait_for("nothing to be missing while hubs go on", ingest.is_whole)
    site.end_swarm()
    wait_for("nothing to be missing", ingest.is_whole)
    ingest.audit()


def test_one_that_leaves_holds_nothing_back(ingest: Ingest) -> None:
    words = [sys.executable, "-m", "deploy.headend", "worker", str(ingest.site.config), "elsewhere"]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        wait_for("a third, from elsewhere", lambda: ingest.taken().get("elsewhere"))
    finally:
        process.kill()
        process.wait()
    assert subprocess.run([*words, "--leave"], cwd=ROOT, check=False).returncode == 0
    assert set(ingest.taken()) == {"worker-1", "worker-2"}
    before = ingest.messages()
    wait_for("more packs", lambda: ingest.messages() > before + 4 * HUBS)
    # What the dead one held is asked for again, which hubs can answer as long as they are there.
    wait_for("nothing to be missing while hubs go on", ingest.is_whole)
    ingest.site.end_swarm()
    wait_for("nothing to be missing", ingest.is_whole)
    ingest.audit()


def test_a_worker_learns_of_new_certificates_and_takes_nothing_but_packs(tmp_path: Path, server_place: str) -> None:
    worker = PackIntake(server_place, 24_000)
    fleet = Fleet(tmp_path, ["SIM-1"], server_place)  # enrolled after the worker began
    fleet.t += 61
    hub = fleet.hubs["SIM-1"]
    said = [HeardMessage(m.topic, m.payload) for m in [*hub.started(fleet.t), *hub.due(fleet.t)]]
    taken = worker.take_all(said, 1)
    worker.commit()
    assert {its.kind for its in taken if not its.fault} == {"readings"}
    assert {its.fault for its in taken if its.kind != "readings"} == {"no pack"}
    worker.close()
    fleet.close()


def test_a_household_that_is_forgotten_while_its_pack_comes_is_forgotten(tmp_path: Path, server_place: str) -> None:
    fleet = Fleet(tmp_path, ["SIM-1"], server_place)
    worker = PackIntake(server_place, 24_000)
    hub = fleet.hubs["SIM-1"]

    def packs(seconds: float) -> list[HeardMessage]:
        found = []
        while seconds > 0:
            seconds -= 1
            fleet.t += 1
            found += [HeardMessage(m.topic, m.payload) for m in hub.due(fleet.t) if m.topic.endswith("readings")]
        return found

    first, second = packs(61), packs(61)
    assert not any(its.fault for its in worker.take_all(first, 1))
    worker.commit()
    fleet.point.book.begin()
    assert fleet.point.usage.erase("SIM-1") > 0
    fleet.point.commit()
    with pytest.raises(OSError, match="forgotten meanwhile"):  # its series are not what the worker knew
        worker.take_all(second, 1)
    worker.undo()
    worker.take_all(second, 1)
    worker.commit()
    with closing(reader(server_place)) as db:
        counted = db.execute("SELECT sum(readings) FROM series").fetchone()[0]
        assert int(counted) == db.execute("SELECT count(*) FROM reading").fetchone()[0] > 0
    worker.close()
    fleet.close()


def test_sqlite_has_no_workers(ingest: Ingest, tmp_path: Path) -> None:
    text = ingest.site.config.read_text()
    file = tmp_path / "other.toml"
    file.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("database")))
    with pytest.raises(BadConfig, match=r"service.workers: expected a database"):
        load(file)
    file.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("workers")))
    words = [sys.executable, "-m", "deploy.headend", "worker", str(file), "a"]
    refused = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "expected 1 or more" in refused.stderr


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.integers(1, 9))
def test_where_brokers_do_not_divide_each_hub_is_one_worker_s(hub: str, parts: int) -> None:
    topics = [f"meters/{hub}/{lane}" for lane in ("readings", "answers")]
    takers = [n for n in range(1, parts + 1) if any(WorkersPart(n, parts).has(topic) for topic in topics)]
    assert len(takers) == 1 and all(WorkersPart(takers[0], parts).has(topic) for topic in topics)


@pytest.mark.parametrize(
    ("divides_by", "part"), [("name", []), ("broker", ["--part", "1/2"]), ("name", ["--part", "3/2"])]
)
def test_a_worker_that_does_not_know_its_part_does_not_start(tmp_path: Path, divides_by: str, part: list[str]) -> None:
    file = tmp_path / "headend.toml"
    file.write_text(
        '[service]\ndata_dir = "d"\ndatabase = "postgresql://nowhere"\nworkers = 2\n[broker]\nhost = "h"\n'
        f'ca_file = "c"\ncert_file = "c"\nkey_file = "k"\ndivides_by = "{divides_by}"\n'
        '[operator]\nkid = "op"\nkey_file = "k"\n'
    )
    words = [sys.executable, "-m", "deploy.headend", "worker", str(file), "worker-1", *part]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and ("divides_by" in done.stderr or "--part" in done.stderr)
