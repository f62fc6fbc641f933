"""A board's life in QEMU, from the factory to a bad update, on the real parts: U-Boot, verified boot, RAUC, the hub.

One story, told in order: each test goes on where the one before stopped. `make image-test` tells it.
"""

import json
import re
import time

import pytest

from deploy.image.disk import ENV_OFFSETS, find_partition
from tests.harness.waiting import wait_for
from tests.image.conftest import Releases
from tests.image.site import HUB_ID, Site

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]


def test_the_first_boot_takes_the_identity_and_the_utility_sees_the_hub(site: Site) -> None:
    site.provision()
    mark = site.power_on()
    assert site.wait_online(after=0)["boot"] == 1
    log = (site.folder / "broker/mosquitto.log").read_text(errors="replace")
    assert re.search(rf"u'{HUB_ID}'", log), "the CN of the hub's certificate is its name at mosquitto"
    site.console.log_in(mark)
    boot = site.console.since(mark)
    assert "slot A" in boot and "sha256,rsa4096:boot+ OK" in boot, "U-Boot did not verify the kernel"
    assert "IMAGE_VERSION=1.0.0" in site.console.ask("cat /etc/os-release")
    assert site.console.ask("systemctl --failed --no-legend --plain") == ""
    wait_for("slot A to be good", lambda: site.environment()["BOOT_A_LEFT"] == "3", 180, 2)
    wait_for("its rollback index", lambda: site.environment()["HUB_INDEX"] == "1", 60, 2)
    assert (site.states()[-1]["image"], site.states()[-1]["slot"]) == ("1.0.0", "A")


def test_the_key_that_shows_itself_and_signs_is_in_the_token_and_nowhere_else(site: Site) -> None:
    """mosquitto knew the hub by that key's certificate, and the control point has verified what it sealed with it."""
    console = site.console
    assert "BEGIN PKCS#11 PROVIDER URI" in console.ask("cat /etc/meterhub/hub.key")
    assert console.ask("grep -rlE 'BEGIN (EC )?PRIVATE KEY' /data || true") == ""
    pid = console.ask("systemctl show -p MainPID --value meterhub")
    for part in ("libsofthsm2.so", "ossl-modules/pkcs11.so", "PyKCS11/_LowLevel"):
        assert part in console.ask(f"grep -o '/.*{part}.*' /proc/{pid}/maps | sort -u")
    environment = "OPENSSL_CONF=/etc/meterhub/openssl.cnf SOFTHSM2_CONF=/etc/meterhub/softhsm2.conf"
    assert f"fine; hub {HUB_ID}" in console.ask(f"{environment} meterhub check-config")
    assert "events" in site.lanes() and not site.control_point.faults


def test_the_data_partition_tells_a_thief_nothing(site: Site) -> None:
    console = site.console
    assert console.ask("cat /sys/class/block/dm-1/dm/uuid").startswith("CRYPT-")
    assert " /data ext4 " in console.ask("cat /proc/mounts")
    console.ask("sync")
    raw = site.machine.disk.read_bytes()
    data = raw[find_partition(site.machine.board.disk["size_mb"], "data").start :]
    assert data.startswith(b"METERHUB-DATA-1 crypt ")
    token = next((site.lot.device(HUB_ID) / "meterhub/token").rglob("token.object"))
    for telltale in (b"SQLite format 3", token.read_bytes(), b"PRIVATE KEY", b"METERHUB-DROP", HUB_ID.encode()):
        assert telltale not in data, f"{telltale!r} can be read from the medium"


def test_the_radio_joins_and_readings_are_verified_at_the_head_end(site: Site) -> None:
    wait_for("the radio", lambda: site.status()["radio"]["state"] == "up", 300, 2)
    site.console.ask("meterhub radio permit --any --seconds 240")
    wait_for("readings of the boiler", lambda: site.control_point.values("boiler"), 300, 0.5)
    wait_for("readings of the plug", lambda: site.plugs(), 600, 0.5)
    site.assert_nothing_missing()


