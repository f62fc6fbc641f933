"""The workers that a control point has on its own machine: started, and started again when they end."""

import logging
import subprocess
import sys
import time
from pathlib import Path

from deploy.parent import ends_with_us

_LOG = logging.getLogger("headend")
_FIRST_PAUSE_S, _MOST_PAUSE_S = 0.5, 30.0
_STEADY_S = 60.0
_END_S = 10.0


class _SupervisedWorker:
    def __init__(self, words: list[str], name: str) -> None:
        self._words, self._name = words, name
        self.process: subprocess.Popen[bytes] | None = None
        self._began = self._start_at = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def look(self, now: float) -> bool:
        """Start it where it is not running and its time has come; whether it had to be started."""
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return False
            _LOG.error("worker %s ended by itself, status %d", self._name, status)
            self.process = None
            self._pause_s = _FIRST_PAUSE_S if now - self._began > _STEADY_S else min(self._pause_s * 2, _MOST_PAUSE_S)
            self._start_at = now + self._pause_s
        if now < self._start_at:
            return False
        self.process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, preexec_fn=ends_with_us())
        self._began = now
        return True


class WorkerProcesses:
    """`count` of them, with sessions `worker-1` and so on at the brokers; each takes its part of the hubs where the
    brokers do not divide (`is_divided_by_name`)."""

    def __init__(self, config_file: Path, count: int, *, is_divided_by_name: bool = False) -> None:
        words = [sys.executable, "-m", "deploy.headend", "worker", str(config_file)]
        self._workers = []
        for number in range(1, count + 1):
            part = ["--part", f"{number}/{count}"] if is_divided_by_name else []
            self._workers.append(_SupervisedWorker([*words, f"worker-{number}", *part], f"worker-{number}"))
        self.starts = 0

    def look(self) -> None:
        """Once a second or so: those that ended are started again, at growing intervals."""
        now = time.monotonic()
        for worker in self._workers:
            self.starts += worker.look(now)

    def stop(self) -> None:
        """All of them; their sessions stay."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
