"""Steps that several stories of a board begin with, or end with."""

from tests.harness.waiting import wait_for
from tests.image.site import Site


def bring_up(site: Site) -> int:
    """From the factory to a home whose readings come; returns the console's mark of the power-on."""
    site.provision()
    mark = site.power_on()
    assert site.wait_online(after=0)["boot"] == 1
    site.console.log_in(mark)
    wait_for("the radio", lambda: site.status()["radio"]["state"] == "up", 300, 2)
    permit = "meterhub radio permit --any --seconds 200"
    site.console.ask(f"{permit} || {{ journalctl -u meterhub -n 15 --no-pager; sleep 5; {permit}; }}", timeout_s=180)
    wait_for("readings of the boiler", lambda: site.control_point.values("boiler"), 300, 0.5)
    wait_for_good_slot(site)
    wait_for("its rollback index", lambda: site.environment()["HUB_INDEX"] == "1", 60, 2)
    return mark


def wait_for_good_slot(site: Site) -> None:
    """Slot A has its three tries again: a power-off before costs it one."""
    wait_for("the slot to be good", lambda: site.environment()["BOOT_A_LEFT"] == "3", 300, 2)


def assert_goes_on(site: Site) -> None:
    """More readings come from the adapter that was there before, and no number is missing.

    Only those of a radio that is up count: others were waiting to be sent.
    """
    wait_for("the radio", lambda: site.status()["radio"]["state"] == "up", 300, 2)
    heard = len(site.control_point.values("boiler"))
    wait_for("more of the boiler", lambda: len(site.control_point.values("boiler")) > heard, 300, 0.5)
    site.assert_nothing_missing()
