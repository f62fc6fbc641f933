"""A data_dir as a hub leaves it whose power goes right after its first database was made: the next start opens it.

Making one takes a process of its own (store/migrate.py), a fifth of a second: hundreds of tests need not pay for it.
"""

import shutil
from functools import cache
from pathlib import Path

from store.database import PAGE_SIZE
from store.epoch_file import EpochNote, write_note
from store.opening import StorePlace, _build
from store.space import make_budget
from tests.harness.folders import folder_until_exit, run_folder

FILES = ("hub.db", "epoch")


@cache
def _made() -> Path:
    # Within what belongs to the whole run: a process that a test kills takes nothing away by itself.
    folder = folder_until_exit("newborn-", run_folder())
    write_note(folder, EpochNote(1, False, is_new=True))  # one that is remembered: no broker has to be asked
    _build(StorePlace(folder, lambda *_: b"", make_budget(256, PAGE_SIZE), lambda: 0, lambda: 0), 1, was_one=False)
    return folder


def newborn(data_dir: Path) -> None:
    """Put it there, unless something is there already."""
    if not data_dir.exists() or not any(data_dir.iterdir()):
        data_dir.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(_made() / name, data_dir / name)
