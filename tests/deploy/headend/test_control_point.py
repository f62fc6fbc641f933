"""The control point on a virtual clock: the book, orders, the registry, a household's right to be forgotten."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from deploy.headend.alarms import alarms_of
from deploy.headend.control_point import broken_chains, overview, reader
from deploy.headend.intake import HeardMessage
from deploy.headend.orders import Refusal
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.uplink.envelope import ES256, FileSigner
from tests.deploy.headend.home import Fleet

NAMES = ["SIM-1", "SIM-2", "SIM-3"]
pytestmark = pytest.mark.fleet(names=NAMES, second_person_above=100)


def test_what_hubs_say_is_in_the_book_and_the_registry_knows_them(fleet: Fleet) -> None:
    fleet.run(130)
    assert not [received.fault for received in fleet.received if received.fault]
    figures = overview(reader(fleet.place))
    assert figures["hubs"] == figures["online"] == 3 and figures["faults"] == 0
    assert figures["readings"] >= 3 * 2 * 8
    assert fleet.point.book.gaps() == []


def test_a_lost_pack_is_asked_for_and_comes(fleet: Fleet) -> None:
    fleet.run(60)
    lost = []
    fleet.drops = lambda message: message.topic == "meters/SIM-2/readings" and not lost.append(message)
    fleet.run(61)
    assert lost
    fleet.drops = lambda _message: False
    fleet.run(200)
    assert fleet.point.book.gaps() == [] and fleet.point.book.lost() == []


def test_what_no_hub_has_any_more_is_lost_and_said(fleet: Fleet) -> None:
    fleet.run(60)
    fleet.drops = lambda message: message.topic == "meters/SIM-2/readings"
    fleet.run(61)
    fleet.hubs["SIM-2"]._kept["readings"].clear()  # a hub whose disk was full
    fleet.drops = lambda _message: False
    fleet.run(200)
    assert [gap.lane.hub for gap in fleet.point.book.lost()] == ["SIM-2"]


def test_an_order_is_stored_before_it_goes_and_survives_a_crash_between(fleet: Fleet) -> None:
    fleet.drops = lambda message: message.topic.endswith("/commands")  # the crash came before it was published
    order_id = fleet.give("limit", {"watts": 500, "duration": 60}, {"all": True})
    fleet.close()
    fleet.drops = lambda _message: False
    fleet.open()
    assert set(fleet.answers(order_id).values()) == {"sent"}
    fleet.run(15)
    assert set(fleet.answers(order_id).values()) == {"applied"}
    fleet.run(120)
    assert set(fleet.answers(order_id).values()) == {"completed"}


def test_a_hub_that_answers_nothing_is_asked_again_and_is_silent_in_the_end(fleet: Fleet) -> None:
    asked = []
    fleet.drops = lambda message: message.topic == "meters/SIM-3/receipts"
    order_id = fleet.give("limit", {"watts": 500, "duration": 60}, {"where": {"state": "online"}}, valid_s=120)
    heard = fleet.hubs["SIM-3"].take
    fleet.hubs["SIM-3"].take = lambda *a: (asked.append(a), heard(*a))[1]  # type: ignore[method-assign]
    fleet.run(130)
    assert fleet.answers(order_id)["SIM-3"] == "silent"
    assert fleet.answers(order_id)["SIM-1"] == "completed"
    assert 2 <= len(asked) <= 5, "gently: each wait is twice the one before"
    assert len({bytes(payload) for _, payload, _ in asked}) == 1, "the same bytes: a hub obeys them once"


def test_a_receipt_that_comes_late_by_resend_still_counts(fleet: Fleet) -> None:
    lost = []
    fleet.drops = lambda message: message.topic == "meters/SIM-1/receipts" and len(lost) < 2 and not lost.append(1)
    order_id = fleet.give("limit", {"watts": 500, "duration": 30}, {"hub": "SIM-1"})
    assert fleet.answers(order_id) == {"SIM-1": "sent"}
    fleet.run(300)
    assert fleet.answers(order_id) == {"SIM-1": "completed"}
    assert broken_chains(reader(fleet.place)) == []


def test_receipts_that_come_together_count_in_the_order_of_the_hub(fleet: Fleet) -> None:
    """A batch holds several of one hub, and an older one may come after a newer."""
    fleet.drops = lambda message: message.topic.endswith("/commands")
    order_id = fleet.give("limit", {"watts": 500, "duration": 60}, {"all": True})
    topic, message = fleet.point.book.db.execute("SELECT topic, message FROM order_message").fetchone()
    said = [answer for hub in fleet.hubs.values() for answer in hub.take(topic, bytes(message), fleet.t)]
    assert len(said) == 6
    fleet.point.take_all([HeardMessage(its.topic, its.payload) for its in reversed(said)], 1)
    fleet.point.commit()
    assert set(fleet.answers(order_id).values()) == {"applied"}
    assert broken_chains(reader(fleet.place)) == []
    assert fleet.point.book.db.execute("SELECT count(*) FROM receipt").fetchone()[0] == 6


def test_an_order_that_was_overtaken_is_signed_anew(fleet: Fleet) -> None:
    """A broker forgets it, `booked` with a higher counter comes first: the hub refuses the old bytes as replayed."""
    fleet.run(70)
    fleet.drops = lambda message: message.topic.endswith("SIM-1/commands")
    order_id = fleet.give("limit", {"watts": 500, "duration": 30}, {"hub": "SIM-1"})
    fleet.drops = lambda _message: False
    fleet.carry(fleet.point.bookings(int(fleet.t)))
    fleet.run(12)
    assert fleet.answers(order_id) == {"SIM-1": "applied"}
    fleet.run(40)
    assert fleet.answers(order_id) == {"SIM-1": "completed"}
    rows = fleet.point.book.db.execute("SELECT status, reason FROM receipt WHERE hub = 'SIM-1' ORDER BY i").fetchall()
    assert rows[0] == ("refused", "replayed") and [row[0] for row in rows[1:]] == ["accepted", "applied", "completed"]


class Token:
    """The operator's key in hardware, which is away at times."""

    alg = ES256

    def __init__(self, key: FileSigner) -> None:
        self._key, self.is_away = key, False

    def sign(self, data: bytes) -> bytes:
        if self.is_away:
            raise HardwareError("no token")
        return self._key.sign(data)


