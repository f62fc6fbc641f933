"""The control point's connections, one a broker: what arrives at any comes in one queue, a command goes to all."""

import logging
import queue
from collections.abc import Sequence

from deploy.headend.config import HeadendConfig
from hub.headend.bookkeeper import CommandToSend
from hub.headend.connection import QUEUE_LIMIT, BrokerConnection, BrokerDelivery
from hub.wire.printable import why

_LOG = logging.getLogger("headend")


class Brokers:
    """A hub is at one broker, and nobody asks at which: a command is published at each. Where it is delivered twice (a
    hub moved, and its old session had it too), the hub answers the same receipt again."""

    def __init__(self, config: HeadendConfig, client_id: str = "") -> None:
        self.deliveries: queue.Queue[BrokerDelivery] = queue.Queue(QUEUE_LIMIT)
        self._connections = [
            BrokerConnection(
                host, port, config.ca_file, config.cert_file, config.key_file, client_id or config.client_id,
                acknowledges_late=True, deliveries=self.deliveries,
            )
            for host, port in config.brokers
        ]  # fmt: skip

    def start(self, filters: list[str], unwanted: Sequence[str] = ()) -> None:
        """To `unwanted` sessions of before may listen still: they do no longer. Raises OSError when no broker is there.
        The others are tried until they are."""
        failure: OSError | None = None
        missing = []
        for connection in self._connections:
            try:
                connection.start(filters, unwanted)
            except OSError as error:
                failure = error
                missing.append(connection)
                _LOG.warning("%s is not there: %s", connection.address, why(error))
        if failure is not None and len(missing) == len(self._connections):
            raise failure
        for connection in missing:
            connection.start_later(filters, unwanted)

    def send(self, commands: list[CommandToSend]) -> None:
        """Publish them at every broker; one that is away has them when it is back, if it keeps its session."""
        for command in commands:
            for connection in self._connections:
                connection.send(command.topic, command.message)

    def stop(self) -> None:
        for connection in self._connections:
            connection.stop()
