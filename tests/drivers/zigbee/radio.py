"""A radio for the Zigbee driver's tests: the emulator in a process of its own, or in the test's own loop."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from drivers.link import Datagrams
from drivers.zigbee import ZigbeeLink
from hub.app.config import RadioConfig
from hub.core.health import Health
from hub.wire.uplink.event import EVENTS
from tests.emulators.bench import Bench
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.device import COORDINATOR_NWK, ApsFrame, Device, parse_ieee
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.ezsp.zdo import Endpoint
from tests.emulators.line import PtyLine

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 30.0
_ANSWER_MOST = 1 << 22  # two hundred devices on one line
PLUG_IEEE, ADAPTER_IEEE = "000d6f0000000001", "000d6f0000000002"
PLUG = {"kind": "plug", "ieee": PLUG_IEEE, "name": "kettle", "appliance": {"kind": "plain", "nominal_w": 1200}}
ADAPTER = {"kind": "adapter", "ieee": ADAPTER_IEEE, "client_id": "boiler-1", "period_s": 1, "appliance": "boiler"}
NATIVE = (0xC53A, 0x4D51, 0xE9)


async def until(what: str, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Poll until the condition is true and return its value; fail with `what` otherwise."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}; last seen: {value!r}"
        await asyncio.sleep(0.01)
    return value


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's path."""
    path = Path(tempfile.mkdtemp(prefix="mhz-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Emulator:
    """`python -m tests.emulators.serve`, and its control socket."""

    def __init__(self, directory: Path, devices: list[dict[str, Any]], version: int = 13, baud: int = 0) -> None:
        self.directory = directory
        self.tty, self.state, self._control = directory / "tty", directory / "ncp.json", directory / "control"
        home = directory / "home.json"
        home.write_text(json.dumps({"seed": 1, "devices": devices}))
        self._command = [
            sys.executable, "-m", "tests.emulators.serve", "--link", str(self.tty), "--state", str(self.state),
            "--home", str(home), "--control", str(self._control), "--version", str(version), "--baud", str(baud),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Emulator":
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None and self._process.stdout.readline(), "the emulator did not start"
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def ask(self, do: str, **request: Any) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self._control), limit=_ANSWER_MOST)
        writer.write(json.dumps({"do": do, **request}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await reader.readline())
        writer.close()
        assert answer["ok"], answer
        return answer

    async def device(self, name: str) -> dict[str, Any]:
        devices = (await self.ask("devices"))["devices"]
        return next(row for row in devices if name in (row["ieee"], row["name"], row.get("client_id")))

    async def until(self, what: str, name: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition(row := await self.device(name)):
            assert time.monotonic() < deadline, f"waited in vain for {what}; last seen: {row}"
            await asyncio.sleep(0.02)
        return row


class HubSide:
    """A ZigbeeLink with everything around it recorded; it answers MQTT-SN like a gateway without a memory."""

    def __init__(
        self,
        tty: Path,
        data_dir: Path,
        tunnel: str = "native",
        utc: Callable[[], float | None] = lambda: None,
        path: str = "",
    ) -> None:
        """`path`: in place of a terminal, as [radio] has it."""
        data_dir.mkdir(exist_ok=True)
        self.health = Health()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.readings: list[tuple[str, str, str]] = []
        self.arrived: Datagrams = []
        self.answers = True
        self.link = ZigbeeLink(RadioConfig(path or str(tty), tunnel=tunnel), data_dir, self.health, self._event, utc)
        self.link.reading = lambda *reading: self.readings.append(reading)

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        assert set(fields) == set(EVENTS[name])
        self.events.append((name, fields))

    def _arrived(self, datagrams: Datagrams) -> None:
        self.arrived += datagrams
        if self.answers:
            self.link.send([(peer, answer) for peer, data in datagrams if (answer := gateway_answer(data))])

    async def __aenter__(self) -> "HubSide":
        await self.link.start(self._arrived)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.link.close()

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.link.status())

    def conditions(self) -> set[str]:
        return {condition.code for condition in self.health.conditions()}

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def up(self) -> None:
        await until("the radio to be up", lambda: self.status["state"] == "up")

    async def open(self, duration_s: int = 60) -> None:
        await self.up()
        await self.link.permit(duration_s)

    async def quantities(self, *wanted: str) -> None:
        await until(f"readings of {wanted}", lambda: set(wanted) <= {quantity for _, quantity, _ in self.readings})


def gateway_answer(data: bytes) -> bytes:
    """CONNACK, PUBACK or SUBACK (MQTT-SN 1.2, 5.4.5, 5.4.13, 5.4.16)."""
    kind = data[1]
    if kind == 0x04:
        return b"\x03\x05\x00"
    if kind == 0x0C:
        return b"\x07\x0d" + data[3:7] + b"\x00"
    if kind == 0x12:
        return b"\x08\x13\x20\x00\x00" + data[3:5] + b"\x00"
    return b""


class Speaker(Device):
    """A device that says what a test tells it to, and keeps what it hears."""

    def __init__(self, ieee: str, place: tuple[int, int, int] = NATIVE, **device: Any) -> None:
        self.place = place
        profile, cluster, endpoint = place
        endpoints = {endpoint: Endpoint(profile, 1, (cluster,), (cluster,))}
        super().__init__(parse_ieee(ieee), endpoints=endpoints, **device)
        self.heard: deque[bytes] = deque()
        self._speak_at: float | None = None

    def say(
        self, payload: bytes, sequence: int | None = None, place: tuple[int, int, int] | None = None, dst_ep: int = -1
    ) -> None:
        """Put a frame on the air at the next tick."""
        profile, cluster, endpoint = place or self.place
        self._aps_sequence = (self._aps_sequence + 1) & 0xFF
        counter = self._aps_sequence if sequence is None else sequence
        to = endpoint if dst_ep < 0 else dst_ep
        self._frames.append(
            ApsFrame(self.nwk, COORDINATOR_NWK, profile, cluster, endpoint, to, payload, sequence=counter)
        )
        self._speak_at = 0.0

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        self.heard.append(frame.payload)

    def get_timer(self) -> float | None:
        return self._speak_at

    def handle_timer(self, now: float) -> None:
        self._speak_at = None


@contextlib.asynccontextmanager
async def bench_on(tty: Path, air: Air, version: int = 13) -> AsyncIterator[Bench]:
    """A blank radio in this loop, among devices that may have known another before it. `bench.changed()` makes them
    speak."""
    ncp = Ncp(NonVolatile(bytes.fromhex("0100000000c0ffee")[::-1]), air, version=version)
    bench = Bench(ncp)
    line = PtyLine(tty, bench.received)
    bench.attach(line)
    await line.plug()
    bench.changed()
    try:
        yield bench
    finally:
        bench.stop()
        await line.unplug()


def bench_with(tty: Path, *devices: Device, version: int = 13) -> contextlib.AbstractAsyncContextManager[Bench]:
    """The emulator in this loop, for tests that reach into its devices."""
    return bench_on(tty, Air(devices), version)
