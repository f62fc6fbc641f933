"""Commands that take I/O: durable as a job first, so that a crash neither loses nor doubles one unseen."""

from collections.abc import Mapping
from typing import Any

from hub.core.control.authority import Accepted
from hub.core.control.operations.base import CommandedOperation, Desk, Unable
from hub.core.control.records import JOB, JobRequest, Journal
from hub.wire.uplink.cbor import encode

MAX_JOBS, MAX_JOBS_EACH = 16, 8


class Job(CommandedOperation):
    """What is asked for is the service's to do (hub/services/control/jobs.py); its result is another receipt."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        command = self.command
        own = sum(job.kid == command.kid for job in desk.jobs.values())
        if len(desk.jobs) >= MAX_JOBS or own >= MAX_JOBS_EACH:
            raise Unable("too-many", f"{MAX_JOBS_EACH} commands of an operator, {MAX_JOBS} in all, are under way")
        is_for_many = command.aud != desk.hub_id
        self.request = JobRequest(command.cti, command.kid, verdict.digest, command.op, dict(args), is_for_many)

    def journal(self) -> Journal:
        request = self.request
        assert request is not None
        kept = encode([request.kid, request.digest, request.op, request.args, request.is_for_many])
        journal = Journal(kept={JOB + request.cti.hex(): kept})
        self.tell(journal, "accepted")
        return journal

    def apply(self, now: float) -> None:
        assert self.request is not None
        self.desk.jobs[self.request.cti] = self.request
