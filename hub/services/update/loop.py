"""Carries an update out: the machine says what is due, this does it, and each step is durable before the next.

A command `update` is a job (hub/services/control/jobs.py): accepted at once, answered when it is over, which may be
several restarts and another slot later. The record in the store says where to go on.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, cast

from drivers.board import BoardFacts
from drivers.clock import monotonic
from drivers.threads import in_thread
from hub.core.control.records import JobRequest, Journal, Outcome
from hub.core.health import Health
from hub.core.update import machine
from hub.core.update.machine import SlotTrial, Unfit, Update, decode_update, step
from hub.services.update.download import BUNDLE, Download
from hub.services.update.slots import SlotDamaged, Slots, SlotsError
from hub.wire.uplink.cbor import decode_own, encode
from hub.wire.uplink.receipt import Receipt
from store import Store

if TYPE_CHECKING:
    from hub.wire.admin import UpdateFigures

log = logging.getLogger(__name__)

ITEM = "update"
RAN_ITEM = "slot"  # which slot ran last, and the image in it
_LOOK_EVERY_S = 1.0
_RETRY_S = 5.0
# The board is asked to start anew once more if it is still running after this.
_REBOOT_WITHIN_S = 120.0
_AGAIN_S = 60.0
_REASONS: dict[type[Exception], str] = {SlotsError: "no-slots"}
_EVENT_EVERY_PERCENT = 25

Happened = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class HubAround:
    """What updates need of the hub around them. `local_fault(with_radio)`: what is wrong locally, "" for nothing."""

    context: Callable[[], SSLContext]
    is_up: Callable[[], bool]
    is_radio_up: Callable[[], bool]
    local_fault: Callable[[bool], str]
    receipt: Callable[[bytes, bytes, str, dict[str, Any]], Receipt]
    random: Callable[[], float]


class Updates:
    """One update at a time, and the word to the boot loader that this slot is good."""

    def __init__(
        self,
        folder: Path,
        slots: Slots,
        store: Store,
        health: Health,
        hub: HubAround,
        *,
        max_bytes: int,
        bytes_per_s: float,
        well_s: float,
        uplink_s: float,
        spread_s: float = 0.0,
        kept: bytes | None = None,
        board: BoardFacts | None = None,
        ran: bytes | None = None,
    ) -> None:
        """`kept`, `ran`: what the store has of ITEM and RAN_ITEM."""
        self._folder = folder
        self._slots = slots
        self._store = store
        self._health = health
        self._well_s, self._uplink_s, self._spread_s = well_s, uplink_s, spread_s
        self._hub = hub
        self._download = Download(folder, hub.context, hub.random, max_bytes=max_bytes, bytes_per_s=bytes_per_s)
        self._download.moved = self._moved
        self._give_way = asyncio.Event()
        self._told = -1  # percent
        self._trouble = ""
        self.update: Update | None = None
        self._superseded: list[bytes] = []
        self._board, self._ran = board, ran
        if kept is not None:
            self._restore(kept)
        self._acts: dict[str, Callable[[Update], Coroutine[Any, Any, Happened]]] = {
            machine.ASKED: self._begin,
            machine.WAITING: self._wait,
            machine.DOWNLOADING: self._fetch,
            machine.CHECKING: self._check,
            machine.INSTALLING: self._install,
            machine.REBOOTING: self._reboot,
            machine.TRIAL: self._try,
            machine.RETURNING: self._return,
        }

    def _restore(self, kept: bytes) -> None:
        try:
            record, superseded = decode_own(kept)
            self.update, self._superseded = decode_update(record), list(superseded)
        except (ValueError, TypeError) as error:
            log.error("the record of an update does not read (%s); the slot that runs counts", error)

    def forget_unless(self, jobs: Container[bytes]) -> None:
        """After a restart: a record whose command nobody waits for any more (a salvaged database) decides nothing."""
        if self.update is not None and self.update.cti not in jobs:
            self.update = None

    def status(self) -> "UpdateFigures":
        """For `meterhub status`: the update under way or the last one of this run."""
        update = self.update
        return {
            "slots": self._slots.is_there,
            "state": None if update is None else update.state,
            "version": None if update is None else update.version,
            "percent": self._download.percent,
            "reason": "" if update is None else update.reason,
            "text": self._trouble or self._download.trouble or ("" if update is None else update.text),
        }

    # The job

    async def run(self, request: JobRequest) -> Outcome:
        """Carry out, or go on with, what a command asked for."""
        if request.cti in self._superseded:
            return "superseded", "", {}, None
        if not self._slots.is_there:
            return "failed", "unsupported", {"text": "this system has no slots to update"}, None
        update = self.update
        if update is None or update.cti != request.cti:
            if update is not None and not update.is_over:
                if update.state not in machine.EARLY:
                    return "failed", "busy", {"text": f"{update.version} is {update.state}"}, None
                self._supersede(update)
            source = "url" if "url" in request.args else "han"
            args = request.args
            update = Update(
                request.cti, source, args[source], args["sha256"].lower(), args["version"],
                is_for_many=request.is_for_many,
            )  # fmt: skip
        # Its own before anything is waited for: the next command may come while this one's record is being written.
        self._give_way = give_way = asyncio.Event()
        if update is not self.update:
            await self._keep(update)
        update = await self._drive(update, give_way)
        return self._outcome(request, update)

    def _supersede(self, update: Update) -> None:
        """Let the other job end; whatever it does meanwhile, it writes no record any more."""
        self._superseded = [*self._superseded[-15:], update.cti]
        self._give_way.set()

    async def _drive(self, update: Update, give_way: asyncio.Event) -> Update:
        while not update.is_over:
            happening, changes = await self._do(update, give_way)
            if happening == "superseded":
                return step(update, happening)  # the record is the other's now
            update = step(update, happening, **changes)
            await self._keep(update)
        if update.state == machine.GOOD:
            store = self._store.status()
            self._download.keep_base(update, int(store["max_bytes"]) - int(store["bytes"]))
        self._download.clean()
        return update

    async def _do(self, update: Update, give_way: asyncio.Event) -> Happened:
        """What a state asks for, or giving way to another update while that is possible."""
        while True:
            try:
                if update.state not in machine.EARLY:
                    return await self._acts[update.state](update)
                return await self._unless(give_way, self._acts[update.state](update))
            except Exception as error:
                log.log(logging.ERROR, "update, %s: %r", update.state, error)
                if (update.state, "failed") in machine.TABLE:
                    reason = error.reason if isinstance(error, Unfit) else _REASONS.get(type(error), "internal-error")
                    return "failed", {"reason": reason, "text": str(error)[:300]}
            # Nobody answers about slots just now, and nothing is decided by that.
            await asyncio.sleep(_AGAIN_S)

    @staticmethod
    async def _unless(give_way: asyncio.Event, work: Coroutine[Any, Any, Happened]) -> Happened:
        act, way = asyncio.ensure_future(work), asyncio.ensure_future(give_way.wait())
        try:
            await asyncio.wait({act, way}, return_when=asyncio.FIRST_COMPLETED)
            return ("superseded", {}) if give_way.is_set() else act.result()
        finally:
            act.cancel()
            way.cancel()

    def _outcome(self, request: JobRequest, update: Update) -> Outcome:
        detail = {"version": update.version}
        if update.state == machine.SUPERSEDED:
            return "superseded", "", detail, None
        journal = Journal(kept={ITEM: None})
        if update.state == machine.GOOD:
            journal.tell(self._hub.receipt(request.cti, request.digest, "applied", detail), request.kid)
            return "completed", update.reason, detail, journal
        detail["text"] = update.text
        if update.state == machine.ROLLED_BACK:
            return "failed", "rolled-back", {**detail, "runs": update.version_before}, journal
        return "failed", update.reason, detail, journal

    async def _keep(self, update: Update) -> None:
        """Make the record durable, and what happened known."""
        self.update, self._trouble = update, ""
        journal = Journal(kept={ITEM: encode([update.encode(), self._superseded])})
        journal.events.append(_event_of(update))
        while True:
            try:
                await asyncio.wrap_future(self._store.commit_control(journal))
                return
            except Exception as error:
                log.error("the update's record is not durable yet: %s", error)
                await asyncio.sleep(_RETRY_S)

    # What each state asks for

    async def _begin(self, update: Update) -> Happened:
        system = await self._slots.ask("status")
        if update.version == system["version"]:
            return "runs already", {"reason": "runs-already", "slot": str(system["booted"])}
        machine.judge_version(update.version, str(system["version"]))
        if update.source == "url":
            from hub.services.update.fetch import Hopeless, check_url

            try:
                check_url(update.place)
            except Hopeless as error:
                raise Unfit(error.reason, str(error)) from None
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o750)  # the helper, of the hub's group, reads the bundle
        self._download.clean(but=self._download.part(update))
        before = {"version_before": str(system["version"]), "slot": str(system["booted"])}
        is_alone = update.source == "han" or not update.is_for_many or not self._spread_s
        happening = "begun" if is_alone else "not alone"
        return happening, {**before, "was_up": self._hub.is_up(), "was_radio_up": self._hub.is_radio_up()}

    async def _wait(self, update: Update) -> Happened:
        """Of a fleet that was told at one moment, each hub begins at its own. After a restart it draws anew: a region
        that had no power does not come back to the server as one."""
        wait_s = self._hub.random() * self._spread_s
        self._trouble = f"begins within {self._spread_s / 3600:.1f} h, as the command is for many hubs"
        await asyncio.sleep(wait_s)
        return "begun", {}

    async def _fetch(self, update: Update) -> Happened:
        await self._download.run(update)
        return "fetched", {}

    def _moved(self, update: Update) -> None:
        percent = self._download.percent
        if percent is not None and percent // _EVENT_EVERY_PERCENT != self._told // _EVENT_EVERY_PERCENT:
            self._told = percent
            name, fields = _event_of(update)
            self._store.record_event(name, {**fields, "percent": percent})

    async def _check(self, update: Update) -> Happened:
        from hub.services.update.fetch import sha256_of

        part, bundle = self._download.part(update), self._folder / BUNDLE
        file = part if part.exists() else bundle
        try:
            found = await in_thread(lambda: sha256_of(file))
            if found != update.sha256:
                file.unlink()
                if update.source == "url" and not update.retried:
                    return "torn", {}
                raise Unfit("wrong-hash", f"SHA-256 is {found}, the command says {update.sha256}")
            file.chmod(0o644)  # RAUC's side reads it as another user
            file.replace(bundle)
        except OSError as error:
            raise Unfit("unreadable", f"{file}: {error.strerror or error}") from None
        try:
            holds = await self._slots.ask("info")
        except SlotsError as error:
            raise Unfit("bad-signature" if "signature" in str(error).lower() else "bad-bundle", str(error)) from None
        machine.judge_bundle(update, holds, await self._slots.ask("status"))
        return "sound", {"was_up": update.was_up or self._hub.is_up()}

    async def _install(self, update: Update) -> Happened:
        system = await self._slots.ask("status")
        try:
            await self._slots.ask("install")
        except SlotsError as error:
            raise Unfit("install-failed", str(error)) from None
        return "installed", {"boot": str(system["boot"])}

    async def _reboot(self, update: Update) -> Happened:
        while (system := await self._slots.ask("status"))["boot"] == update.boot:
            self._slots.reboot()
            await asyncio.sleep(_REBOOT_WITHIN_S)
        if str(system["booted"]) == update.slot:
            return "old slot", {"text": "the new slot did not come up"}
        return "new slot", {}

    async def _try(self, update: Update) -> Happened:
        system = await self._slots.ask("status")
        if str(system["booted"]) == update.slot:
            return "old slot", {"text": update.text or "the new slot came up and did not stay up"}
        trial = SlotTrial(update.was_up, self._well_s, self._uplink_s, monotonic())
        while True:
            local_fault = self._hub.local_fault(update.was_radio_up)
            verdict = trial.look(local_fault, self._hub.is_up(), monotonic())
            self._trouble = local_fault
            if verdict is not None:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        if verdict[0] == "well":
            try:
                await self._slots.ask("check")
            except SlotDamaged as error:
                return "unwell", {"text": f"the new slot is {error}"[:300]}
            await self._slots.ask("good")
            return "well", {"slot": str(system["booted"])}
        return "unwell", {"text": verdict[1][:300]}

    async def _return(self, update: Update) -> Happened:
        system = await self._slots.ask("status")
        if str(system["booted"]) == update.slot:
            return "old slot", {}
        await self._slots.ask("bad")
        self._slots.reboot()
        await asyncio.sleep(_REBOOT_WITHIN_S)
        return "new slot", {}

    # Every boot

    async def mark_good(self) -> None:
        """Tell the boot loader, once a boot, that this slot starts a hub that is locally well; where an update is on
        trial that is the trial's to say. Never returns: it is one of the hub's loops."""
        await self._note_slot()
        well_since: float | None = None
        while True:
            now, wait_s = monotonic(), _LOOK_EVERY_S
            local_fault = self._hub.local_fault(False)
            if not self._slots.is_there:
                local_fault, wait_s = "no slots", _AGAIN_S  # none at all, or a folder that comes late
            well_since = None if local_fault else (now if well_since is None else well_since)
            if well_since is not None and now - well_since >= self._well_s:
                if self._is_on_trial() or await self._mark():
                    break
                wait_s = _AGAIN_S
            await asyncio.sleep(wait_s)
        await asyncio.Event().wait()

    def _is_on_trial(self) -> bool:
        return self.update is not None and self.update.state in (machine.TRIAL, machine.RETURNING, machine.REBOOTING)

    async def _note_slot(self) -> None:
        """Remember what runs, and tell of a slot, or an older image, that no update has asked for: the boot loader has
        given up the other one, or somebody has written the medium."""
        board = self._board
        if board is None:
            return
        item = encode([board.slot, board.image])
        if item == self._ran:
            return
        journal = Journal(kept={RAN_ITEM: item})
        before = _ran(self._ran)
        if before is not None and not self._explains() and _is_back(before, board):
            slot, image = before
            fields = {"slot": board.slot, "version": board.image, "from_slot": slot, "from_version": image}
            journal.events.append(("slot.fell_back", fields))
        while True:
            try:
                await asyncio.wrap_future(self._store.commit_control(journal))
                return
            except Exception as error:
                log.error("which slot runs is not durable yet: %s", error)
                await asyncio.sleep(_RETRY_S)

    def _explains(self) -> bool:
        """Whether an update under way is why another slot runs: it tells the story itself."""
        return self.update is not None and self.update.state not in machine.EARLY

    async def _mark(self) -> bool:
        try:
            await self._slots.ask("check")
            await self._slots.ask("good")
        except SlotDamaged as error:
            self._health.raise_condition("slot-damaged", str(error)[:200])
            await self._leave_slot()
            return False
        except SlotsError as error:
            self._health.raise_condition("slot-not-marked", str(error)[:200])
            return False
        self._health.clear_condition("slot-damaged")
        self._health.clear_condition("slot-not-marked")
        return True

    async def _leave_slot(self) -> None:
        """Start anew in the other slot, if that is one that can be."""
        try:
            system = await self._slots.ask("status")
            others = [state for name, state in system["slots"].items() if name != system["booted"]]
            if "good" in others:
                await self._slots.ask("bad")
                self._slots.reboot()
        except SlotsError as error:
            log.error("the other slot cannot be asked for: %s", error)


def _ran(kept: bytes | None) -> tuple[str, str] | None:
    """RAN_ITEM: slot and image."""
    try:
        slot, image = decode_own(kept) if kept is not None else (None, None)
    except (ValueError, TypeError):
        return None
    return (slot, image) if isinstance(slot, str) and isinstance(image, str) else None


def _is_back(before: tuple[str, str], board: BoardFacts) -> bool:
    slot, image = before
    try:
        is_older = machine.version_key(board.image) < machine.version_key(image)
    except ValueError:
        is_older = False
    return slot != board.slot or is_older


def _event_of(update: Update) -> tuple[str, dict[str, Any]]:
    if update.state == machine.GOOD:
        return "update.good", {"version": update.version, "slot": update.slot}
    if update.state == machine.FAILED:
        return "update.failed", {"version": update.version, "reason": update.reason, "text": update.text}
    if update.state == machine.ROLLED_BACK:
        fields = {"version": update.version, "runs": update.version_before, "text": update.text}
        return "update.rolled_back", cast(dict[str, Any], fields)
    return "update.progress", {"version": update.version, "state": update.state}
