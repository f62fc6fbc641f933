"""A region was cut off for a day: how long until what its hubs kept is in the book.

`python -m tests.bench.backlog [--hubs N] [--workers W] [--region N] [--pack-s S]`: each of N hubs has a day's readings,
one in five seconds, sealed as a hub seals a backlog (4,000 readings a pack; or S seconds a pack, as it seals when it is
online), and sends them over a TLS session of its own, as fast as it is acknowledged. Brokers, haproxy, PostgreSQL, the
service and its workers are those of `make fleet`; all of it shares this machine. Time runs from the first connect until
the last reading is in the book, and from that follows, by the rate alone, what a region needs.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from deploy.fleet.simulated_hub import HubMessage
from deploy.fleet.swarm import Swarm, SwarmSession, make_session
from deploy.fleet.thin_tls import ThinTlsContext
from deploy.headend.control_point import reader
from deploy.headend.fleet import Fleet
from deploy.headend.pilot import live_once, say, story_parser
from deploy.janitor import Janitor
from hub.wire.keys.operators import parse_operators
from tests.bench.processor_time import cpu_s_of

_DAY_S = 86_400
_INTERVAL_S = 10.0  # two readings each
_BACKLOG_PACK_S = 20_000.0  # 4,000 readings, as hub/services/uplink/sender.py packs what waited
_LIVE_READINGS_A_SECOND = 0.19  # deploy/fleet/capacity.py
_MOST_S = 1_800.0


class Backlog(Fleet):
    """The engines of a fleet, and hubs that have been away."""

    def __init__(
        self, folder: Path, janitor: Janitor, hubs: int, port: int, brokers: int, *, workers: int, region: int,
        pack_s: float,
    ) -> None:  # fmt: skip
        super().__init__(folder, janitor, hubs, port, brokers)
        self.workers, self._region, self._pack_s = workers, region, pack_s

    def _certify_real_hub(self) -> None:
        """There is none."""

    def _start_hubs(self) -> None:
        """They come with the story."""

    def tell(self) -> bool:
        begun = time.monotonic()
        sessions = list(self._sessions())
        packs = {session: self._day_of(session) for session in sessions}
        count = sum(len(messages) for messages in packs.values())
        size = sum(len(message.payload) for messages in packs.values() for message in messages)
        readings = sum(session.hub.account()["readings"] for session in sessions)
        say("backlog", f"{readings:,} readings of a day of {len(sessions)} hubs in {count} packs,"
                       f" {size / readings:.1f} B a reading, sealed in {time.monotonic() - begun:.0f} s")  # fmt: skip
        swarm = Swarm(sessions, 200)
        waiting = dict(packs)
        begun = time.monotonic()
        cluster = self._engines.cluster
        look_at = begun
        before = self._cpu_s()

        with closing(reader(cluster.url if cluster is not None else self._folder / "headend")) as db:

            def look() -> None:
                nonlocal look_at
                for session in [session for session in waiting if session.is_connected]:
                    session.say(waiting.pop(session))
                now = time.monotonic()
                if now >= look_at:
                    look_at = now + 0.5
                    booked = int(db.execute("SELECT coalesce(sum(readings), 0) FROM series").fetchone()[0])
                    swarm.is_ending = booked >= readings or now > begun + _MOST_S

            swarm.each_round = look
            swarm.run()
            took_s = time.monotonic() - begun
            spent = {name: cpu_s - before[name] for name, cpu_s in self._cpu_s().items()}
            booked = int(db.execute("SELECT count(*) FROM reading").fetchone()[0])
        rate = booked / took_s
        print(f"\n{booked:,} of {readings:,} readings in the book after {took_s:.1f} s: {rate:,.0f} a second,"
              f" {count / took_s:,.0f} packs a second, {len(sessions)} sessions, workers: {self.workers}")  # fmt: skip
        each = 10_000 / booked
        print("processor time for 10,000 readings: "
              + ", ".join(f"{name} {1000 * cpu_s * each:.0f} ms" for name, cpu_s in spent.items()))  # fmt: skip
        day, live = self._region * readings / len(sessions), self._region * _LIVE_READINGS_A_SECOND
        left = rate - live
        beside = f"{day / left / 3600:.1f} h" if left > 0 else "more writers"
        print(f"a region of {self._region:,} hubs, {day:,.0f} readings: {day / rate / 3600:.1f} h on such a machine,"
              f" and {beside} beside what the region says meanwhile ({live:,.0f} a second)")  # fmt: skip
        return booked == readings

    def _cpu_s(self) -> dict[str, float]:
        """By part. The hubs are this process."""
        brokers = [child.pid for name, child in self._children.items() if name.startswith("broker")]
        parts = {"brokers": brokers, "the hubs": [os.getpid()]}
        for name, child in self._children.items():
            if name not in ("swarm", "hub", "radio") and child.pid not in brokers:
                parts["service and workers" if name == "service" else name] = [child.pid]
        own = cpu_s_of(os.getpid())
        found = {name: cpu_s_of(*pids) for name, pids in parts.items()}
        # All the others are its children.
        found["the hubs"] = own - sum(cpu_s for name, cpu_s in found.items() if name != "the hubs")
        return found

    def _sessions(self) -> Iterator[SwarmSession]:
        operators = parse_operators(self._operators.read_text())
        tls = ThinTlsContext(self._pki / "ca.pem")
        addresses = [("localhost", port) for port in self._hub_ports]
        for file in sorted((self._pki / "hubs").glob("*.pem")):
            yield make_session(tls, file, operators, addresses, interval_s=_INTERVAL_S, pack_s=self._pack_s,
                               began_s=time.time() - _DAY_S)  # fmt: skip

    @staticmethod
    def _day_of(session: SwarmSession) -> list[HubMessage]:
        found = []
        now = time.time()
        while (t := session.hub.deadline) < now:
            found += [message for message in session.hub.due(t) if message.topic.endswith("/readings")]
        session.hub.quieten()
        return found


def main() -> int:
    parser = story_parser("backlog", __doc__ or "", hubs=60, brokers=3)
    parser.prog = "python -m tests.bench.backlog"
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--region", type=int, default=50_000, help="hubs to reckon for (default: %(default)s)")
    parser.add_argument("--pack-s", type=float, default=_BACKLOG_PACK_S, help="(default: %(default)s)")
    return live_once(Backlog, parser, "workers", "region", "pack_s")


if __name__ == "__main__":
    sys.exit(main())
