"""A board in QEMU that is shut: what may go out and come in, what nobody may make, and whose time moves its clock.

One story, told in order (see test_story.py).
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.image.qemu import HOST_ADDRESS
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import free_port, wait_for
from tests.image.clock import TimeServer
from tests.image.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]

HOST_ADDRESS_6 = "fec0::2"  # of this machine's ::1, to a board in QEMU
HUB_UID, CHRONY_UID = 960, 965
_HOUR_S = 3600.0


@pytest.fixture(scope="module")
def liar() -> Iterator[TimeServer]:
    """Another time server of the utility's, or somebody who plays it: its clock is an hour ahead."""
    server = TimeServer("::1")
    server.offset_s = _HOUR_S
    yield server
    server.close()


@pytest.fixture(scope="module")
def shut_site(release: Path, liar: TimeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(
        tmp_path_factory.mktemp("site"), release, station=["--ntp", f"{HOST_ADDRESS_6} port {liar.port} minpoll 4"],
        toml='[han.udp]\nlisten = "0.0.0.0:1884"\n', home=None, udp_port=free_port(),
        ipv6=True,
    )  # fmt: skip
    yield site
    site.close()


def tried(site: Site, uid: int, code: str) -> str:
    """What comes of a line of Python that a user of this number runs on the board: "done", or the error's name."""
    words = f"import os, socket; os.setgroups([]); os.setuid({uid})"
    script = f"{words}\ntry:\n {code}\n print('done')\nexcept OSError as error:\n print(type(error).__name__)\n"
    site.console.ask(f"printf %s {script.encode().hex()} >/tmp/try.hex")
    return site.console.ask(
        "python3 -c \"exec(bytes.fromhex(open('/tmp/try.hex').read()).decode())\"", timeout_s=120
    ).strip()


def test_the_hub_is_online_behind_its_filter(shut_site: Site) -> None:
    shut_site.provision()
    mark = shut_site.power_on()
    assert shut_site.wait_online(after=0)["boot"] == 1
    shut_site.console.log_in(mark)
    assert shut_site.console.ask("systemctl --failed --no-legend --plain") == ""
    chains = json.loads(shut_site.console.ask("nft -j list chains"))["nftables"]
    policies = {row["chain"]["hook"]: row["chain"]["policy"] for row in chains if row.get("chain", {}).get("hook")}
    assert policies == {"input": "drop", "output": "drop", "forward": "drop"}
    came = {
        unit: int(shut_site.console.ask(f"systemctl show -p ActiveEnterTimestampMonotonic --value {unit}"))
        for unit in ("nftables", "systemd-networkd")
    }
    assert 0 < came["nftables"] < came["systemd-networkd"], "there is no network without the filter"


def test_a_filter_that_does_not_load_is_told_and_the_hub_stays_online(shut_site: Site) -> None:
    """A rule that this kernel has no module for, as a bad release would bring."""
    ask = shut_site.console.ask

    def codes() -> set[str]:
        return {condition["code"] for condition in shut_site.status()["conditions"]}

    assert "packet-filter-missing" not in codes()
    nat = "table ip n { chain c { type nat hook output priority 0; } }"
    ask(f"cp /etc/nftables.conf /tmp/rules; echo '{nat}' >>/tmp/rules")
    ask("mount --bind /tmp/rules /etc/nftables.conf; systemctl restart nftables || true")
    wait_for("the condition", lambda: "packet-filter-missing" in codes(), 120, 2)
    assert ask("systemctl is-active systemd-networkd") == "active"
    ask("umount /etc/nftables.conf")  # it is tried again by itself
    wait_for("its end", lambda: "packet-filter-missing" not in codes(), 120, 2)
    assert "hub" in ask("nft list tables")


def test_the_hub_goes_out_and_root_does_not(shut_site: Site) -> None:
    connect = f"socket.create_connection(('{HOST_ADDRESS}', {shut_site.broker.port}), 10)"
    assert tried(shut_site, HUB_UID, connect) == "done"
    for uid in (0, 65534):
        assert tried(shut_site, uid, connect) in ("PermissionError", "TimeoutError")


def test_an_adapter_of_the_home_comes_in(shut_site: Site) -> None:
    port = shut_site._doors[1]
    assert port is not None
    adapter = UdpAdapter(port, "lamp", timeout_s=60)
    try:
        assert adapter.connect() == 0
        assert adapter.publish(0x0001, b"1200") == 0
    finally:
        adapter.close()
    wait_for("its reading", lambda: shut_site.control_point.values("lamp"), 120, 0.5)


def test_nobody_but_root_has_a_user_namespace(shut_site: Site) -> None:
    unshare = "os.unshare(os.CLONE_NEWUSER)"
    assert tried(shut_site, CHRONY_UID, unshare) == "PermissionError"
    assert tried(shut_site, 0, unshare) == "done", "systemd makes those of the units"
    assert shut_site.console.ask("systemctl show -p PrivateUsers --value meterhub") in ("yes", "self")


def test_one_time_server_alone_moves_no_clock(shut_site: Site, liar: TimeServer) -> None:
    console = shut_site.console
    assert console.ask("cat /run/chrony/minsources.conf") == "minsources 2"
    sources = "chronyc -n -c -h /run/chrony/chronyd.sock sources"
    wait_for("both to have answered", lambda: _reached(console.ask(sources)) == 2, 300, 3)
    time.sleep(20)  # several more answers of each
    assert not shut_site.status()["process"]["clock_trusted"]
    assert abs(float(console.ask("date -u +%s")) - time.time()) < _HOUR_S / 2
    liar.offset_s = 0.0
    wait_for("the hub to believe its clock", lambda: shut_site.status()["process"]["clock_trusted"], 600, 5)
    assert abs(float(console.ask("date -u +%s")) - time.time()) < 5


def _reached(rows: str) -> int:
    """How many sources have answered at all."""
    return sum(int(row.split(",")[5], 8) > 0 for row in rows.splitlines() if row.count(",") > 6)
