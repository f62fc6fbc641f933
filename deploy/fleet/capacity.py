"""What a fleet needs, on paper: from figures that were measured, for any number of hubs.

    python -m deploy.fleet.capacity [HUBS ...]

The figures and the commands that measure them stand in README.md beside this file. It is a calculation, not a
measurement: nobody has run a million hubs here.
"""

import argparse
import math
import sys
from dataclasses import dataclass

# A broker's session, mutual TLS: memory, processor time to open it with a full handshake, and resumed; a message in or
# out, and a ping with its answer.
SESSION_BYTES, OPEN_CPU_S, RESUME_CPU_S = 28_000, 0.004, 0.0019
MESSAGE_CPU_S, PING_CPU_S, KEEPALIVE_S = 0.00006, 0.00002, 60.0
SESSIONS_A_BROKER = 50_000
# A worker with its part of PostgreSQL, half-hours and the columnar store, a core and a half for all of it: packs a
# second, the whole way (175 of them take 190 ms of a core).
PACKS_A_SECOND, CORES_A_WRITER = 1_380, 1.5
# A reading in PostgreSQL with its signed evidence; what of that is evidence alone; a reading in a columnar store.
BOOK_BYTES, COLUMN_BYTES = 148.0, 2.0
# Half-hours of one register: what is kept of a household for ever.
HALF_HOUR_BYTES, HALF_HOURS_A_YEAR = 60.0, 17_532
# On the line: a reading in a pack, what is around a pack, a heartbeat with what is around it.
READING_BYTES, AROUND_BYTES, HEARTBEAT_BYTES, ENVELOPE_BYTES = 3.7, 220.0, 260.0, 140.0
# Prices to be replaced by one's own: a core with 4 GB, and a terabyte that is there twice, a month each.
CORE_A_MONTH, TERABYTE_A_MONTH = 15.0, 50.0
_ROWS_S = 90 * 86_400
_DAY_S, _YEAR_S = 86_400, 31_557_600


@dataclass(frozen=True, slots=True)
class Habits:
    """Of each hub: seconds between packs and between heartbeats, readings a second."""

    pack_s: float = 300.0
    heartbeat_s: float = 300.0
    readings_a_second: float = 0.19


@dataclass(frozen=True, slots=True)
class Needs:
    """Of a fleet. Bytes and seconds unless the name says otherwise."""

    hubs: int
    brokers: int
    broker_memory: float
    broker_load: float  # of one core, while nobody comes or goes
    reopen_cpu: float  # a broker's processor time when all its sessions come back at once, resumed
    open_cpu: float  # the same with full handshakes: a broker that started anew knows no session
    messages_a_second: float
    readings_a_second: float
    writers: int
    cores: int
    book_a_year: float  # all of it in rows
    kept: float  # after a year: rows of 90 days, signed packs and half-hours of the year
    columns_a_year: float
    air_a_month: float  # of one hub

    @property
    def cost_a_year(self) -> float:
        """By `CORE_A_MONTH` and `TERABYTE_A_MONTH`, what is kept after a year and its columns."""
        return 12 * (self.cores * CORE_A_MONTH + (self.kept + self.columns_a_year) / 1e12 * TERABYTE_A_MONTH)


def needs(hubs: int, habits: Habits) -> Needs:
    """What so many hubs need. A writer is loaded to a half: what a region held back for a day fits beside it."""
    packs = hubs / habits.pack_s
    readings = hubs * habits.readings_a_second
    brokers = math.ceil(hubs / SESSIONS_A_BROKER)
    at_each = hubs / brokers
    messages = packs + hubs / habits.heartbeat_s
    air = (habits.readings_a_second * READING_BYTES + AROUND_BYTES / habits.pack_s
           + HEARTBEAT_BYTES / habits.heartbeat_s) * _DAY_S * 30  # fmt: skip
    writers = math.ceil(2 * packs / PACKS_A_SECOND)
    evidence = (readings * READING_BYTES + packs * ENVELOPE_BYTES) * _YEAR_S
    return Needs(
        hubs, brokers, at_each * SESSION_BYTES,
        (2 * messages * MESSAGE_CPU_S + hubs / KEEPALIVE_S * PING_CPU_S) / brokers,
        at_each * RESUME_CPU_S, at_each * OPEN_CPU_S, messages, readings, writers,
        brokers + math.ceil(writers * CORES_A_WRITER),
        readings * _YEAR_S * BOOK_BYTES,
        readings * _ROWS_S * BOOK_BYTES + evidence + hubs * HALF_HOURS_A_YEAR * HALF_HOUR_BYTES,
        readings * _YEAR_S * COLUMN_BYTES, air,
    )  # fmt: skip


def table(found: list[Needs]) -> str:
    """One row a need, one column a fleet: Markdown."""
    rows = [
        ("hubs, each a connection", [f"{n.hubs:,}" for n in found]),
        (f"brokers of {SESSIONS_A_BROKER:,} sessions", [f"{n.brokers:,}" for n in found]),
        ("memory of a broker for them", [_bytes(n.broker_memory) for n in found]),
        ("a broker's core, while nobody comes or goes", [f"{n.broker_load:.0%}" for n in found]),
        ("processor time of a broker to open them all, resumed", [f"{n.reopen_cpu:.0f} s" for n in found]),
        ("the same by full handshakes", [f"{n.open_cpu:.0f} s" for n in found]),
        ("messages a second", [f"{n.messages_a_second:,.0f}" for n in found]),
        ("readings a second", [f"{n.readings_a_second:,.0f}" for n in found]),
        ("writers of the book, each half loaded", [f"{n.writers:,}" for n in found]),
        ("cores: a broker one, a writer with its databases one and a half", [f"{n.cores:,}" for n in found]),
        ("disk a year, every reading a row", [_bytes(n.book_a_year) for n in found]),
        ("disk after a year: rows of 90 days, signed packs, half-hours", [_bytes(n.kept) for n in found]),
        ("disk a year, columnar", [_bytes(n.columns_a_year) for n in found]),
        ("one hub on the line, a month", [_bytes(n.air_a_month) for n in found]),
        (f"cost a year at {CORE_A_MONTH:g} a core and {TERABYTE_A_MONTH:g} a terabyte a month",
         [f"{n.cost_a_year:,.0f}" for n in found]),
        ("of that, a hub", [f"{n.cost_a_year / n.hubs:.2f}" for n in found]),
    ]  # fmt: skip
    lines = ["| " + " | ".join([name, *values]) + " |" for name, values in rows]
    return "\n".join([lines[0], "|---" + "|--:" * len(found) + "|", *lines[1:]])


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000 or unit == "PB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.fleet.capacity", description=__doc__)
    parser.add_argument("hubs", type=int, nargs="*", default=[1_000_000, 10_000_000, 50_000_000])
    for name, value in (("pack-s", 300.0), ("heartbeat-s", 300.0), ("readings-a-second", 0.19)):
        parser.add_argument("--" + name, type=float, default=value, help="of each hub (default: %(default)s)")
    arguments = parser.parse_args()
    habits = Habits(arguments.pack_s, arguments.heartbeat_s, arguments.readings_a_second)
    if min(arguments.hubs) < 1 or min(habits.pack_s, habits.heartbeat_s) <= 0 or habits.readings_a_second < 0:
        parser.error("expected at least one hub, and times above 0")
    print(table([needs(hubs, habits) for hubs in arguments.hubs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
