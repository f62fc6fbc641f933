"""A firmware update by signed command: fetched over mutual TLS, checked, installed, tried, kept or given back; every
receipt is true after the restarts, too."""

import hashlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from deploy.pki import DevelopmentAuthority
from deploy.update_index import write_index
from tests.harness.board import Board
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.update_server import UpdateServer
from tests.harness.waiting import wait_for


@pytest.fixture
def server(authority: DevelopmentAuthority) -> Iterator[UpdateServer]:
    server = UpdateServer(authority)
    yield server
    server.close()


class Fleet:
    """One hub on a board, its control point, and where its bundles come from."""

    def __init__(
        self, board: Board, hub: Hub, control_point: ControlPoint, server: UpdateServer, broker: Broker
    ) -> None:
        self.board, self.hub, self.control_point, self.server, self.broker = board, hub, control_point, server, broker
        self.operator = Operator("grid")

    def send(self, bundle: Path, version: str, aud: str = "MTR-1", **args: Any) -> bytes:
        """Command an update; its cti."""
        digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
        source = {} if "han" in args else {"url": self.server.add(bundle)}
        wanted = {**source, "sha256": digest, "version": version, **args}
        command = self.operator.command("update", wanted, aud=aud)
        self.control_point.send(command)
        return cti_of(command)

    def story(self, cti: bytes) -> list[str]:
        return self.control_point.receipts(cti)

    def wait_story(self, cti: bytes, *statuses: str) -> None:
        wait_for(f"{statuses} after {self.hub.log()[-300:]}", lambda: self.story(cti) == list(statuses))

    def failure(self, cti: bytes) -> tuple[str, str]:
        """Wait until it has failed; the receipt's reason and text."""
        self.wait_story(cti, "accepted", "failed")
        receipt = self.control_point.receipt(cti, "failed")
        return receipt["reason"], receipt["detail"].get("text", "")

    def events(self, name: str) -> list[dict[str, Any]]:
        with self.control_point.lock:
            return [event for event in self.control_point.books.events if event["event"] == name]


@pytest.fixture
def fleet(
    tmp_path: Path, make_hub: Callable[..., Hub], control_point: ControlPoint, server: UpdateServer, broker: Broker
) -> Iterator[Fleet]:
    board = Board(tmp_path / "board")
    hub = make_hub(
        control__operators_file=str(tmp_path / "operators.toml"),
        update__slots_dir=str(board.slots_dir), update__kb_s=0, update__max_mb=4, update__well_s=1, update__uplink_s=6,
    )  # fmt: skip
    fleet = Fleet(board, hub, control_point, server, broker)
    write_operators(tmp_path / "operators.toml", fleet.operator)
    board.start(hub)
    hub.wait_uplink()
    yield fleet
    board.stop()


def test_a_new_version_is_fetched_in_pieces_installed_tried_and_kept(fleet: Fleet) -> None:
    bundle = fleet.board.bundle("2.0.0")
    write_index(bundle)
    fleet.server.cuts = [100_000]
    cti = fleet.send(bundle, "2.0.0")
    fleet.wait_story(cti, "accepted", "applied", "completed")
    assert fleet.board.boots == ["B"] and fleet.board.read()["good"][-1] == "B"
    assert (fleet.board.folder / "B/image").read_bytes().startswith(b"2.0.0")
    assert {name for name, _, _ in fleet.server.requests} == {"MTR-1"}, "the hub shows its own certificate"
    ranges = [wanted for _, _, wanted in fleet.server.requests]
    assert ranges == ["", "bytes=100000-", ""], "the index comes last"
    states = [event["state"] for event in fleet.events("update.progress")]
    assert list(dict.fromkeys(states)) == ["asked", "downloading", "checking", "installing", "rebooting", "trial"]
    assert 100 in [event.get("percent") for event in fleet.events("update.progress")]
    wait_for("the event", lambda: fleet.events("update.good"))
    assert "update   2.0.0: good" in fleet.hub.cli("status").stdout
    kept = sorted(path.name for path in (fleet.hub.data_dir / "update").iterdir())
    assert kept == ["base.raucb", "base.raucb.idx"], "for the next one"
    assert not fleet.control_point.chain_faults() and not fleet.control_point.books.missing()
    # The next version brings only what is new.
    write_index(second := fleet.board.bundle("2.0.1"))
    served, asked = fleet.server.sent_bytes, len(fleet.server.requests)
    cti = fleet.send(second, "2.0.1")
    fleet.wait_story(cti, "accepted", "applied", "completed")
    cost = fleet.server.sent_bytes - served
    assert cost < second.stat().st_size * 0.4, f"{cost} bytes, in {len(fleet.server.requests) - asked} requests"
    assert fleet.board.boots == ["B", "A"] and (fleet.board.folder / "A/image").read_bytes().startswith(b"2.0.1")
    # Asked again, by a new command: it runs already.
    again = fleet.send(second, "2.0.1")
    fleet.wait_story(again, "accepted", "applied", "completed")
    assert fleet.board.boots == ["B", "A"]
    old = fleet.board.bundle("1.9.9")
    assert fleet.failure(fleet.send(old, "1.9.9"))[0] == "downgrade"


