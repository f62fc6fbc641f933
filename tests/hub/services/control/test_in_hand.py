"""A command that ends the process each time does not come a third time."""

from pathlib import Path

from hub.services.control.in_hand import InHand


def test_what_a_hub_died_of_twice_is_poison_and_then_forgotten(tmp_path: Path) -> None:
    message, other = b"a command", b"another"
    for _ in range(2):
        assert not InHand(tmp_path).is_poison(message)  # and the process is gone
    third = InHand(tmp_path)
    assert not third.is_poison(other)
    third.done()
    assert not InHand(tmp_path).is_poison(message), "something else went well in between"
    InHand(tmp_path).is_poison(message)
    last = InHand(tmp_path)
    assert last.is_poison(message)
    assert not last.is_poison(other)


def test_a_file_that_does_not_read_is_nothing(tmp_path: Path) -> None:
    for raw in (b"\xff\x00", b"", b"- 0\n", b"x" * 300):
        (tmp_path / "in-hand").write_bytes(raw)
        assert not InHand(tmp_path).is_poison(b"x")
    assert not InHand(tmp_path / "missing").is_poison(b"x")
