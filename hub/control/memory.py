"""What control keeps in the store, all of it at once: for a store that lost some of it while the hub runs."""

from typing import TYPE_CHECKING

import cbor2

from hub.control.records import CTR, FORGOT, HOLD, JOB, LIMIT, Request

if TYPE_CHECKING:
    from hub.control.controller import Controller


def since_item(not_before: float) -> bytes | None:
    """The item FORGOT: from when on a command must have been issued; None where nothing was ever forgotten."""
    if not_before == float("-inf"):
        return None
    return cbor2.dumps(None if not_before == float("inf") else not_before)


def job_item(request: Request) -> bytes:
    """A request that is under way."""
    return cbor2.dumps([request.kid, request.digest, request.op, request.args])


def everything(control: "Controller") -> dict[str, bytes | None]:
    """Every item but the answered commands: their counters are used up, so none of them is obeyed twice."""
    return {
        **{CTR + kid: cbor2.dumps(ctr) for kid, ctr in control.ctr.items()},
        **{LIMIT + limit.cti.hex(): limit.encode() for limit in control.limits},
        **{HOLD + cti.hex(): hold.encode() for cti, hold in control.holds.items()},
        **{JOB + cti.hex(): job_item(request) for cti, request in control.jobs.items()},
        FORGOT: since_item(control.authority.not_before),
    }
