"""`make fleet`: the control point over several brokers, and a fleet that outlives the death of one.

What `make headend` starts (deploy/headend/pilot.py), with three brokers. A limit reaches everybody; a broker is killed,
as a machine that dies; its hubs go to the others by themselves and lose nothing; a limit reaches everybody again; the
broker comes back with what it had of before, and nobody is misled by that. The book is held against what hubs sent.
"""

import sys
import time

from deploy.headend.pilot import Pilot, live, say

_OUTAGE_READINGS = 2  # of each hub, while a broker is dead
_BACK_S = 180.0


class Fleet(Pilot):
    """A pilot with several brokers, and its story."""

    def tell(self) -> bool:
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self._online() >= wanted, _BACK_S)
        at = self._online_at()
        say("online", f"{wanted} of {wanted} hubs: " + ", ".join(f"{n} at {where}" for where, n in at.items()))
        self.limit_all(wanted)
        dead = max(range(len(self.ports)), key=lambda number: at.get(self._address(number), 0))
        moved = at.get(self._address(dead), 0)
        self.kill_broker(dead)
        killed = time.monotonic()
        say("outage", f"the broker at {self._address(dead)} is killed; {moved} hubs were there")
        self.wait("them at the others", lambda: self._online(without=self._address(dead)) >= wanted, _BACK_S)
        say("outage", f"{moved} of {moved} are at the others after {time.monotonic() - killed:.1f} s")
        readings = self.desk.get("/v1/fleet")["readings"]
        self.wait(
            "readings of each hub",
            lambda: self.desk.get("/v1/fleet")["readings"] >= readings + _OUTAGE_READINGS * wanted, _BACK_S,
        )  # fmt: skip
        order = self.limit_all(wanted)
        self.start_broker(dead)
        say("outage", "the broker is back, with the retained words and sessions of before")
        self.wait("no number to be missing", lambda: not self.missing(), _BACK_S)
        still = self._online(without=self._address(dead))
        return (
            self.conclude(order, wanted, {"believed to be where they are": f"{still} of {wanted}"}) and still == wanted
        )

    def _address(self, number: int) -> str:
        return f"localhost:{self.ports[number]}"

    def _online_at(self) -> dict[str, int]:
        at: dict[str, int] = self.desk.get("/v1/fleet")["online_at"]
        return at

    def _online(self, without: str = "") -> int:
        return sum(count for where, count in self._online_at().items() if where != without)


def main() -> int:
    return live(Fleet, "fleet", __doc__ or "", hubs=300, brokers=3)


if __name__ == "__main__":
    sys.exit(main())
