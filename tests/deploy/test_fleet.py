"""A fleet that loses its broker does not take it down again: the hub's real policy on a virtual clock."""

from dataclasses import fields
from xml.etree import ElementTree

from deploy.fleet.storm import (
    BOOT_SPREAD_S,
    PATIENCE_S,
    Outage,
    booted,
    draw,
    hub_delays,
    library_delays,
    simulate,
)
from hub.core.uplink.config import UplinkConfig
from hub.core.uplink.reconnect_policy import PACES
from hub.services.uplink.session import CONNECT_TIMEOUT_S

HUBS = 3000


def test_a_crash_of_seconds() -> None:
    outage = Outage(HUBS, down_s=5, handshakes_s=HUBS / 50)
    ours = simulate(outage, hub_delays(outage)).figures(outage)
    assert ours["back"] == HUBS, "every hub is back"
    assert ours["peak_per_s"] <= 0.25 * HUBS
    assert ours["all_back_after_s"] <= 180
    library = simulate(outage, library_delays(outage)).figures(outage)
    assert library["peak_per_s"] > 0.9 * HUBS, "without jitter there is a storm: the model shows one"


def test_an_outage_of_half_an_hour() -> None:
    outage = Outage(HUBS, down_s=1800, handshakes_s=HUBS / 50)
    ours = simulate(outage, hub_delays(outage)).figures(outage)
    assert ours["back"] == HUBS
    assert ours["peak_after_return_per_s"] <= 0.015 * HUBS, "the return is spread over minutes"
    assert ours["all_back_after_s"] <= PACES["uplink-unreachable"].cap_s + PATIENCE_S
    assert ours["attempts"] / HUBS < 30


def test_a_neighbourhood_that_regains_its_power() -> None:
    outage = Outage(HUBS, down_s=0, handshakes_s=HUBS / 50)
    ours = simulate(outage, hub_delays(outage), booted(outage, BOOT_SPREAD_S)).figures(outage)
    assert ours["back"] == ours["attempts"] == HUBS, "nobody has to try twice"
    assert ours["peak_per_s"] <= 0.03 * HUBS
    assert ours["all_back_after_s"] <= BOOT_SPREAD_S + 30
    together = simulate(outage, library_delays(outage), booted(outage, 0)).figures(outage)
    assert together["peak_per_s"] > 0.3 * HUBS, "without a spread there is a storm: the model shows one"


def test_the_model_is_as_patient_as_the_hub_and_draws_what_it_saw() -> None:
    assert PATIENCE_S == CONNECT_TIMEOUT_S
    assert {f.name: f.default for f in fields(UplinkConfig)}["boot_spread_s"] == BOOT_SPREAD_S
    outage = Outage(200, 5, 10)
    course = simulate(outage, hub_delays(outage))
    picture = ElementTree.fromstring(draw([("a title", outage, course, course)]))
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert len((lines[0].get("points") or "").split()) >= len(course.attempts)
