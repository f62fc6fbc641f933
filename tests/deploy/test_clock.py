"""The image's word that the clock is kept: there while chrony has set it, gone when it has not."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.hub import ROOT
from tests.harness.waiting import wait_for

SCRIPT = ROOT / "deploy/image/files/usr/lib/meterhub/watch-clock"


class Chrony:
    """What answers `chronyc waitsync`: a source may be chosen, and the clock be so far from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "chronyc"
        program.write_text(
            "#!/bin/sh\n"
            '[ "$1 $2 $3 $4 $6" = "-h /run/chrony waitsync 1 0" ] || { echo "$@" >>' + f"{folder}/wrong; exit 1; }}\n"
            f"read -r chosen off <{folder}/tracking\n"
            "echo asked >>" + f"{folder}/asked\n"
            '[ "$chosen" = yes ] && awk "BEGIN { exit !($off <= $5) }"\n'
        )
        program.chmod(0o755)

    def tracks(self, chosen: str, off_s: float) -> None:
        fresh = self.folder / "fresh"
        fresh.write_text(f"{chosen} {off_s}\n")
        fresh.replace(self.folder / "tracking")


@pytest.fixture
def chrony(tmp_path: Path) -> Iterator[Chrony]:
    chrony = Chrony(tmp_path)
    chrony.tracks("no", 0)
    (tmp_path / "mark").touch()  # of a life before
    words = ["sh", str(SCRIPT), "/run/chrony", str(tmp_path / "mark"), "0.1"]
    process = subprocess.Popen(words, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, start_new_session=True)
    yield chrony
    os.killpg(process.pid, signal.SIGKILL)  # the pause that it waits for, too
    process.wait()
    assert not (tmp_path / "wrong").exists(), (tmp_path / "wrong").read_text()


def test_a_clock_that_could_not_be_set_is_not_kept(chrony: Chrony, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    wait_for("a first look", (tmp_path / "asked").exists)
    assert not mark.exists(), "what was so in another life is not so now"
    # Ten years off, and chrony has found its source: it says that it is synchronised, and cannot set this clock.
    chrony.tracks("yes", 315_360_000)
    asked = (tmp_path / "asked").stat().st_size
    wait_for("another look", lambda: (tmp_path / "asked").stat().st_size > asked + 6)
    assert not mark.exists()
    chrony.tracks("yes", 0.02)
    wait_for("the word", mark.exists)
    chrony.tracks("no", 0.02)
    wait_for("the word to be taken back", lambda: not mark.exists())
