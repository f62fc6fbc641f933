"""What commands ask for that takes I/O: history, diagnosis, joining, settings (design 3.3, table of operations).

A table: op -> errand. Each returns `(status, reason, detail, journal)` for the final receipt; the journal holds the
messages of lane `answers` that go with it. An errand may run again after a crash: each is harmless to repeat.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hub.core.control.records import Answer, Journal, Outcome, Request
from hub.wire.uplink.pack import CONTENT_TYPE as PACK_TYPE
from hub.wire.uplink.pack import deflate_pack, encode_pack

if TYPE_CHECKING:
    from hub.app.daemon import Daemon

# One `read` answers with at most so many readings, a pack of so many: an operator asks again for the rest.
MAX_READINGS, READINGS_PER_PACK = 40_000, 4000
MAX_RESENT = 10_000
_RADIO_WAIT_S = 30.0
_EVENTS_IN_BUNDLE = 200
_ANSWER_OCTETS = 180_000


class Errands:
    """Carries out requests on a running daemon."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon
        self._table: dict[str, Callable[[Request], Awaitable[Outcome]]] = {
            "read": self._read,
            "resend": self._resend,
            "permit": self._permit,
            "diagnose": self._diagnose,
            "switch": self._switch,
            "config": self._config,
            "update": self._daemon.updates.run,
        }

    async def run(self, request: Request) -> Outcome:
        """Do what a command asks for."""
        return await self._table[request.op](request)

    async def _read(self, request: Request) -> Outcome:
        args = request.args
        found = await asyncio.wrap_future(
            self._daemon.store.readings(
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
            payload, extra = encode_pack(found[at : at + READINGS_PER_PACK]), dict[str, Any]()
            if self._daemon.config.uplink.deflate:
                payload, extra = deflate_pack(payload)
            journal.answers.append(Answer(PACK_TYPE, payload, {"re": request.cti, **extra}))
        detail: dict[str, Any] = {"readings": len(found), "messages": len(journal.answers)}
        if not complete:
            detail["upto"] = found[-1].t_ms / 1000  # where to ask on
        return "completed", "" if complete else "truncated", detail, journal

    async def _resend(self, request: Request) -> Outcome:
        args = request.args
        lane, epoch, first = args["lane"], args["epoch"], args["from"]
        last = min(args["to"], first + MAX_RESENT - 1)
        if last < first:
            return "failed", "bad-args", {"text": "to: expected a number not below from"}, None
        kept = await asyncio.wrap_future(self._daemon.store.sealed_range(lane, epoch, first, min(last, first + 63)))
        if not kept:
            return "failed", "not-kept", {"text": "none of these numbers is kept any more"}, None
        if not self._daemon.uplink.send_again(lane, epoch, first, last):
            return "failed", "no-session", {"text": "the session ended meanwhile; ask again"}, None
        return "completed", "" if last == args["to"] else "truncated", {"from": first, "to": last}, None

    async def _permit(self, request: Request) -> Outcome:
        args = request.args
        radio = self._daemon.radio
        if radio is None:
            return "failed", "no-radio", {}, None
        try:
            await asyncio.wait_for(
                radio.permit(args["duration"], args.get("ieee"), args.get("install_code")), _RADIO_WAIT_S
            )
        except (ValueError, TimeoutError) as error:
            return "failed", "radio", {"text": str(error)[:200]}, None
        return "completed", "", {"duration": args["duration"]}, None

    async def _diagnose(self, request: Request) -> Outcome:
        what, report = request.args["what"], self._daemon.report
        found: dict[str, Any] = {"status": await report.status({})}
        if what != "status":
            found = {"radio": found["status"]["radio"], "adapters": await report.adapters({}), **found}
        if what == "bundle":
            found["events"] = await report.events({"limit": _EVENTS_IN_BUNDLE})
        payload = json.dumps(found, default=str, separators=(",", ":")).encode()
        if len(payload) > _ANSWER_OCTETS:
            return "failed", "too-large", {"octets": len(payload)}, None
        journal = Journal(answers=[Answer("application/json", payload, {"re": request.cti})])
        return "completed", "", {"what": what, "octets": len(payload)}, journal

    async def _switch(self, request: Request) -> Outcome:
        """Switch a ZCL appliance on. It is never switched off: it could not come back by itself (promise P4)."""
        radio = self._daemon.radio
        if radio is None:
            return "failed", "no-radio", {}, None
        try:
            await radio.switch(request.args["client"], True)
        except (ValueError, ConnectionError) as error:
            return "failed", "radio", {"text": str(error)[:200]}, None
        return "completed", "", {}, None

    async def _config(self, request: Request) -> Outcome:
        return await self._daemon.settings.change(request.cti, request.args["set"])
