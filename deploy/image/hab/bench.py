"""A board on the factory's bench: the console of its serial port, and what is blown there.

Three visits, each of which may be broken off and begun anew:

    burn   at the prompt of an open U-Boot, loaded over USB: a secret that nobody keeps, and the roots' hash
    see    the signed start from the medium: the record says that this chip had no event of the ROM's
    close  at the prompt again: only with that record, and only where the fuses are as it says

NEVER RUN ON A CHIP; `tests/emulators/imx_bench.py` plays one, with fuses that only ever go from 0 to 1.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from deploy.image.hab.fuses import (
    BOOT_CONFIGURATION,
    CLOSED,
    CLOSING,
    LOCK_SECRET,
    SECRET,
    SECRET_WORDS,
    SRK_HASH,
    UNIQUE_ID,
    Fuse,
    srk_fuses,
)

_PROMPT = "=> "
_ANSWER_S, START_S = 10.0, 120.0
_MOST_BYTES = 1 << 20
_WORD_LINE = re.compile(r"^Word 0x[0-9a-f]{8}:((?: [0-9a-f]{8})+)\s*$", re.MULTILINE)
_STATUS = re.compile(r"HAB Configuration: 0x([0-9a-f]{2}), HAB State: 0x([0-9a-f]{2})")
# A whole start, from the SPL's first word to which chip it is (boards/imx6ul-evk.toml: `prepare`).
_START = re.compile(
    r"^U-Boot SPL (?:(?!^U-Boot SPL ).)*?Reading bank 0:\s+Word 0x00000001: ([0-9a-f]{8}) ([0-9a-f]{8})\s",
    re.MULTILINE | re.DOTALL,
)
_OPEN, _SHUT = "f0", "cc"
_NO_EVENT, _EVENT = "No HAB Events Found!", "--- HAB Event "
_CHECKED = "Authenticate image from DDR location"


class BenchError(Exception):
    """The board is not as it has to be. Nothing more was blown."""


class Port(Protocol):
    """A serial port as pyserial has it; a read waits a moment at most."""

    def read(self, size: int = 1) -> bytes:
        """At most so many bytes; none where none came."""
        ...

    def write(self, data: bytes) -> int | None:
        """All of them."""
        ...


class Console:
    """U-Boot's words, and ours."""

    def __init__(self, port: Port, start_s: float = START_S, now: Callable[[], float] = time.monotonic) -> None:
        self._port, self._start_s, self._now = port, start_s, now

    def prompt(self) -> None:
        """A prompt that waits for us, whatever stood there before. Raises BenchError."""
        self._port.write(b"\r")
        self._until(lambda said: said.endswith(_PROMPT), _ANSWER_S, "there is no prompt of an open U-Boot")

    def ask(self, command: str) -> str:
        """What a command says. Raises BenchError."""
        self._port.write(command.encode("ascii") + b"\r")
        said = self._until(lambda said: said.endswith(_PROMPT), _ANSWER_S, f"no answer to {command.split()[0]}")
        if "ERROR" in said or "Unknown command" in said:
            raise BenchError(f"{' '.join(command.split()[:4])}: U-Boot refuses it")
        return said

    def listen(self, is_over: Callable[[str], bool]) -> str:
        """What is said until `is_over`. Raises BenchError."""
        return self._until(is_over, self._start_s, "the board did not start")

    def _until(self, is_over: Callable[[str], bool], limit_s: float, failed: str) -> str:
        end, said = self._now() + limit_s, ""
        while True:
            letter = self._port.read(1).decode("ascii", "replace").replace("\r", "")
            said += letter
            if letter in ("\n", " ") and is_over(said):  # where a line or a prompt ends
                return said
            if self._now() > end or len(said) > _MOST_BYTES:
                raise BenchError(failed)


class BenchRecord:
    """What was seen of each chip: a line of JSON a start, in a file that only grows."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, chip: str, roots: list[int]) -> None:
        """This chip has started, signed, with these roots' hash in its fuses, and without an event."""
        line = json.dumps({"chip": chip, "srk_hash": [f"{word:08x}" for word in roots], "events": 0})
        with self._file.open("a") as out:
            out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())

    def has(self, chip: str, roots: list[int]) -> bool:
        """Whether it was noted. A line that power cut short counts for nothing."""
        if not self._file.exists():
            return False
        wanted = {"chip": chip, "srk_hash": [f"{word:08x}" for word in roots], "events": 0}
        for line in self._file.read_text().splitlines():
            try:
                if json.loads(line) == wanted:
                    return True
            except ValueError:
                continue
        return False


