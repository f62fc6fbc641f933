"""One schema for hub.toml and for the arguments of commands: what is refused, and in which words."""

from typing import Any

import pytest

from hub.app.config import KEYS
from hub.wire.schema import Rule, Unmet, checked, flag, number, one_of, required, rule, text, whole
from hub.wire.uplink.args import ARGS, BadArgs, check_args

_RULES = {"name": required(text(4)), "share": number(0, 1, "a share"), "is_on": flag}


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        ({}, "name", "missing"),
        ({"name": "boiler"}, "name", "wrong"),
        ({"name": "a", "share": float("nan")}, "share", "wrong"),
        ({"name": "a", "share": True}, "share", "wrong"),
        ({"name": "a", "is_on": 1}, "is_on", "wrong"),
        ({"name": "a", "more": 1}, "more", "unknown"),
    ],
)
def test_what_is_not_as_the_table_says_is_refused(given: dict[str, Any], name: str, kind: str) -> None:
    with pytest.raises(Unmet) as unmet:
        checked(_RULES, given)
    assert (unmet.value.name, unmet.value.kind) == (name, kind)
    assert (unmet.value.expected != "") == (kind == "wrong")


def test_what_is_as_it_says_comes_as_it_is_used() -> None:
    assert checked(_RULES, {"name": "a", "share": 1}) == {"name": "a", "share": 1}
    assert checked({"n": Rule("digits", int)}, {"n": "12"}) == {"n": 12}


def test_a_rule_has_a_word_for_itself_and_may_have_a_better_one() -> None:
    @rule("an even number")
    def even(value: Any) -> int:
        if type(value) is not int:
            raise ValueError
        if value % 2:
            raise ValueError("an even number, one less than this")
        return value

    with pytest.raises(ValueError, match=r"^an even number$"):
        even("x")
    with pytest.raises(ValueError, match="one less"):
        even(3)


@pytest.mark.parametrize("each", [whole(2, 5), one_of("a", "b"), text(3), flag])
def test_each_rule_refuses_another_type_in_its_own_words(each: Rule) -> None:
    for value in (object(), None, [], {}, b"a", 1e9):
        with pytest.raises(ValueError) as refused:
            each(value)
        assert str(refused.value) == each.expected


def test_configuration_and_commands_are_tables_of_these_rules() -> None:
    tables = [*KEYS.values(), *ARGS.values()]
    assert all(isinstance(each, Rule) and each.expected for table in tables for each in table.values())


def test_a_text_in_a_command_has_a_bound() -> None:
    with pytest.raises(BadArgs, match="1 to 64 characters"):
        check_args("switch", {"client": "x" * 65, "on": True})
