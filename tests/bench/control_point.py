"""How many readings a second the control point makes durable.

`python -m tests.bench.control_point [--hubs N] [--pack-s S] [--engine postgresql --workers 1 2]`

Packs of many hubs, made before, through the control point with a commit each 500, beside the least that anybody has to
do with them (verify each signature, decode each pack).
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.fleet.simulated_hub import HubMessage, SimulatedHub
from deploy.headend.control_point import ControlPoint
from deploy.headend.intake import HeardMessage, PackIntake
from deploy.local_postgres import PostgresCluster
from deploy.pki import DevelopmentAuthority
from hub.headend.inbox import Inbox
from hub.wire.keys.operators import operator_entry, parse_operators
from hub.wire.uplink.envelope import FileSigner, kid_of
from tests.bench.processor_time import cpu_s_of

_AT_ONCE = 500
_START = 1_795_000_000
_PACKS_EACH = 10
_SPAWN = multiprocessing.get_context("spawn")


def write(hubs: int, pack_s: float, database: str = "", workers: int = 1, server_pid: int = 0) -> dict[str, float]:
    """Readings a second to COMMIT by so many processes side by side, and of verifying and decoding alone by one.
    `database`: `postgresql://...`, empty; else SQLite. `server_pid`: of that server, whose processor time is told."""
    with tempfile.TemporaryDirectory(prefix="mh-bench-") as folder:
        certificates, messages = _packs(Path(folder), hubs, pack_s)
        inbox = Inbox([], has_ledger=False)
        for name, der in certificates.items():
            inbox.trust(name, der)
        begun = time.process_time()
        readings = sum(len(inbox.receive(message.topic, message.payload).readings) for message in messages)
        least_s = time.process_time() - begun
        place: Path | str = database or Path(folder) / "data"
        point = ControlPoint(place, "op", FileSigner(ec.generate_private_key(ec.SECP256R1()), b""))
        point.enrol(certificates.values(), "bench")
        point.commit()
        said = [HeardMessage(message.topic, message.payload) for message in messages]
        # As a broker divides them: in turn.
        results: multiprocessing.Queue[float] = _SPAWN.Queue()
        barrier = _SPAWN.Barrier(workers + 1)
        processes = [
            _SPAWN.Process(target=_enter, args=(place, said[at::workers], barrier, results)) for at in range(workers)
        ]
        for process in processes:
            process.start()
        barrier.wait()
        server_s = cpu_s_of(server_pid)
        begun = time.monotonic()
        cpu_s = sum(results.get() for _ in processes)
        spent_s = time.monotonic() - begun
        server_s = cpu_s_of(server_pid) - server_s
        for process in processes:
            process.join()
        begun = time.monotonic()
        point.book.begin()
        while point.usage.settle_stale(_START * 1000):
            point.commit()
            point.book.begin()
        point.commit()
        settled_s = time.monotonic() - begun
        stored = point.book.count()
        assert stored == len(messages) and not point.book.gaps(), f"{stored} of {len(messages)} are in the book"
        bytes_each = _bytes_of(point, place) / readings
        point.close()
    return {
        "packs": len(messages), "readings": readings, "per_s": readings / spent_s,
        "packs_per_s": len(messages) / spent_s, "cpu_s": cpu_s, "server_s": server_s, "least_s": least_s,
        "ratio_to_least": least_s / cpu_s,
        "settled_s": settled_s, "bytes_each": bytes_each,
    }  # fmt: skip


def _enter(place: Path | str, messages: list[HeardMessage], barrier: Any, results: Any) -> None:
    """One process: all of them, with a commit each so many; its processor time."""
    intake = PackIntake(place, 24_000)
    barrier.wait()
    begun = time.process_time()
    for at in range(0, len(messages), _AT_ONCE):
        for received in intake.take_all(messages[at : at + _AT_ONCE], _START * 1000):
            assert not received.fault, received.fault
        intake.commit()
    results.put(time.process_time() - begun)
    intake.close()


def _bytes_of(point: ControlPoint, place: Path | str) -> int:
    if isinstance(place, str):
        return int(point.book.db.execute("SELECT pg_database_size(current_database())").fetchone()[0])
    point.book.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what lies in the write-ahead log is in the file now
    return (place / "headend.db").stat().st_size


def _packs(folder: Path, hubs: int, pack_s: float) -> tuple[dict[str, bytes], list[HubMessage]]:
    authority = DevelopmentAuthority(folder / "pki")
    certificates, messages = {}, []
    for number in range(hubs):
        key = ec.generate_private_key(ec.SECP256R1())
        name = f"SIM-{number}"
        request = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        )
        certificate = authority.certify(request.sign(key, hashes.SHA256()))
        certificates[name] = certificate.public_bytes(Encoding.DER)
        operators = parse_operators(operator_entry("op", key.public_key(), ["limit"], "Bench"))
        hub = SimulatedHub(name, FileSigner(key, kid_of(certificate)), operators, _START, pack_s=pack_s)
        t = float(_START)
        while t < _START + _PACKS_EACH * pack_s + pack_s:
            t = hub.deadline
            messages += [message for message in hub.due(t) if message.topic.endswith("/readings")]
    return certificates, messages


@contextmanager
def _cluster(engine: str) -> Iterator[tuple[str, int]]:
    """A PostgreSQL of its own, on the disk, and its process; empty for SQLite."""
    if engine == "sqlite":
        yield "", 0
        return
    with tempfile.TemporaryDirectory(prefix="mh-bench-") as folder:
        Path(folder).chmod(0o711)
        cluster = PostgresCluster(Path(folder) / "cluster").start()
        try:
            assert cluster.process is not None
            yield cluster.url, cluster.process.pid
        finally:
            cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.control_point")
    parser.add_argument("--hubs", type=int, default=200)
    parser.add_argument("--pack-s", type=float, default=300.0)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="how many processes write side by side")
    arguments = parser.parse_args()
    for count in arguments.workers:
        with _cluster(arguments.engine) as (database, server_pid):
            row = write(arguments.hubs, arguments.pack_s, database, count, server_pid)
        each = 10_000 / row["readings"] * 1000
        print(
            f"{arguments.engine}: processor time for 10,000 readings: {row['cpu_s'] * each:.0f} ms of workers,"
            f" {row['least_s'] * each:.0f} of them to verify and decode, and {row['server_s'] * each:.0f} of the server"
        )
        print(f"{arguments.engine}, {count} side by side: {row['packs']:,.0f} packs of {arguments.hubs} hubs,"
              f" {arguments.pack_s:g} s each, to COMMIT"
              f" {row['per_s']:,.0f} readings/s, {row['packs_per_s']:,.0f} packs/s;"
              f" {row['ratio_to_least']:.2f} of verifying and decoding alone (processor time here, the server's apart);"
              f" half-hours in {row['settled_s']:.1f} s;"
              f" {row['bytes_each']:.0f} B a reading, its evidence included")  # fmt: skip
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most here")


if __name__ == "__main__":
    main()
