"""The guard of the house has a guard: each kind of forbidden import, put into a copy of the tree, turns it red."""

from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tests.test_floors import ALLOWED, ROOT, circles_of, faults_of_floors, loose_files


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for top in ("hub", "drivers", "store"):
        copytree(ROOT / top, tmp_path / top, ignore=ignore_patterns("__pycache__", "*.sql", "*.md"))
    return tmp_path


def add(house: Path, file: str, line: str) -> None:
    path = house / file
    path.write_text(path.read_text() + f"\n{line}\n")


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("hub/wire/uplink/pack.py", "from hub.core.health import Health"),
        ("hub/wire/uplink/pack.py", "import hub.core.health"),
        ("hub/core/gateway/gateway.py", "from store import Store"),
        ("hub/core/gateway/gateway.py", "from hub.core.control.records import Journal"),
        ("drivers/udp.py", "from store import Store"),
        ("drivers/udp.py", "from hub.services.home.bridge import Bridge"),
        ("store/engine.py", "from drivers.clock import monotonic"),
        ("store/engine.py", "from hub.core.control.controller import Controller"),
        ("store/engine.py", "def late():\n    from hub.core.health import Health"),
        ("hub/services/home/bridge.py", "from hub.services.uplink.loop import Uplink"),
        ("hub/services/uplink/loop.py", "from hub.services.control import service"),
        ("hub/services/admin/queries.py", "from hub.app.daemon import Daemon"),
        (
            "hub/services/admin/queries.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hub.app.daemon import Daemon",
        ),
        ("hub/headend/inbox.py", "from hub.app.config import Config"),
        ("hub/app/daemon.py", "from hub.cli.common import complain"),
        ("hub/core/adapter/client.py", "from ..gateway import session"),
    ],
)
def test_a_forbidden_import_turns_it_red(house: Path, file: str, line: str) -> None:
    assert faults_of_floors(house, ALLOWED) == []
    add(house, file, line)
    assert len(faults_of_floors(house, ALLOWED)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("hub/core/control/limits.py", "from hub.core.control.controller import Controller"),
        (
            "hub/core/gateway/session.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hub.core.gateway.gateway import Gateway",
        ),
        ("store/database.py", "def late():\n    from store.engine import Engine"),
        ("hub/core/gateway/v2/translator.py", "from hub.core.gateway.gateway import Gateway"),
    ],
)
def test_a_circle_turns_it_red(house: Path, file: str, line: str) -> None:
    assert circles_of(house) == []
    add(house, file, line)
    assert circles_of(house)


def test_a_loose_file_turns_it_red(house: Path) -> None:
    (house / "hub" / "helpers.py").write_text("")
    assert loose_files(house) == ["helpers.py"]


def test_a_room_that_nobody_wrote_down_turns_it_red(house: Path) -> None:
    (house / "hub" / "misc").mkdir()
    (house / "hub" / "misc" / "things.py").write_text("")
    assert any("hub/misc" in fault for fault in faults_of_floors(house, ALLOWED))
