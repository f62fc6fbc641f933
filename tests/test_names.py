"""Names mean one thing (design, part 4): a class name in the whole product, and one word for one unit."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_ROOMS = ("hub", "drivers", "store", "deploy")
_WRITTEN = ("*.py", "*.md", "*.sql", "*.toml", "*.sh")


def classes_of(root: Path) -> dict[str, list[str]]:
    """Every class of the product by its name: where it is."""
    found: dict[str, list[str]] = {}
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, []).append(f"{path.relative_to(root)}:{node.lineno}")
    return found


def shared_names(root: Path) -> list[str]:
    """One line for each name that several classes have."""
    return [f"{name}: {', '.join(places)}" for name, places in sorted(classes_of(root).items()) if len(places) > 1]


def other_words(root: Path) -> list[str]:
    """Where something else than "bytes" is said of eight bits; a media type of others' may."""
    faults = []
    for room in (*_ROOMS, "docs"):
        for pattern in _WRITTEN:
            for path in sorted((root / room).rglob(pattern)):
                for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                    if re.search(r"octet(?!-stream)", line, re.IGNORECASE):
                        faults.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
    return faults


def test_a_class_name_means_one_thing() -> None:
    assert len(classes_of(ROOT)) > 300, "the classes are not found: nothing is guarded"
    assert not shared_names(ROOT), "\n".join(shared_names(ROOT))


def test_eight_bits_are_a_byte() -> None:
    assert not other_words(ROOT), "\n".join(other_words(ROOT))


# The guards' own tests: what they are to find, they find.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hub/core/a.py", "drivers/b.py"),
        ("store/a.py", "deploy/image/b.py"),
        ("hub/a.py", "hub/a.py"),
    ],
)
def test_a_second_class_of_a_name_turns_it_red(tmp_path: Path, first: str, second: str) -> None:
    for place, text in ((first, "class One:\n    pass\n"), (second, "def late():\n    class One:\n        pass\n")):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + text)
    assert len(shared_names(tmp_path)) == 1 and "One" in shared_names(tmp_path)[0]


@pytest.mark.parametrize("text", ["MOST_OCTETS = 3", "# an octet more", 'print("3 octets")'])
def test_another_word_for_bytes_turns_it_red(tmp_path: Path, text: str) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/a.py").write_text(f"{text}\nTYPE = 'application/octet-stream'\n")
    assert len(other_words(tmp_path)) == 1
