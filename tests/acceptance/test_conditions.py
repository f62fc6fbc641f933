"""Conditions of a whole hub, each brought about by what it names, and gone by itself once that ends. Where they speak
of days, the days pass (tests/harness/clock.py)."""

import errno
import json
import os
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deploy.pki import DevelopmentAuthority
from tests.harness.board import Board
from tests.harness.clock import Clock
from tests.harness.control_point import ControlPoint
from tests.harness.est_server import EstServer, certs_only
from tests.harness.failing_disk import FailingDisk
from tests.harness.folders import folder_until_exit
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.radio import Radio
from tests.harness.scripted_broker import Script, ScriptedBroker, disconnect
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for
from tests.harness.witness import came, wait_came, wait_went, went

Make = Callable[..., Hub]
DAY_S = 86400.0
YEAR_NS = 365 * 86400 * 10**9


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def make_timed(make_hub: Make, clock: Clock) -> Make:
    """A hub whose clocks are the test's to move; not started."""

    def make(**settings: object) -> Hub:
        hub = make_hub(**settings)
        hub.env |= clock.env
        return hub

    return make


def later(hub: Hub, clock: Clock, seconds: float) -> Callable[[], dict[str, str]]:
    """What holds after so long, and after so long again."""

    def look() -> dict[str, str]:
        clock.pass_time(seconds)
        hub.status()  # who sleeps is woken
        time.sleep(0.2)
        return hub.conditions()

    return look


LOOK_S = 31  # the hub looks after itself every half minute


def doctor(hub: Hub) -> set[str]:
    return {row["check"] for row in json.loads(hub.cli("doctor", "--json").stdout) if row["severity"] != "fine"}


@pytest.mark.condition("clock-untrusted")
@pytest.mark.condition("certificate-not-yet-valid")
@pytest.mark.condition("certificate-expired")
def test_a_wall_clock_that_is_wrong(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()
    clock.step(-30 * YEAR_NS)
    clock.pass_time(LOOK_S)
    wait_came("clock-untrusted", hub.conditions)
    wait_came("certificate-not-yet-valid", hub.conditions)
    clock.step(30 * YEAR_NS)
    wait_came("certificate-expired", hub.conditions)
    wait_went("certificate-not-yet-valid", hub.conditions)
    clock.step(0)
    wait_went("certificate-expired", hub.conditions)
    wait_went("clock-untrusted", hub.conditions)


@pytest.mark.condition("certificate-expires-soon")
@pytest.mark.condition("operator-expires-soon")
def test_what_is_about_to_end(make_timed: Make, clock: Clock, tmp_path: Path, authority: DevelopmentAuthority) -> None:
    file = write_operators(tmp_path / "operators.toml", Operator("grid"))
    lasting = file.read_text()
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 100 * DAY_S))
    file.write_text(lasting + f"not_after = {ends}\n")
    hub = make_timed(control__operators_file=str(file)).start()
    assert not {"certificate-expires-soon", "operator-expires-soon"} & set(hub.conditions())
    clock.pass_time(80 * DAY_S)
    wait_came("operator-expires-soon", hub.conditions)
    clock.pass_time(600 * DAY_S)
    wait_came("certificate-expires-soon", hub.conditions)
    file.write_text(lasting)
    assert hub.cli("reload").returncode == 0
    wait_went("operator-expires-soon", hub.conditions)
    clock.step(-int(300 * DAY_S * 1e9))
    wait_went("certificate-expires-soon", hub.conditions)


