"""The client's rows, each against a client of its own on a virtual clock."""

import ast
from typing import Any

import pytest

from hub.core.adapter.client import Client
from tests.conformance.table import Row, rows, title


class Bench:
    def __init__(self, settings: dict[str, Any]) -> None:
        if "will" in settings:
            topic, payload, qos, retain = settings["will"]
            settings = settings | {"will": (topic, payload.encode(), qos, retain)}
        self.client = Client("dev-a", **settings)
        self.now = 100.0
        self.sent: list[bytes] = []
        self.events: list[tuple[object, ...]] = []

    def settle(self) -> None:
        self.sent += self.client.datagrams_to_send()
        while (event := self.client.next_event()) is not None:
            self.events.append(event)

    def plays(self, step: str) -> None:
        verb, _, rest = step.partition(" ")
        if verb == ">":
            assert self.sent, f"nothing was sent for `{step}`"
            assert self.sent.pop(0).hex(" ") == rest
        elif verb == "event":
            assert self.events, f"nothing was told for `{step}`"
            assert self.events.pop(0) == ast.literal_eval(rest)
        elif verb == "<":
            self.client.receive_datagram(bytes.fromhex(rest), self.now)
        elif verb == "call":
            call = ast.parse(rest, mode="eval").body
            assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
            given = [ast.literal_eval(argument) for argument in call.args]
            named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
            getattr(self.client, call.func.id)(*given, now=self.now, **named)
        else:
            assert verb == "wait"
            self.waits(float(rest))
        self.settle()

    def waits(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.client.get_timer()) is not None and due <= end:
            self.now = due
            self.client.handle_timer(due)
            self.settle()
        self.now = end


@pytest.mark.parametrize("row", rows("client"), ids=title)
def test_row(row: Row) -> None:
    bench = Bench(row.get("settings", {}))
    for step in row["exchange"]:
        bench.plays(step)
    assert bench.sent == [] and bench.events == []
