"""docs/appliances.md says what the data say."""

from tests.emulators.page import FILE, render


def test_the_page_is_the_one_that_the_data_write() -> None:
    assert FILE.read_text("utf-8") == render(), "type: python -m tests.emulators.page"
