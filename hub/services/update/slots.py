"""The hub's half of helper.py: a request in a folder, its answer in another file of it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from hub.services.update.helper import ANSWER, INSTALL_TIMEOUT_S, REQUEST

_LOOK_EVERY_S = 0.25
_QUICK_S = 180.0
REBOOT = "reboot"


class SlotsError(Exception):
    """The helper did not do it; the text is RAUC's, or says that nobody answered."""


class SlotDamaged(SlotsError):
    """The slot that runs cannot be read everywhere; the text says where."""


class Slots:
    """Asks for what only RAUC may do. One request at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = asyncio.Lock()

    @property
    def is_there(self) -> bool:
        """Whether this system has slots at all: the image's folder for requests exists."""
        return os.access(self._folder, os.W_OK)

    async def ask(self, verb: str) -> dict[str, Any]:
        """Have one verb of helper.py carried out; its answer. Raises SlotsError."""
        async with self._turn:
            wanted = os.urandom(8).hex()
            try:
                (self._folder / ANSWER).unlink(missing_ok=True)
                _write(self._folder / REQUEST, json.dumps({"id": wanted, "verb": verb}))
                return await self._answer(wanted, INSTALL_TIMEOUT_S + _QUICK_S if verb == "install" else _QUICK_S)
            except OSError as error:
                raise SlotsError(f"{self._folder}: {error.strerror or error}") from None

    async def _answer(self, wanted: str, within_s: float) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline:
            answer = self._read()
            if answer.get("id") == wanted:
                if answer.get("ok") is not True:
                    text = str(answer.get("text"))[:600]
                    raise SlotDamaged(text) if text.startswith("unreadable: ") else SlotsError(text)
                return answer
            await asyncio.sleep(_LOOK_EVERY_S)
        raise SlotsError(f"nobody answered within {within_s:.0f} s: is meterhub-slots.path enabled?")

    def _read(self) -> dict[str, Any]:
        try:
            answer = json.loads((self._folder / ANSWER).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return answer if isinstance(answer, dict) else {}

    def reboot(self) -> None:
        """Have the board started anew (meterhub-reboot.path). Raises SlotsError."""
        try:
            _write(self._folder / REBOOT, "")
        except OSError as error:
            raise SlotsError(f"{self._folder}: {error.strerror or error}") from None


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.chmod(0o640)  # the helper is of the hub's group
    fresh.replace(path)
