"""A store in a temporary directory, closed whatever the test did."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store import Store
from tests.harness.memory import folder_in_memory
from tests.store.helpers import started


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory (tests/harness/memory.py)."""
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def disk_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For a store whose writes to a disk are counted."""
    return tmp_path_factory.mktemp("disk") / "data"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(data_dir: Path) -> Iterator[Callable[..., Store]]:
    stores: list[Store] = []

    def start(folder: Path = data_dir, **options: Any) -> Store:
        stores.append(started(folder, **options))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    return open_store()
