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
def fleet(tmp_path: Path, place: Path | str) -> Iterator[Fleet]:
    """A control point on either engine, and two simulated hubs."""
    fleet = Fleet(tmp_path, ["SIM-1", "SIM-2"], place)
    fleet.start()
    yield fleet
    fleet.close()
