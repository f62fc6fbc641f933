"""Values as people write them: what a hub or a library says, without a trace of the language it is written in."""

from typing import Any

from hub.wire.printable import one_line


def words(value: Any) -> str:
    """A value in words: `-` for none, yes and no, `key value, ...` for a map, bytes as text where they are one."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        text = value.decode("ascii", "replace")
        return f'"{text}"' if value.isascii() and text.isprintable() else value.hex()
    if isinstance(value, dict):
        return ", ".join(f"{words(key)} {words(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(words, value)) + "]"
    return one_line(str(value))


def pairs(row: dict[str, Any]) -> dict[str, Any]:
    """The same row, its values in words; numbers stay numbers."""
    return {key: value if type(value) in (int, float) else words(value) for key, value in row.items()}