def test_a_version_that_does_not_come_up_is_given_back(fleet: Fleet) -> None:
    before = fleet.hub.status()["boot"]
    cti = fleet.send(fleet.board.bundle("3.0.0-broken"), "3.0.0-broken")
    assert fleet.failure(cti) == ("rolled-back", "the new slot did not come up")
    assert fleet.board.boots == ["B", "B", "B", "A"]
    assert fleet.hub.status()["boot"] == before + 1
    wait_for("the event", lambda: fleet.events("update.rolled_back"))
    assert fleet.events("update.rolled_back")[0]["runs"] == "1.0.0"
    assert not fleet.control_point.chain_faults() and not fleet.control_point.books.missing()


def test_a_version_that_does_not_find_its_uplink_is_given_back(fleet: Fleet) -> None:
    board = fleet.board
    (board.folder / "hold").touch()
    cti = fleet.send(board.bundle("2.0.0"), "2.0.0")
    wait_for("the installation", lambda: fleet.hub.status()["update"]["state"] == "installing")
    fleet.broker.stop()  # as if the new version could not speak with it
    (board.folder / "hold").unlink()
    wait_for("the way back", lambda: board.boots == ["B", "A"])
    assert board.read()["left"]["B"] == 0, "it is not tried again"
    fleet.broker.start()
    reason, text = fleet.failure(cti)
    assert reason == "rolled-back" and "the uplink did not come back within 6 s" in text
    wait_for("the event", lambda: fleet.events("update.rolled_back"))
    assert "returning" in [event["state"] for event in fleet.events("update.progress")]
    assert not fleet.control_point.chain_faults() and not fleet.control_point.books.missing()