@pytest.mark.condition("operators-none")
@pytest.mark.condition("operators-not-loaded")
@pytest.mark.condition("operators-unreadable")
def test_a_list_of_operators_that_is_not_there_not_read_or_not_readable(
    make_timed: Make, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "operators.toml"
    hub = make_timed(control__operators_file=str(file)).start()
    assert came("operators-none", doctor(hub))
    write_operators(file, Operator("grid"))
    clock.pass_time(LOOK_S)
    wait_came("operators-not-loaded", hub.conditions)
    assert hub.cli("reload").returncode == 0
    wait_went("operators-not-loaded", hub.conditions)
    assert went("operators-none", doctor(hub))
    good = file.read_text()
    file.write_text("rubbish [")
    os.kill(hub.pid, signal.SIGHUP)
    wait_came("operators-unreadable", hub.conditions)
    assert "operators-not-loaded" not in hub.conditions(), "a consequence"
    file.write_text(good)
    os.kill(hub.pid, signal.SIGHUP)
    wait_went("operators-unreadable", hub.conditions)


@pytest.mark.condition("operators-on-trial")
def test_a_new_list_of_operators(make_timed: Make, clock: Clock, control_point: ControlPoint, tmp_path: Path) -> None:
    old, new = Operator("grid"), Operator("next")
    hub = make_timed(control__operators_file=str(write_operators(tmp_path / "operators.toml", old))).start()
    hub.wait_uplink()
    trust = old.command("trust", {"operators": old.toml + "\n" + new.toml})
    control_point.send(trust)
    wait_for("it to be obeyed", lambda: control_point.receipts(cti_of(trust)))
    clock.pass_time(LOOK_S)
    wait_came("operators-on-trial", hub.conditions)
    control_point.send(new.command("trust.confirm"))
    wait_went("operators-on-trial", hub.conditions)


@pytest.mark.condition("uplink-not-booked")
def test_a_control_point_without_a_book(
    make_timed: Make, clock: Clock, control_point: ControlPoint, tmp_path: Path
) -> None:
    operator = Operator("grid")
    file = write_operators(tmp_path / "operators.toml", operator)
    hub = make_timed(
        control__operators_file=str(file), control__heartbeat_s=5, uplink__booked_within_s=30_000_000
    ).start()
    hub.wait_uplink()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(1, b"5") == 0
    wait_for("it to be acknowledged", lambda: hub.ask("queue")["readings"]["acknowledged"])
    wait_came("uplink-not-booked", later(hub, clock, 0.6 * DAY_S))
    hub.wait_uplink()
    lanes = hub.ask("queue")
    epoch = hub.status()["epoch"]
    booked = {lane: [epoch, row["acknowledged"]] for lane, row in lanes.items() if row["acknowledged"]}
    control_point.send(operator.command("booked", booked, exp=int(time.time() + 20 * DAY_S), iat=int(time.time())))
    wait_went("uplink-not-booked", later(hub, clock, 61))
    adapter.close()


@pytest.mark.condition("readings-old")
def test_readings_that_wait_for_days(make_timed: Make, clock: Clock, authority: DevelopmentAuthority) -> None:
    """Behind a session that is well in all but that nothing gets through."""
    # The hub notices that it is not answered, and tries with another session: as bad, until the broker is mended.
    broker = ScriptedBroker(authority, Script(puback=None))
    hub = make_timed(uplink__port=broker.port, uplink__pack_interval_s=86400).start()
    hub.wait_uplink()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(1, b"5") == 0
    # A session begins with a pack, and whether this reading is in it is a matter of luck: it waits here or there.
    wait_for("it to wait", lambda: sum(hub.ask("queue")["readings"][where] for where in ("unsealed", "pending")) == 1)
    assert hub.ask("queue")["readings"]["oldest_s"] < 60
    clock.pass_time(1.5 * DAY_S)
    wait_came("readings-old", hub.conditions)
    assert "1.5 days" in hub.conditions()["readings-old"]
    assert hub.ask("queue")["readings"]["oldest_s"] > DAY_S, "wherever it waits"
    broker.scripts = (Script(),)
    broker.hang_up()
    wait_went(
        "readings-old",
        lambda: (hub.ask("queue")["readings"]["oldest_s"] > DAY_S and ["readings-old"]) or hub.conditions(),
    )
    adapter.close()
    broker.close()


@pytest.mark.condition("adapters-silent")
@pytest.mark.condition("adapter-silent")
def test_adapters_that_fall_silent(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()
    one, other = (UdpAdapter(hub.udp_port, name) for name in ("boiler", "charger"))
    assert one.connect() == 0 and other.connect() == 0
    clock.pass_time(300)
    wait_came("adapters-silent", hub.conditions)
    assert "2 of 2" in hub.conditions()["adapters-silent"]
    assert one.connect() == 0
    wait_went("adapters-silent", hub.conditions)
    clock.pass_time(2 * DAY_S)
    assert one.connect() == 0
    wait_came("adapter-silent", hub.conditions)
    assert "charger" in hub.conditions()["adapter-silent"]
    assert hub.cli("adapters", "forget", "charger").returncode == 0
    wait_went("adapter-silent", hub.conditions)
    one.close()
    other.close()


@pytest.mark.condition("hub-restarts")
def test_a_hub_that_is_started_again_and_again(make_timed: Make, clock: Clock) -> None:
    hub = make_timed()
    (hub.run_dir / "starts").write_text("4\n")  # as its unit counts
    hub.start()
    wait_came("hub-restarts", hub.conditions)
    clock.pass_time(601)
    wait_went("hub-restarts", hub.conditions)


@pytest.mark.parametrize(
    ("script", "condition"),
    [
        pytest.param(
            Script(ends_after=1, puback=None), "uplink-ends-at-message",
            marks=pytest.mark.condition("uplink-ends-at-message"),
        ),
        pytest.param(
            Script(ends_after=2, last=disconnect(0x8E)), "uplink-taken-over",
            marks=pytest.mark.condition("uplink-taken-over"),
        ),
    ],
)  # fmt: skip
def test_what_ends_every_session(
    make_timed: Make, clock: Clock, authority: DevelopmentAuthority, script: Script, condition: str
) -> None:
    """A broker that denies each publish by closing; a second hub with the same key. A session that lives ends it."""
    broker = ScriptedBroker(authority, *[script] * 5, Script())
    hub = make_timed(uplink__port=broker.port, uplink__retry_cap_s=1).start()
    wait_came(condition, hub.conditions)
    wait_for("a session that lives", lambda: broker.connections > 5 and hub.status()["uplink"]["state"] == "up")
    assert condition in hub.conditions(), "a session that was opened proves nothing yet"
    clock.pass_time(61)
    wait_went(condition, hub.conditions)
    broker.close()


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        pytest.param(errno.EIO, "store-failing", marks=pytest.mark.condition("store-failing")),
        pytest.param(errno.EROFS, "store-read-only", marks=pytest.mark.condition("store-read-only")),
        pytest.param(errno.ENOSPC, "store-full", marks=pytest.mark.condition("store-full")),
    ],
)
def test_a_disk_that_takes_nothing_and_then_does_with_nobody_asking(
    make_timed: Make, clock: Clock, tmp_path: Path, error: int, condition: str
) -> None:
    hub = make_timed()
    disk = FailingDisk(tmp_path, hub.data_dir)
    hub.env |= disk.env | {"LD_PRELOAD": f"{disk.env['LD_PRELOAD']}:{clock.env['LD_PRELOAD']}"}
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(1, b"1") == 0
    disk.fail(error)
    assert adapter.publish(1, b"2") == 1
    wait_came(condition, hub.conditions)
    adapter.close()
    disk.heal()
    clock.pass_time(LOOK_S)
    wait_went(condition, hub.conditions)


