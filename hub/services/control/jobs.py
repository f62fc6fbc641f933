"""What commands ask for that takes I/O: history, diagnosis, joining, settings (design 3.3, table of operations).

A table: op -> job. Each returns `(status, reason, detail, journal)` for the final receipt; the journal holds the
messages of lane `answers` that go with it. A job may run again after a crash: each is harmless to repeat.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from drivers.radio import Radio
from hub.core.control.records import Answer, JobRequest, Journal, Outcome
from hub.wire.uplink.envelope import ANSWERS_CTI
from hub.wire.uplink.pack import CONTENT_TYPE as PACK_TYPE
from hub.wire.uplink.pack import deflate_pack, encode_pack
from store import Store

if TYPE_CHECKING:
    from hub.wire.admin import AdapterRow, EventRow, StatusAnswer

# One `read` answers with at most so many readings, a pack of so many: an operator asks again for the rest.
MAX_READINGS, READINGS_PER_PACK = 40_000, 4000
MAX_RESENT = 10_000
_RADIO_WAIT_S = 30.0
_EVENTS_IN_BUNDLE = 200
_ANSWER_BYTES = 180_000


class Diagnosis(Protocol):
    """What `diagnose` tells."""

    async def status(self, _request: dict[str, Any]) -> "StatusAnswer": ...

    async def adapters(self, _request: dict[str, Any]) -> "list[AdapterRow]": ...

    async def events(self, request: dict[str, Any]) -> "list[EventRow]": ...


class Jobs:
    """Carries requests out. `send_again(lane, epoch, first, last)`: False while there is no session; `config(cti,
    wanted)` and `update(request)`: their own loops' work; `deflate()`: whether packs are made smaller."""

    def __init__(
        self,
        store: Store,
        report: Diagnosis,
        radio: Callable[[], Radio | None],
        *,
        send_again: Callable[[str, int, int, int], bool],
        config: Callable[[bytes, dict[str, Any]], Awaitable[Outcome]],
        update: Callable[[JobRequest], Awaitable[Outcome]],
        deflate: Callable[[], bool],
    ) -> None:
        self._store = store
        self._report = report
        self._radio = radio
        self._send_again = send_again
        self._change_config = config
        self._deflate = deflate
        self._table: dict[str, Callable[[JobRequest], Awaitable[Outcome]]] = {
            "read": self._read,
            "resend": self._resend,
            "permit": self._permit,
            "diagnose": self._diagnose,
            "switch": self._switch,
            "config": self._config,
            "update": update,
        }

    async def run(self, request: JobRequest) -> Outcome:
        """Do what a command asks for."""
        return await self._table[request.op](request)

    async def _read(self, request: JobRequest) -> Outcome:
        args = request.args
        found = await asyncio.wrap_future(
            self._store.readings(
                client=args.get("client"),
                quantity=args.get("quantity"),
                from_ms=int(args["from"] * 1000),
                to_ms=int(args["to"] * 1000),
                limit=MAX_READINGS + 1,
            )
        )
        complete = len(found) <= MAX_READINGS
        found = found[:MAX_READINGS]
        journal = Journal()
        for at in range(0, len(found), READINGS_PER_PACK):
            payload, extra = encode_pack(found[at : at + READINGS_PER_PACK]), dict[Any, Any]()
            if self._deflate():
                payload, extra = deflate_pack(payload)
            journal.answers.append(Answer(PACK_TYPE, payload, {ANSWERS_CTI: request.cti, **extra}))
        detail: dict[str, Any] = {"readings": len(found), "messages": len(journal.answers)}
        if not complete:
            detail["upto"] = found[-1].t_ms / 1000  # where to ask on
        return "completed", "" if complete else "truncated", detail, journal

    async def _resend(self, request: JobRequest) -> Outcome:
        args = request.args
        lane, epoch, first = args["lane"], args["epoch"], args["from"]
        last = min(args["to"], first + MAX_RESENT - 1)
        if last < first:
            return "failed", "bad-args", {"text": "to: expected a number not below from"}, None
        kept = await asyncio.wrap_future(self._store.sealed_range(lane, epoch, first, min(last, first + 63)))
        if not kept:
            return "failed", "not-kept", {"text": "none of these numbers is kept any more"}, None
        if not self._send_again(lane, epoch, first, last):
            return "failed", "no-session", {"text": "the session ended meanwhile; ask again"}, None
        return "completed", "" if last == args["to"] else "truncated", {"from": first, "to": last}, None

    async def _permit(self, request: JobRequest) -> Outcome:
        args = request.args
        radio = self._radio()
        if radio is None:
            return "failed", "no-radio", {}, None
        try:
            await asyncio.wait_for(
                radio.permit(args["duration"], args.get("ieee"), args.get("install_code")), _RADIO_WAIT_S
            )
        except (ValueError, TimeoutError) as error:
            return "failed", "radio", {"text": str(error)[:200]}, None
        return "completed", "", {"duration": args["duration"]}, None

    async def _diagnose(self, request: JobRequest) -> Outcome:
        what, report = request.args["what"], self._report
        found: dict[str, Any] = {"status": await report.status({})}
        if what != "status":
            found = {"radio": found["status"]["radio"], "adapters": await report.adapters({}), **found}
        if what == "bundle":
            found["events"] = await report.events({"limit": _EVENTS_IN_BUNDLE})
        payload = json.dumps(found, default=str, separators=(",", ":")).encode()
        if len(payload) > _ANSWER_BYTES:
            return "failed", "too-large", {"bytes": len(payload)}, None
        journal = Journal(answers=[Answer("application/json", payload, {ANSWERS_CTI: request.cti})])
        return "completed", "", {"what": what, "bytes": len(payload)}, journal

    async def _switch(self, request: JobRequest) -> Outcome:
        """Switch a ZCL appliance on. It is never switched off: it could not come back by itself (promise P4)."""
        radio = self._radio()
        if radio is None:
            return "failed", "no-radio", {}, None
        try:
            await radio.switch(request.args["client"], True)
        except (ValueError, ConnectionError) as error:
            return "failed", "radio", {"text": str(error)[:200]}, None
        return "completed", "", {}, None

    async def _config(self, request: JobRequest) -> Outcome:
        return await self._change_config(request.cti, request.args["set"])
