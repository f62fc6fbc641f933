# SPDX-License-Identifier: GPL-3.0-or-later
"""Appliance models: energy is exact, limits are kept, protected ones are left alone, restrictions end by themselves."""

from __future__ import annotations

import pytest

from tests.emulators import appliances
from tests.emulators.ezsp.obedience import Obedience

DAY_S = 86_400.0


@pytest.mark.parametrize("kind", sorted(appliances.KINDS))
def test_energy_does_not_depend_on_how_often_anybody_asks(kind: str) -> None:
    often, once = appliances.create(kind, 0.0), appliances.create(kind, 0.0)
    for minute in range(1, 1441):
        often.power_w(minute * 60.0)
    assert often.energy_wh(DAY_S) == pytest.approx(once.energy_wh(DAY_S), rel=1e-6)


def test_a_boiler_cycles_and_a_limit_below_its_power_stops_it() -> None:
    boiler = appliances.Boiler()
    powers = {boiler.power_w(minute * 60.0) for minute in range(600)}
    assert powers == {0.0, 2000.0}
    boiler.set_limit_w(1500, 36_000)
    before = boiler.energy_wh(36_000)
    assert boiler.energy_wh(40_000) == before


@pytest.mark.parametrize(("limit", "power"), [(None, 7200), (3000, 3000), (1000, 0), (9000, 7200)])
def test_a_charger_follows_its_limit(limit: float | None, power: float) -> None:
    charger = appliances.EvCharger()
    charger.set_limit_w(limit, 1.0)
    assert charger.power_w(2.0) == power


def test_protected_appliances_obey_nobody() -> None:
    aid = appliances.Medical()
    obedience = Obedience(aid)
    assert not obedience.obey(b"off 60", 0.0)
    assert aid.power_w(1.0) == 120


def test_a_restriction_ends_by_itself() -> None:
    charger = appliances.EvCharger()
    obedience = Obedience(charger)
    assert obedience.obey(b"limit 2000 60", 10.0)
    assert charger.power_w(20.0) == 2000
    assert obedience.get_timer() == 70.0
    obedience.handle_timer(75.0)
    assert charger.power_w(75.0) == 7200
    assert obedience.get_timer() is None


@pytest.mark.parametrize(
    "command", [b"", b"limit", b"limit x 3", b"off", b"off -1", b"off nan", b"limit 3 inf", b"explode"]
)
def test_nonsense_is_refused(command: bytes) -> None:
    obedience = Obedience(appliances.EvCharger())
    assert not obedience.obey(command, 0.0)
    assert obedience.get_timer() is None