def test_what_must_not_be_installed_is_not(fleet: Fleet) -> None:
    board, server = fleet.board, fleet.server
    stranger = DevelopmentAuthority(board.folder / "stranger", "somebody else")
    assert fleet.failure(fleet.send(board.bundle("2.0.0", signer=stranger), "2.0.0"))[0] == "bad-signature"
    assert fleet.failure(fleet.send(board.bundle("2.0.0", compatible="meterhub-x"), "2.0.0"))[0] == "wrong-board"
    good = board.bundle("2.0.0")
    assert fleet.failure(fleet.send(good, "2.1.0"))[0] == "wrong-version"
    assert fleet.failure(fleet.send(good, "0.9.0"))[0] == "downgrade"
    assert fleet.failure(fleet.send(good, "2.0.0", sha256="00" * 32))[0] == "wrong-hash"
    assert fleet.failure(fleet.send(good, "2.0.0", url=server.url("gone")))[0] == "not-found"
    assert fleet.failure(fleet.send(good, "2.0.0", url="http://localhost/x"))[0] == "bad-args"
    large = board.folder / "large.raucb"
    large.write_bytes(bytes(5 << 20))
    assert fleet.failure(fleet.send(large, "2.0.0"))[0] == "too-large"
    assert fleet.failure(fleet.send(good, "2.0.0", han="../hub.db"))[0] == "bad-args"

    def endless(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(bytes(65536))
        return True

    server.fault = endless
    assert fleet.failure(fleet.send(good, "2.0.0"))[0] == "too-large"
    server.fault = lambda handler: bool(handler.send_error(403) or True)
    assert fleet.failure(fleet.send(good, "2.0.0"))[0] == "server-refused"
    assert board.boots == [] and not list((fleet.hub.data_dir / "update").iterdir())
    assert board.read()["order"] == ["A", "B"], "no slot was touched"
    refused = fleet.operator.command("update", {"url": "u", "han": "h", "sha256": "00" * 32, "version": "2"})
    fleet.control_point.send(refused)
    fleet.wait_story(cti_of(refused), "refused")


def test_kills_on_the_way_cost_nothing_and_a_newer_command_takes_over(fleet: Fleet) -> None:
    board, hub, server = fleet.board, fleet.hub, fleet.server
    server.delay_s = 0.1
    first = fleet.send(board.bundle("2.0.0"), "2.0.0")
    part = hub.data_dir / "update"
    wait_for("a part of it", lambda: any(file.stat().st_size > 200_000 for file in part.glob("*.part")))
    hub.kill()
    asked = len(server.requests)
    hub.start()
    wait_for("the download to go on", lambda: len(server.requests) > asked)
    assert server.requests[-1][2].startswith("bytes=") and server.requests[-1][2] != "bytes=0-"
    second = fleet.send(board.bundle("2.0.1"), "2.0.1")
    wait_for("the first to give way", lambda: fleet.story(first) == ["accepted", "superseded"])
    (board.folder / "hold").touch()
    wait_for("the installation", lambda: hub.status()["update"]["state"] == "installing")
    third = fleet.send(board.bundle("2.0.2"), "2.0.2")
    assert fleet.failure(third)[0] == "busy"
    hub.kill()
    (board.folder / "hold").unlink()
    hub.start()
    fleet.wait_story(second, "accepted", "applied", "completed")
    assert (board.folder / "B/image").read_bytes().startswith(b"2.0.1") and board.boots == ["B"]
    assert not fleet.control_point.chain_faults() and not fleet.control_point.books.missing()


def test_a_fleet_that_is_told_at_one_moment_does_not_come_at_one_moment(fleet: Fleet) -> None:
    hub, server = fleet.hub, fleet.server
    crowd = fleet.send(fleet.board.bundle("2.0.0"), "2.0.0", aud="all")  # update.spread_s is four hours
    wait_for("its turn to be waited for", lambda: hub.status()["update"]["state"] == "waiting")
    assert "begins within 4.0 h" in hub.cli("status").stdout
    hub.kill()
    hub.start()
    wait_for("its turn to be waited for", lambda: hub.status()["update"]["state"] == "waiting")
    assert server.requests == []
    # What is meant for it alone does not wait, and takes the other's place.
    alone = fleet.send(fleet.board.bundle("2.0.1"), "2.0.1")
    fleet.wait_story(alone, "accepted", "applied", "completed")
    assert fleet.story(crowd) == ["accepted", "superseded"]
    hub.stop()
    hub.config.write_text(hub.config.read_text().replace("[update]\n", "[update]\nspread_s = 0.5\n"))
    hub.start()
    crowd = fleet.send(fleet.board.bundle("2.0.2"), "2.0.2", aud="all")
    fleet.wait_story(crowd, "accepted", "applied", "completed")
    assert "waiting" in [event["state"] for event in fleet.events("update.progress") if event["version"] == "2.0.2"]


def test_another_slot_that_nobody_asked_for_is_told(fleet: Fleet) -> None:
    """A slot that is damaged gives its turn to the other, which may be a release of long ago."""
    cti = fleet.send(fleet.board.bundle("2.0.0"), "2.0.0")
    fleet.wait_story(cti, "accepted", "applied", "completed")
    assert fleet.board.read()["booted"] == "B"
    state = json.loads(fleet.control_point.states[-1])
    assert (state["state"], state["image"], state["slot"]) == ("online", "2.0.0", "B")
    assert fleet.events("slot.fell_back") == [], "an update tells its own story"
    # Its files cannot be read any more, as the hub finds at its next start, before it says that the slot is good.
    (fleet.board.folder / "A/os-release").write_text('IMAGE_VERSION="1.0.0"\n')
    left = fleet.board.read()["left"]
    fleet.board.write(left=left | {"A": 3})
    (fleet.board.folder / "B/late.pyc").symlink_to("/proc/self/mem")
    marked = len(fleet.board.read()["good"])
    fleet.board.boot()
    wait_for("the other slot", lambda: fleet.board.read()["booted"] == "A")
    wait_for("the event", lambda: fleet.events("slot.fell_back"))
    told = fleet.events("slot.fell_back")[0]
    assert (told["slot"], told["version"]) == ("A", "1.0.0")
    assert (told["from_slot"], told["from_version"]) == ("B", "2.0.0")
    assert "B" not in fleet.board.read()["good"][marked:], "a slot that cannot be read was called good"
    fleet.hub.wait_uplink()
    status = fleet.hub.status()["board"]
    assert status == {"image": "1.0.0", "slot": "A", "rollback_index": 1, "data": "partition"}
    assert "image    1.0.0  slot A" in fleet.hub.cli("status").stdout
    assert "1.0.0 in slot A, rollback index 1; data in the partition" in fleet.hub.cli("doctor").stdout
    # An older release over the slot that runs: neither.
    (fleet.board.folder / "A/os-release").write_text('IMAGE_VERSION="0.9.0"\n')
    fleet.board.boot()
    wait_for("the event", lambda: len(fleet.events("slot.fell_back")) == 2)
    assert fleet.events("slot.fell_back")[1]["version"] == "0.9.0"


def test_a_file_that_an_engineer_brought(fleet: Fleet) -> None:
    bundle = fleet.board.bundle("2.0.0")
    folder = fleet.hub.data_dir / "update"
    folder.mkdir()
    (folder / "from-the-van.raucb").write_bytes(bundle.read_bytes())
    fleet.board.write(faults=["install"])
    reason, text = fleet.failure(fleet.send(bundle, "2.0.0", han="from-the-van.raucb"))
    assert reason == "install-failed" and "does not work today" in text, "RAUC's own words"
    assert fleet.failure(fleet.send(bundle, "2.0.0", han="from-the-van.raucb"))[0] == "not-found"
    assert fleet.server.requests == []


def test_a_system_without_slots_says_so(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    operator = Operator("grid")
    file = write_operators(tmp_path / "operators.toml", operator)
    hub = make_hub(control__operators_file=str(file), update__slots_dir=str(tmp_path / "none")).start()
    hub.wait_uplink()
    command = operator.command("update", {"han": "x", "sha256": "00" * 32, "version": "2.0.0"})
    control_point.send(command)
    wait_for("the receipt", lambda: control_point.receipts(cti_of(command)) == ["accepted", "failed"])
    assert control_point.receipt(cti_of(command), "failed")["reason"] == "unsupported"
