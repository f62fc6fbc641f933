"""A skip that nobody expects fails, wherever it is said; one that is in the list, and whose fact holds, passes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import skips

ROOT = Path(__file__).resolve().parents[1]

SUITE = """
import pytest

@pytest.mark.skip(reason="a mark")
def test_marked(): pass

@pytest.mark.skipif(True, reason="a condition")
def test_conditional(): pass

def test_in_the_middle(): pytest.skip("in the middle")

@pytest.fixture
def absent(): pytest.skip("in a fixture")

def test_of_a_fixture(absent): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False

def test_fine(): pass
"""
WHOLE_FILE = 'import pytest\npytest.skip("the whole file", allow_module_level=True)\n'


def run(place: Path, entries: str, *options: str, any_skip: str = "") -> str:
    """pytest's words about a suite of its own under our conftest, with this list."""
    suite = place / "suite"
    suite.mkdir()
    (suite / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (suite / "expected_skips.toml").write_text(entries or "skip = []\n")
    (suite / "test_some.py").write_text(SUITE)
    (suite / "test_whole.py").write_text(WHOLE_FILE)
    (place / "pytest.ini").write_text("[pytest]\n")
    words = [sys.executable, "-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider", *options, "suite"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "METERHUB_ANY_SKIP": any_skip}
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def entry(tests: str, reason: str, where: str) -> str:
    return f'[[skip]]\ntests = ["{tests}"]\nreason = "{reason}"\nwhere = "{where}"\nwhy = "shown here"\n'


@pytest.mark.parametrize("options", [("--continue-on-collection-errors",), ("-n", "1")], ids=["here", "in a worker"])
def test_every_kind_of_skip_fails_unless_it_is_expected(tmp_path: Path, options: tuple[str, ...]) -> None:
    shown = run(tmp_path, "", *options)
    for reason in ("a mark", "a condition", "in the middle", "in a fixture", "the whole file"):
        assert f"skipped: {reason}" in shown, shown
    assert "skipped" not in shown.splitlines()[-1], shown
    assert "error" in shown.splitlines()[-1], "the file that is skipped whole"


def test_what_is_expected_passes_and_nothing_else(tmp_path: Path) -> None:
    shown = run(
        tmp_path,
        entry("suite/test_some.py", "^(a mark|a condition|in)", "anywhere")
        + entry("suite/test_whole.py", "whole", "anywhere"),
    )
    assert "1 passed, 5 skipped, 1 xfailed" in shown.splitlines()[-1], shown


def test_an_entry_holds_for_its_test_its_words_and_its_place_alone() -> None:
    [entry_] = [skips.Expected(("tests/a.py",), "no tool", "anywhere", "because")]
    assert entry_.covers("tests/a.py::test_b", "there is no tool here")
    assert not entry_.covers("tests/b.py::test_b", "there is no tool here")
    assert not entry_.covers("tests/a.py::test_b", "something else")
    skips.FACTS["here never"] = lambda: False
    try:
        assert not skips.Expected(("tests/a.py",), "no tool", "here never", "because").covers("tests/a.py", "no tool")
    finally:
        del skips.FACTS["here never"]


def test_a_machine_that_cannot_have_a_tool_may_say_so(tmp_path: Path) -> None:
    assert "1 passed, 5 skipped, 1 xfailed" in run(tmp_path, "", any_skip="1").splitlines()[-1]


def test_a_list_with_an_unknown_place_or_no_reason_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.toml"
    for text in (entry("t", "r", "on the moon"), entry("t", "r", "anywhere").replace("shown here", "")):
        file.write_text(text)
        with pytest.raises((KeyError, TypeError)):
            skips.load(file)
