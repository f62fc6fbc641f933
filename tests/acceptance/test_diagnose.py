"""The engineer's tools: doctor and bundle, on a running hub, a stopped one, and on a bundle at home."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.disk import tmpfs
from tests.harness.hub import ROOT, Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def findings(hub: Hub, *words: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(hub.cli("doctor", "--json", *words).stdout)}


def test_a_healthy_hub_is_found_healthy_and_a_sick_one_names_its_illness(
    hub: Hub, control_point: ControlPoint, broker: Broker
) -> None:
    hub.wait_uplink()
    wait_for("no condition", lambda: not hub.conditions())
    done = hub.cli("doctor")
    assert done.returncode == 0, done.stdout
    for check in ("configuration", "identity", "clock", "storage", "broker", "daemon"):
        assert f"ok       {check}" in done.stdout
    assert "nobody may command this hub" in done.stdout and done.stdout.count("nobody may command") == 1
    broker.kill()
    wait_for("the loss by its name", lambda: "uplink-unreachable" in hub.conditions())
    assert hub.cli("doctor").returncode == 1
    sick = findings(hub)["uplink-unreachable"]
    assert sick["severity"] == "error" and "refused" in sick["text"] and "modem" in sick["remedy"] and sick["why"]
    assert not [check for check in findings(hub) if check != "uplink-unreachable" and check.startswith("uplink")]
    hub.stop()
    dead = findings(hub)["daemon"]
    assert dead["severity"] == "error" and "systemctl start" in dead["remedy"]


def test_a_broker_of_another_utility_is_told_from_one_that_is_away(
    make_hub: Callable[..., Hub], authority: DevelopmentAuthority, broker: Broker, tmp_path: Path
) -> None:
    stranger = DevelopmentAuthority(tmp_path / "stranger")
    hub = make_hub(uplink__ca_file=str(stranger.ca_file))
    found = findings(hub)["uplink-server-untrusted"]
    assert found["severity"] == "error" and "not accepted" in found["text"]
    away = make_hub(uplink__host="no-such-host.invalid")
    assert "cannot be resolved" in findings(away)["uplink-dns"]["text"]
    no_key = make_hub(uplink__key_file=str(tmp_path / "nothing"))
    assert findings(no_key)["identity"]["severity"] == "error"


def test_a_stopped_hubs_doctor_hears_a_broker_that_refuses_after_the_handshake(
    make_hub: Callable[..., Hub], authority: DevelopmentAuthority, broker: Broker, tmp_path: Path
) -> None:
    """TLS 1.3 tells a client after the handshake that its certificate is not accepted; the handshake itself is fine."""
    stranger = DevelopmentAuthority(tmp_path / "stranger")
    stranger.issue("MTR-1", file_name="hub")
    pki = stranger.directory
    hub = make_hub(uplink__cert_file=str(pki / "hub.pem"), uplink__key_file=str(pki / "hub.key"))
    found = findings(hub)
    assert "broker" not in found and found["uplink-refused"]["severity"] == "error", found
    assert "in TLS" in found["uplink-refused"]["text"]
    ours = make_hub()
    assert "the broker lets this hub in" in findings(ours)["broker"]["text"]


def test_a_stopped_hubs_doctor_finds_a_disk_that_nobody_may_write(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 4) as folder:
        (folder / "data").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        hub = make_hub(hub__data_dir=str(folder / "data"))
        assert findings(hub)["store-read-only"]["severity"] == "error"
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        assert findings(hub)["storage"]["severity"] != "error"


def test_a_bundle_answers_at_home_and_tells_nothing_of_the_home(
    hub: Hub, control_point: ControlPoint, tmp_path: Path
) -> None:
    hub.wait_uplink()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    adapter.publish(0x0001, b"1973.25")
    wait_for("the reading", lambda: control_point.values("boiler"))
    file = tmp_path / "bundle.tar.gz"
    done = hub.cli("bundle", "--out", str(file))
    assert done.returncode == 0 and file.stat().st_mode & 0o777 == 0o600
    raw = gzip.decompress(file.read_bytes())
    for secret in (b"1973", b"PRIVATE KEY", b"power_w", b"household_w"):
        assert secret not in raw
    hub.stop()
    status = json.loads(hub.cli("status", "--json", "--bundle", str(file)).stdout)
    assert status["hub"] == "MTR-1"
    assert "boiler" in hub.cli("adapters", "--bundle", str(file)).stdout
    assert "uplink.up" in hub.cli("events", "--bundle", str(file)).stdout
    assert "readings" in hub.cli("queue", "--bundle", str(file)).stdout
    assert findings(hub, "--bundle", str(file))["broker"]["severity"] == "fine"
    readings = hub.cli("readings", "--bundle", str(file))
    assert readings.returncode == 2 and "no consumption data" in readings.stderr
    again = hub.cli("bundle", "--out", str(file))
    assert again.returncode == 1 and "File exists" in again.stderr
    adapter.close()


def test_a_stopped_hub_gives_a_bundle_too(hub: Hub, control_point: ControlPoint, tmp_path: Path) -> None:
    hub.wait_uplink()
    hub.stop()
    file = tmp_path / "bundle.tar.gz"
    assert hub.cli("bundle", "--out", str(file)).returncode == 0
    assert "hub.stopped" in hub.cli("events", "--bundle", str(file)).stdout
    assert findings(hub, "--bundle", str(file))["daemon"]["severity"] == "error"
    assert hub.cli("status", "--bundle", str(file)).returncode == 2


def _tar(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name.replace("_", "."))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"rubbish", _tar(), _tar(status_json=b"{"), _tar(manifest_json=b'{"format":99}'), _tar(a_json=b"[" * 10**5)],
    ids=["empty", "rubbish", "no manifest", "no JSON", "another format", "deep"],
)
def test_what_is_no_bundle_is_said_in_one_line(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bundle"
    file.write_bytes(data)
    command = [sys.executable, "-m", "hub", "doctor", "--bundle", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "not a support bundle" in done.stderr
