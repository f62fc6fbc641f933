"""Simulated hubs' sessions: each shows its own certificate though they share a context, and resumes what it had."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.fleet.swarm import Swarm, make_session
from deploy.fleet.thin_tls import ThinTlsContext
from deploy.local_broker import Broker
from deploy.pki import DevelopmentAuthority
from deploy.waiting import wait_for
from hub.core.uplink.reconnect_policy import PACES
from hub.wire.keys.operators import operator_entry, parse_operators

HUBS = ("SIM-1", "SIM-2", "SIM-3")
_OPERATOR = ec.generate_private_key(ec.SECP256R1())


class Site:
    """A broker, and hubs that are its clients; `swarm.run` lives until `each_round` ends it."""

    def __init__(self, folder: Path, retry_s: float = 0.1) -> None:
        self.authority = DevelopmentAuthority(folder / "pki")
        self.authority.issue("broker", hosts=["localhost"])
        self.broker = Broker(folder / "broker", self.authority).start()
        operators = parse_operators(operator_entry("op", _OPERATOR.public_key(), ["limit"], "Test"))
        tls = ThinTlsContext(self.authority.ca_file)
        files = [self.authority.issue(hub)[0] for hub in HUBS]
        self.sessions = [make_session(tls, file, operators, [("localhost", self.broker.port)]) for file in files]
        self.swarm = Swarm(self.sessions, 50, retry_s)

    def all_connected(self) -> bool:
        return all(session.is_connected for session in self.sessions)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.broker.stop()


def test_each_shows_its_own_certificate(site: Site) -> None:
    def look() -> None:
        site.swarm.is_ending = site.all_connected()

    site.swarm.each_round = look
    site.swarm.run()
    for hub in HUBS:
        name = f"as {hub} (p2, c0, k60, u'{hub}')"  # the broker's for it, by its certificate; written after its answer
        wait_for(f"the broker to know {hub}", lambda name=name: name in site.broker.log())


def test_a_session_that_ended_is_resumed_and_a_new_certificate_is_shown(site: Site, tmp_path: Path) -> None:
    renewed, _ = site.authority.issue(HUBS[0], file_name="renewed")
    cut, other, _ = site.sessions
    seen: list[bool] = []
    steps = iter([lambda: cut.close_line(), lambda: cut.renew(renewed), lambda: None])

    def look() -> None:
        if site.all_connected():
            seen.append(cut.is_resumed)
            next(steps)()
            site.swarm.is_ending = len(seen) == 3

    site.swarm.each_round = look
    site.swarm.run()
    assert seen == [False, True, False], "anew, resumed, and anew with the new certificate"
    assert not other.is_resumed


@pytest.mark.slow  # their pace is up to ten seconds
def test_hubs_come_back_at_their_own_pace(tmp_path: Path) -> None:
    site = Site(tmp_path, retry_s=0)
    lost_at: list[float] = []
    try:

        def look() -> None:
            if not lost_at and site.all_connected():
                site.broker.kill()
                site.broker.start()
                lost_at.append(time.monotonic())
            elif lost_at and time.monotonic() > lost_at[0] + 0.5:  # they have seen it by then
                site.swarm.is_ending = site.all_connected()

        site.swarm.each_round = look
        site.swarm.run()
        assert time.monotonic() - lost_at[0] < 3 * PACES["uplink-lost"].cap_s
    finally:
        site.broker.stop()
