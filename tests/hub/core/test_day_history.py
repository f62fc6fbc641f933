"""A day in rows of a minute: what is kept, for how long, and in how little."""

from hub.core.day_history import DayHistory, HistoryPoint

MINUTE_MS = 60_000


def point(minute: float, readings: int = 0, household_w: float | None = None) -> HistoryPoint:
    return HistoryPoint(int(minute * MINUTE_MS), readings, 1, 2, 3, 4, 5.5, household_w, None)


def test_a_row_a_minute_comes_back_as_it_was() -> None:
    history = DayHistory()
    for tenth in range(31):
        history.note(point(tenth / 10, tenth, 1234.5 if tenth < 10 else None))
    assert list(history) == [point(0, 0, 1234.5), point(1, 10), point(2, 20), point(3, 30)]


def test_a_day_is_kept_and_no_more() -> None:
    history = DayHistory()
    for minute in range(3000):
        history.note(point(minute, 2**40))
    assert [row.t_ms for row in history] == [minute * MINUTE_MS for minute in range(1560, 3000)]
    assert {row.readings for row in history} == {2**31 - 1}, "as many as there is room for"


def test_a_clock_that_was_set_begins_anew() -> None:
    history = DayHistory()
    for minute in (100, 101, 3, 4):
        history.note(point(minute))
    assert [row.t_ms for row in history] == [3 * MINUTE_MS, 4 * MINUTE_MS]
