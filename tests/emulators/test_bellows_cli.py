# SPDX-License-Identifier: GPL-3.0-or-later
"""bellows' own command line against the emulated radio: form, info, config, permit.

Its verbs devices, zdo and zcl fail before they open the port, and leave does not end (bellows 1.2.1 with zigpy 2.4.0):
they judge nothing.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.zigbee.radio import PLUG, Emulator, short_directory

PROGRAM = Path(sys.executable).with_name("bellows")


class Bellows:
    """One command after another on the same radio and database."""

    def __init__(self, radio: Emulator, database: Path) -> None:
        self._start = [str(PROGRAM), "-d", str(radio.tty)]
        self._database = ["-D", str(database)]

    def say(self, *words: str, database: bool = False) -> str:
        where = self._database if database else []
        command = [*self._start, words[0], *where, *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, (words, done.stdout[-500:], done.stderr[-500:])
        return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", [8, 13, 14, 18])
def test_its_command_line_forms_a_network_and_lets_a_device_in(version: int) -> None:
    with short_directory() as place, Emulator(place, [PLUG], version) as radio:
        (place / "bellows.db").touch()  # it wants one that is there
        bellows = Bellows(radio, place / "bellows.db")
        bellows.say("form", "-c", "15", "-P", str(0x1A62), database=True)
        said = bellows.say("info")
        assert "1A62" in said.upper() and "15" in said
        assert "CONFIG_KEY_TABLE_SIZE" in bellows.say("config", "-a")
        bellows.say("permit", "-t", "8", database=True)
        assert asyncio.run(radio.device("kettle"))["joined"]