def test_what_it_costs(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not judged: this machine is not the board. The hub's own figures are bench's (make bench)."""
    before, t0 = site.costs(), time.monotonic()
    time.sleep(60)
    after, t1 = site.costs(), time.monotonic()
    lasted_s = t1 - t0
    rows = [
        f"power-on to online   {site.online_after_s:6.1f} s (QEMU used {site.online_cpu_s:.1f} s of CPU)",
        f"hub resident         {after['rss_kb'] / 1024:6.1f} MiB",
        f"hub, two appliances  {100 * (after['cpu_s'] - before['cpu_s']) / lasted_s:6.2f} % of an emulated core",
        f"memory in use        {after['used_kb'] / 1024:6.1f} MiB of {after['total_kb'] / 1024:.0f}",
        f"written to flash     {(after['written_b'] - before['written_b']) / lasted_s * 3600 / 1e6:6.2f} MB an hour",
    ]
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert after["rss_kb"] > 0 and after["written_b"] > before["written_b"]


def test_an_update_by_signed_command_is_installed_tried_and_kept(site: Site, releases: Releases) -> None:
    network, known = site.status()["radio"]["pan_id"], len(site.states())
    known_epoch = site.states()[-1]["epoch"]
    mark = site.console.mark()
    cti = site.command_update(releases.second, "2.0.0")
    site.wait_story(cti, "accepted", "applied", "completed")
    site.console.log_in(mark)
    assert "slot B" in site.console.since(mark)
    assert "IMAGE_VERSION=2.0.0" in site.console.ask("cat /etc/os-release")
    environment = site.environment()
    assert environment["BOOT_ORDER"].split()[0] == "B" and environment["BOOT_B_LEFT"] == "3"
    assert site.wait_online(known)["epoch"] == known_epoch, "the store is the one of before"
    wait_for("the radio", lambda: site.status()["radio"]["state"] == "up", 240, 2)
    assert site.status()["radio"]["pan_id"] == network
    heard = len(site.control_point.values("boiler"))
    wait_for(
        "the boiler to go on, nobody let it join anew", lambda: len(site.control_point.values("boiler")) > heard, 240
    )
    site.assert_nothing_missing()


def test_what_must_not_run_is_refused_with_a_receipt(site: Site, releases: Releases) -> None:
    old = next((releases.first / "update").glob("*.raucb"))
    for bundle, version, reason in (
        (releases.strange, "2.1.0", "bad-signature"),
        (releases.wrong_board, "2.1.0", "wrong-board"),
        (old, "1.0.0", "downgrade"),
    ):
        cti = site.command_update(bundle, version)
        site.wait_story(cti, "accepted", "failed")
        assert site.control_point.receipt(cti, "failed")["reason"] == reason
    assert site.environment()["BOOT_ORDER"].split()[0] == "B", "no slot was touched"


def test_a_broken_release_has_three_boots_and_is_given_back(site: Site, releases: Releases) -> None:
    mark = site.console.mark()
    cti = site.command_update(releases.broken, "3.0.0")
    site.wait_story(cti, "accepted", "failed", timeout_s=1500)
    assert site.control_point.receipt(cti, "failed")["reason"] == "rolled-back"
    assert re.findall(r"^slot (\w)$", site.console.since(mark), re.MULTILINE) == ["A", "A", "A", "B"]
    wait_for("the event", lambda: site.count_events("update.rolled_back") == 1)
    site.console.log_in(mark)
    assert "IMAGE_VERSION=2.0.0" in site.console.ask("cat /etc/os-release")
    site.assert_nothing_missing()


def test_power_lost_during_the_installation_costs_nothing(site: Site, releases: Releases) -> None:
    cti = site.command_update(releases.third, "2.1.0")
    wait_for("the installation", lambda: site.update_state() == "installing", 300, 0.05)
    time.sleep(2)  # somewhere in the middle; where does not matter
    site.power_off()
    known = len(site.states())
    mark = site.power_on()
    site.wait_online(known)
    assert re.findall(r"^slot (\w)$", site.console.since(mark), re.MULTILINE) == ["B"], "the old slot is whole"
    # It was ordered and not taken back: the hub carries it out.
    site.wait_story(cti, "accepted", "applied", "completed")
    site.console.log_in(mark)
    assert re.findall(r"^slot (\w)$", site.console.since(mark), re.MULTILINE) == ["B", "A"]
    site.assert_nothing_missing()


def test_a_corrupted_root_falls_to_the_other_slot(site: Site) -> None:
    site.power_off()
    part = find_partition(site.machine.board.disk["size_mb"], "rootfs-A")
    with site.machine.disk.open("r+b") as disk:
        for offset in range(0, 32 << 20, 1 << 19):
            disk.seek(part.start + 4096 + offset)
            disk.write(b"\xa5" * 4096)
    known = len(site.states())
    mark = site.power_on()
    site.wait_online(known, timeout_s=600)
    assert re.findall(r"^slot (\w)$", site.console.since(mark), re.MULTILINE) == ["A", "A", "A", "B"]
    site.console.log_in(mark)
    wait_for("the utility to hear of it", lambda: site.count_events("slot.fell_back") == 1, 120)
    site.assert_nothing_missing()


def test_a_changed_kernel_and_a_forged_environment_are_not_believed(site: Site) -> None:
    site.power_off()
    size_mb = site.machine.board.disk["size_mb"]
    forged = (
        b"BOOT_ORDER=A;echo owned; B\0BOOT_A_LEFT=3\0BOOT_B_LEFT=3\0HUB_INDEX=0 init=/bin/sh\0bootcmd=echo owned\0"
        b"bootdelay=9\0bootargs_more=init=/bin/sh\0load=echo owned\0\0"
    )
    with site.machine.disk.open("r+b") as disk:
        disk.seek(find_partition(size_mb, "kernel-A").start + (2 << 20))
        byte = disk.read(1)
        disk.seek(-1, 1)
        disk.write(bytes([byte[0] ^ 1]))
        for number, offset in enumerate(ENV_OFFSETS):
            disk.seek(offset)
            disk.write(site.sealed_environment(forged, number))
    known = len(site.states())
    mark = site.power_on()
    site.wait_online(known, timeout_s=600)
    boot = site.console.since(mark)
    assert "owned" not in boot
    assert "Bad Data Hash" in boot, "the changed kernel was tried, and refused"
    assert re.findall(r"^slot (\w)$", boot, re.MULTILINE)[-1] == "B"
    site.console.log_in(mark)
    assert "init=" not in site.console.ask("cat /proc/cmdline")
    site.assert_nothing_missing()


def test_a_kernel_that_panics_starts_anew(site: Site) -> None:
    known = len(site.states())
    site.console.send("echo c >/proc/sysrq-trigger")
    assert site.wait_online(known, timeout_s=600)["version"]
    site.assert_nothing_missing()
    assert json.dumps(site.control_point.chain_faults()) == "[]"
