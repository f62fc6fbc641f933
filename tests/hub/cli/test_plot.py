"""`meterhub readings --plot`: what an engineer sees over SSH or a serial console."""

from pathlib import Path

import pytest

from hub.cli.main import main
from hub.cli.plot import plot
from hub.services.admin.queries import reading_row
from hub.wire.uplink.reading import THINNED, Reading
from tests.store.helpers import batch, commit, sample, started

T0 = 1_769_839_200_000  # 2026-01-31T06:00:00Z


def rows(values: list[tuple[int, int]], client: str = "boiler", flags: int = 0) -> list[dict[str, object]]:
    """`(minute, value)` as the daemon answers them."""
    return [reading_row(Reading(client, "power", T0 + m * 60_000, value, 0, flags)) for m, value in values]


def test_a_day_is_drawn() -> None:
    drawn = plot(rows([(minute, 2000 if minute < 60 else 0) for minute in range(181)]), columns=40)
    assert drawn == [
        "power of boiler, W       2026-01-31, UTC",
        " 2000 ┤██████████",
        "      │██████████",
        "      │██████████",
        "      │██████████▇",
        "      │███████████",
        "      │███████████",
        "      │███████████",
        "    0 ┤███████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁",
        "      └06:00                       09:00",
        "",
    ]


def test_heights_are_in_eighths_and_silence_is_blank() -> None:
    drawn = plot(rows([(0, 0), (1, 10), (2, 20), (10, 40)]), columns=18)
    bars = [line.partition("┤")[2] or line.partition("│")[2] for line in drawn[1:9]]
    last = max(len(bar) for bar in bars)
    columns = ["".join(bar.ljust(last)[at] for bar in bars) for at in range(last)]
    full = "█" * 8
    assert columns[-1] == full, "the largest fills its column"
    assert columns[0] == "       ▁", "the smallest is still seen"
    assert set(columns[3:-1]) == {" " * 8}, "nothing was heard"


@pytest.mark.parametrize("values", [[(0, 5)], [(0, 0), (5, 0)], [(0, -3), (5, 4)], [(0, -3), (1, -3)]])
def test_any_values_make_a_chart_of_the_width(values: list[tuple[int, int]]) -> None:
    drawn = plot(rows(values), columns=80)
    assert len(drawn) == 11 and max(map(len, drawn)) <= 80
    assert any(block in line for line in drawn for block in "▁█")


def test_each_series_has_its_chart_and_too_many_are_counted() -> None:
    made = [row for number in range(15) for row in rows([(0, 1), (1, 2)], f"plug-{number:02}", THINNED * (number == 1))]
    drawn = plot(made)
    assert [line.split(",")[0] for line in drawn if line.startswith("power")][:2] == [
        "power of plug-00",
        "power of plug-01",
    ]
    assert drawn.count("2 of 2 readings are what thinning left") == 1
    assert drawn[-1] == "and 3 more series: choose with --client and --quantity"


def test_nothing_is_said_in_a_line() -> None:
    assert plot([]) == ["no readings"]


def test_the_verb_draws_a_stopped_hubs_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = started(tmp_path / "data")
    for number in range(50):
        assert commit(store, batch(number, sample("boiler", 20_000 + number, at_s=60.0 * number))) is None
    store.close()
    config = tmp_path / "hub.toml"
    uplink = '[uplink]\nhost = "h"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
    config.write_text(f'[hub]\ndata_dir = "{tmp_path / "data"}"\nrun_dir = "{tmp_path / "run"}"\n{uplink}')
    assert main(["readings", "--plot", "--client", "boiler", "--config", str(config)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("power of boiler, W") and "2004.9 ┤" in shown
