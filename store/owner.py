"""Whose data a data_dir holds: one hub's, by its id. Another certificate on an old folder would send one household's
readings under another's name, so what is there is set aside and the hub begins anew.
"""

from contextlib import suppress
from pathlib import Path

from store.epoch_file import sync_folder

FILE_NAME = "hub-id"
_STAYS = frozenset({"identity", "token", "update", FILE_NAME})
_PREFIX = "set-aside-"


def folder_of(hub_id: str) -> str:
    """The folder, in data_dir, of what was set aside of another hub."""
    return _PREFIX + "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in hub_id[:64])


def claim(data_dir: Path, hub_id: str) -> str | None:
    """Make the folder this hub's; the id of the other whose data was set aside, None where there was none.

    The mark goes last, so a power cut in the middle starts it over. Raises OSError.
    """
    mark = data_dir / FILE_NAME
    try:
        known = mark.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        known = ""
    if known == hub_id:
        return None
    if not known:  # a new folder; on a full disk it is marked at the next start
        with suppress(OSError):
            data_dir.mkdir(parents=True, exist_ok=True)
            _write(mark, hub_id)
        return None
    aside = data_dir / folder_of(known)
    aside.mkdir(mode=0o700, exist_ok=True)
    for entry in sorted(data_dir.iterdir()):
        if entry.name not in _STAYS and not entry.name.startswith(_PREFIX):
            entry.replace(aside / entry.name)
    sync_folder(aside)
    sync_folder(data_dir)
    _write(mark, hub_id)
    return known


def _write(mark: Path, hub_id: str) -> None:
    fresh = mark.with_suffix(".new")
    fresh.write_text(hub_id + "\n", "utf-8")
    fresh.replace(mark)
    sync_folder(mark.parent)
