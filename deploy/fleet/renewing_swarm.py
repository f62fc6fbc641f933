"""A swarm whose hubs renew their certificates by EST, with the hub's own client, once SIGUSR1 says that it is time.

    python -m deploy.fleet.renewing_swarm --est URL --renewed DIR --spread-s 60 ... (the rest as deploy.fleet.swarm)

Each hub's turn is drawn from `--spread-s`, as hubs draw theirs from a day. The new key and certificate lie in DIR; the
old ones stay where they were.
"""

import heapq
import queue
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.fleet.swarm import Swarm, SwarmSession, live, parser_of, swarm_of
from hub.services.identity.est import BadEnrolment, reenrol
from hub.wire.keys.identity import load_identity

_AT_ONCE = 8
_AGAIN_S = 5.0


class Renewals:
    """Every hub's turn. What the threads have got is taken over by the swarm's loop, whose `each_round` is `adopt`."""

    def __init__(self, swarm: Swarm, url: str, ca_file: Path, hubs: Path, renewed: Path) -> None:
        self._swarm, self._url, self._ca_file, self._hubs, self._renewed = swarm, url, ca_file, hubs, renewed
        self._got: queue.SimpleQueue[tuple[SwarmSession, Path]] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(_AT_ONCE)
        self.failures = 0
        swarm.each_round = self.adopt

    def begin(self, spread_s: float) -> None:
        """Returns at once."""
        threading.Thread(target=self._begin, args=(spread_s,), daemon=True).start()

    def _begin(self, spread_s: float) -> None:
        chance = random.Random(1)
        now = time.monotonic()
        turns = [(now + chance.uniform(0, spread_s), number) for number in range(len(self._swarm.sessions))]
        heapq.heapify(turns)
        while turns and not self._swarm.is_ending:
            at, number = heapq.heappop(turns)
            time.sleep(max(0.0, at - time.monotonic()))
            self._workers.submit(self._renew, self._swarm.sessions[number])

    def _renew(self, session: SwarmSession) -> None:
        name = session.hub.hub
        cert_file, key_file = (self._hubs / f"{name}.{kind}" for kind in ("pem", "key"))
        while not self._swarm.is_ending:
            try:
                found = reenrol(self._url, self._ca_file, cert_file, key_file, load_identity(cert_file, key_file))
                break
            except (BadEnrolment, OSError) as error:
                self.failures += 1
                print(f"{name}: {error}", flush=True)
                time.sleep(_AGAIN_S)
        else:
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
        self._workers.shutdown(cancel_futures=True)


def main() -> int:
    parser = parser_of("renewing_swarm", __doc__)
    parser.add_argument("--est", required=True, metavar="URL", help="ends before /simplereenroll")
    parser.add_argument("--renewed", type=Path, required=True, metavar="DIR")
    parser.add_argument("--spread-s", type=float, default=60.0, help="(default: %(default)s)")
    arguments = parser.parse_args()
    arguments.renewed.mkdir(exist_ok=True)
    swarm = swarm_of(arguments)
    renewals = Renewals(swarm, arguments.est, arguments.ca, arguments.hubs, arguments.renewed)
    signal.signal(signal.SIGUSR1, lambda *_: renewals.begin(arguments.spread_s))
    try:
        return live(swarm)
    finally:
        renewals.end()


if __name__ == "__main__":
    sys.exit(main())
