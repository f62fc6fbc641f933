"""Control, a row a sentence (lpc.toml), played against a controller whose clock is in our hands."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.table import HERE, Row, rows
from tests.harness.operator import Operator
from tests.hub.core.control.desk import CAR, UTC, Desk

ROWS = rows("lpc")
INTERPRETATION = (HERE.parents[1] / "hub/core/control/INTERPRETATION.md").read_text("utf-8")
SOLAR = b'{"class":"solar","nominal_w":5000}'
HOMES = {"car": ("car", CAR, 7200.0), "idle car": ("car", CAR, 0.0), "solar": ("solar", SOLAR, -5000.0)}


class Play:
    """One row: its operators, its commands by their place, its home."""

    def __init__(self, row: Row) -> None:
        settings = dict(row.get("settings", {}))
        lpc = settings.pop("lpc", "")
        self.operators = {"grid": Operator("grid"), "other": Operator("other", "limit")}
        toml = "".join(op.toml + ("lpc = true\n" if name == lpc else "") for name, op in self.operators.items())
        self.desk = Desk(toml=toml, **settings)
        self.commands: dict[str, bytes] = {}
        self._obedient = HOMES[row["home"]] if row.get("obeys") else None
        if "home" in row:
            self.desk.add(*HOMES[row["home"]])
        for n in range(row.get("fill", 0)):
            ahead = {"watts": 1, "duration": 1, "start": int(UTC) + 100 * (n + 1)}
            self.desk.send("limit", ahead, by=self.operators["grid"])

    def step(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if word in self.operators:
            op, _, args = rest.partition(" ")
            cti = self.desk.send(op, self._args(args), by=self.operators[word])
            self.commands[f"c{len(self.commands) + 1}"] = cti
        else:
            getattr(self, f"_{word}")(rest)

    def _args(self, text: str) -> dict[str, Any]:
        if text in self.commands:
            return {"cti": self.commands[text]}
        args: dict[str, Any] = tomllib.loads(f"args = {text or '{}'}")["args"]
        if "start" in args:
            args["start"] = int(UTC + self.desk.now) + args["start"]
        return args

    def _wait(self, text: str) -> None:
        """An appliance of `home` that obeys reports every ten seconds, as it was told."""
        left = float(text)
        while left > 0:
            self.desk.run(min(left, 10.0))
            left -= 10.0
            if self._obedient:
                client, _, full_w = self._obedient
                told = [text for at, name, text in self.desk.orders if name == client]
                words = told[-1].split() if told else []
                limit_w = float(words[1]) if words[:1] == ["limit"] and float(words[1]) < full_w else None
                self.desk.power(client, full_w if limit_w is None else limit_w)
                if limit_w is not None:
                    self.desk.power(client, limit_w, "limit")

    def _restart(self, text: str) -> None:
        self.desk.restart(off_s=float(text))

    def _state(self, text: str) -> None:
        assert self.desk.control.status(self.desk.now)["state"] == text

    def _watts(self, text: str) -> None:
        watts = self.desk.control.status(self.desk.now)["watts"]
        assert watts == (None if text == "none" else float(text))

    def _export(self, text: str) -> None:
        watts = self.desk.control.status(self.desk.now)["export_watts"]
        assert watts == (None if text == "none" else float(text))

    def _story(self, text: str) -> None:
        name, *statuses = text.split()
        assert self.desk.story(self.commands[name]) == statuses

    def _reason(self, text: str) -> None:
        name, reason = text.split()
        assert self.desk.reason(self.commands[name]) == reason

    def _event(self, text: str) -> None:
        assert text in [event for event, _ in self.desk.events]

    def _told(self, text: str) -> None:
        client, _, words = text.partition(" ")
        assert self.desk.told(client)[-1] == words

    def _heard(self, text: str) -> None:
        client, _, words = text.partition(" ")
        assert words in self.desk.told(client)

    def _power(self, text: str) -> None:
        client, watts = text.split()
        self.desk.power(client, float(watts))

    def _meter(self, text: str) -> None:
        self.desk.power("meter", float(text))

    def _limit(self, text: str) -> None:
        client, watts = text.split()
        if watts == "none":
            self.desk.control.household.take_limit(client, None, self.desk.now)
            self.desk.settle()
        else:
            self.desk.power(client, float(watts), "limit")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['id']}: {row['says']}")
def test_a_sentence(row: Row) -> None:
    play = Play(row)
    for number, text in enumerate(row["steps"], 1):
        try:
            play.step(text)
        except AssertionError as error:
            raise AssertionError(f"step {number}, {text}: {error}") from error


def test_every_row_is_in_the_interpretation_and_looks_at_something() -> None:
    known = set(re.findall(r"^\| ([a-z0-9-]+) \|", INTERPRETATION, re.MULTILINE))
    looks = ("state ", "watts ", "export ", "story ", "reason ", "event ", "told ", "heard ")
    for row in ROWS:
        assert row["id"] in known, f"{row['id']} is not in INTERPRETATION.md"
        assert any(step.startswith(looks) for step in row["steps"]), row["says"]
    assert len({(row["id"], row["says"]) for row in ROWS}) == len(ROWS)


def test_every_difference_is_marked_as_one() -> None:
    assert sum("differs" in row["standard"] for row in ROWS) >= 10
    assert Path(HERE / "lpc.toml").exists()
