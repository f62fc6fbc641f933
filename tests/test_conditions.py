"""Every condition of the table has a test that brings it about and sees it go by itself, and every word it needs."""

import ast
from pathlib import Path

import pytest

from hub.core.health import CONDITIONS, Health, without_consequences
from tests.harness import witness

TESTS = Path(__file__).resolve().parent


def marked_in(text: str) -> set[str]:
    """The codes in `pytest.mark.condition("code")` of a file."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "pytest.mark.condition"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_condition_has_a_test_that_brings_it_about_and_sees_it_go() -> None:
    marked = set().union(
        *(marked_in(path.read_text()) for path in sorted(TESTS.rglob("test_*.py")) if path != Path(__file__))
    )
    assert not set(CONDITIONS) - marked, "nothing shows that these come and go"
    assert not marked - set(CONDITIONS), "marked, and not in the table"


def test_the_look_for_marks_finds_them() -> None:
    text = '@pytest.mark.condition("a")\ndef test(): ...\npytest.param(1, marks=pytest.mark.condition("b"))'
    assert marked_in(text) == {"a", "b"}


def test_a_marked_test_has_to_have_seen_both() -> None:
    witness.forget()
    assert witness.missing(["uplink-dns"]) == ["uplink-dns never came", "uplink-dns never went"]
    assert witness.went("uplink-dns", ()) and witness.missing(["uplink-dns"])[1:], "what never came cannot go"
    assert witness.came("uplink-dns", ["uplink-dns"]) and witness.went("uplink-dns", ())
    assert witness.missing(["uplink-dns"]) == []
    witness.forget()


def test_there_are_fifty_and_each_says_what_why_and_what_to_do() -> None:
    assert len(CONDITIONS) >= 50
    for code, kind in CONDITIONS.items():
        assert kind.severity in ("error", "warning"), code
        assert kind.title and kind.why and kind.remedy, code
        assert kind.why.endswith("."), code
        assert set(kind.depends_on) <= set(CONDITIONS) - {code}, code


@pytest.mark.parametrize("code", CONDITIONS)
def test_a_cause_hides_its_consequences_and_nothing_hides_itself(code: str) -> None:
    causes = CONDITIONS[code].depends_on
    assert without_consequences([code]) == [code]
    for cause in causes:
        health = Health()
        health.raise_condition(code)
        health.raise_condition(cause)
        assert [condition.code for condition in health.conditions()] == [cause], (code, cause)
        health.clear_condition(cause)
        assert [condition.code for condition in health.conditions()] == [code]


def test_a_consequence_of_a_consequence_hides_too() -> None:
    assert without_consequences(["adapter-silent", "radio-missing", "link-unusable"]) == [
        "radio-missing",
        "link-unusable",
    ]
    assert without_consequences(["meter-garbled", "meter-unreadable"]) == ["meter-unreadable"]
