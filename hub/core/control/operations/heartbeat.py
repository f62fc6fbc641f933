"""`heartbeat`: this operator is alive, and from its first one on it is missed when it is silent."""

from hub.core.control.operations.base import CommandedOperation
from hub.core.control.records import BEAT, Journal
from hub.wire.uplink.cbor import encode


class Heartbeat(CommandedOperation):
    """No receipt. Durable is only that an operator sends them at all: a flash page a minute would be a high price for a
    sign of life. After a restart a heartbeat of before could be replayed until it expires; it would command nothing."""

    def journal(self) -> Journal:
        return Journal(kept={BEAT + self.kid: encode(True)}) if self.desk.is_new_beat(self.kid) else Journal()

    def apply(self, now: float) -> None:
        self.desk.heard(self.kid, now, heartbeat=True)
