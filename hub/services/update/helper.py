"""The other side of the hub's requests about slots: runs RAUC, and nothing else (`meterhub slots-helper`).

The hub is what talks to the network, so it may not touch slots: it writes a request with one of six verbs into a
folder, a systemd path unit starts this program under a user of its own, and the answer is another file. The bundle's
place is this program's argument, never the request's; RAUC checks the signature whoever asks. Only the standard library
is imported: it starts in a blink, also on a hub whose other packages are damaged.
"""

import json
import os
import re
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUEST, ANSWER = "request.json", "answer.json"
INSTALL_TIMEOUT_S = 3600.0
_QUICK_TIMEOUT_S = 120.0
_MAX_REQUEST = 4096
_TEXT_BYTES = 600
_READ_BYTES = 1 << 18


class SlotsFailed(Exception):
    """RAUC said no, or could not be asked; the text is its own last words."""


@dataclass(frozen=True, slots=True)
class SystemPlaces:
    """Where things are on this system."""

    folder: Path = Path("/run/meterhub-slots")
    bundle: Path = Path("/var/lib/meterhub/update/bundle.raucb")
    rauc: str = "rauc"
    os_release: Path = Path("/usr/lib/os-release")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    root: Path = Path("/usr")


def serve_one(here: SystemPlaces) -> bool:
    """Carry out the request that waits, if any. Raises OSError only where the folder itself is unusable."""
    request = _take_request(here.folder)
    if request is None:
        return False
    answer: dict[str, Any] = {"id": request.get("id")}
    try:
        answer |= _VERBS[str(request.get("verb"))](here)
        answer["ok"] = True
    except KeyError:
        answer |= {"ok": False, "text": f"no such verb; one of {', '.join(_VERBS)}"}
    except (SlotsFailed, OSError, ValueError) as error:
        answer |= {"ok": False, "text": str(error)[-_TEXT_BYTES:]}
    fresh = here.folder / f".{ANSWER}"
    fresh.unlink(missing_ok=True)
    fresh.write_text(json.dumps(answer))
    fresh.chmod(0o644)
    fresh.replace(here.folder / ANSWER)
    return True


def _take_request(folder: Path) -> dict[str, Any] | None:
    """Read and remove what the hub wrote. It is not believed to be a plain small file until it is seen to be one."""
    path = folder / REQUEST
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        data = b""
    else:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(_MAX_REQUEST)
    path.unlink(missing_ok=True)
    try:
        request = json.loads(data)
    except ValueError:
        request = None
    return request if isinstance(request, dict) else {}


def _rauc(here: SystemPlaces, *words: str, timeout_s: float = _QUICK_TIMEOUT_S) -> str:
    command = [here.rauc, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise SlotsFailed(f"{' '.join(command)}: no end within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise SlotsFailed(
            _last_words(done.stdout, done.stderr) or f"{' '.join(command)}: exit status {done.returncode}"
        )
    return done.stdout


def _last_words(said: str, logged: str) -> str:
    """RAUC's own reason, which `install` gives among its progress, else the last lines that are no progress report."""
    for line in said.splitlines():
        if line.startswith("LastError: "):
            return line.removeprefix("LastError: ").strip()
    lines = [line.strip() for line in (logged or said).splitlines() if line.strip() and "%" not in line]
    return " / ".join(lines[-3:])


def _json(text: str) -> dict[str, Any]:
    """RAUC's answer; some versions print a line of log before it."""
    begin = text.find("{")
    document = json.loads(text[begin:]) if begin >= 0 else None
    if not isinstance(document, dict):
        raise SlotsFailed("rauc did not answer in JSON")
    return document


def _info(here: SystemPlaces) -> dict[str, Any]:
    document = _json(_rauc(here, "info", "--output-format=json", str(here.bundle)))
    return {"compatible": document.get("compatible"), "version": document.get("version")}


def _status(here: SystemPlaces) -> dict[str, Any]:
    document = _json(_rauc(here, "status", "--output-format=json"))
    slots = [slot for entry in document.get("slots", ()) for slot in entry.values()]
    states = {slot["bootname"]: slot.get("boot_status") for slot in slots if slot.get("bootname")}
    return {
        "compatible": document.get("compatible"),
        "booted": document.get("booted"),
        "slots": states,
        "version": _os_release(here.os_release).get("IMAGE_VERSION"),
        "boot": here.boot_id.read_text().strip(),
    }


def _os_release(path: Path) -> dict[str, str]:
    pairs = re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', path.read_text("utf-8"), re.MULTILINE)
    return dict(pairs)


def _check(here: SystemPlaces) -> dict[str, Any]:
    """Read every file of the slot that runs, for a slot with a block that cannot be read is not good: what is imported
    late would end the hub a minute later. (A changed block starts the board anew by itself: dm-verity.)"""
    seen: set[tuple[int, int]] = set()
    buffer = bytearray(_READ_BYTES)
    for folder, _, names in os.walk(here.root, onerror=_raise):
        for name in sorted(names):
            path = os.path.join(folder, name)
            with suppress(PermissionError, FileNotFoundError):  # not ours to read; a link to nowhere
                described = os.stat(path)
                key = described.st_dev, described.st_ino
                if stat.S_ISREG(described.st_mode) and key not in seen:
                    seen.add(key)
                    _read_through(path, buffer)
    return {}


def _raise(error: OSError) -> None:
    if not isinstance(error, PermissionError):
        raise SlotsFailed(f"unreadable: {error.filename}: {error.strerror}")


def _read_through(path: str, buffer: bytearray) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.readv(descriptor, [buffer]):
            pass
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # it would push out what the hub needs
    except OSError as error:
        raise SlotsFailed(f"unreadable: {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _install(here: SystemPlaces) -> dict[str, Any]:
    _rauc(here, "install", str(here.bundle), timeout_s=INSTALL_TIMEOUT_S)
    return {}


def _good(here: SystemPlaces) -> dict[str, Any]:
    _rauc(here, "status", "mark-good")
    # Told to meterhub-deadman.service, which starts the board anew when nobody says so in time.
    (here.folder / "good").touch()
    return {}


def _bad(here: SystemPlaces) -> dict[str, Any]:
    _rauc(here, "status", "mark-bad", "booted")
    return {}


_VERBS = {"info": _info, "status": _status, "check": _check, "install": _install, "good": _good, "bad": _bad}
