"""Factory reset: the home is forgotten, the identity stays. Asked for while the hub runs, done while it does not.

A mark in data_dir says that it is to be done, and the hub does it as it starts; the mark goes last, so a power cut in
the middle starts it over. What stays: the renewed certificate and key (`identity/`) and the keys of a token that is
software (`token/`), without which the utility would not know the hub; and the number of the last epoch, so that what
is numbered anew is never taken for what was before.
"""

from pathlib import Path

from store.epoch_file import EpochNote, read_note, sync_folder, write_note

MARK = "factory-reset"
DONE = "factory-reset-done"
# Read by drivers/zigbee/network.py: the radio gives up its network and forms another, so that who was at home in the
# old one is not in the new.
FORM_ANEW = "radio-form-anew"
KEPT = frozenset({"identity", "token", "epoch", "hub-id", MARK, DONE, FORM_ANEW})


def ask(data_dir: Path) -> None:
    """Have the home forgotten at the next start. Raises OSError."""
    (data_dir / MARK).touch()
    sync_folder(data_dir)


def is_asked(data_dir: Path) -> bool:
    """Whether somebody has asked for it and it has not been done."""
    return (data_dir / MARK).exists()


def perform(data_dir: Path) -> list[str]:
    """Delete everything that is not kept; the names of what went. No hub may be running. Raises OSError."""
    (data_dir / MARK).touch()
    (data_dir / FORM_ANEW).touch()
    gone = sorted(entry.name for entry in data_dir.iterdir() if entry.name not in KEPT)
    for name in gone:
        entry = data_dir / name
        if entry.is_dir() and not entry.is_symlink():
            from shutil import rmtree  # once in a hub's life: with bz2 and lzma it is not for the rest of it

            rmtree(entry)
        else:
            entry.unlink()
    note = read_note(data_dir)
    if note is not None:  # that there is no database is what was asked for, and no loss to be told
        write_note(data_dir, EpochNote(note.epoch, False, is_new=True))
    (data_dir / DONE).touch()
    sync_folder(data_dir)
    (data_dir / MARK).unlink(missing_ok=True)
    sync_folder(data_dir)
    return gone


def is_done(data_dir: Path) -> bool:
    """Whether a factory reset was done, and its consequences are not seen to yet."""
    return (data_dir / DONE).exists()


def take_done(data_dir: Path) -> None:
    """They are."""
    (data_dir / DONE).unlink(missing_ok=True)
