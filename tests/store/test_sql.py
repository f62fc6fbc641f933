"""The SQL files: every query is named, explained, used, and reads by key rather than through a second index."""

import re
from pathlib import Path

import pytest

from store.queries import load_queries, schema_statements

ROOM = Path(__file__).parents[2] / "store"


def test_every_query_is_used_and_every_name_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOM.glob("*.py"))
    names = {key.partition("/")[0] for key in load_queries()}
    for name in names:
        assert re.search(rf'"{name}["/]|f"{name}/', code) or name.startswith("salvage_"), f"{name} is not used"


def test_sql_lives_in_sql_files() -> None:
    for path in ROOM.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(SELECT .* FROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE)\b", text), path


def test_a_query_needs_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: naked\nSELECT 1;\n")
    with pytest.raises(ValueError, match="sentence"):
        load_queries(tmp_path)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: x\n-- One.\nSELECT 1;\n-- name: x\n-- Two.\nSELECT 2;\n")
    with pytest.raises(ValueError, match="twice"):
        load_queries(tmp_path)


def test_the_schema_has_no_secondary_index() -> None:
    statements = schema_statements(1)
    assert len(statements) == 16
    assert not [s for s in statements if "INDEX" in s or "UNIQUE" in s or "AUTOINCREMENT" in s]
