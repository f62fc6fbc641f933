"""The book's two engines."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from deploy.local_postgres import PostgresCluster, postgres_programs
from tests.deploy.headend.home import Fleet
from tests.harness.folders import folder_until_exit
from tests.harness.memory import scratch

_numbers = count()


def _made() -> PostgresCluster:
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    folder = folder_until_exit("mh-postgres-", scratch())
    folder.chmod(0o711)  # root's tests run it as somebody else
    return PostgresCluster(folder / "cluster").start()


@pytest.fixture(scope="session")
def cluster() -> Iterator[PostgresCluster]:
    """A PostgreSQL of the run's own."""
    cluster = _made()
    yield cluster
    cluster.stop()


@pytest.fixture
def own_cluster() -> Iterator[PostgresCluster]:
    """One to be killed."""
    cluster = _made()
    yield cluster
    cluster.stop()


@pytest.fixture
def server_place(cluster: PostgresCluster) -> str:
    """An empty book's place on it: a schema."""
    schema = f"book{next(_numbers)}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{cluster.url}?options=-csearch_path%3D{schema}"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a book is, on either engine."""
    if request.param == "sqlite":
        return tmp_path / "headend"
    server: str = request.getfixturevalue("server_place")
    return server


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path, place: Path | str) -> Iterator[Fleet]:
    """A control point on either engine, and simulated hubs that have started. What a test wants else it says by a mark,
    `fleet`: `names` of the hubs, `run_s` that pass before it begins, the control point's policy."""
    mark = request.node.get_closest_marker("fleet")
    policy = dict(mark.kwargs) if mark else {}
    names, run_s = policy.pop("names", ["SIM-1", "SIM-2"]), policy.pop("run_s", 0)
    fleet = Fleet(tmp_path, names, place, **policy)
    try:
        fleet.start()
        fleet.run(run_s)
        yield fleet
    finally:
        fleet.close()
