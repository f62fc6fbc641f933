"""What hangs is ended: the hub by systemd, systemd by the board's watchdog, where that is hardware the kernel too.

One story, told in order (see test_story.py). Nothing is asked of the part that hangs: only the watchdogs can help.
"""

import pytest

from tests.image.harm import stop_interrupts
from tests.image.site import Site
from tests.image.steps import assert_goes_on, bring_up

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]


def test_the_board_has_a_watchdog_and_systemd_feeds_it(short_site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    bring_up(short_site)
    console = short_site.console
    identity = console.ask("cat /sys/class/watchdog/watchdog0/identity")
    with capsys.disabled():
        print(f"\n{short_site.machine.board.name}: {identity}")
    assert console.ask("cat /sys/class/watchdog/watchdog0/state") == "active"
    assert console.ask("systemctl show -p RuntimeWatchdogUSec --value") == "20s"
    assert console.ask("cat /sys/class/watchdog/watchdog0/timeout") == "20"


def test_a_hub_that_hangs_is_ended_and_started_anew(short_site: Site) -> None:
    site, console = short_site, short_site.console
    known, mark = len(site.states()), console.mark()
    epoch = site.status()["epoch"]
    console.ask("systemctl kill --kill-whom=main --signal=STOP meterhub")
    pid = console.ask("systemctl show -p MainPID --value meterhub")
    assert console.ask(f"cat /proc/{pid}/stat").rpartition(")")[2].split()[0] == "T", "the hub is not stopped"
    state = site.wait_online(known, timeout_s=600)
    assert state["epoch"] == epoch, "the store is the one of before"
    assert console.ask("systemctl show -p NRestarts --value meterhub") == "1"
    assert "Watchdog timeout" in console.ask("journalctl -b -o cat -u meterhub --no-pager")
    assert "U-Boot" not in console.since(mark), "the board itself went on"
    assert_goes_on(site)


def test_a_system_that_hangs_is_reset_by_the_watchdog(short_site: Site) -> None:
    """PID 1 is frozen from the outside; hub and kernel go on until the watchdog has not been fed for too long."""
    site, console = short_site, short_site.console
    known, mark = len(site.states()), console.mark()
    console.send("echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze")
    console.wait_text("U-Boot", mark, timeout_s=300)
    site.wait_online(known, timeout_s=600)
    said = console.since(mark)
    assert "panic" not in said and "reboot:" not in said, "something else than the watchdog ended it"
    console.log_in(mark)
    assert_goes_on(site)


def test_a_kernel_without_interrupts_is_reset_where_the_watchdog_is_hardware(short_site: Site) -> None:
    site, console = short_site, short_site.console
    if console.ask("cat /sys/class/watchdog/watchdog0/identity") == "Software Watchdog":
        pytest.skip("softdog lives of the kernel's own timer: it cannot end a kernel without interrupts")
    known = len(site.states())
    mark = stop_interrupts(site)
    console.wait_text("U-Boot", mark, timeout_s=300)
    site.wait_online(known, timeout_s=600)
    console.log_in(mark)
    assert_goes_on(site)
