"""`meterhub bench uplink` proves what it measures; `meterhub uplink` counts what the socket carried."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from hub.bench.peer import LocalBroker, self_signed
from hub.bench.uplink import BenchFailed, bench_uplink, verify
from hub.core.uplink.traffic import HEADER_BYTES, LineBytes, Traffic
from hub.wire.keys.identity import load_identity
from hub.wire.uplink.envelope import seal
from hub.wire.uplink.pack import CONTENT_TYPE, encode_pack
from hub.wire.uplink.reading import Reading
from tests.bench.uplink import APPLIANCES, measure_bytes
from tests.harness.broker import Broker
from tests.harness.hub import ROOT, Hub
from tests.harness.proxy import Proxy
from tests.harness.waiting import wait_for

ENVELOPE_BYTES = 220  # COSE header and signature, MQTT, TLS
T_MS = 1_800_000_000_000
RSS_LIMIT = 100 * 2**20


def test_a_backlog_drains_whole_in_bounded_memory() -> None:
    words = [sys.executable, "-m", "hub", "bench", "uplink", "--readings", "30000", "--per-commit", "100", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["verified"] is True and figures["packs"] >= 8
    assert figures["rss_max_bytes"] < RSS_LIMIT
    assert figures["bytes_per_reading"] < 6


def test_forwards_that_are_acknowledged_arrive_all_of_them() -> None:
    words = [sys.executable, "-m", "hub", "bench", "forward", "--clients", "1", "30", "--seconds", "0.5", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        assert row["arrived_per_s"] > 0 and row["bare_per_s"] > 0 and row["cpu_s_per_10000"] >= 0


@pytest.mark.parametrize("backlog", [0, 3000])
def test_a_limit_is_measured_up_to_its_order(backlog: int) -> None:
    words = ["limit", "--commands", "5", "--adapters", "3", "--backlog", str(backlog), "--json"]
    done = subprocess.run([sys.executable, "-m", "hub", "bench", *words], cwd=ROOT, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["commands"], figures["backlog"]) == (5, backlog)


def test_a_reading_that_is_missing_fails_the_bench_whatever_the_epoch(tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path)  # makes the keys
    broker.stop()
    signer = load_identity(tmp_path / "hub.pem", tmp_path / "hub.key").signer
    readings = [Reading(f"appliance-{i}", "energy", T_MS + i, 0, 0) for i in range(10)]
    with (tmp_path / "arrived").open("wb") as file:
        for number in (1, 3):
            body = seal(signer, "hub", 1_800_000_000, "readings", number, CONTENT_TYPE, encode_pack(readings[number:]))
            file.write(len(body).to_bytes(4, "big") + body)
    with pytest.raises(BenchFailed, match=r"numbers missing: \[\(2, 2\)\]"):
        verify(tmp_path, 10)


@pytest.mark.slow
def test_a_million_readings_a_hundred_thousand_a_second() -> None:
    figures = bench_uplink(1_000_000, 10)
    print(json.dumps(figures))
    assert figures["rss_max_bytes"] < RSS_LIMIT
    assert figures["rss_max_bytes"] - figures["rss_half_bytes"] < 5 * 2**20, "memory grows with the backlog"


def test_a_reading_costs_a_few_bytes_on_the_wire() -> None:
    # A minute's pack of ten appliances that report every second, then every ten seconds; one envelope is allowed for.
    rows = {row["form"]: row for row in measure_bytes(packs=2, publishes=60, forms=((60, 1), (60, 10)))}
    single = rows["one JSON publish a reading"]
    for every_s, most, share in ((1, 6, 30), (10, 9, 14)):
        row = rows[f"packs of 60 s, a reading every {every_s} s"]
        per_pack = 60 * APPLIANCES / every_s
        assert row["up"] <= most + ENVELOPE_BYTES / per_pack
        assert single["up"] + single["down"] >= share * (row["up"] + row["down"])
        squeezed = rows[f"packs of 60 s, a reading every {every_s} s, deflated"]
        assert squeezed["pack"] <= 6 and squeezed["up"] <= 0.75 * row["up"]


def test_the_benchmark_notices_a_missing_message(tmp_path: Path) -> None:
    from hub.wire.keys.identity import load_identity
    from hub.wire.uplink.envelope import seal
    from hub.wire.uplink.pack import CONTENT_TYPE, encode_pack
    from hub.wire.uplink.reading import Reading

    self_signed(tmp_path, "hub")
    signer = load_identity(tmp_path / "hub.pem", tmp_path / "hub.key").signer

    messages = {}
    for number in (1, 2, 3):
        pack = encode_pack([Reading(f"appliance-{i}", "energy", 0, number - 1, 0) for i in range(10)])
        messages[number] = seal(signer, "hub", 1, "readings", number, CONTENT_TYPE, pack)

    def write(*numbers: int) -> None:
        with (tmp_path / "arrived").open("wb") as file:
            for number in numbers:
                file.write(len(messages[number]).to_bytes(4, "big") + messages[number])

    write(1, 2, 3, 2)
    verify(tmp_path, 30)
    write(1, 3)
    with pytest.raises(BenchFailed, match="missing: 10"):
        verify(tmp_path, 30)


@pytest.fixture
def hub_and_proxy(tmp_path: Path, authority: DevelopmentAuthority) -> "tuple[Hub, Proxy, Callable[[], None]]":
    broker = Broker(tmp_path / "broker", authority).start()
    proxy = Proxy(broker.port)
    hub = Hub(tmp_path / "hub", authority, proxy.port)

    def end() -> None:
        hub.kill()
        proxy.close()
        broker.stop()

    return hub, proxy, end


def test_the_verb_shows_the_session_and_its_cost(hub_and_proxy: tuple[Hub, Proxy, Callable[[], None]]) -> None:
    hub, proxy, end = hub_and_proxy
    try:
        hub.start()
        hub.wait_uplink()
        wait_for(
            "the hub's count to be the line's",
            lambda: hub.status()["uplink"]["traffic"]["today"]["bytes_up"] == proxy.bytes_up > 0,
        )
        done = hub.cli("uplink", "--json")
        answer = json.loads(done.stdout)
        assert done.returncode == 0 and answer["state"] == "up" and answer["protocol"] == "5"
        assert answer["tls"]["version"] == "TLSv1.3" and answer["sessions"] == 1
        text = hub.cli("uplink").stdout
        assert "TLSv1.3" in text and "on the line" in text and "too early to say" in text
        proxy.cut()
        hub.wait_uplink("waiting")
        assert hub.cli("uplink").returncode == 1, "no session is a problem"
    finally:
        end()


def test_traffic_counts_by_day_and_month_over_connections_and_restarts() -> None:
    traffic = Traffic()
    traffic.carried(LineBytes(100, 100, 50, 3, 2), "2027-01-15", T_MS)
    traffic.carried(LineBytes(300, 300, 80, 4, 4), "2027-01-15", T_MS + 1000)
    traffic.ended()
    traffic.carried(LineBytes(10, 10, 5, 1, 1), "2027-01-16", T_MS + 86_400_000)
    again = Traffic(traffic.as_document())
    again.carried(LineBytes(7, 7, 0, 1, 0), "2027-01-16", T_MS + 86_500_000)
    figures = again.as_dict(T_MS + 86_500_000)
    assert figures["today"] == {"bytes_up": 17, "bytes_down": 5, "bytes_on_line": 22 + 3 * HEADER_BYTES}
    assert figures["month"]["bytes_up"] == 317 and figures["month"]["bytes_down"] == 85
    again.carried(LineBytes(9, 9, 0, 1, 0), "2027-02-01", T_MS + 20 * 86_400_000)
    assert again.as_dict(T_MS)["month"]["bytes_up"] == 2, "a new month begins at nothing"


def test_the_projection_is_a_month_at_this_pace() -> None:
    traffic = Traffic()
    traffic.carried(LineBytes(0, 0, 0, 0, 0), "2027-01-15", T_MS)
    traffic.carried(LineBytes(10_000, 10_000, 0, 0, 0), "2027-01-15", T_MS + 1000)
    assert traffic.as_dict(T_MS + 60_000)["projected_mb_per_month"] is None, "a minute says nothing of a month"
    assert traffic.as_dict(T_MS + 3_600_000)["projected_mb_per_month"] == pytest.approx(7.3, abs=0.01)


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b'{"month": 1}', b'{"month":"x","day":"y","in_month":5}'])
def test_a_damaged_document_is_an_empty_one(document: bytes) -> None:
    assert Traffic(document).as_dict(T_MS)["month"]["bytes_up"] == 0


def test_a_clock_that_was_never_set_turns_no_page() -> None:
    traffic = Traffic()
    traffic.carried(LineBytes(5, 5, 0, 0, 0), "2027-01-15", T_MS)
    traffic.carried(LineBytes(9, 9, 0, 0, 0), "1970-01-01", 1000)
    traffic.carried(LineBytes(11, 11, 0, 0, 0), "2027-01-15", T_MS + 1000)
    assert traffic.as_dict(T_MS)["month"]["bytes_up"] == 11
