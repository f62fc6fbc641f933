"""Wrong certificates give no session, a clear condition and no loss; wrong configurations one clear line."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def _serve_one_reading(hub: Hub) -> None:
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    assert adapter.publish(0x0001, b"42") == 0


def _expect_condition(hub: Hub, code: str) -> str:
    condition = wait_for(code, lambda: hub.conditions().get(code))
    assert hub.status()["uplink"]["sessions"] == 0
    assert hub.cli("status").returncode == 1
    return condition


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("other-ca", "self-signed|unable to get|issuer"),
        ("expired", "expired"),
        ("wrong-name", "mismatch|not valid for"),
        ("name-in-cn-alone", "mismatch|not valid for"),  # RFC 6125: a CN is no host's name
    ],
)
def test_a_wrong_server_gets_no_session(
    tmp_path: Path,
    authority: DevelopmentAuthority,
    make_hub: Callable[..., Hub],
    broker: Broker,
    wrong: str,
    words: str,
) -> None:
    other = DevelopmentAuthority(tmp_path / "other", "somebody else's CA")
    if wrong == "other-ca":
        other.issue("broker", hosts=["localhost"])
        for suffix in ("pem", "key"):
            (authority.directory / f"rogue.{suffix}").write_bytes(
                (tmp_path / "other" / f"broker.{suffix}").read_bytes()
            )
    elif wrong == "expired":
        authority.issue(
            "broker", file_name="rogue", hosts=["localhost"], begins_in=timedelta(-9), ends_in=timedelta(-1)
        )
    elif wrong == "name-in-cn-alone":
        authority.issue("localhost", file_name="rogue", purposes=[ExtendedKeyUsageOID.SERVER_AUTH])
    else:
        authority.issue("broker", file_name="rogue", hosts=["elsewhere.example"])
    rogue = Broker(tmp_path / "rogue", authority, "rogue").start()
    try:
        hub = make_hub(uplink__port=rogue.port).start()
        _serve_one_reading(hub)
        text = _expect_condition(hub, "uplink-server-untrusted")
        assert any(word in text for word in words.split("|")), text
        assert hub.ask("queue")["readings"]["unsealed"] == 1, "nothing is lost, nothing is sealed for a stranger"
    finally:
        rogue.stop()


@pytest.mark.parametrize("wrong", ["other-ca", "expired"])
def test_a_wrong_hub_certificate_gets_no_session_and_loses_nothing(
    tmp_path: Path,
    authority: DevelopmentAuthority,
    make_hub: Callable[..., Hub],
    control_point: ControlPoint,
    wrong: str,
) -> None:
    if wrong == "other-ca":
        cert, key = DevelopmentAuthority(tmp_path / "other").issue("MTR-1")
    else:
        cert, key = authority.issue("MTR-1", file_name="old", begins_in=timedelta(-9), ends_in=timedelta(-1))
    hub = make_hub(uplink__cert_file=str(cert), uplink__key_file=str(key)).start()
    _serve_one_reading(hub)
    _expect_condition(hub, "uplink-refused" if wrong == "other-ca" else "certificate-expired")
    hub.stop()
    # A visit later: the same data, the right certificate.
    text = hub.config.read_text()
    for file, right in ((cert, "hub.pem"), (key, "hub.key")):
        text = text.replace(str(file), str(authority.directory / right))
    hub.config.write_text(text)
    hub.start()
    wait_for("the reading of then", lambda: control_point.values("boiler") == [42.0])


def _config(tmp_path: Path, authority: DevelopmentAuthority) -> str:
    pki = authority.directory
    return (
        f'[hub]\ndata_dir = "{tmp_path}/data"\nrun_dir = "{tmp_path}/run"\n'
        f'[uplink]\nhost = "localhost"\nca_file = "{pki}/ca.pem"\n'
        f'cert_file = "{pki}/hub.pem"\nkey_file = "{pki}/hub.key"\n'
    )


@pytest.mark.parametrize("verb", ["check-config", "run"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[uplink]", "[uplink]\nhosst = 1", ["uplink.hosst", "unknown key"]),
        ("[hub]", "[hob]", ["hob", "unknown table"]),
        ("[uplink]", "[uplink]\nkeepalive_s = true", ["uplink.keepalive_s", "whole number from 5 to 3600"]),
        ("[uplink]", '[uplink]\nport = "8883"', ["uplink.port", "whole number"]),
        ("[hub]", '[hub]\nid = "MTR-2"', ["hub.id", "MTR-1", "MTR-2"]),
        ("hub.key", "no-such.key", ["uplink.key_file", "no-such.key", "No such file"]),
        ("hub.key", "headend.key", ["headend.key", "is not the key of"]),
        ("hub.pem", "hub.key", ["uplink.cert_file", "no PEM certificate"]),
        ("ca.pem", "no-ca.pem", ["uplink.ca_file", "no-ca.pem"]),
        ("[uplink]", "[radio]\n[uplink]", ["radio.path", "missing"]),
        ("[uplink]", '[han.udp]\nlisten = "everywhere"\n[uplink]', ["han.udp.listen", "HOST:PORT"]),
        (
            "[uplink]",
            '[han.udp]\nlisten = "localhost:1"\nnetworks = ["home"]\n[uplink]',
            ["han.udp.networks", "192.168.1.0/24"],
        ),
        ("[uplink]", '[han.predefined]\n"0x0001" = "x"\n[uplink]', ["han.predefined.0x0001", "0x0100"]),
        ('host = "localhost"\n', "", ["uplink.host"]),
        ("[hub]", "[hub", ["not TOML"]),
        ("[uplink]", "[uplink]\nport = " + "8" * 5000, ["not TOML", "digits"]),
        ("[uplink]", "[uplink]\nhosts = " + "[" * 5000, ["not TOML", "recursion"]),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(
    tmp_path: Path,
    authority: DevelopmentAuthority,
    make_hub: Callable[..., Hub],
    verb: str,
    old: str,
    new: str,
    words: list[str],
) -> None:
    hub = make_hub()
    hub.config.write_text(_config(tmp_path, authority).replace(old, new))
    done = hub.cli(verb)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and not done.stdout, done.stderr
    assert all(word in done.stderr for word in [str(hub.config), *words]), done.stderr


def test_a_good_configuration_is_said_to_be_fine(make_hub: Callable[..., Hub]) -> None:
    done = make_hub().cli("check-config")
    assert (done.returncode, done.stderr) == (0, "") and "MTR-1" in done.stdout


def test_exit_statuses(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    assert hub.cli("status").returncode == 3, "no daemon"
    assert hub.cli("no-such-verb").returncode == 2, "wrong usage"
    hub.start()
    hub.wait_uplink()
    wait_for("a hub without errors", lambda: hub.cli("status", "--json").returncode == 0)


def test_data_that_rests_unencrypted_is_told_where_the_image_promised_otherwise(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    hub.env["METERHUB_AT_REST"] = "encrypted"
    hub.start()
    condition = wait_for("the condition", lambda: hub.conditions().get("data-unencrypted"))
    assert str(hub.data_dir) in condition
    hub.stop()
    hub.env.clear()
    hub.start()
    wait_for("another condition, so that the hub has looked", lambda: hub.conditions() or hub.status()["uptime_s"] > 3)
    assert "data-unencrypted" not in hub.conditions()


def test_a_store_that_its_partition_does_not_bear_is_made_smaller_and_it_is_said(
    make_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    slots = tmp_path / "slots"
    slots.mkdir()
    hub = make_hub(store__max_mb=1_000_000, update__slots_dir=str(slots), update__max_mb=200).start()
    around = os.statvfs(tmp_path)
    total_mb = around.f_blocks * around.f_frsize >> 20
    bears_mb = max(total_mb - total_mb // 20 - 200, total_mb // 2)
    assert hub.status()["store"]["max_bytes"] == bears_mb << 20
    says = (
        f"store.max_mb = 1000000 is more than {hub.data_dir} bears beside an update of 200 MB: {bears_mb} MB are used"
    )
    for verb in ("check-config", "doctor"):
        assert says in hub.cli(verb).stdout
