"""What is queued for the writer thread, and the futures it answers through."""

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from hub.core.records import Batch
from store.engine import Engine
from store.recovery import DatabaseRecovery

Done = Callable[[int, Exception | None], None]


@dataclass(slots=True)
class Commit:
    """A batch to take into custody, and whom to tell."""

    batch: Batch
    done: Done


@dataclass(slots=True)
class Call:
    """Something to do with the open database. `news`: what on_change is told after it. `without`: the answer while
    there is no database (a disk full to the brim); None: that is an error."""

    act: Callable[[Engine], Any]
    future: "Future[Any]"
    news: tuple[str, ...] = ()
    writes: bool = False
    without: Any = None


@dataclass(slots=True)
class Search:
    """A question answered in slices."""

    start: Callable[[Engine], Generator[None, None, Any]]
    future: "Future[Any]"
    steps: Generator[None, None, Any] | None = None


@dataclass(slots=True)
class Note:
    """Something to note that waits for nobody: an event of the hub's own, or its clock."""

    act: Callable[[DatabaseRecovery], None]


@dataclass(slots=True)
class Stop:
    """Commit what waits, close, end."""


Job = Commit | Call | Search | Note | Stop


def answer(future: "Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    """Settle a future that its owner may have cancelled meanwhile."""
    if not future.done() and future.set_running_or_notify_cancel():
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