def test_hubs_are_heard_while_the_operators_token_is_away(fleet: Fleet) -> None:
    """Also one that refused an order which has to be signed anew."""
    fleet.close()
    fleet.signer = token = Token(fleet.signer)
    fleet.open()
    fleet.run(70)
    fleet.drops = lambda message: message.topic.endswith("SIM-1/commands")
    order_id = fleet.give("limit", {"watts": 500, "duration": 30}, {"hub": "SIM-1"})
    fleet.drops = lambda _message: False
    fleet.carry(fleet.point.bookings(int(fleet.t)))
    token.is_away = True
    fleet.run(12)
    assert fleet.answers(order_id) == {"SIM-1": "refused"}


@pytest.mark.fleet(names=NAMES, second_person_above=2)
def test_many_hubs_need_a_second_person(fleet: Fleet) -> None:
    alone = fleet.give("limit", {"watts": 500, "duration": 60}, {"hub": "SIM-1"})
    assert fleet.answers(alone) == {"SIM-1": "applied"}
    order_id = fleet.give("limit", {"watts": 500, "duration": 60}, {"all": True}, client="desk")
    assert set(fleet.answers(order_id).values()) == {"waiting"}
    fleet.run(30)
    assert set(fleet.answers(order_id).values()) == {"waiting"}, "nothing goes before that"
    with pytest.raises(Refusal, match="second person"):
        fleet.point.orders.approve(order_id, "desk", int(fleet.t))
    fleet.point.book.begin()
    fleet.carry(fleet.point.orders.approve(order_id, "other", int(fleet.t)))
    assert set(fleet.answers(order_id).values()) == {"applied"}
    with pytest.raises(Refusal, match="does not wait"):
        fleet.point.orders.withdraw(order_id)
    second = fleet.give("limit", {"watts": 400, "duration": 60}, {"all": True})
    fleet.point.book.begin()
    fleet.point.orders.withdraw(second)
    with pytest.raises(Refusal, match="does not wait"):
        fleet.point.orders.approve(second, "other", int(fleet.t))


