"""What `make mutants` changes and runs is there, and a change that matters is noticed."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOMS, ROOT, files_of, notices


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_code_and_tests(room: str) -> None:
    places, tests = ROOMS[room]
    assert files_of(places) and all((ROOT / test).exists() for test in tests)


def test_what_fails_or_does_not_end_is_noticed(tmp_path: Path) -> None:
    for name, body in (("fine", "pass"), ("red", "assert False"), ("endless", "while True: pass")):
        (tmp_path / f"test_{name}.py").write_text(f"def test_it():\n    {body}\n")
    assert not notices(tmp_path, ("test_fine.py",), 60)
    assert notices(tmp_path, ("test_red.py",), 60)
    assert notices(tmp_path, ("test_endless.py",), 3)
