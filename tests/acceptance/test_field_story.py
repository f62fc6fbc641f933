"""The field engineer's page tells what happens: its commands are typed at a hub with those three faults, and say what
the page shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from tests.emulators.meter import Meter
from tests.harness.broker import Broker
from tests.harness.clock import Clock
from tests.harness.hub import ROOT, Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

PAGE = ROOT / "docs/field-engineer.md"


def typed_in(text: str) -> list[tuple[str, list[str]]]:
    """`(command, what it says)` of each ```text block, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def says(output: str, line: str) -> bool:
    """Whether some line of the output is like one of the page, where `...` stands for anything."""
    pattern = ".*".join(map(re.escape, line.split("...")))
    return any(re.match(pattern, said) for said in output.splitlines())


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Hub]:
    """A broker whose access list denies every publish, an adapter that died two days ago, a meter that speaks P1 where
    SML is expected."""
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    rights = tmp_path / "acl"
    rights.write_text("user MTR-1\ntopic read meters/#\nuser somebody\ntopic read meters/#\n")
    broker = Broker(tmp_path / "broker", authority, extra=f"acl_file {rights}\n").start()
    meter = Meter(tmp_path / "tty", "p1", power_w=500).start()
    clock = Clock(tmp_path)
    operators = write_operators(tmp_path / "operators.toml", Operator("grid"))
    hub = Hub(
        tmp_path / "hub", authority, broker.port, meter__path=str(meter.link), meter__protocol="sml",
        control__operators_file=str(operators), uplink__retry_cap_s=2,
    )  # fmt: skip
    hub.env |= clock.env
    pump, boiler = (UdpAdapter(hub.udp_port, name) for name in ("heat-pump", "boiler"))
    try:
        hub.start()
        assert pump.connect() == 0 and boiler.connect() == 0 and boiler.publish(1, b"5") == 0
        clock.pass_time(2 * 86400)
        assert boiler.connect() == 0 and boiler.publish(1, b"5") == 0
        clock.pass_time(90)
        assert boiler.connect() == 0
        wanted = {"uplink-message-refused", "adapter-silent", "meter-silent"}
        wait_for("all three to be told", lambda: wanted <= set(hub.conditions()))
        yield hub
    finally:
        hub.kill()
        meter.stop()
        broker.stop()
        pump.close()
        boiler.close()


def test_the_story_of_the_page_is_true(evening: Hub, tmp_path: Path) -> None:
    story = typed_in(PAGE.read_text("utf-8"))
    assert len(story) >= 12, "the page tells a story"
    laptop = tmp_path / "laptop"
    laptop.mkdir()
    environment = {**os.environ, "METERHUB_CONFIG": str(evening.config), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    for command, shown in story:
        assert command.startswith("meterhub "), command
        words = command.replace("meterhub", f"{sys.executable} -m hub", 1)
        done = subprocess.run(
            ["sh", "-c", words], cwd=laptop, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode in (0, 1), (command, done.stderr)
        for line in shown:
            assert line == "..." or says(done.stdout, line), f"{command} does not say {line!r} but:\n{done.stdout}"


def test_each_command_of_the_page_passes_the_door() -> None:
    """What an engineer is told to type has to be a verb of the field shell."""
    offered = re.search(
        r"^VERBS = \((.*?)\)", (ROOT / "deploy/field/field-shell").read_text(), re.MULTILINE | re.DOTALL
    )
    assert offered
    typed = {command.split()[1] for command, _ in typed_in(PAGE.read_text("utf-8"))}
    assert len(typed) >= 7 and typed <= set(re.findall(r'"([a-z-]+)"', offered[1]))


def test_a_line_that_is_not_said_is_found_out() -> None:
    assert says("a  one 5 s\nb", "a...5 s") and not says("a\nb", "c...") and not says("xa", "a")
    assert typed_in("```text\n$ meterhub a\nsays\n```\n\n```text\n$ meterhub b\n```") == [
        ("meterhub a", ["says"]), ("meterhub b", []),
    ]  # fmt: skip
