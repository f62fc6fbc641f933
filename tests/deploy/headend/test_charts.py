"""What charts draw of many points: as many as a line needs, and none of its peaks less."""

from deploy.headend.charts import PowerLine, lines_of, thinned
from deploy.headend.usage import Row

DAY_S = 86_400


def rows(client: str, watts: dict[int, int]) -> list[Row]:
    return [Row(client, "power", s * 1000, value, 0, 0) for s, value in sorted(watts.items())]


def test_a_kettle_of_ten_seconds_is_seen_in_a_day_of_seconds() -> None:
    watts = dict.fromkeys(range(0, DAY_S, 2), 300) | dict.fromkeys(range(40_000, 40_010, 2), 2_800) | {60_000: 12}
    [line] = lines_of(rows("meter", watts))
    values = [value for _, value in line.points]
    assert max(values) == 2_800 and min(values) == 12
    assert len(line.points) < 600
    assert [s for s, _ in line.points] == sorted(s for s, _ in line.points)
    assert line.points[-1] == (DAY_S - 2, 300), "the line ends where its readings do"


def test_few_points_are_drawn_as_they_are() -> None:
    assert lines_of(rows("meter", {10: 5, 20: 6})) == [PowerLine("meter", [(10.0, 5.0), (20.0, 6.0)])]
    assert lines_of([]) == [] and thinned([]) == []
    assert thinned(list(range(1000)))[-1] == 999


def test_the_largest_line_is_drawn_first_and_few_are_drawn() -> None:
    all_rows = [row for number in range(12) for row in rows(f"plug-{number:02}", {10: number * 100})]
    lines = lines_of(sorted(all_rows, key=lambda row: row.t_ms))
    assert [line.client for line in lines] == [f"plug-{number:02}" for number in range(11, 4, -1)]
