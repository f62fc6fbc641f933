"""The SQL of the store, read from `store/sql/*.sql`.

Each query starts with `-- name: NAME`, then a sentence that says what it is for, then one statement. A query with
`{lane}` in it exists once for each lane, as `NAME/LANE`.
"""

import re
from pathlib import Path

LANES = ("readings", "events", "receipts", "answers")
_FOLDER = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(folder: Path = _FOLDER) -> dict[str, str]:
    """Read every named query as `{name: statement}`. Raises ValueError for a name used twice or without a sentence."""
    queries: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2]):
            _add(queries, name, text.strip(), path.name)
    return queries


def _add(queries: dict[str, str], name: str, text: str, where: str) -> None:
    comment = [line for line in text.splitlines() if line.startswith("--")]
    statement = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
    if not comment or not statement:
        raise ValueError(f"{where}: {name} needs a sentence and a statement")
    for key, sql in _per_lane(name, statement):
        if key in queries:
            raise ValueError(f"{where}: {key} is there twice")
        queries[key] = sql


def _per_lane(name: str, statement: str) -> list[tuple[str, str]]:
    if "{lane}" not in statement:
        return [(name, statement)]
    return [(f"{name}/{lane}", statement.replace("{lane}", lane)) for lane in LANES]


def schema_statements(version: int) -> list[str]:
    """The statements that lead from the schema before `version` to `version`, one by one."""
    text = (_FOLDER / f"schema_{version:03}.sql").read_text(encoding="utf-8")
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return [statement.strip() for statement in bare.split(";\n") if statement.strip()]