def test_groups_follow_from_receipts(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="no hub is"):
        fleet.give("limit", {"watts": 5, "duration": 60}, {"group": "north"})
    fleet.point.book.undo()
    for name in ("SIM-1", "SIM-2"):
        fleet.give("config", {"set": {"hub.groups": ["north"]}}, {"hub": name})
    order_id = fleet.give("limit", {"watts": 5, "duration": 60}, {"group": "north"})
    assert fleet.answers(order_id) == {"SIM-1": "applied", "SIM-2": "applied"}
    assert fleet.hubs["SIM-3"].power_w(fleet.t) > 5 >= fleet.hubs["SIM-1"].power_w(fleet.t)


def test_a_receipt_that_comes_late_moves_no_hub_back_into_a_group(fleet: Fleet) -> None:
    """Whose hub it is follows from what it said last, not from what was heard last."""
    late: list[object] = []
    fleet.drops = lambda message: message.topic == "meters/SIM-1/receipts" and not late and not late.append(message)
    for group in ("north", "south"):
        fleet.give("config", {"set": {"hub.groups": [group]}}, {"hub": "SIM-1"})
    assert late
    fleet.run(300)  # what is missing is asked for
    assert broken_chains(reader(fleet.place)) == [] and fleet.point.book.gaps() == []
    assert fleet.hubs["SIM-1"].groups == ["south"]
    assert fleet.point.book.db.execute("SELECT hub, name FROM hub_group").fetchall() == [("SIM-1", "south")]


def test_a_chain_with_a_link_that_was_rewritten_is_seen(fleet: Fleet) -> None:
    fleet.give("limit", {"watts": 500, "duration": 60}, {"hub": "SIM-1"})
    fleet.hubs["SIM-1"]._prev = bytes(32)  # a hub that denies what it said before
    fleet.run(90)
    assert [(hub, i) for hub, _, i in broken_chains(reader(fleet.place))] == [("SIM-1", 3)]


def test_hubs_are_told_what_is_booked(fleet: Fleet) -> None:
    fleet.run(130)
    fleet.carry(fleet.point.bookings(int(fleet.t)))
    assert fleet.hubs["SIM-1"]._booked["readings"] >= 2
    assert fleet.point.bookings(int(fleet.t)) == [], "once"
    fleet.point.commit()


def test_strangers_and_liars_are_counted_and_change_nothing(fleet: Fleet) -> None:
    pack = next(m for m in _until(fleet, "SIM-1", "readings"))
    changed = pack.payload[:-1] + bytes([pack.payload[-1] ^ 1])
    fleet.hear([pack._replace(topic="meters/SIM-2/readings"), pack._replace(payload=changed)])
    fleet.hear([pack._replace(topic="meters/nobody/state", payload=b'{"state":"online"}')])
    fleet.hear([pack._replace(topic="meters/SIM-3/state", payload=b'{"state":"on fire","epoch":-1}')])
    fleet.hear([pack._replace(topic="meters/SIM-3/state", payload=b"[")])
    db = reader(fleet.place)
    rows = {row["hub"]: (row["state"], row["faults"]) for row in db.execute("SELECT * FROM hub")}
    assert rows == {"SIM-1": ("online", 1), "SIM-2": ("online", 1), "SIM-3": ("online", 1)}


def _until(fleet: Fleet, name: str, lane: str) -> list:  # type: ignore[type-arg]
    hub = fleet.hubs[name]
    while True:
        fleet.t += 1
        found = [message for message in hub.due(fleet.t) if message.topic.endswith(lane)]
        if found:
            return found