@pytest.mark.slow
@pytest.mark.condition("store-slow")
def test_a_flash_that_takes_seconds(make_hub: Make, tmp_path: Path) -> None:
    hub = make_hub()
    disk = FailingDisk(tmp_path, hub.data_dir)
    hub.env |= disk.env
    hub.start()
    adapter = UdpAdapter(hub.udp_port, "boiler", timeout_s=60)
    assert adapter.connect() == 0

    def publish_then_ask() -> dict[str, str]:
        adapter.publish(1, b"1")
        return hub.conditions()

    for _ in range(8):
        publish_then_ask()
    disk.slow(9000)
    wait_came("store-slow", publish_then_ask, timeout_s=150)
    disk.heal()
    wait_went("store-slow", publish_then_ask, timeout_s=150)
    adapter.close()


@pytest.mark.condition("store-wear")
def test_more_than_a_days_share_of_writing(make_timed: Make, clock: Clock) -> None:
    hub = make_timed(store__daily_write_mb=1).start()
    if hub.status()["store"]["written_source"] != "proc":
        pytest.skip("this kernel does not count the bytes that a process writes")
    adapter = UdpAdapter(hub.udp_port, "boiler", timeout_s=30)
    assert adapter.connect() == 0
    for value in range(400):
        assert adapter.publish(1, str(value).encode()) == 0
        if hub.status()["store"]["stretched"]:
            break
    for value in range(5):  # so far over it that a look's time does not pay for it
        assert adapter.publish(1, str(value).encode()) == 0
    clock.pass_time(LOOK_S)
    wait_came("store-wear", hub.conditions)
    clock.pass_time(2 * DAY_S)
    assert adapter.connect() == 0 and adapter.publish(1, b"1") == 0
    wait_went("store-wear", later(hub, clock, LOOK_S))
    adapter.close()


