"""A bundle into the update folder, however long it takes: what differs from the last one, or the whole of it."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from ssl import SSLContext

from drivers.clock import monotonic
from drivers.threads import in_thread
from hub.core.update.machine import Patience, Unfit, Update

log = logging.getLogger(__name__)

BUNDLE, BASE = "bundle.raucb", "base.raucb"
_INDEX = ".idx"


class Download:
    """Fills `folder`. `context()`: TLS as the hub's own uplink uses it; `random`: numbers in [0, 1)."""

    def __init__(
        self,
        folder: Path,
        context: Callable[[], SSLContext],
        random: Callable[[], float],
        *,
        max_bytes: int,
        bytes_per_s: float,
    ) -> None:
        self._folder = folder
        self._context = context
        self._random = random
        self._bounds = (max_bytes, bytes_per_s)
        self.percent: int | None = None
        self.trouble = ""
        self.moved: Callable[[Update], None] = lambda update: None  # told as `percent` changes

    def part(self, update: Update) -> Path:
        """Where a bundle grows."""
        return self._folder / f"{update.sha256[:32]}.part"

    def clean(self, but: Path | None = None) -> None:
        """Delete what is of no use any more; the last bundle that was installed is, to the next."""
        for file in [*self._folder.glob("*.part*"), self._folder / BUNDLE]:
            if but is None or not file.name.startswith(but.name):
                with suppress(OSError):
                    file.unlink(missing_ok=True)

    def keep_base(self, update: Update, needed_bytes: int) -> None:
        """The bundle that was installed stays, if it came with an index: the next one need only bring what is new.

        Not where it would take what the store may yet need: `needed_bytes` have to be free beside it.
        """
        bundle, index = self._folder / BUNDLE, _index_of(self.part(update))
        base = self._folder / BASE
        if bundle.exists() and index.exists():
            with suppress(OSError):
                free = os.statvfs(self._folder)
                if free.f_bavail * free.f_frsize < needed_bytes:
                    return
                _index_of(base).unlink(missing_ok=True)  # never an index beside another's bundle
                bundle.replace(base)
                index.replace(_index_of(base))

    async def run(self, update: Update) -> None:
        """Complete `part(update)`. Raises Unfit where no further attempt would help."""
        if update.source == "han":
            self._take_local(update)
            return
        from hub.services.update.fetch import Hopeless, Interrupted

        patience = Patience(self._random, monotonic())
        while True:
            self.trouble = ""
            try:
                await self._fetch(update, patience)
                return
            except Hopeless as error:
                if error.reason == "no-space" and self._give_up_base():
                    continue
                raise Unfit(error.reason, str(error)) from None
            except Interrupted as error:
                delay_s = patience.delay_s(monotonic(), error.retry_after_s)
                if delay_s is None:
                    raise Unfit("unreachable", str(error)) from None
                self.trouble = f"{error}; again in {delay_s:.0f} s"
                log.warning("update: %s", self.trouble)
                await asyncio.sleep(delay_s)

    def _give_up_base(self) -> bool:
        base = self._folder / BASE
        try:
            base.unlink()
        except OSError:
            return False
        log.warning("update: the last bundle gives way to the new one")
        return True

    def _take_local(self, update: Update) -> None:
        """`han`: a file that somebody has put into the update folder (an engineer, a recovery card)."""
        if "/" in update.place or update.place.startswith("."):
            raise Unfit("bad-args", f"han: the name of a file in {self._folder}")
        part = self.part(update)
        try:
            if not part.exists():
                (self._folder / update.place).replace(part)
        except OSError as error:
            raise Unfit("not-found", f"{self._folder / update.place}: {error.strerror or error}") from None

    async def _fetch(self, update: Update, patience: Patience) -> None:
        from hub.services.update.fetch import Interrupted

        loop, stop = asyncio.get_running_loop(), threading.Event()

        def moved(have: int, size: int | None) -> None:
            patience.moved(monotonic())
            self.percent = int(have * 100 / size) if size else None
            self.moved(update)

        def progress(have: int, size: int | None) -> None:  # in the thread
            with suppress(RuntimeError):  # the loop is closed: the hub has stopped
                loop.call_soon_threadsafe(moved, have, size)

        try:
            try:
                context = self._context()
            except OSError as error:  # ssl.SSLError is one
                raise Interrupted(f"the hub's own certificate files: {error}") from None
            await in_thread(lambda: self._fetch_in_thread(update, context, stop, progress))
        finally:
            stop.set()

    def _fetch_in_thread(
        self,
        update: Update,
        context: SSLContext,
        stop: threading.Event,
        progress: Callable[[int, int | None], None],
    ) -> None:
        # HTTP and all that: memory for an hour every few months.
        from hub.services.update.delta import NotThisWay, fetch_delta, fetch_index
        from hub.services.update.fetch import Bounds, fetch

        bounds, part, base = Bounds(*self._bounds), self.part(update), self._folder / BASE
        if base.exists() and not update.retried:
            try:
                fetch_delta(update.place, context, part, base, bounds, stop, progress)
                return
            except NotThisWay as error:
                log.info("update: the whole bundle is fetched: %s", error)
        fetch(update.place, context, part, bounds, stop, progress)
        fetch_index(update.place, context, part)


def _index_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + _INDEX)
