"""A loop in a thread of its own, until it is stopped."""

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """`_run` looks at `_stopping` and ends soon after it is set."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns once it has ended."""
        self._stopping.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