def test_a_household_is_forgotten_on_its_request_and_the_book_stays_whole(fleet: Fleet) -> None:
    fleet.run(3700, 5.0)
    fleet.point.book.begin()
    gone = fleet.point.usage.erase("SIM-1")
    fleet.point.commit()
    db = reader(fleet.place)
    assert gone > 100
    assert db.execute("SELECT count(*) FROM series WHERE hub = 'SIM-1'").fetchone()[0] == 0
    assert db.execute("SELECT count(*) FROM interval JOIN series ON series = id WHERE hub = 'SIM-2'").fetchone()[0] > 0
    assert db.execute(
        "SELECT max(length(body)) FROM message WHERE hub = 'SIM-1' AND lane = 'readings'"
    ).fetchone()[0] == 0  # fmt: skip
    assert fleet.point.book.gaps("SIM-1") == []
    fleet.run(130)
    assert db.execute("SELECT count(*) FROM series WHERE hub = 'SIM-1'").fetchone()[0] > 0, "from now on"


def test_a_household_is_forgotten_in_what_events_say_of_its_meter(fleet: Fleet) -> None:
    numbers = {"old_number": "4711", "new_number": "4712"}
    registers = {"last_registers": {"energy": "987654321"}, "first_registers": {"energy": "1"}}
    for name in ("SIM-1", "SIM-2"):
        fleet.hear([fleet.hubs[name].tell("meter.replaced", {**numbers, **registers}, fleet.t)])
        fleet.hear([fleet.hubs[name].tell("limit.ignored", {"client": "boiler", "power_w": 987654321}, fleet.t)])
    fleet.point.book.begin()
    fleet.point.usage.erase("SIM-1")
    fleet.point.commit()
    with closing(reader(fleet.place)) as db:
        told = {row["hub"]: json.loads(row["fields"]) for row in db.execute(
            "SELECT hub, fields FROM event WHERE event = 'meter.replaced'")}  # fmt: skip
        assert told == {"SIM-1": numbers, "SIM-2": {**numbers, **registers}}
        bodies = {row["hub"]: bytes(row["body"]) for row in db.execute(
            "SELECT hub, body FROM message WHERE lane = 'events' ORDER BY n")}  # fmt: skip
        assert not bodies["SIM-1"] and bodies["SIM-2"]
        assert "987654321" not in "".join(alarm["text"] for alarm in alarms_of(db))
    assert fleet.point.book.gaps() == []


def test_what_was_not_committed_is_as_if_it_had_not_come(fleet: Fleet) -> None:
    fleet.run(61)
    before = overview(reader(fleet.place))
    pack = _until(fleet, "SIM-1", "readings")[0]
    fleet.point.take(pack.topic, pack.payload, int(fleet.t * 1000))
    fleet.point.undo()
    assert overview(reader(fleet.place)) == before
    fleet.hear([pack])
    assert fleet.received[-1].is_new and not fleet.received[-1].fault


def test_a_broker_that_comes_back_misleads_nobody(tmp_path: Path, place: Path | str) -> None:
    """It has the retained word and the will of a session that its hub has left long ago."""
    fleet = Fleet(tmp_path, ["SIM-0"], place)
    hub = fleet.hubs["SIM-0"]

    def known() -> tuple[str, str]:
        with closing(reader(place)) as db:
            state, broker = db.execute("SELECT state, broker FROM hub").fetchone()
        return state, broker

    was_online, was_will = hub.state("online", fleet.t), hub.state("offline", fleet.t)
    fleet.hear([was_online], "a:1")
    assert known() == ("online", "a:1")
    fleet.hear([hub.state("online", fleet.t + 600)], "b:1")
    assert known() == ("online", "b:1"), "it moved"
    fleet.hear([was_will, was_online], "a:1")
    assert known() == ("online", "b:1"), "words of before"
    fleet.hear([hub.state("offline", fleet.t + 590)], "b:1")
    assert known() == ("offline", "b:1"), "the will of where it is, made before it said that it was there"
    fleet.hear([hub.state("online", fleet.t + 900)], "a:1")
    assert known() == ("online", "a:1")
    fleet.close()
