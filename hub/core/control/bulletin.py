"""What the hub tells the home: prices, weather, the time, what the household draws and must keep to (design 3.2)."""

import json
from typing import Any, NamedTuple

HOME_EVERY_S = 10.0
TIME_EVERY_S = 60.0
_NEXT_STEPS = 8  # a display shows a few hours; a datagram holds no more


class HomePublish(NamedTuple):
    """One publish at home. Only what changes seldom is retained: each retained change is written to flash."""

    topic: str
    payload: bytes
    retain: bool = False


class Bulletin:
    """A machine: what to publish, and when next. Times are the machine's `now`; `t` is UTC epoch seconds."""

    def __init__(self, now: float) -> None:
        self._notices: list[HomePublish] = []
        self._home_at = now
        self._time_at = now
        self._limit_w: float | None = None
        self._tables: dict[str, dict[str, Any]] = {}
        self._said: dict[str, bytes] = {}

    def restore(self, name: str, table: Any) -> None:
        """A table of prices or weather of the last run. Raises ValueError."""
        if not isinstance(table, dict) or not isinstance(table.get("steps"), list):
            raise ValueError("not a table of steps")
        self._tables[name] = table

    def set_table(self, name: str, table: dict[str, Any], t: float | None) -> None:
        """New prices, new weather."""
        self._tables[name] = table
        self._said.pop(name, None)
        self._say_tables(t)

    def table(self, name: str) -> dict[str, Any] | None:
        """The table of prices or weather that counts, as its command had it."""
        return self._tables.get(name)

    def say_limit(self, limit_w: float | None) -> None:
        """The household must keep to something else from now on; empty: to nothing."""
        self._limit_w = limit_w
        self._notices.append(HomePublish("home/limit", self._limit_text(), retain=True))

    def _limit_text(self) -> bytes:
        return b"" if self._limit_w is None else f"{self._limit_w:.0f}".encode()

    def say_time(self, t: float | None) -> None:
        """Somebody wants to know now. Without a trustworthy clock there is nothing to say."""
        if t is not None:
            self._notices.append(HomePublish("time", str(int(t)).encode()))

    def handle_timer(self, now: float, t: float | None, household_w: float | None) -> None:
        if now >= self._home_at:
            self._home_at = now + HOME_EVERY_S
            if household_w is not None:
                self._notices.append(HomePublish("home/power", f"{household_w:.0f}".encode()))
            self._notices.append(HomePublish("home/limit", self._limit_text()))
            self._say_tables(t)
        if now >= self._time_at:
            self._time_at = now + TIME_EVERY_S
            self.say_time(t)

    def due_at(self) -> float:
        return min(self._home_at, self._time_at)

    def _say_tables(self, t: float | None) -> None:
        """Retain what applies now and what comes next; it changes with each step, not with each second."""
        if t is None:
            return
        for name, table in self._tables.items():
            steps = [step for step in table["steps"] if step[0] + step[1] > t][: _NEXT_STEPS + 1]
            now = next((step for step in steps if step[0] <= t), None)
            said: dict[str, Any] = {} if "currency" not in table else {"currency": table["currency"]}
            said["now"] = None if now is None else now[2]
            said["until"] = None if now is None else now[0] + now[1]
            said["next"] = [step for step in steps if step[0] > t]
            payload = json.dumps(said, separators=(",", ":")).encode()
            if self._said.get(name) != payload:
                self._said[name] = payload
                self._notices.append(HomePublish(name, payload, retain=True))

    def take_notices(self) -> list[HomePublish]:
        """What to publish now."""
        notices, self._notices = self._notices, []
        return notices
