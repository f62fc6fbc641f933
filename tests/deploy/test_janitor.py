"""What is shown on one machine is killed at any moment, and nothing of it stays."""

import subprocess
import sys
from pathlib import Path

from deploy.child_processes import has_ended
from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
# A program that is not to be stopped politely yet, as mosquitto before its loop: it loses what it is told.
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
_KILLED_WHILE_IT_WAITS = f"""
import subprocess, sys, time
from pathlib import Path
from deploy.janitor import Janitor
folder = Path(sys.argv[1])
folder.mkdir()
janitor = Janitor(folder)
child = subprocess.Popen([sys.executable, "-c", {_DEAF!r}], stdout=subprocess.PIPE, start_new_session=True,
                         preexec_fn=janitor.enlist)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""
_KILLED_WHILE_IT_FORKS = f"""
import os, subprocess, sys, time
from deploy.parent import ends_with_us
us, ends = os.getpid(), ends_with_us()
def begin():
    print(os.getpid(), flush=True)
    while os.getppid() == us:
        time.sleep(0.01)
    ends()
subprocess.Popen([sys.executable, "-c", {_DEAF!r}], preexec_fn=begin)
"""


def test_what_was_started_a_moment_before_is_ended_too(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    words = [sys.executable, "-c", _KILLED_WHILE_IT_WAITS, str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        child = int(shown.stdout.readline())
        assert not has_ended(child) and folder.exists()
        shown.kill()
    wait_for("the child to end", lambda: has_ended(child))
    wait_for("the folder to go", lambda: not folder.exists())


def test_a_child_that_finds_its_parent_gone_does_not_begin(tmp_path: Path) -> None:
    """The kernel tells of a parent's end only those who have asked before."""
    words = [sys.executable, "-c", _KILLED_WHILE_IT_FORKS]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    wait_for("the child to end", lambda: has_ended(child))
