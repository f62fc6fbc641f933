# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter on MicroPython: what it says, and what it costs."""

import json
import runpy
from pathlib import Path

import pytest

from deploy.adapter.build import HERE as SOURCES
from deploy.adapter.build import listed
from tests.deploy.adapter.ports import compiled_tree, run_unix, run_wasm, source_tree

SCRIPTS = Path(__file__).parent / "micropython"
HEAP = 64 * 1024


def test_the_conversation_on_cpython(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPTS / "conversation.py"))
    assert capsys.readouterr().out == "ok\n"


def test_the_conversation_from_source(tmp_path: Path) -> None:
    assert run_wasm(source_tree(tmp_path), SCRIPTS / "conversation.py") == "ok"


def test_the_conversation_from_mpy(tmp_path: Path) -> None:
    assert run_wasm(compiled_tree(tmp_path), SCRIPTS / "conversation.py") == "ok"


def test_the_conversation_within_64_kb(tmp_path: Path) -> None:
    """All that MicroPython allocates, the script itself included, in a heap that is 64 KB and no more."""
    assert run_unix(compiled_tree(tmp_path), SCRIPTS / "conversation.py", "64k") == "ok"


def test_a_night_of_buffering_within_64_kb(tmp_path: Path) -> None:
    steps = [int(size) for size in run_unix(compiled_tree(tmp_path), SCRIPTS / "heap.py", "64k").split()]
    print(f"32-bit unix port, .mpy: client {steps[0]}, adapter {steps[1]}, in service {steps[2]}")
    assert sum(steps) < HEAP * 7 // 8, "room for the integrator's own program"


@pytest.mark.parametrize("tree", [source_tree, compiled_tree])
def test_what_stays_allocated_is_below_64_kb(tmp_path: Path, tree: object) -> None:
    place = tree(tmp_path)  # type: ignore[operator]
    steps = [int(size) for size in run_wasm(place, SCRIPTS / "heap.py").split()]
    print(f"port for node, {place}: client {steps[0]}, adapter {steps[1]}, in service {steps[2]}")
    # From source, a module keeps its names in pieces that were sized for the compiler.
    assert sum(steps) < (HEAP if tree is compiled_tree else HEAP * 5 // 4)


def test_the_package_lists_what_the_adapter_imports() -> None:
    targets = {target for target, _ in listed()}
    assert {
        f"hub/{name}.py"
        for name in ("wire/mqttsn/fields", "wire/mqttsn/messages", "core/adapter/exchange", "core/adapter/client")
    } <= targets
    here = {path.relative_to(SOURCES.parents[1]).as_posix() for path in SOURCES.rglob("*.py")}
    desk_only = {"deploy/adapter/__init__.py", "deploy/adapter/examples/__init__.py", "deploy/adapter/build.py"}
    assert targets - {target for target in targets if target.startswith("hub/")} == here - desk_only


def test_the_package_is_portable() -> None:
    document = json.loads((SOURCES / "package.json").read_text())
    for target, url in document["urls"]:
        assert "://" not in url and not url.startswith("/"), "relative to package.json"
        assert (SOURCES / url).resolve() == (SOURCES.parents[1] / target), "the board's tree mirrors the project's"


def test_a_build_names_no_path_of_the_desk(tmp_path: Path) -> None:
    tree = compiled_tree(tmp_path)
    document = json.loads((tree / "package.json").read_text())
    assert len(document["urls"]) == len(listed())
    for target, url in document["urls"]:
        assert target == url
        assert str(SOURCES.parents[1]).encode() not in (tree / url).read_bytes()
