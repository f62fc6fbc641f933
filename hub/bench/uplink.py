"""`meterhub bench uplink`: how fast a backlog of readings reaches a control point, and at what cost.

Three processes and a mosquitto: one fills a store through its front door, one is the hub's utility side alone (store
and uplink, nothing else), one subscribes over TLS and keeps every message. Afterwards each signature is verified, the
ledger is asked for missing numbers, and every reading must be there exactly once, or the benchmark fails. Beside it
stands what packing and signing alone come to on this machine: busy or not, the ratio of the two says how good this is.
"""

import asyncio
import multiprocessing
import os
import shutil
import ssl
import struct
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO

from drivers.process import cpu_s
from hub.bench.peer import LocalBroker

HUB = "hub"
APPLIANCES = 10
_PERIOD_S = 0.02
_LIMIT_ROUNDS = 20
_LENGTH = struct.Struct(">I")


class BenchFailed(Exception):
    """What arrived is not what was sent; the text says what is wrong."""


def _open_store(directory: Path) -> Any:
    from hub.wire.keys.identity import load_identity
    from hub.wire.uplink.envelope import seal
    from store import Store

    identity = load_identity(directory / "hub.pem", directory / "hub.key")

    def sealed(lane: str, epoch: int, number: int, kind: int | str, payload: bytes, extra: Any) -> bytes:
        return seal(identity.signer, HUB, epoch, lane, number, kind, payload, extra)

    store = Store(directory / "data", seal=sealed, max_mb=4096)
    store.start()
    store.set_clock(int((time.time() - time.monotonic()) * 1000), True)
    return store


