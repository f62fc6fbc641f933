"""Each condition of the uplink, brought about by a peer that does what it says, and gone by itself once that ends."""

import time
from binascii import crc32
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.harness.broker import Broker
from tests.harness.house import House
from tests.harness.scripted_broker import Portal, Script, ScriptedBroker, connack, disconnect
from tests.harness.waiting import free_port, wait_for
from tests.harness.witness import wait_came, wait_went

Make = Callable[..., House]
Scripted = Callable[..., ScriptedBroker]
Host = tuple[str, int]
# Long enough to be looked at, short enough to be waited for.
PAUSE = {"retry_cap_s": 1.0, "random_source": lambda: 1.0}


def codes_of(house: House) -> set[str]:
    return {condition.code for condition in house.health.conditions()}


def comes_and_goes(house: House, code: str) -> None:
    wait_came(code, lambda: codes_of(house))
    assert len([each for each in codes_of(house) if each.startswith("uplink-")]) <= 1, "one fault, one name"
    wait_went(code, lambda: codes_of(house))


def in_turn(bad: Host, good: Host) -> list[Host]:
    """Both hosts, so that the hub begins with the bad one (design 3.1)."""
    return [bad, good] if crc32(b"MTR-1") % 2 == 0 else [good, bad]


@pytest.mark.condition("uplink-dns")
def test_a_name_that_is_not_known(make_house: Make, scripted: Scripted) -> None:
    hosts = in_turn(("no-such-host.invalid", 1), ("localhost", scripted().port))
    comes_and_goes(make_house(hosts=hosts, **PAUSE), "uplink-dns")


@pytest.mark.condition("uplink-unreachable")
def test_nobody_at_its_address(make_house: Make, tmp_path: Path, authority: DevelopmentAuthority) -> None:
    port = free_port()
    house = make_house(port, **PAUSE)
    house.wait_condition("uplink-unreachable")
    broker = Broker(tmp_path / "broker", authority, port=port, somebody=False).start()
    try:
        comes_and_goes(house, "uplink-unreachable")
    finally:
        broker.stop()


@pytest.mark.condition("uplink-server-untrusted")
def test_a_server_of_another_authority(
    make_house: Make, scripted: Scripted, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = DevelopmentAuthority(tmp_path_factory.mktemp("stranger"))
    stranger.issue("broker", hosts=["localhost", "127.0.0.1"])
    other = ScriptedBroker(stranger)
    hosts = in_turn(("localhost", other.port), ("localhost", scripted().port))
    comes_and_goes(make_house(hosts=hosts, **PAUSE), "uplink-server-untrusted")
    other.close()


@pytest.mark.condition("uplink-portal")
def test_a_captive_portal(make_house: Make, scripted: Scripted) -> None:
    portal = Portal()
    hosts = in_turn(("localhost", portal.port), ("localhost", scripted().port))
    comes_and_goes(make_house(hosts=hosts, **PAUSE), "uplink-portal")
    portal.close()


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        pytest.param(0x80, "uplink-refused", marks=pytest.mark.condition("uplink-refused")),
        pytest.param(0x87, "uplink-not-authorised", marks=pytest.mark.condition("uplink-not-authorised")),
        pytest.param(0x97, "uplink-busy", marks=pytest.mark.condition("uplink-busy")),
    ],
)
def test_a_connack_that_says_no(make_house: Make, scripted: Scripted, code: int, condition: str) -> None:
    comes_and_goes(make_house(scripted(Script(connack(code)), Script()).port, **PAUSE), condition)


@pytest.mark.condition("uplink-redirected")
def test_a_broker_that_sends_elsewhere(make_house: Make, scripted: Scripted) -> None:
    other = scripted()
    first = scripted(Script(connack(0x9C, server_reference=f"localhost:{other.port}")))
    comes_and_goes(
        make_house(hosts=in_turn(("localhost", first.port), ("localhost", other.port)), **PAUSE), "uplink-redirected"
    )


