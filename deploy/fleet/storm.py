"""A fleet loses its one broker: connection attempts per second over time, with the hub's real reconnect policy.

    python -m deploy.fleet.storm [--hubs 100000] [--svg FILE]

A virtual clock, no sockets. The broker takes so many TLS handshakes a second; what waits longer than a hub's patience
is a failed attempt. Beside it the same fleet with the habit of common MQTT libraries: doubling from 1 s to 120 s, no
jitter, forgotten as soon as the broker says CONNACK.
"""

import argparse
import heapq
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub.core.uplink.reconnect_policy import ReconnectPolicy, first_delay_s

BOOT_SPREAD_S = 60.0  # hub/app/config.py: uplink.boot_spread_s
PATIENCE_S = 20.0  # hub/services/uplink/session.py: CONNECT_TIMEOUT_S


@dataclass(frozen=True)
class Outage:
    """`down_s`: from the loss of every session until the broker listens again, which takes `handshakes_s` a second."""

    hubs: int
    down_s: float
    handshakes_s: float
    seed: int = 1


@dataclass
class Course:
    """What happened. `attempts[t]`, `back[t]`: attempts made, and sessions regained, in second t after the loss."""

    attempts: list[int] = field(default_factory=list)
    back: list[int] = field(default_factory=list)

    def count(self, series: list[int], t: float) -> None:
        """Add one to the second of `t`."""
        at = int(t)
        series.extend([0] * (at + 1 - len(series)))
        series[at] += 1

    def figures(self, outage: Outage) -> dict[str, Any]:
        """The peak once the broker listens again, and when the last hub is back, seconds after that."""
        up = int(outage.down_s)
        regained, half_at = 0, None
        for t, count in enumerate(self.back):
            regained += count
            if half_at is None and regained >= outage.hubs / 2:
                half_at = t
        return {
            "hubs": outage.hubs,
            "back": regained,
            "peak_per_s": max(self.attempts),
            "peak_after_return_per_s": max(self.attempts[up:], default=0),
            "attempts": sum(self.attempts),
            "half_back_after_s": None if half_at is None else half_at - up,
            "all_back_after_s": len(self.back) - up,
        }


Delay = Callable[[str], float]


def hub_delays(outage: Outage) -> list[Delay]:
    """Each hub's own policy, drawing from one seeded source."""
    chance = random.Random(outage.seed).random
    return [ReconnectPolicy(chance).delay_s for _ in range(outage.hubs)]


def library_delays(outage: Outage) -> list[Delay]:
    """The habit of libraries: 1, 2, 4 ... 120 s, the same for everybody."""

    def make() -> Delay:
        wait = [1.0]

        def delay(_failure: str) -> float:
            now, wait[0] = wait[0], min(120.0, wait[0] * 2)
            return now

        return delay

    return [make() for _ in range(outage.hubs)]


def lost(outage: Outage, delays: list[Delay]) -> list[float]:
    """When each hub tries first after it lost its session: the last bytes reach some sooner than others."""
    noticed = random.Random(outage.seed + 1).random
    return [noticed() * 0.5 + delay("uplink-lost") for delay in delays]


def booted(outage: Outage, spread_s: float) -> list[float]:
    """When each hub tries first after the power of all came back: they boot alike, within some seconds. `spread_s`:
    `uplink.boot_spread_s`."""
    chance = random.Random(outage.seed + 2)
    takes_s = [max(0.0, chance.gauss(20, 1)) for _ in range(outage.hubs)]
    return [took_s + first_delay_s(took_s, spread_s, chance.random) for took_s in takes_s]


def simulate(outage: Outage, delays: list[Delay], begins: list[float] | None = None) -> Course:
    """From the second in which every session is lost until every hub has one again, or a day has passed. `begins`: when
    each tries first; `lost`, where nothing is said."""
    course = Course()
    due = list(zip(begins or lost(outage, delays), range(outage.hubs)))
    heapq.heapify(due)
    free_at = outage.down_s
    while due and due[0][0] < 86_400:
        t, hub = heapq.heappop(due)
        course.count(course.attempts, t)
        if t < outage.down_s:
            heapq.heappush(due, (t + delays[hub]("uplink-unreachable"), hub))
            continue
        served_at = max(free_at, t) + 1 / outage.handshakes_s
        if served_at - t > PATIENCE_S:
            heapq.heappush(due, (t + PATIENCE_S + delays[hub]("uplink-unreachable"), hub))
            continue
        free_at = served_at
        course.count(course.back, served_at)
    return course


