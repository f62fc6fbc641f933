"""`make fleet ENGINE=rabbitmq`: the same service, fleet and story as `make fleet`, over nodes of RabbitMQ (3.10, MQTT
3.1.1), each for itself, each hub held to its own topics by its certificate's name. It has no `$share`: two workers
divide packs by hubs' names."""

import subprocess
import sys

from deploy.broker_nodes import RABBITMQ, rabbitmq_environment
from deploy.headend.fleet import Fleet
from deploy.headend.pilot import Failed, live, say
from deploy.waiting import free_port


class RabbitFleet(Fleet):
    """A fleet over RabbitMQ."""

    divides_by = "name"

    def _start_brokers(self, *, embedded: bool) -> None:
        if embedded or not RABBITMQ.exists():
            raise Failed("rabbitmq-server is not installed: deploy/setup.sh brokers has it")
        self._broker_program = str(RABBITMQ)
        self._epmd_port = free_port()
        for number, port in enumerate(self.ports):
            place = self._folder / f"broker{number}"
            place.mkdir()
            self._broker_words.append([])
            environment = {
                **rabbitmq_environment(place, self._pki, port, self.names),
                "ERL_EPMD_PORT": str(self._epmd_port),
            }
            self._broker_environments.append(environment)
        for number in range(len(self.ports)):
            self.start_broker(number)
        say("broker", f"{len(self.ports)} times RabbitMQ, mutual TLS")

    def stop(self) -> None:
        super().stop()
        # Erlang's own name server, which the first node starts and nobody ends.
        subprocess.run(["epmd", "-port", str(self._epmd_port), "-kill"], capture_output=True, check=False)


def main() -> int:
    return live(RabbitFleet, "fleet_rabbitmq", __doc__ or "", hubs=60, brokers=2)


if __name__ == "__main__":
    sys.exit(main())
