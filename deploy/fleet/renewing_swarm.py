"""A swarm whose hubs look at the EST server's authorities, and renew once another one certifies, as hubs do.

    python -m deploy.fleet.renewing_swarm --est URL --renewed DIR --look-s 60 ... (the rest as deploy.fleet.swarm)

Both by the hub's own client. Each hub's first look is drawn from `--look-s`, as a hub draws it from
`uplink.est_look_s`. The new key and certificate lie in DIR; the old ones stay where they were.
"""

import heapq
import queue
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.fleet.swarm import Swarm, SwarmSession, live, parser_of, swarm_of
from hub.services.identity.est import BadEnrolment, authorities_at, reenrol, successor_of
from hub.wire.keys.identity import load_identity

_AT_ONCE = 8


class Renewals:
    """Every hub's looks. What the threads have got is taken over by the swarm's loop, whose `each_round` is `adopt`."""

    def __init__(self, swarm: Swarm, url: str, ca_file: Path, hubs: Path, renewed: Path, look_s: float) -> None:
        self._swarm, self._url, self._ca_file, self._hubs, self._renewed = swarm, url, ca_file, hubs, renewed
        self._got: queue.SimpleQueue[tuple[SwarmSession, Path]] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(_AT_ONCE)
        self._look_s = look_s
        self._ending = threading.Event()
        self.failures = 0
        swarm.each_round = self.adopt

    def begin(self) -> None:
        """Returns at once."""
        threading.Thread(target=self._begin, daemon=True).start()

    def _begin(self) -> None:
        chance = random.Random(1)
        now = time.monotonic()
        turns = [(now + chance.uniform(0, self._look_s), number) for number in range(len(self._swarm.sessions))]
        heapq.heapify(turns)
        while turns and not self._ending.is_set():
            at, number = heapq.heappop(turns)
            self._ending.wait(max(0.0, at - time.monotonic()))
            session = self._swarm.sessions[number]
            if not (self._renewed / f"{session.hub.hub}.pem").exists():
                self._workers.submit(self._look, session)
                heapq.heappush(turns, (at + self._look_s, number))

    def _look(self, session: SwarmSession) -> None:
        name = session.hub.hub
        cert_file, key_file = (self._hubs / f"{name}.{kind}" for kind in ("pem", "key"))
        files = (self._ca_file, cert_file, key_file)
        try:
            identity = load_identity(cert_file, key_file)
            if self._ending.is_set() or successor_of(identity.certificate, authorities_at(self._url, *files)) is None:
                return
            found = reenrol(self._url, *files, identity, outlasts=False)
        except (BadEnrolment, OSError) as error:
            self.failures += 1
            print(f"{name}: {error}", flush=True)
            return
        file = self._renewed / f"{name}.pem"
        file.write_bytes(found.certificate)
        file.with_suffix(".key").touch(mode=0o600)
        file.with_suffix(".key").write_bytes(found.key)
        self._got.put((session, file))

    def adopt(self) -> None:
        """What has come since; one at a round, so that the loop goes on."""
        try:
            session, file = self._got.get_nowait()
        except queue.Empty:
            return
        session.renew(file)

    def end(self) -> None:
        self._ending.set()
        self._workers.shutdown(cancel_futures=True)


def main() -> int:
    parser = parser_of("renewing_swarm", __doc__)
    parser.add_argument("--est", required=True, metavar="URL", help="ends before /simplereenroll")
    parser.add_argument("--renewed", type=Path, required=True, metavar="DIR")
    parser.add_argument("--look-s", type=float, default=60.0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    arguments.renewed.mkdir(exist_ok=True)
    swarm = swarm_of(arguments)
    renewals = Renewals(swarm, arguments.est, arguments.ca, arguments.hubs, arguments.renewed, arguments.look_s)
    try:
        renewals.begin()
        return live(swarm)
    finally:
        renewals.end()


if __name__ == "__main__":
    sys.exit(main())