@pytest.mark.condition("store-salvaged")
def test_a_database_that_was_damaged(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(1, b"1") == 0
    adapter.close()
    hub.kill()
    for file in hub.data_dir.glob("hub.db*"):
        file.write_bytes(bytes(file.stat().st_size))
    hub.start()
    wait_came("store-salvaged", hub.conditions)
    wait_went("store-salvaged", later(hub, clock, 0.6 * DAY_S))


@pytest.mark.condition("internal-error")
def test_an_error_of_its_own(make_timed: Make, clock: Clock, tmp_path: Path) -> None:
    """A library that is loaded for the first name to be looked up lies on a bad block, and then does not."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "stringprep.py").write_text("raise RuntimeError('a library on a bad block')\n")
    hub = make_timed(uplink__retry_cap_s=1)
    hub.env["PYTHONPATH"] = str(broken)
    hub.start()
    wait_came("internal-error", hub.conditions)
    (broken / "stringprep.py").unlink()
    hub.wait_uplink()
    assert "internal-error" in hub.conditions(), "it is told for a day"
    wait_went("internal-error", later(hub, clock, 0.6 * DAY_S))
    assert UdpAdapter(hub.udp_port, "boiler").connect() == 0, "its address is tried again, too"


@pytest.mark.condition("loop-stuck")
def test_a_part_that_does_not_answer(make_hub: Make) -> None:
    hub = make_hub()
    notify = folder_until_exit("mh-notify-") / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        hub.env |= {"NOTIFY_SOCKET": str(notify), "WATCHDOG_USEC": "400000"}
        hub.start()
        admin = hub.run_dir / "admin.sock"
        admin.rename(hub.run_dir / "elsewhere")  # nobody can ask this hub anything any more

        def conditions() -> set[str]:
            from hub.services.admin.client import ask

            return {row["code"] for row in ask(hub.run_dir / "elsewhere", "status")["conditions"]}

        wait_came("loop-stuck", conditions)
        (hub.run_dir / "elsewhere").rename(admin)
        wait_went("loop-stuck", hub.conditions)


@pytest.mark.condition("link-unusable")
def test_an_address_that_another_program_has(make_timed: Make, clock: Clock) -> None:
    hub = make_timed()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", hub.udp_port))
        hub.start()
        wait_came("link-unusable", hub.conditions)
    clock.pass_time(6)
    wait_went("link-unusable", hub.conditions)
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    adapter.close()


@pytest.mark.condition("radio-unusable")
def test_a_radio_stack_that_does_not_load_at_first(make_timed: Make, clock: Clock, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "zigpy"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('a library on a bad block')\n")
    hub = make_timed(radio__path=str(tmp_path / "no-such-port"))
    hub.env["PYTHONPATH"] = str(broken.parent)
    hub.start()
    wait_came("radio-unusable", hub.conditions)
    shutil.rmtree(broken)
    clock.pass_time(301)
    wait_went("radio-unusable", hub.conditions)
    wait_for("what there is to say now", lambda: "radio-missing" in hub.conditions())


@pytest.mark.condition("data-unencrypted")
def test_data_that_rests_in_clear(make_hub: Make) -> None:
    hub = make_hub()
    hub.env["METERHUB_AT_REST"] = "encrypted"
    hub.start()
    wait_came("data-unencrypted", hub.conditions)
    hub.stop()
    hub.env.clear()  # an image that promises nothing; fscrypt itself is tests/drivers/test_data_at_rest.py's
    hub.start()
    wait_for("a look", lambda: hub.status()["uptime_s"] > 1)
    wait_went("data-unencrypted", hub.conditions)


@pytest.mark.condition("packet-filter-missing")
def test_a_packet_filter_that_does_not_stand(make_hub: Make, tmp_path: Path) -> None:
    mark = tmp_path / "filter"
    hub = make_hub()
    hub.env["METERHUB_PACKET_FILTER"] = str(mark)
    hub.start()
    wait_came("packet-filter-missing", hub.conditions)
    mark.touch()
    wait_went("packet-filter-missing", hub.conditions)


@pytest.mark.condition("slot-not-marked")
def test_a_boot_loader_that_is_not_told(make_timed: Make, clock: Clock, tmp_path: Path) -> None:
    board = Board(tmp_path / "board")
    board.write(faults=["status"])
    hub = make_timed(update__slots_dir=str(board.slots_dir), update__well_s=0)
    board.start(hub)
    try:
        wait_came("slot-not-marked", hub.conditions)
        board.write(faults=[])

        wait_went("slot-not-marked", later(hub, clock, 30))
    finally:
        board.stop()


@pytest.mark.condition("slot-damaged")
def test_a_slot_that_cannot_be_read(make_timed: Make, clock: Clock, tmp_path: Path) -> None:
    """The first bytes of a process's memory answer as a bad block does. The other slot is no better: it stays."""
    board = Board(tmp_path / "board")
    bad = board.folder / "A/late.pyc"
    bad.symlink_to("/proc/self/mem")
    hub = make_timed(update__slots_dir=str(board.slots_dir), update__well_s=0)
    board.start(hub)
    try:
        wait_came("slot-damaged", hub.conditions)
        assert board.boots == [] and "good" not in board.read()
        bad.unlink()
        wait_went("slot-damaged", later(hub, clock, 30))
    finally:
        board.stop()


@pytest.mark.condition("data-in-memory")
def test_a_board_whose_data_partition_is_not_used(make_hub: Make, tmp_path: Path) -> None:
    folder = tmp_path / "slots"
    folder.mkdir()
    told = "slot=B\nimage=2.0.0\nindex=1\ndata={}\ndata_why={}\n"
    (folder / "board").write_text(told.format("memory", "its header is foreign"))
    hub = make_hub(update__slots_dir=str(folder)).start()
    wait_came("data-in-memory", hub.conditions)
    assert "its header is foreign" in hub.conditions()["data-in-memory"]
    told_of = json.loads(hub.cli("events", "--json").stdout)
    assert [event["reason"] for event in told_of if event["event"] == "store.in_memory"] == ["its header is foreign"]
    hub.stop()
    (folder / "board").write_text(told.format("partition", ""))
    hub.start()
    wait_for("a look", lambda: hub.status()["uptime_s"] > 1)
    wait_went("data-in-memory", hub.conditions)


def connect(client_id: str) -> bytes:
    body = struct.pack(">BBBH", 0x04, 0x04, 1, 60) + client_id.encode()
    return bytes((len(body) + 2 - 1,)) + body


@pytest.mark.slow
@pytest.mark.condition("adapters-full")
def test_no_place_for_another_adapter(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()
    number = 0

    def more() -> dict[str, str]:
        """Some hundred adapters, each at an address of its own."""
        nonlocal number
        for _ in range(10):
            sockets = []
            for _ in range(50):
                number += 1
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.settimeout(20)
                sock.bind((f"127.1.{number // 250}.{1 + number % 250}", 0))
                sock.sendto(connect(f"x{number}"), ("127.0.0.1", hub.udp_port))
                sockets.append(sock)
            for sock in sockets:
                sock.recv(100)
                sock.close()
        return hub.conditions()

    wait_came("adapters-full", more, timeout_s=200)
    wait_went("adapters-full", later(hub, clock, 350))


@pytest.mark.condition("store-worn")
@pytest.mark.skipif(os.geteuid() != 0, reason="what a disk says of itself is in sysfs: showing another takes root")
def test_a_flash_near_its_end(make_timed: Make, clock: Clock, tmp_path: Path) -> None:
    hub = make_timed()
    hub.data_dir.mkdir()
    number = os.stat(hub.data_dir).st_dev
    device = tmp_path / "block" / f"{os.major(number)}:{os.minor(number)}" / "device"
    device.mkdir(parents=True)
    (device / "life_time").write_text("0x01 0x0a\n")
    own_sysfs = f'mount --bind {tmp_path / "block"} /sys/dev/block && exec "$0" "$@"'
    hub.within = ["unshare", "--mount", "sh", "-c", own_sysfs]
    hub.start()
    wait_came("store-worn", hub.conditions)
    assert hub.status()["flash"] == {"life_used_percent": 100, "pre_eol": None}
    (device / "life_time").write_text("0x01 0x02\n")  # another board's
    wait_went("store-worn", later(hub, clock, 0.6 * DAY_S))
    # The cells are young, and the blocks in reserve are used up.
    (device / "pre_eol_info").write_text("0x02\n")
    wait_came("store-worn", later(hub, clock, 0.6 * DAY_S))
    assert "its blocks in reserve: warning" in hub.conditions()["store-worn"]
    (device / "pre_eol_info").write_text("0x01\n")
    wait_went("store-worn", later(hub, clock, 0.6 * DAY_S))
    told = [event for event in hub.ask("events") if event["event"] == "flash.aged"]
    assert [event["life_used_percent"] for event in told] == [100, 20, 20, 20]
    assert [event.get("pre_eol") for event in told] == [None, None, "warning", "normal"]


@pytest.mark.condition("radio-unstable")
def test_a_radio_that_resets_again_and_again(make_timed: Make, clock: Clock) -> None:
    radio = Radio([]).start()
    try:
        hub = make_timed(radio__path=str(radio.path)).start()

        def is_up() -> bool:
            return bool(hub.status()["radio"]["state"] == "up")

        for resets in range(1, 5):
            wait_for("the radio", is_up)
            radio.do("reset")
            wait_for("the reset to be seen", lambda n=resets: hub.status()["radio"]["resets"] >= n)  # type: ignore[misc]
        wait_came("radio-unstable", hub.conditions)
        wait_for("the radio", is_up)
        clock.pass_time(1300)
        wait_went("radio-unstable", hub.conditions)
    finally:
        radio.close()


def zcl_device(**cluster: object) -> dict[str, object]:
    return {
        "kind": "zcl", "ieee": "000d6f0000000001", "name": "thing", "manufacturer": "M", "model": "T",
        "endpoints": {"1": {"in": {"0x0000": {}, **cluster}}},
    }  # fmt: skip


@pytest.mark.condition("adapter-babbles")
def test_an_appliance_that_talks_without_end(make_timed: Make, clock: Clock) -> None:
    habits = {"report_s": 0.02, "unasked": True}
    radio = Radio([zcl_device(**{"0x0006": {"0x0000": ["10", 1]}}) | {"habits": habits}]).start()
    try:
        hub = make_timed(radio__path=str(radio.path)).start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_came("adapter-babbles", hub.conditions, timeout_s=100)
        radio.do("set", device="thing", powered=False)
        wait_went("adapter-babbles", later(hub, clock, 60))
    finally:
        radio.close()


@pytest.mark.condition("adapter-withheld")
def test_an_appliance_whose_scale_is_not_known(make_timed: Make, clock: Clock) -> None:
    """A divisor of nothing; then its firmware says what it is."""
    metering = {"0x0000": ["25", 5000], "0x0300": ["30", 0], "0x0301": ["22", 1], "0x0302": ["22", 0]}
    radio = Radio([zcl_device(**{"0x0702": metering}) | {"habits": {"report_s": 1}}]).start()
    try:
        hub = make_timed(radio__path=str(radio.path)).start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_came("adapter-withheld", hub.conditions, timeout_s=100)
        assert hub.cli("radio", "remove", "000d6f0000000001").returncode == 0
        wait_went("adapter-withheld", later(hub, clock, 20))
    finally:
        radio.close()


@pytest.mark.condition("certificate-not-renewed")
def test_a_certificate_that_is_not_renewed_and_then_is(
    make_timed: Make, clock: Clock, authority: DevelopmentAuthority
) -> None:
    authority.issue("MTR-1", file_name="hub", begins_in=timedelta(days=-700), ends_in=timedelta(days=21))
    is_well = threading.Event()

    def answer(request: x509.CertificateSigningRequest) -> tuple[int, bytes]:
        return (200, certs_only(authority.certify(request))) if is_well.is_set() else (500, b"sorry")

    est = EstServer(authority, answer=answer)
    try:
        hub = make_timed(uplink__est_url=est.url).start()
        wait_came("certificate-not-renewed", later(hub, clock, 3600))
        is_well.set()
        wait_went("certificate-not-renewed", later(hub, clock, 3600))
    finally:
        est.close()


@pytest.mark.condition("adapters-crowded")
@pytest.mark.condition("adapter-out-of-class")
@pytest.mark.condition("retained-full")
@pytest.mark.condition("nameless-full")
def test_bounds_that_somebody_made_felt(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()
    adapter = UdpAdapter(hub.udp_port, "talker")
    assert adapter.connect() == 0
    for number in range(101):
        adapter.send(0x0A, bytes(2) + adapter.next_msg_id().to_bytes(2, "big") + b"plant/%d" % number)
        topic = adapter.expect(0x0B)[:2]
        adapter.send(0x0C, b"\x30" + topic + adapter.next_msg_id().to_bytes(2, "big") + b"1")
        adapter.expect(0x0D)
    adapter.send(0x0C, b"\x21\x00\x20" + adapter.next_msg_id().to_bytes(2, "big") + b'{"class":"meter"}')
    assert adapter.expect(0x0D)[-1] == 3
    clock.pass_time(LOOK_S)
    wait_came("retained-full", hub.conditions)
    wait_came("adapter-out-of-class", hub.conditions)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.9", 0))
        for number in range(400):
            sock.sendto(connect(f"x{number}"), ("127.0.0.1", hub.udp_port))
            time.sleep(0.001)
    wait_came("adapters-crowded", hub.conditions)
    for number in range(300):  # each from another address, never connected: QoS -1 on a predefined topic
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
            sock.sendto(b"\x08\x0c\x61\x00\x01\x00\x005", ("127.0.0.1", hub.udp_port))
    wait_came("nameless-full", hub.conditions)
    clock.pass_time(700)
    for code in ("retained-full", "adapters-crowded", "adapter-out-of-class", "nameless-full"):
        wait_went(code, hub.conditions)
    adapter.close()


@pytest.mark.condition("home-flooded")
def test_a_device_that_floods(make_timed: Make, clock: Clock) -> None:
    hub = make_timed().start()

    def flooded() -> dict[str, str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.9", 0))
            for _ in range(5000):
                sock.sendto(b"\x08\x0c\x61\x00\x01\x00\x005", ("127.0.0.1", hub.udp_port))
        clock.pass_time(LOOK_S)
        return hub.conditions()

    wait_came("home-flooded", flooded)
    clock.pass_time(1300)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def one_more() -> dict[str, str]:
            sock.sendto(b"\x02\x16", ("127.0.0.1", hub.udp_port))  # it looks when something arrives
            return hub.conditions()

        wait_went("home-flooded", one_more)


def test_causes_hide_what_follows_in_doctor_and_status_alike(make_hub: Make, tmp_path: Path) -> None:
    hub = make_hub(radio__path=str(tmp_path / "none"), meter__path=str(tmp_path / "nor-this")).start()
    wait_for("both", lambda: {"radio-missing", "meter-missing"} <= set(hub.conditions()))
    found = [row["check"] for row in json.loads(hub.cli("doctor", "--json").stdout)]
    assert found.count("radio-missing") == found.count("meter-missing") == 1
    assert not {"radio-starting", "meter-silent", "radio-port"} & set(found)
    said = hub.cli("status").stdout
    assert said.count("ERROR") == len([row for row in hub.status()["conditions"] if row["severity"] == "error"])
