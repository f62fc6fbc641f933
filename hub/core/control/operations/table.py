"""`price` and `weather`: a table of steps for the home's displays and adapters."""

from hub.core.control.operations.base import CommandedOperation
from hub.core.control.records import Journal
from hub.wire.uplink.cbor import encode


class Table(CommandedOperation):
    """The newest table counts."""

    def _table(self) -> dict[str, object]:
        return {**self.args, "steps": sorted(self.args["steps"], key=lambda step: step[0])}

    def journal(self) -> Journal:
        journal = Journal(kept={self.command.op: encode(self._table())})
        self.complete(journal)
        return journal

    def apply(self, now: float) -> None:
        self.desk.bulletin.set_table(self.command.op, self._table(), self.desk.utc(now))
