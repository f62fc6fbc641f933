"""A hub goes on without its radio's software, feeds its watchdog only while every loop lives, and forgets its home when
it is told to."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.control_point import ControlPoint
from tests.harness.folders import folder_until_exit
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def test_a_radio_stack_that_does_not_load_costs_the_radio_alone(
    tmp_path: Path, make_hub: Callable[..., Hub], control_point: ControlPoint
) -> None:
    broken = tmp_path / "broken" / "zigpy"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('a library on a bad block')\n")
    hub = make_hub(radio__path="/dev/null")
    hub.env["PYTHONPATH"] = str(broken.parent)
    hub.start()
    text = wait_for("the condition", lambda: hub.conditions().get("radio-unusable"))
    assert "bad block" in text and hub.status()["radio"]["state"] == "unusable"
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(0x0001, b"42") == 0
    wait_for("the reading at the utility", lambda: control_point.values("boiler") == [42.0])
    adapter.close()


class Systemd:
    """What systemd hears of the hub."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.05)
        self.heard: list[str] = []

    def listen(self) -> list[str]:
        try:
            while True:
                self.heard += self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return self.heard

    def count(self, word: str) -> int:
        return self.listen().count(word)


@pytest.fixture
def systemd() -> tuple[Systemd, Path]:
    path = folder_until_exit("mh-notify-") / "socket"
    return Systemd(path), path


def test_the_watchdog_is_fed_while_every_loop_lives(
    make_hub: Callable[..., Hub], systemd: tuple[Systemd, Path]
) -> None:
    heard, path = systemd
    hub = make_hub()
    hub.env |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
    hub.start()
    wait_for("READY=1", lambda: "READY=1" in heard.listen())
    fed = heard.count("WATCHDOG=1")
    wait_for("food", lambda: heard.count("WATCHDOG=1") >= fed + 3)
    admin = hub.run_dir / "admin.sock"
    admin.rename(admin.with_name("elsewhere"))  # nobody can ask this hub anything any more
    wait_for("a complaint", lambda: "the watchdog is not fed: admin socket" in hub.log())
    fed = heard.count("WATCHDOG=1")
    wait_for("another complaint", lambda: hub.log().count("the watchdog is not fed") >= 4)
    assert heard.count("WATCHDOG=1") == fed
    admin.with_name("elsewhere").rename(admin)
    wait_for("food again", lambda: heard.count("WATCHDOG=1") > fed)


def test_a_factory_reset_forgets_the_home_and_keeps_the_identity(
    make_hub: Callable[..., Hub], control_point: ControlPoint
) -> None:
    hub = make_hub().start()
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0 and adapter.publish(0x0001, b"42") == 0
    wait_for("the reading at the utility", lambda: control_point.values("boiler") == [42.0])
    (hub.data_dir / "identity").mkdir()
    (hub.data_dir / "identity" / "renewed.pem").write_text("kept, whatever it holds")
    epoch = hub.status()["epoch"]
    assert hub.cli("factory-reset").returncode == 2, "not without --yes"
    assert hub.cli("factory-reset", "--now", "--yes").returncode == 1, "not while the hub runs"
    assert hub.cli("factory-reset", "--yes").returncode == 0
    wait_for("it to end by itself", hub.has_ended)
    hub.start()
    assert hub.ask("readings") == [] and hub.ask("adapters") == []
    assert (hub.data_dir / "identity" / "renewed.pem").exists()
    assert hub.status()["epoch"] > epoch, "what is numbered anew is not taken for what was before"
    assert _started(hub) == ["factory-reset"]
    hub.stop()
    done = hub.cli("factory-reset", "--now", "--yes")
    assert done.returncode == 0 and "hub.db" in done.stdout
    hub.start()
    assert hub.status()["epoch"] > epoch + 1
    hub.stop()
    hub.start()
    starts = [event["reason"] for event in hub.ask("events") if event["event"] == "hub.started"]
    assert starts[-1] == "start", "said once"
    adapter.close()


def test_what_was_commanded_before_a_factory_reset_does_not_pass_once_more(
    make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path
) -> None:
    """The reset takes the counters; a message that somebody kept must not profit from it."""
    operator = Operator("grid")
    operators = write_operators(tmp_path / "operators.toml", operator)
    hub = make_hub(control__operators_file=str(operators)).start()
    hub.wait_uplink()
    captured = operator.command("limit", {"watts": 1000, "duration": 2})
    control_point.send(captured)
    wait_for("it to be over", lambda: control_point.receipts(cti_of(captured))[-1:] == ["completed"])
    assert hub.cli("factory-reset", "--yes").returncode == 0
    wait_for("it to end by itself", hub.has_ended)
    hub.start()
    hub.wait_uplink()
    control_point.send(captured)
    wait_for("the refusal", lambda: "refused" in control_point.receipts(cti_of(captured)))
    assert control_point.receipt(cti_of(captured), "refused")["reason"] == "replayed"
    assert hub.status()["limit"]["watts"] is None


def _started(hub: Hub) -> list[str]:
    """Why the hub says that it started, each time that its events tell of."""
    return [event["reason"] for event in hub.ask("events") if event["event"] == "hub.started"]