# The picture

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 900, 250, 70, 60, 70


def draw(rows: list[tuple[str, Outage, Course, Course]]) -> str:
    """An SVG: one panel an outage, attempts per second of both policies."""
    height = _TOP + len(rows) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + 20} {height}" font-family="sans-serif"'
        ' font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="70" y="22" font-size="17">Connection attempts per second after a fleet loses its broker</text>',
        '<text x="70" y="42" fill="#0060a8">— meterhub (full jitter)</text>',
        '<text x="270" y="42" fill="#c04000">— doubling 1-120 s without jitter</text>',
    ]
    for row, (title, outage, ours, library) in enumerate(rows):
        parts += _panel(_TOP + row * (_HEIGHT + _GAP), title, outage, ours, library)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(top: int, title: str, outage: Outage, ours: Course, library: Course) -> list[str]:
    span = max(len(ours.attempts), min(len(library.attempts), 2 * len(ours.attempts)), int(outage.down_s) + 60)
    peak = max(*ours.attempts, *library.attempts)
    bottom = top + 20 + _HEIGHT - 40

    def point(t: float, value: float) -> str:
        return f"{_LEFT + t / span * _WIDTH:.1f},{bottom - (value / peak) ** 0.5 * (_HEIGHT - 50):.1f}"

    parts = [f'<text x="{_LEFT}" y="{top + 14}">{title}</text>']
    marks = [mark for mark in (100, 1_000, 5_000, 20_000, 50_000, 100_000) if mark <= peak]
    for mark in marks:
        y = point(0, mark).split(",")[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{float(y) + 4}" text-anchor="end">{mark:,}</text>')
    if outage.down_s:
        x = point(outage.down_s, 0).split(",")[0]
        parts.append(f'<line x1="{x}" x2="{x}" y1="{top + 20}" y2="{bottom}" stroke="#080" stroke-dasharray="4 3"/>')
        parts.append(f'<text x="{float(x) + 4}" y="{top + 32}" fill="#080">the broker listens again</text>')
    for course, colour in ((library, "#c04000"), (ours, "#0060a8")):
        points = " ".join(point(t, value) for t, value in enumerate(course.attempts[:span]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1"/>')
    for minute in range(0, span // 60 + 1, max(1, span // 60 // 10)):
        x = point(minute * 60, 0).split(",")[0]
        parts += [f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{minute} min</text>']
    return parts


def outages(hubs: int) -> list[tuple[str, Outage]]:
    """A crash of seconds, and an outage of half an hour; the broker takes 2 % of the fleet a second."""
    rate = hubs / 50
    return [
        (f"{hubs:,} hubs; down 5 s; then {rate:,.0f} handshakes/s", Outage(hubs, 5, rate)),
        (f"{hubs:,} hubs; down 30 min; then {rate:,.0f} handshakes/s", Outage(hubs, 1800, rate)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.fleet.storm", description=__doc__)
    parser.add_argument("--hubs", type=int, default=100_000)
    parser.add_argument("--svg", type=Path, help="write the picture here")
    arguments = parser.parse_args()
    rows = []
    for title, outage in outages(arguments.hubs):
        ours = simulate(outage, hub_delays(outage))
        library = simulate(outage, library_delays(outage))
        rows.append((title, outage, ours, library))
    power = Outage(arguments.hubs, 0, arguments.hubs / 50)
    rows.append((
        f"{arguments.hubs:,} hubs regain their power and boot within seconds of each other; the broker stands",
        power,
        simulate(power, hub_delays(power), booted(power, BOOT_SPREAD_S)),
        simulate(power, library_delays(power), booted(power, 0)),
    ))  # fmt: skip
    for title, outage, ours, library in rows:
        print(title)
        print("  meterhub        ", json.dumps(ours.figures(outage)))
        print("  without jitter  ", json.dumps(library.figures(outage)))
    if arguments.svg is not None:
        arguments.svg.write_text(draw(rows))


if __name__ == "__main__":
    main()
