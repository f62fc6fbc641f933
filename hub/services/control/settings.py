"""Settings changed by command (`config`): checked as in hub.toml, kept by the store, and on trial until the uplink is
back. A change that cuts the hub off would otherwise need a visit."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hub.core.control.records import Journal, Outcome
from hub.wire.uplink.cbor import decode_own, encode
from store import Store

C = TypeVar("C")  # the configuration; checked as a file is by `override(file, changes)`, which raises ValueError

ITEM = "config"
TRIAL_S = 300.0
_LOOK_EVERY_S = 0.5

# What a control point may change: nothing that needs a restart, nothing that touches keys or the home.
CHANGEABLE = (
    "uplink.host",
    "uplink.hosts",
    "uplink.port",
    "uplink.protocol",
    "uplink.keepalive_s",
    "uplink.pack_interval_s",
    "uplink.drain_kb_s",
    "uplink.deflate",
    "uplink.time_step_ms",
    "uplink.boot_spread_s",
    "uplink.booked_within_s",
    "uplink.est_look_s",
    "hub.groups",
    "control.heartbeat_s",
    "control.failsafe",
    "control.failsafe_min_s",
)


class Settings(Generic[C]):
    """The settings that hold, and the change that is on trial.

    `apply(config)`: let the uplink go on with another configuration. `is_up()`: whether it has a session since then.
    """

    def __init__(self, file: C, store: Store, kept: bytes | None, override: Callable[[C, dict[str, Any]], C]) -> None:
        self._file = file
        self._override = override
        self._store = store
        self.apply: Callable[[C], None] = lambda config: None
        self.is_up: Callable[[], bool] = lambda: False
        self.trial_s = TRIAL_S
        self._changes: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None  # what to go back to; None: nothing is on trial
        self._cti = b""
        self._ended: dict[bytes, bool] = {}  # trials of the last run that another command ended, and whether it held
        self._turn = asyncio.Lock()
        self.config = file
        if kept is not None:
            self._restore(kept)

    def _restore(self, kept: bytes) -> None:
        try:
            self._changes, self._before, self._cti = decode_own(kept)
            self.config = self._override(self._file, self._changes)
        except (ValueError, TypeError):
            # The file has changed since, or the item is damaged: what the file says holds.
            self._changes, self._before, self._cti = {}, None, b""
            self.config = self._file

    @property
    def changes(self) -> dict[str, Any]:
        """What commands have set, by key: it counts before the file."""
        return dict(self._changes)

    async def change(self, cti: bytes, wanted: dict[str, Any]) -> Outcome:
        """Change settings; back to what was before unless the uplink returns. After a restart in the middle it is
        called again with the same cti, and goes on."""
        async with self._turn:
            if self._before is not None and self._cti != cti:
                # After a restart commands go on in any order. What was on trial comes to its end first, or the way back
                # from this change would lead to settings that nobody has seen work.
                self._ended[self._cti] = await self._end_trial()
            if cti not in self._ended:
                resumed = self._before is not None
                refusal = "" if resumed else await self._begin(cti, wanted)
                if refusal:
                    return "failed", "bad-args", {"text": refusal}, None
                self._ended[cti] = await self._end_trial()
            if self._ended.pop(cti):
                return "completed", "", {"set": sorted(wanted)}, None
            return "failed", "rolled-back", {"text": f"no session within {self.trial_s:.0f} s"}, None

    async def _end_trial(self) -> bool:
        """Keep what is on trial if the uplink is back in time, else go back."""
        is_back = await self._comes_back()
        if is_back:
            self._before = None
            await self._keep()
        else:
            await self._roll_back()
        return is_back

    async def _begin(self, cti: bytes, wanted: dict[str, Any]) -> str:
        for key in wanted:
            if key not in CHANGEABLE:
                return f"{key[:64]}: not one of {', '.join(CHANGEABLE)}"
        changes = {**self._changes, **wanted}
        for one, other in (("uplink.host", "uplink.hosts"), ("uplink.hosts", "uplink.host")):
            if one in wanted:
                changes.pop(other, None)
        try:
            config = self._override(self._file, changes)
        except ValueError as error:
            return str(error)
        self._before, self._changes, self._cti = self._changes, changes, cti
        await self._keep()
        self.config = config
        self.apply(config)
        return ""

    async def _comes_back(self) -> bool:
        deadline = asyncio.get_running_loop().time() + self.trial_s
        while asyncio.get_running_loop().time() < deadline:
            if self.is_up():
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def _roll_back(self) -> None:
        self._changes, self._before = self._before or {}, None
        await self._keep()
        self.config = self._override(self._file, self._changes)
        self.apply(self.config)

    async def _keep(self) -> None:
        item = encode([self._changes, self._before, self._cti])
        await asyncio.wrap_future(self._store.commit_control(Journal(kept={ITEM: item})))
