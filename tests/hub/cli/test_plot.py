"""`meterhub readings --plot`: what an engineer sees over SSH or a serial console."""

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hub.cli.limits import coming, value_row
from hub.cli.main import main
from hub.cli.plot import Stroke, picture, plot, png, svg
from hub.cli.queue import history_rows
from hub.cli.readings import totals_by_day
from hub.core.day_history import HistoryPoint
from hub.services.admin.queries import reading_row
from hub.wire.uplink.reading import THINNED, Reading
from tests.store.helpers import batch, commit, sample, started

T0 = 1_769_839_200_000  # 2026-01-31T06:00:00Z

ROOT = Path(__file__).resolve().parents[3]


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
        "min 0 W  mean 662.983 W  max 2000 W  last 0 W",
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
    assert len(drawn) == 12 and max(map(len, drawn)) <= 80
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


def stopped(tmp_path: Path) -> Path:
    """The configuration of a hub that has readings and does not run."""
    store = started(tmp_path / "data")
    for number in range(50):
        assert commit(store, batch(number, sample("boiler", 20_000 + number, at_s=60.0 * number))) is None
    store.close()
    config = tmp_path / "hub.toml"
    uplink = '[uplink]\nhost = "h"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n'
    config.write_text(f'[hub]\ndata_dir = "{tmp_path / "data"}"\nrun_dir = "{tmp_path / "run"}"\n{uplink}')
    return config


def test_the_verb_draws_a_stopped_hubs_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["readings", "--plot", "--client", "boiler", "--config", str(stopped(tmp_path))]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("power of boiler, W") and "2004.9 ┤" in shown


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}], ids=["C", "Latin-1"])
def test_a_terminal_without_unicode_has_its_chart_and_no_name_ends_a_verb(
    tmp_path: Path, locale: dict[str, str]
) -> None:
    config = stopped(tmp_path)

    def meterhub(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hub", *words, "--config", str(config)],
            env={"PATH": "/usr/bin:/bin", **locale}, cwd=ROOT, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
        return done.stdout.decode("latin-1")

    drawn = meterhub("readings", "--plot")
    assert drawn.isascii() and "2004.9 +" in drawn and "#" in drawn
    with config.open("a") as file:
        file.write('[forward]\nout = ["厨房/#"]\n')
    shown = meterhub("config", "show").encode("latin-1")
    assert "厨房".encode() in shown or b"\\u53a8" in shown


def test_series_of_one_unit_have_one_axis_and_a_limit_is_drawn_in() -> None:
    made = rows([(0, 1000), (60, 3000)], "boiler") + rows([(0, 400), (60, 500)], "fridge")
    limit = [reading_row(Reading("boiler", "limit", T0 + 30 * 60_000, 1500, 0, 0))]
    drawn = plot(made + limit, columns=40)
    tops = [line for line in drawn if line.startswith(" 3000 ")]
    assert len(tops) == 3, "boiler, its limit, and the fridge on the same axis"
    boiler = drawn[[line.startswith("power of boiler") for line in drawn].index(True) :][:10]
    assert any("------" in line for line in boiler), "held from half an hour on"
    fridge = drawn[[line.startswith("power of fridge") for line in drawn].index(True) :][:10]
    assert not any("--" in line for line in fridge)
    assert "min 400 W  mean 450 W  max 500 W  last 500 W" in drawn


def test_a_picture_for_a_report_is_svg_with_a_panel_a_unit() -> None:
    made = [*rows([(0, 1), (1, 2)], "a<b"), reading_row(Reading("c", "voltage", T0, 230, 0, 0))]
    picture = ElementTree.fromstring(svg(made))
    lines = list(picture.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 2 and "power of a<b" in "".join(picture.itertext())
    assert ElementTree.fromstring(svg([])) is not None


def test_the_same_picture_is_png() -> None:
    made = [*rows([(0, 1000), (60, 3000)]), reading_row(Reading("boiler", "limit", T0, 1500, 0, 0))]
    file = io.BytesIO()
    png(made, file)
    with Image.open(file) as image:
        assert image.format == "PNG" and image.size == (1800, 480)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(255, 255, 255), (0, 0, 0), (0x88, 0x88, 0x88), (0x00, 0x66, 0xCC), (0xCC, 0x44, 0x00)} <= colours


def point(minute: int, readings: int, household_w: float | None = None, limit_w: float | None = None) -> dict[str, Any]:
    return HistoryPoint(T0 + minute * 60_000, readings, 0, 7, 0, 12, 30.0, household_w, limit_w)._asdict()


def test_what_waited_is_drawn_on_one_axis() -> None:
    drawn = plot(history_rows([point(0, 100), point(10, 0)]), columns=60)
    assert [line.partition("  ")[0] for line in drawn if " of " in line] == [
        "not packed of readings, readings", "oldest of readings, s", "pending of readings, messages",
        "pending of receipts, messages",
    ]  # fmt: skip
    assert len([line for line in drawn if line.startswith(" 100 ┤")]) == 2, "both lanes that had something"
    assert "min 0 messages  mean 50 messages  max 100 messages  last 0 messages" in drawn


LIMITS = [
    {"start": T0 / 1000, "end": T0 / 1000 + 1800, "watts": 2000.0, "direction": "import"},
    {"start": T0 / 1000 + 1200, "end": T0 / 1000 + 3600, "watts": 3000.0, "direction": "import"},
    {"start": T0 / 1000, "end": T0 / 1000 + 9000, "watts": 1.0, "direction": "export"},
]


def test_limits_to_come_end_where_they_end() -> None:
    found = [(row["t_ms"] - T0, row["value"]) for row in coming(LIMITS, T0 + 600_000)]
    assert found == [(1_200_000, 2000.0), (1_800_000, 3000.0), (3_600_000, None)]


def watts(minute: int, quantity: str, value: float | None) -> dict[str, Any]:
    return value_row("household", quantity, T0 + minute * 60_000, value)


def test_a_limit_that_ended_is_drawn_no_further() -> None:
    power = [watts(minute, "power", 4000.0) for minute in range(61)]
    limit = [watts(0, "limit", None), watts(10, "limit", 2000.0), watts(30, "limit", None)]
    drawn = plot(power + limit, columns=80)
    begin = [line.startswith("power of") for line in drawn].index(True)
    [held] = [bars for line in drawn[begin + 1 : begin + 9] if "-" in (bars := line[8:])]
    assert 0.1 < held.index("-") / len(held) < 0.25 and 0.4 < held.rindex("-") / len(held) < 0.6
    assert "min 2000 W  mean 2000 W  max 2000 W  last 2000 W" in drawn, "what is none is no value"
    lines = [part for part in picture(power + limit).parts if isinstance(part, Stroke) and part.dashed]
    assert len(lines) == 1 and lines[0].points[-1][0] < 500


def test_days_are_counted_from_register_to_register() -> None:
    def register(hour: int, value: int) -> dict[str, object]:
        return reading_row(Reading("meter", "energy", T0 + hour * 3_600_000, value, 0, 0))

    found = totals_by_day(
        [register(0, 1000), register(12, 3500), register(24, 4000), register(30, 100), register(48, 900)]
    )
    assert sum(day["kwh"] for day in found) == pytest.approx(2.5 + 0.5 + 0.8)
    assert sum(day["fell"] for day in found) == 1, "an exchanged register is no energy"
    assert totals_by_day(rows([(0, 5)])) == [], "watts are no register"