@pytest.mark.condition("uplink-lost")
def test_a_session_that_ends(make_house: Make, scripted: Scripted) -> None:
    comes_and_goes(
        make_house(scripted(Script(ends_after=1, last=disconnect(0x8B)), Script()).port, **PAUSE), "uplink-lost"
    )


@pytest.mark.condition("uplink-message-refused")
def test_an_access_list_that_denies_every_publish(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(puback=0x87), Script())
    house = make_house(broker.port, **PAUSE)
    house.event(7)
    wait_came("uplink-message-refused", lambda: codes_of(house))
    broker.hang_up()
    wait_went("uplink-message-refused", lambda: codes_of(house))


def test_mosquitto_with_an_access_list_that_denies_every_publish(
    make_house: Make, tmp_path: Path, authority: DevelopmentAuthority
) -> None:
    """It answers 0x87 and closes, or only answers, by its version: the same name for the same cause, and never that of
    a second hub. Once it lets the hub, all is well by itself."""
    rights = tmp_path / "acl"
    others = "user somebody\ntopic readwrite #\n"
    rights.write_text("user MTR-1\ntopic read meters/#\n" + others)
    broker = Broker(tmp_path / "broker", authority, extra=f"acl_file {rights}\n").start()
    try:
        house = make_house(broker.port, **PAUSE)
        house.event(7)
        assert "0x87" in house.wait_condition("uplink-message-refused")
        attempts = house.status()["attempts"]
        for _ in range(40):
            codes = {code for code in codes_of(house) if code.startswith("uplink-")}
            assert codes == {"uplink-message-refused"}, "between its attempts as well"
            time.sleep(0.05)
        assert house.status()["attempts"] >= attempts and house.pending() > 0
        rights.write_text("user MTR-1\ntopic readwrite meters/#\n" + others)
        broker.stop()
        broker.start()
        house.wait_drained()
        wait_for("the condition to go", lambda: "uplink-message-refused" not in codes_of(house))
    finally:
        broker.stop()


@pytest.mark.condition("uplink-nobody-listens")
def test_nobody_who_takes_what_is_sent(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(puback=0x10), Script())
    house = make_house(broker.port, **PAUSE)
    house.event(7)
    wait_came("uplink-nobody-listens", lambda: codes_of(house))
    broker.hang_up()
    wait_went("uplink-nobody-listens", lambda: codes_of(house))


@pytest.mark.condition("uplink-commands-refused")
def test_a_subscription_that_is_refused(make_house: Make, scripted: Scripted) -> None:
    broker = scripted(Script(refuses=b"commands"), Script())
    house = make_house(broker.port, **PAUSE)
    wait_came("uplink-commands-refused", lambda: codes_of(house))
    broker.hang_up()
    wait_went("uplink-commands-refused", lambda: codes_of(house))


def test_what_ended_sessions_holds_until_one_has_lived(make_house: Make, scripted: Scripted) -> None:
    """Else it would come and go with each attempt, and an engineer who looks in between sees a hub that is well."""
    broker = scripted(Script(ends_after=2, last=disconnect(0x8E)))
    house = make_house(broker.port, **PAUSE)
    house.wait_condition("uplink-taken-over")
    for _ in range(3):
        before = broker.connections
        wait_for("another session", lambda n=before: broker.connections > n)  # type: ignore[misc]
        assert "uplink-taken-over" in codes_of(house)


def test_a_broker_that_closes_at_the_first_message_is_told_from_one_that_goes_away(
    make_house: Make, scripted: Scripted
) -> None:
    broker = scripted(Script(ends_after=1, puback=None))
    house = make_house(broker.port, **PAUSE)
    assert "in a row" in house.wait_condition("uplink-ends-at-message")
    assert "access list" in next(c.remedy for c in house.health.conditions() if c.code == "uplink-ends-at-message")


def test_the_status_says_when_the_next_attempt_is(make_house: Make) -> None:
    house = make_house(free_port(), retry_cap_s=50.0, random_source=lambda: 1.0)
    house.wait_state("waiting")
    assert 0 < house.status()["next_attempt_s"] <= 50
