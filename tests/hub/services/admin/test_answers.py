"""The admin socket's contract: each question has a type, and the document that programs read is written from them."""

from typing import Any, Literal, TypedDict

import pytest
from jsonschema import Draft202012Validator

from deploy import admin_schema
from hub.services.admin.queries import Queries
from hub.wire.admin import ANSWERS


def test_every_question_has_an_answer_that_is_typed() -> None:
    hub: Any = None  # it is asked nothing
    assert set(Queries(hub).handlers()) == set(ANSWERS)


def test_the_document_is_json_schema_and_current() -> None:
    Draft202012Validator.check_schema(admin_schema.document())
    assert admin_schema.FILE.read_text("utf-8") == admin_schema.text(), "make docs writes it anew"


class _Row(TypedDict):
    name: str
    size: int | None
    side: Literal["in", "out"]


@pytest.mark.parametrize(
    ("document", "is_right"),
    [
        ([{"name": "a", "size": None, "side": "in"}], True),
        ([{"name": "a", "size": 1, "side": "up"}], False),
        ([{"name": "a", "size": 1}], False),
        ([{"name": "a", "size": 1, "side": "in", "more": 1}], False),
        ([{"name": 1, "size": 1, "side": "in"}], False),
        ({}, False),
    ],
)
def test_a_type_is_a_schema_that_refuses_what_it_does_not_say(document: Any, is_right: bool) -> None:
    found: dict[str, Any] = {}
    schema = {**admin_schema.schema_of(list[_Row], found), "$defs": found}
    assert Draft202012Validator(schema).is_valid(document) is is_right


def test_a_type_that_has_no_schema_is_told() -> None:
    with pytest.raises(TypeError):
        admin_schema.schema_of(set[int], {})
