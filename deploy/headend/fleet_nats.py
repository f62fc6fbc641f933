"""`make fleet ENGINE=nats`: the same service and fleet over three nodes of nats-server that stand for each other.

Each session and message is on all three (R3), behind one address (haproxy). A node is killed, as a machine that dies:
a limit reaches everybody, and nothing is lost. Each hub is held to its own topics by its certificate's name.
nats-server has no `$share`: two workers divide packs by hubs' names.
"""

import sys
import time

from deploy.broker_nodes import nats_config, nats_program
from deploy.headend.fleet import BACK_S, OUTAGE_READINGS, Fleet
from deploy.headend.pilot import Failed, live, say
from deploy.waiting import free_port


class NatsFleet(Fleet):
    """A fleet over a cluster, and its story."""

    divides_by = "name"
    are_one = True

    def _start_brokers(self, *, embedded: bool) -> None:
        program = None if embedded else nats_program()
        if program is None:
            raise Failed("nats-server is not installed: deploy/setup.sh brokers has it")
        place = self._folder / "nats"
        place.mkdir()
        routes = [free_port() for _ in self.ports]
        self._broker_program = program
        for number in range(len(self.ports)):
            self._broker_words.append(
                ["-c", str(nats_config(place, self._pki, self.ports, routes, number, self.names))]
            )
        for number in range(len(self.ports)):
            self.start_broker(number)
        say("broker", f"nats-server, {len(self.ports)} nodes, each session and message on all of them;"
            " each hub held to its own topics by its certificate's name")  # fmt: skip

    def tell(self) -> bool:
        if not self._engines.front_port:
            raise Failed("haproxy is not installed: the nodes need one address before them; deploy/setup.sh fleet")
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self.desk.get("/v1/fleet")["online"] >= wanted, BACK_S)
        say("online", f"{wanted} of {wanted} hubs")
        self.limit_all(wanted)
        readings = self._readings()
        self.kill_broker(0)
        killed = time.monotonic()
        say("outage", f"the node at {self._address(0)} is killed")
        self.wait("readings of each hub", lambda: self._readings() >= readings + OUTAGE_READINGS * wanted, BACK_S)
        say("outage", f"{OUTAGE_READINGS * wanted} readings after it came in {time.monotonic() - killed:.1f} s")
        order = self.limit_all(wanted)
        self.start_broker(0)
        say("outage", "the node is back")
        self.wait("no number to be missing", lambda: not self.missing(), BACK_S)
        self.wait_for_columns()
        return self.conclude(order, wanted, self._engines.held())

    def _readings(self) -> int:
        return int(self.desk.get("/v1/fleet")["readings"])


def main() -> int:
    return live(NatsFleet, "fleet_nats", __doc__ or "", hubs=100, brokers=3)


if __name__ == "__main__":
    sys.exit(main())
