"""What a class may publish; whoever says nothing of the table may publish anything."""

import pytest

from hub.core.control.classes import CLASSES
from hub.wire.device_class import NOT_PUBLISHED, class_of, may_publish


@pytest.mark.parametrize(
    ("class_name", "has", "has_not"),
    [
        ("thermometer", "temperature humidity battery voltage state", "energy energy.2 power power.b peak limit"),
        ("plug", "power energy energy.export state limit temperature", "energy.t1 energy.export.t2 peak volume"),
        ("kettle", "power energy voltage.l1 limit", "energy.export energy.export.t1 reactive_energy.export"),
        ("solar", "power energy energy.export", "energy.t9 peak"),
        ("", "energy.t1 peak volume anything", ""),
        ("somebody's own", "energy.t1 peak volume anything", ""),
    ],
)  # fmt: skip
def test_a_class_says_what_it_may_publish(class_name: str, has: str, has_not: str) -> None:
    assert [quantity for quantity in has.split() if not may_publish(class_name, quantity)] == []
    assert [quantity for quantity in has_not.split() if may_publish(class_name, quantity)] == []


def test_every_class_that_control_knows_says_so() -> None:
    assert set(CLASSES) <= set(NOT_PUBLISHED)


@pytest.mark.parametrize(
    "about", [b"", b"{", b"[]", b'{"class":5}', b'{"name":"x"}', b"\xff", b"[" * 100_000, b"1" * 5000]
)
def test_an_about_that_does_not_read_names_no_class(about: bytes) -> None:
    assert class_of(about) == ""
    assert class_of(b'{"class":"kettle","name":"Tea"}') == "kettle"
