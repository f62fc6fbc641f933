"""A board at the end of 32-bit time: its kernel, chrony, systemd, initramfs and hub, with the utility's clock there.

One story, told in order (see test_story.py).
"""

import json
import re
import time
from datetime import UTC, datetime

import pytest

from tests.harness.waiting import wait_for
from tests.image.site import Site
from tests.image.steps import assert_goes_on, bring_up

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("the_story_so_far")]

END_S = 2**31  # 2038-01-19 03:14:08


def set_clock(site: Site, t: float) -> None:
    """From here on it is this time at the utility."""
    site.clock.offset_s = t - time.time()


def now(site: Site) -> float:
    return float(site.console.ask("date -u +%s"))


def assert_clock_is_kept(site: Site) -> None:
    there = time.time() + site.clock.offset_s
    wait_for("the hub to believe its clock", lambda: site.status()["process"]["clock_trusted"], 240, 2)
    assert abs(now(site) - (time.time() + site.clock.offset_s)) < 5
    assert not re.search(r"^(ERROR|WARNING) +clock", site.console.ask("meterhub doctor || true"), re.MULTILINE), there


def test_the_year_before(short_site: Site) -> None:
    """chrony of 32 bits takes no time from 2037-01-19 on."""
    set_clock(short_site, datetime(2037, 2, 1, 12, tzinfo=UTC).timestamp())
    bring_up(short_site)
    assert_clock_is_kept(short_site)
    assert json.loads(short_site.control_point.states[-1])["t"] > 0


def test_the_second_itself(short_site: Site) -> None:
    site = short_site
    site.console.ask("sync")
    site.power_off()
    set_clock(site, END_S - 120)
    known = len(site.states())
    mark = site.power_on()
    assert site.wait_online(known)["boot"] == 2
    site.console.log_in(mark)
    assert_clock_is_kept(site)
    boot = site.console.ask("cat /proc/sys/kernel/random/boot_id")
    wait_for("the second", lambda: now(site) > END_S + 20, 300, 2)
    assert_goes_on(site)
    assert site.console.ask("cat /proc/sys/kernel/random/boot_id") == boot, "the board has started anew"
    assert site.console.ask("systemctl --failed --no-legend --plain") == ""
    assert "2038" in site.console.ask("journalctl -n 1 -o short-iso --no-pager")
    assert float(site.console.ask("touch /data/late; stat -c %Y /data/late")) > END_S


@pytest.mark.parametrize("year", [2038, 2041])
def test_a_start_after_it(short_site: Site, year: int) -> None:
    """Its own clock begins where the newest file is, and the utility's is later."""
    site = short_site
    site.console.ask("sync")
    site.power_off()
    set_clock(site, datetime(year, 6, 1, 12, tzinfo=UTC).timestamp())
    known = len(site.states())
    mark = site.power_on()
    state = site.wait_online(known)
    site.console.log_in(mark)
    assert_clock_is_kept(site)
    assert_goes_on(site)
    assert state["epoch"] == site.states()[0]["epoch"]