class Bench:
    """One board. roots: the eight words of SRK_HASH; say: tells the person at the bench."""

    def __init__(self, console: Console, roots: list[int], record: BenchRecord, say: Callable[[str], None]) -> None:
        self._console, self._roots, self._record, self._say = console, roots, record, say

    def burn(self) -> None:
        """The secret and the roots' hash into an open chip. Raises BenchError."""
        chip = self._open_chip()
        there = self._sense(*SRK_HASH, 8)
        if any(has & ~wanted for has, wanted in zip(there, self._roots)):
            raise BenchError(f"chip {chip} has another roots' hash: it can never start what these keys sign")
        self._burn_secret(chip)
        for fuse in srk_fuses(self._roots):
            self._blow(fuse)
        self._say(f"chip {chip}: the roots' hash is there; now its signed start (see)")

    def see(self) -> None:
        """Its signed start, while it is switched on. Raises BenchError."""
        chip = self._judge_start(_OPEN)
        self._record.note(chip, self._roots)
        self._say(f"chip {chip}: started, signed, without an event; now it can be closed (close)")

    def close(self) -> None:
        """No way back: nothing unsigned starts any more. Raises BenchError, with nothing blown."""
        chip = self._open_chip()
        if self._sense(*SRK_HASH, 8) != self._roots:
            raise BenchError(f"chip {chip}: its fuses have not the hash of these roots (burn)")
        if not self._record.has(chip, self._roots):
            raise BenchError(f"chip {chip} was not seen to start, signed, without an event (see)")
        locks = self._sense(LOCK_SECRET.bank, LOCK_SECRET.word, 1)[0]
        if not locks & LOCK_SECRET.value or 0 in self._sense(*SECRET, SECRET_WORDS):
            raise BenchError(f"chip {chip} has no secret of its own (burn)")
        for fuse in CLOSING:
            self._blow(fuse)
        self._say(f"chip {chip} is closed")

    def check(self) -> None:
        """A closed chip's start, while it is switched on. Raises BenchError."""
        self._say(f"chip {self._judge_start(_SHUT)} is closed, and starts")

    def _open_chip(self) -> str:
        self._console.prompt()
        chip = _chip(self._sense(*UNIQUE_ID, 2))
        if self._sense(*BOOT_CONFIGURATION, 1)[0] & CLOSED:
            raise BenchError(f"chip {chip} is closed already")
        return chip

    def _judge_start(self, configuration: str) -> str:
        self._say("switch the board on, its switches set to the medium")
        found = _START.search(self._console.listen(lambda said: _START.search(said) is not None))
        assert found
        said = found[0]
        status = _STATUS.search(said)
        if status is None or _EVENT in said or _NO_EVENT not in said:
            raise BenchError("the ROM has noted events: this image is not what its roots signed, or not with these")
        if _CHECKED not in said:
            raise BenchError("nobody has checked U-Boot: this SPL is another build's")
        if status[1] != configuration:
            raise BenchError(f"HAB's configuration is 0x{status[1]}; expected 0x{configuration}")
        return _chip([int(word, 16) for word in found.groups()])

    def _burn_secret(self, chip: str) -> None:
        """Drawn here, word by word into the fuses, kept nowhere. Where power went half-way the rest is drawn anew."""
        locks = self._sense(LOCK_SECRET.bank, LOCK_SECRET.word, 1)[0]
        words = self._sense(*SECRET, SECRET_WORDS)
        if locks & LOCK_SECRET.value:
            if 0 in words:
                raise BenchError(f"chip {chip}: its secret is locked, and not whole: the board is lost")
            return
        bank, first = SECRET
        for number, word in enumerate(words):
            if not word:
                self._blow(Fuse("the chip's secret", bank, first + number, secrets.randbits(32) | 1 << number))
        self._blow(LOCK_SECRET)

    def _sense(self, bank: int, word: int, count: int) -> list[int]:
        """The fuses themselves, not the registers that were filled from them at the last reset."""
        said = self._console.ask(f"fuse sense {bank} {word} {count}")
        words = [int(digits, 16) for line in _WORD_LINE.findall(said) for digits in line.split()]
        if len(words) != count:
            raise BenchError(f"fuse sense {bank} {word}: not understood")
        return words

    def _blow(self, fuse: Fuse) -> None:
        """Where it is not yet, and looked at afterwards."""
        if self._sense(fuse.bank, fuse.word, 1)[0] & fuse.value == fuse.value:
            return
        self._console.ask(fuse.command)
        if self._sense(fuse.bank, fuse.word, 1)[0] & fuse.value != fuse.value:
            raise BenchError(f"{fuse.name}: it did not take")


def _chip(words: list[int]) -> str:
    return f"{words[1]:08x}{words[0]:08x}"
