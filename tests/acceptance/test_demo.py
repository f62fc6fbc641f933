"""`make run SECONDS=n`: exit status 0 only if every reading arrived once; however it ends, it leaves nothing behind."""

import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.child_processes import has_ended
from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "deploy.demo"]
SHORT = ["--seconds", "24", "--pack-interval", "1"]


def environment(**more: str) -> dict[str, str]:
    """A shell's, as it is on a new machine: no locale, no colour asked for or against."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "NO_COLOR"))}
    return {**kept, **more}


@pytest.mark.parametrize("broker", [[], ["--embedded-broker"]], ids=["mosquitto", "embedded"])
def test_it_tells_the_whole_story_and_ends_well(broker: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *SHORT, *broker], cwd=ROOT, capture_output=True, text=True, timeout=150, env=environment(LANG="C")
    )
    shown = done.stdout
    assert done.returncode == 0, shown + done.stderr
    for word in ("1  The parts", "2  The home", "3  The broker is cut", "4  The control point limits", "Result",
                 "boiler", "ev-charger", "fridge", "mended", "connected", "complete", "before", "after",
                 "applied; verified, chained to the one before", "completed; verified"):  # fmt: skip
        assert word in shown, shown
    for alarm in ("MISSING", "FAULT", "refused", "NOT", "None", "Lane(", "Traceback"):
        assert alarm not in shown, shown
    assert re.search(r"^  lost +0  of [1-9]\d* that the hub took$", shown, re.MULTILINE), shown
    assert re.search(r"^  doubled +0  ", shown, re.MULTILINE) and re.search(r"^  seconds to reconnect +\d", shown, re.M)
    grown = [int(count) for count in re.findall(r" cut +(\d+) +\|", shown)]
    assert len(grown) >= 4 and grown == sorted(grown) and grown[-1] > grown[0], "the backlog grows"
    assert re.search(r"drains +0 +\|$", shown, re.MULTILINE), "and drains"
    before, after = (float(re.search(rf" {name} +(\d+) W \|#+", shown)[1]) for name in ("before", "after"))  # type: ignore[index]
    held = [float(watts) for watts in re.findall(r"household +(\d+) W", shown)]
    assert before > 2500 and after > 2500 and min(held) <= 2500, "the limit shows in the household's watts"
    assert shown.isascii() and "\033" not in shown, "the locale says ASCII, and this is no terminal"
    too_long = [line for line in shown.splitlines() if len(line) > 80]
    assert not too_long, too_long
    assert done.stderr == ""


class Terminal:
    """The demonstration on a terminal of its own."""

    def __init__(self, **more: str) -> None:
        self._terminal, inner = pty.openpty()
        os.set_blocking(self._terminal, False)
        self.demo = subprocess.Popen(
            COMMAND, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env=environment(TERM="xterm", **more),
        )  # fmt: skip
        os.close(inner)
        self.shown = ""

    def read(self) -> str:
        try:
            while data := os.read(self._terminal, 65536):
                self.shown += data.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass
        return self.shown

    def wait_for(self, word: str) -> None:
        def seen() -> bool:
            assert self.demo.poll() is None, self.read()
            return word in self.read()

        wait_for(word, seen)

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.demo.pid}/task/{self.demo.pid}/children").read_text().split()]

    def folder(self) -> Path:
        found = re.search(r"--config (\S+)/hub.toml", self.read())
        assert found, self.shown
        return Path(found[1])

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._terminal)
        self._terminal = -1

    def close(self) -> None:
        if self.demo.poll() is None:
            self.demo.kill()
        self.demo.wait()
        if self._terminal >= 0:
            self.hang_up()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal(LANG="C.UTF-8")
    yield terminal
    terminal.close()


def test_a_terminal_gets_colour_and_lines_unless_it_does_not_want_them(terminal: Terminal) -> None:
    terminal.wait_for("1  The parts")
    assert "\033[1m" in terminal.read() and "─" in terminal.read()
    plain = Terminal(LANG="C.UTF-8", NO_COLOR="1")
    try:
        plain.wait_for("1  The parts")
        assert "\033" not in plain.read() and "─" in plain.read()
    finally:
        plain.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_however_it_is_ended_no_child_and_no_key_stays(terminal: Terminal, number: signal.Signals) -> None:
    terminal.wait_for("hub.toml")
    children, folder = terminal.children(), terminal.folder()
    assert len(children) >= 4, "broker, radio, hub, and who tidies up"
    assert list(folder.glob("pki/*.key")), "there is something to take away"
    terminal.demo.send_signal(number)
    wait_for("it to end", lambda: terminal.demo.poll() is not None)
    wait_for("every part to end", lambda: all(map(has_ended, children)))
    wait_for("the folder to go", lambda: not folder.exists())
    if number is not signal.SIGKILL:
        assert terminal.demo.returncode == 128 + number, terminal.read()


def test_a_terminal_that_is_closed_ends_it_too(terminal: Terminal) -> None:
    terminal.wait_for("3  The broker is cut")
    children, folder = terminal.children(), terminal.folder()
    terminal.hang_up()
    wait_for("every part to end", lambda: all(map(has_ended, [terminal.demo.pid, *children])))
    wait_for("the folder to go", lambda: not folder.exists())


def test_what_started_it_may_be_killed_too(tmp_path: Path) -> None:
    """`make` is its parent: killed outright, it leaves nothing behind either."""
    file = tmp_path / "shown"
    script = f"{' '.join(COMMAND)} --end-with-parent >{file} 2>&1; true"
    with subprocess.Popen(["/bin/sh", "-c", script], cwd=ROOT, start_new_session=True) as parent:
        wait_for("the hub", lambda: file.exists() and "hub.toml" in file.read_text())
        found = re.search(r"--config (\S+)/hub.toml", file.read_text())
        assert found
        [demo] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        children = Path(f"/proc/{demo}/task/{demo}/children").read_text().split()
        parent.kill()
    for pid in (demo, *children):
        wait_for("every part to end", lambda pid=pid: has_ended(int(pid)))  # type: ignore[misc]
    wait_for("the folder to go", lambda: not Path(found[1]).exists())


def test_a_failure_keeps_the_logs_and_no_key(terminal: Terminal) -> None:
    terminal.wait_for("hub.toml")
    folder = terminal.folder()
    for pid in terminal.children():
        if b"hub\0run" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    wait_for("it to end", lambda: terminal.demo.poll() is not None)
    assert terminal.demo.returncode == 1 and "a part ended by itself" in terminal.read()
    names = sorted(path.name for path in folder.iterdir())
    assert "hub.log" in names and all(name.endswith(".log") for name in names), names
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
