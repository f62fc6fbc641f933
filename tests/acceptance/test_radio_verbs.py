"""`meterhub radio scan, map, backup, restore` against the emulated radio: what an engineer does with a stick."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.wire.zigbee.ota import ImageHeader, header_of
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

ADAPTER = "000d6f0000000002"
HOME = [
    {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "period_s": 1, "appliance": "boiler"}
]


def test_listen_draw_back_up_and_restore(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    radio = Radio(HOME).start()
    blank = Radio([]).start()
    try:
        hub = make_hub(radio__path=str(radio.path)).start()
        _up(hub)
        hub.ask("radio.permit", duration_s=60)
        wait_for("the boiler", lambda: control_point.values("boiler"))
        rows = json.loads(hub.cli("radio", "scan", "--json").stdout)
        assert [row["channel"] for row in rows] == list(range(11, 27))
        assert [row["channel"] for row in rows if row["ours"]] == [hub.status()["radio"]["channel"]]
        assert "the network is here" in hub.cli("radio", "scan").stdout
        links = json.loads(hub.cli("radio", "map", "--json").stdout)
        assert ADAPTER in {row["neighbour"] for row in links}
        file = tmp_path / "network.json"
        done = hub.cli("radio", "backup", "--out", str(file))
        assert done.returncode == 0 and "keys" in done.stdout and file.stat().st_mode & 0o777 == 0o600
        assert hub.cli("radio", "backup", "--out", str(file)).returncode == 1, "nothing is overwritten"
        before = hub.status()["radio"]
        hub.stop()
        # Another meter, another radio: it has formed a network of its own, and gets this one instead.
        other = make_hub(radio__path=str(blank.path)).start()
        _up(other)
        assert other.status()["radio"]["pan_id"] != before["pan_id"]
        refused = other.cli("radio", "restore", str(file))
        assert refused.returncode == 2 and "--yes" in refused.stderr
        done = other.cli("radio", "restore", str(file), "--yes")
        assert done.returncode == 0, done.stderr
        wait_for(
            "the network of before", lambda: _network(other) == (before["channel"], before["pan_id"], before["ieee"])
        )
        _up(other)
        assert other.status()["radio"]["members"] >= 1
        rubbish = tmp_path / "rubbish.json"
        rubbish.write_text('{"metadata": 1}')
        bad = other.cli("radio", "restore", str(rubbish), "--yes")
        assert bad.returncode == 1 and "not a backup" in bad.stderr
    finally:
        radio.close()
        blank.close()


def _up(hub: Hub) -> None:
    wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")


def _network(hub: Hub) -> tuple[int, str, str]:
    radio = hub.status()["radio"]
    return radio["channel"], radio["pan_id"], radio["ieee"]


def test_a_device_is_taken_off_the_network(make_hub: Callable[..., Hub], control_point: ControlPoint) -> None:
    radio = Radio(HOME).start()
    try:
        hub = make_hub(radio__path=str(radio.path)).start()
        _up(hub)
        hub.ask("radio.permit", duration_s=60)
        wait_for("the boiler", lambda: control_point.values("boiler"))
        done = hub.cli("radio", "remove", ADAPTER)
        assert done.returncode == 0 and "off the network" in done.stdout
        assert ADAPTER not in hub.status()["radio"]["devices"]
        assert hub.cli("radio", "remove", ADAPTER).returncode != 0, "it is no member any more"
    finally:
        radio.close()


def test_firmware_that_an_admin_signed_is_offered_and_what_another_signed_is_not(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    admin, guest = Operator("chief", "admin"), Operator("guest", "limit")
    file = write_operators(tmp_path / "operators.toml", admin, guest)
    with contextlib.closing(Radio([]).start()) as radio:
        hub = make_hub(radio__path=str(radio.path), control__operators_file=str(file))
        folder = hub.data_dir / "zigbee-firmware"
        folder.mkdir(parents=True)
        for name, operator, image_type in (("signed", admin, 1), ("by-a-guest", guest, 2)):
            image = folder / f"{name}.ota"
            image.write_bytes(header_of(ImageHeader(0x1166, image_type, 2, 100)).ljust(100, b"x"))
            key = tmp_path / f"{operator.kid}.key"
            key.write_bytes(operator.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            done = hub.cli("headend", "firmware", str(image), "--key", str(key), "--kid", operator.kid)
            assert done.returncode == 0 and "version 0x00000002" in done.stdout, done.stderr
        hub.start()
        _up(hub)
        wait_for("both to be judged", lambda: len(hub.status()["radio"]["firmware"]["refused"]) == 1)
        done = hub.cli("radio", "firmware", "--json")
        said = json.loads(done.stdout)
        assert done.returncode == 1 and [row["file"] for row in said["images"]] == ["signed.ota"]
        assert "role admin" in said["refused"]["by-a-guest.ota"]
