"""The hub's home side in a process of its own, its clock in the test's hands: UDP link, bridge, machine, SQLite.

Sockets, files, fsync and threads are as they are; only the seconds that the machine, the store and the event loop count
pass when the test says so. Then each timer fires at its own moment, and what hangs on it has settled before the next.
"""

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from drivers.udp import UdpLink
from hub.core.gateway.gateway import Gateway
from hub.core.gateway.limits import GatewayConfig, GatewayLimits
from hub.services.home.bridge import Bridge
from store import Store

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK_BROADCAST = "127.255.255.255"


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose timers count the test's seconds."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def config_of(settings: dict[str, Any]) -> GatewayConfig:
    """The machine's settings as TOML and JSON have them."""
    changed = dict(settings)
    if "limits" in changed:
        changed["limits"] = GatewayLimits(**changed["limits"])
    if "broadcast_links" in changed:
        changed["broadcast_links"] = tuple(changed["broadcast_links"])
    return GatewayConfig(**changed)


class _Side:
    """What runs in the process."""

    def __init__(self, loop: _Loop, data_dir: str, settings: dict[str, Any]) -> None:
        self.loop = loop
        self.store = Store(Path(data_dir), seal=lambda *_: b"", max_mb=16, monotonic=loop.time)
        self.store.start()
        self.gateway = Gateway(config_of(settings), loop.time())
        self.gateway.restore(self.store.restored, loop.time())
        self.bridge = Bridge(self.gateway, self.store, loop.time)

    async def serve(self, port: int, broadcast_port: int) -> None:
        await self.bridge.start()
        await self.bridge.add_link(UdpLink("127.0.0.1", port, broadcast=(LOOPBACK_BROADCAST, broadcast_port)))
        orders = asyncio.StreamReader()
        await self.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        print("up", flush=True)
        while order := await orders.readline():
            await self._wait(float(order))
            print("done", flush=True)

    async def _wait(self, seconds: float) -> None:
        end = self.loop.now + seconds
        await self._settle()
        while (due := self.gateway.get_timer()) is not None and due <= end:
            self.loop.now = max(self.loop.now, due)
            await self._settle()
        self.loop.now = end

    async def _settle(self) -> None:
        # Twice: what the first answers set off may have to be committed, too.
        for _ in range(2):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.wrap_future(self.store.queue_status())  # answered behind every commit before it
        await asyncio.sleep(0)


class Home:
    """Runs one. Its database outlives it, so that `kill` and `start` are what a power cut and a boot are."""

    def __init__(self, data_dir: Path, port: int, settings: dict[str, Any], broadcast_port: int = 9) -> None:
        self._words = [json.dumps(word) for word in (str(data_dir), settings, port, broadcast_port)]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> "Home":
        command = [sys.executable, "-m", "tests.harness.home", *self._words]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._expect("up")
        return self

    def wait(self, seconds: float) -> None:
        """Let so many of its seconds pass."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._expect("done")

    def full(self, is_full: bool) -> None:
        """Whether its medium takes another byte (RLIMIT_FSIZE; needs no root)."""
        assert self._process is not None
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (0 if is_full else hard, hard))

    def kill(self) -> None:
        """SIGKILL: what is durable is what is left."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _expect(self, word: str) -> None:
        assert self._process is not None and self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == word, f"the home side said {said!r}, not {word!r}"


def _main() -> None:
    data_dir, settings, port, broadcast_port = map(json.loads, sys.argv[1:])
    with asyncio.Runner(loop_factory=_Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Loop)
        runner.run(_Side(loop, data_dir, settings).serve(port, broadcast_port))


if __name__ == "__main__":
    _main()