def fill(pipe: Connection, place: str, readings: int, per_commit: int) -> None:
    """Ten appliances report in turn, once a second each; reading i of all carries a value from which i follows."""
    from hub.core.records import Batch, Sample

    store = _open_store(Path(place))
    store.settle_epoch(None).result()  # a hub that was there before
    stored, faults = threading.Semaphore(0), []

    def done(_id: int, error: Exception | None) -> None:
        if error is not None:
            faults.append(error)
        stored.release()

    began_s = time.monotonic() - readings / APPLIANCES
    for first in range(0, readings, per_commit):
        batch = Batch(first)
        batch.urgent = True
        batch.samples = [
            Sample(f"appliance-{i % APPLIANCES}", "energy", began_s + i / APPLIANCES, i // APPLIANCES, 0)
            for i in range(first, min(first + per_commit, readings))
        ]
        store.commit(batch, done)
        stored.acquire()  # so that each commit is a row of its own, as in a home
    store.close(60)
    pipe.send(str(faults[0]) if faults else "")


def _drain(pipe: Connection, place: str, port: int) -> None:
    """The hub's utility side alone."""
    asyncio.run(_serve(pipe, Path(place), port))


def _pack_limit(directory: Path) -> float:
    """Readings a second that packing and signing alone come to: readings in memory, no store, no line, one core."""
    from hub.services.uplink.sender import MAX_READINGS_PER_PACK
    from hub.wire.keys.identity import load_identity
    from hub.wire.uplink.envelope import seal
    from hub.wire.uplink.pack import CONTENT_TYPE, encode_pack
    from hub.wire.uplink.reading import Reading

    signer = load_identity(directory / "hub.pem", directory / "hub.key").signer
    now_ms = time.time_ns() // 1_000_000
    readings = [
        Reading(f"appliance-{i % APPLIANCES}", "energy", now_ms + i * 100, i // APPLIANCES, 0)
        for i in range(MAX_READINGS_PER_PACK)
    ]
    fastest = float("inf")
    for number in range(_LIMIT_ROUNDS):
        begun = time.perf_counter()
        seal(signer, HUB, 1, "readings", number, CONTENT_TYPE, encode_pack(readings))
        fastest = min(fastest, time.perf_counter() - begun)
    return len(readings) / fastest


async def _serve(pipe: Connection, directory: Path, port: int) -> None:
    from drivers.process import share_one_arena
    from hub.core.health import Health
    from hub.core.uplink.config import UplinkConfig
    from hub.services.uplink.loop import Uplink
    from hub.wire.keys.identity import load_identity

    share_one_arena()
    store = _open_store(directory)
    config = UplinkConfig(
        hosts=(("127.0.0.1", port),),
        ca_file=directory / "broker.pem",
        cert_file=directory / "hub.pem",
        key_file=directory / "hub.key",
        pack_interval_s=1.0,
        boot_spread_s=0,
        drain_kb_s=0,  # what the machine can do, not what a fleet should
    )
    identity = load_identity(config.cert_file, config.key_file)
    uplink = Uplink(config, identity, store, Health(), heartbeat_s=60, version="bench")
    loop = asyncio.get_running_loop()
    store.on_change = lambda what: loop.call_soon_threadsafe(uplink.store_changed, what)
    pipe.send(_pack_limit(directory))
    await loop.run_in_executor(None, pipe.recv)
    task = asyncio.create_task(uplink.run())
    while True:
        lane = (await asyncio.wrap_future(store.queue_status()))["readings"]
        if lane["unsealed"] == 0 and lane["pending"] == 0:
            break
        await asyncio.sleep(_PERIOD_S)
    pipe.send({**uplink.status(), "packs": lane["next"] - 1})
    await loop.run_in_executor(None, pipe.recv)
    uplink.stop()
    await task
    store.close(10)


def listen(pipe: Connection, place: str, port: int) -> None:
    """A control point that keeps each message of lane readings in a file, length first, and judges nothing yet."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    directory = Path(place)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "headend")
    client.tls_set(
        str(directory / "broker.pem"), str(directory / "headend.pem"), str(directory / "headend.key"),
        tls_version=ssl.PROTOCOL_TLS_CLIENT,
    )  # fmt: skip
    kept: BinaryIO = (directory / "arrived").open("wb", buffering=1 << 20)

    def on_message(_client: Any, _user: Any, message: Any) -> None:
        kept.write(_LENGTH.pack(len(message.payload)) + message.payload)

    client.on_connect = lambda c, *_: c.subscribe(f"meters/{HUB}/readings", 1)
    client.on_subscribe = lambda *_: pipe.send("ready")
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    pipe.recv()
    size = -1
    while size != (size := kept.tell()):  # what is still on its way
        time.sleep(0.5)
    client.disconnect()
    client.loop_stop()
    kept.close()
    pipe.send("closed")


class Child:
    """A process of the benchmark, and the pipe to it."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, timeout_s: float) -> Any:
        """The next thing it says. Raises BenchFailed when it says nothing, or ends."""
        try:
            if self.pipe.poll(timeout_s):
                return self.pipe.recv()
        except EOFError:
            pass
        raise BenchFailed(f"the process {self.process.name} did not answer within {timeout_s:.0f} s")

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def bench_uplink(readings: int, per_commit: int, directory: Path | None = None) -> dict[str, Any]:
    """Drain a backlog; the figures. Raises NoBroker, or BenchFailed when a reading is missing or came twice."""
    place = Path(tempfile.mkdtemp(prefix="meterhub-bench-", dir=directory))
    children: list[Child] = []
    broker = None
    try:
        broker = LocalBroker(place)
        children.append(filler := Child(fill, str(place), readings, per_commit))
        if fault := filler.ask(60 + readings / 500):
            raise BenchFailed(f"the store refused the backlog: {fault}")
        children.append(listener := Child(listen, str(place), broker.port))
        listener.ask(30)
        children.append(hub := Child(_drain, str(place), broker.port))
        limit = hub.ask(120)
        figures = _time_drain(hub, broker, readings)
        figures["pack_limit_per_s"] = round(limit)
        figures["ratio_to_limit"] = round(figures["readings_per_s"] / limit, 3)
        listener.pipe.send("end")
        listener.ask(60)
        hub.pipe.send("end")
        hub.process.join(15)
        verify(place, readings)
        return {"readings": readings, "per_commit": per_commit, **figures, "verified": True}
    finally:
        for child in children:
            child.stop()
        if broker is not None:
            broker.stop()
        shutil.rmtree(place, ignore_errors=True)


def _time_drain(hub: Child, broker: LocalBroker, readings: int) -> dict[str, Any]:
    """From the word to connect (TLS handshake included) until the last pack is marked delivered."""
    start_rss = hub.rss_bytes()
    rss = [start_rss]
    cpu, broker_cpu, began = cpu_s(hub.pid), cpu_s(broker.pid), time.perf_counter()
    hub.pipe.send("drain")
    deadline = began + 60 + readings / 1000
    while not hub.pipe.poll(_PERIOD_S):
        rss.append(hub.rss_bytes())
        if time.perf_counter() > deadline or not hub.process.is_alive():
            raise BenchFailed("the backlog did not drain")
    took = time.perf_counter() - began
    status = hub.ask(1)
    cpu = cpu_s(hub.pid) - cpu
    half = rss[len(rss) // 2]
    return {
        "seconds": round(took, 2),
        "readings_per_s": round(readings / took),
        "cpu_us_per_reading": round(cpu / readings * 1e6, 2),
        "broker_cpu_us_per_reading": round((cpu_s(broker.pid) - broker_cpu) / readings * 1e6, 2),
        "packs": status["packs"],
        "bytes_per_reading": round(status["payload_bytes"] / readings, 2),
        "rss_start_bytes": start_rss,
        "rss_half_bytes": half,
        "rss_max_bytes": max(rss),
    }


def verify(place: Path, readings: int) -> None:
    """Every message genuine, every number there, every reading exactly once. Raises BenchFailed."""
    from hub.headend.inbox import Inbox

    inbox = Inbox([place / "hub.pem"])
    there = bytearray(readings)
    with (place / "arrived").open("rb") as file:
        while head := file.read(_LENGTH.size):
            received = inbox.receive(f"meters/{HUB}/readings", file.read(_LENGTH.unpack(head)[0]))
            if received.fault:
                raise BenchFailed(received.fault)
            for reading in received.readings if received.is_new else ():
                index = reading.mantissa * APPLIANCES + int(reading.client_id.rsplit("-", 1)[1])
                there[index] = min(255, there[index] + 1)
    gaps = [gap for lane, _, _ in list(inbox.ledger.lanes()) for gap in inbox.ledger.missing(lane)]
    absent, twice = there.count(0), readings - there.count(0) - there.count(1)
    if gaps or absent or twice:
        raise BenchFailed(f"numbers missing: {gaps}; readings missing: {absent}, more than once: {twice}")
