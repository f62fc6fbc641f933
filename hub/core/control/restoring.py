"""What the store kept of control, taken up again at a start: one item at a time, each by its kind."""

from typing import TYPE_CHECKING

from hub.core.control.appliance_orders import decode_hold
from hub.core.control.limits import decode_limit
from hub.core.control.records import ANSWERED, CTR, FAIRNESS, FORGOT, HOLD, JOB, LIMIT, Request
from hub.wire.uplink.cbor import loads_one

if TYPE_CHECKING:
    from hub.core.control.controller import Controller


def restore_items(control: "Controller", state: dict[str, bytes]) -> list[str]:
    """Take up all of it; the names of items that did not read."""
    bad = []
    for name, value in state.items():
        try:
            _restore_item(control, name, value)
        except (ValueError, TypeError, KeyError, IndexError):
            bad.append(name)
    return bad


def _restore_item(control: "Controller", name: str, value: bytes) -> None:
    """Take up one item. Raises ValueError, TypeError, KeyError or IndexError for one that is not what was kept."""
    kind, _, rest = name.partition("/")
    if kind + "/" == ANSWERED:
        control.answered.restore(bytes.fromhex(rest), value)
    elif kind + "/" == CTR:
        control.ctr[rest] = int(loads_one(value))
    elif kind + "/" == LIMIT:
        control.limits.put(decode_limit(bytes.fromhex(rest), value))
    elif kind + "/" == HOLD:
        control.holds[bytes.fromhex(rest)] = decode_hold(bytes.fromhex(rest), value)
    elif kind + "/" == JOB:
        kid, digest, op, args, *more = loads_one(value)  # earlier versions kept four
        control.jobs[bytes.fromhex(rest)] = Request(bytes.fromhex(rest), kid, digest, op, args, more == [True])
    elif name == FAIRNESS:
        control.household.restore_fairness(loads_one(value))
    elif name == FORGOT:
        since = loads_one(value)
        control.authority.not_before = float("inf") if since is None else float(since)
    elif name in ("price", "weather"):
        control.bulletin.restore(name, loads_one(value))
