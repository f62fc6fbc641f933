"""All operators are lost: the manufacturer signs a list for this hub, an engineer brings it, the utility is told."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.hub import ROOT, Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.waiting import wait_for
from tests.harness.witness import wait_came, wait_went


def station(words: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "deploy.provision.station", *words], cwd=ROOT).returncode


@pytest.mark.condition("operators-without-admin")
def test_an_engineer_brings_what_the_manufacturer_signed(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    lot, passphrase = tmp_path / "lot", tmp_path / "passphrase"
    passphrase.write_text("a long passphrase")
    assert station(["init", str(lot), "--passphrase-file", str(passphrase)]) == 0
    (lot / "devices/MTR-1").mkdir(parents=True)
    (lot / "devices/MTR-2").mkdir()
    lost, new = Operator("lost"), Operator("new", "admin", "limit")
    ended = write_operators(tmp_path / "operators.toml", lost)
    ended.write_text(lost.toml + "not_after = 2026-01-01T00:00:00Z\n")
    hub = make_hub(
        control__operators_file=str(ended), control__recovery_key_file=str(lot / "shared/manufacturer.pem")
    ).start()
    hub.wait_uplink()
    wait_came("operators-without-admin", hub.conditions)
    doctor = hub.cli("doctor").stdout
    assert "meterhub operators recover" in doctor, doctor
    assert hub.cli("operators", "list").returncode == 1

    def signed(serial: str) -> Path:
        brought = tmp_path / f"{serial}.txt"
        wanted = write_operators(tmp_path / "new.toml", new)
        words = ["--serial", serial, "--operators", str(wanted), "--by", "order 4711", "--out", str(brought)]
        assert station(["recover", str(lot), "--passphrase-file", str(passphrase), *words]) == 0
        return brought

    other = hub.cli("operators", "recover", str(signed("MTR-2")))
    assert other.returncode == 1 and "MTR-2" in other.stderr
    refused = lost.command("limit", {"watts": 3000, "duration": 60})
    control_point.send(refused)
    wait_for("a refusal", lambda: control_point.receipts(cti_of(refused)) == ["refused"])
    brought = signed("MTR-1")
    done = hub.cli("operators", "recover", str(brought))
    assert done.returncode == 0, done.stderr
    wait_for("the event", lambda: [e for e in control_point.books.events if e["event"] == "operators.recovered"])
    event = next(e for e in control_point.books.events if e["event"] == "operators.recovered")
    assert (event["operators"], event["by"]) == (["new"], "order 4711")
    limit = new.command("limit", {"watts": 3000, "duration": 60})
    control_point.send(limit)
    wait_for("the new operator to be heard", lambda: "accepted" in control_point.receipts(cti_of(limit)))
    hub.stop()
    hub.start()
    again = hub.cli("operators", "recover", str(brought))
    assert again.returncode == 1 and "not newer" in again.stderr
    assert hub.cli("operators", "list").returncode == 0
    wait_went("operators-without-admin", hub.conditions)
