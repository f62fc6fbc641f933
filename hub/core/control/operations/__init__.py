"""What each operation does, once it is authorised and its arguments are sound: one class an operation, one file a kind.

A recipe for another one: its role in hub/wire/uplink/command.py, its arguments in hub/wire/uplink/args.py, a class
with `journal()` and `apply()` here, an example in deploy/asyncapi.py.
"""

from hub.core.control.operations.appliance import Set, Switch
from hub.core.control.operations.base import Desk, Operation, OperationClass, Unable
from hub.core.control.operations.book import Booked
from hub.core.control.operations.cancel import Cancel
from hub.core.control.operations.heartbeat import Heartbeat
from hub.core.control.operations.job import Job
from hub.core.control.operations.limit import LimitHousehold
from hub.core.control.operations.table import Table
from hub.core.control.operations.trust import ConfirmTrust, Trust

OPERATIONS: dict[str, OperationClass] = {
    "limit": LimitHousehold,
    "limit.cancel": Cancel,
    "switch": Switch,
    "set": Set,
    "heartbeat": Heartbeat,
    "price": Table,
    "weather": Table,
    "read": Job,
    "resend": Job,
    "booked": Booked,
    "permit": Job,
    "diagnose": Job,
    "config": Job,
    "trust": Trust,
    "trust.confirm": ConfirmTrust,
    "update": Job,
}

__all__ = ["OPERATIONS", "Desk", "Operation", "OperationClass", "Unable"]
