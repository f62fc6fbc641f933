# SPDX-License-Identifier: GPL-3.0-or-later
"""The program: ready line, control socket, clean end, state file."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.ezsp.ash import frame

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0
HOME = {"devices": [{"kind": "plug", "ieee": "00:00:00:00:00:00:00:01", "name": "Lamp"}]}


@asynccontextmanager
async def served(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.emulators.serve", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            yield process, json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), LIMIT_S)


class Remote:
    """Asks the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def ask(self, do: str, **fields: object) -> dict[str, Any]:
        self.writer.write(json.dumps({"do": do} | fields).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer


@pytest.mark.parametrize("wire", ["--link", "--tcp"])
def test_it_serves_answers_and_ends(tmp_path: Path, wire: str) -> None:
    (tmp_path / "home.json").write_text(json.dumps(HOME))
    where = str(tmp_path / "radio") if wire == "--link" else "127.0.0.1:0"
    files = ["--state", "state.json", "--home", "home.json", "--control", "control.sock"]
    arguments = [wire, where, *(name if name.startswith("--") else str(tmp_path / name) for name in files)]

    async def scenario() -> None:
        async with served(*arguments) as (process, ready):
            assert ready["pid"] == process.pid
            remote = Remote(*await asyncio.open_unix_connection(tmp_path / "control.sock"))
            answer = await remote.ask("devices")
            assert [device["name"] for device in answer["devices"]] == ["Lamp"]
            for request in ("reset", "mute", "unmute", "unplug", "plug", "power-cycle", "counters"):
                assert (await remote.ask(request))["ok"], request
            assert (await remote.ask("corrupt", rate=0.1))["ok"]
            assert (await remote.ask("lose", rate=0.1, device="Lamp"))["ok"]
            for verb in ("join", "rejoin", "leave"):
                assert (await remote.ask(verb, device="Lamp"))["ok"]
            assert not (await remote.ask("join", device="nobody"))["ok"]
            assert not (await remote.ask("dance"))["ok"]
            remote.writer.close()
        assert process.returncode == 0
        assert json.loads((tmp_path / "state.json").read_text())["ncp"]["network"] is None
        assert not (tmp_path / "radio").exists()

    asyncio.run(scenario())


def test_a_host_is_answered_over_tcp() -> None:
    async def scenario() -> None:
        async with served("--tcp", "127.0.0.1:0") as (_, ready):
            host, _, port = ready["ready"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(frame(0xC0))
            assert await reader.readuntil(b"\x7e") == frame(0xC1, b"\x02\x0b")
            writer.close()

    asyncio.run(scenario())


def test_a_bad_home_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "home.json"
    bad.write_text('{"devices": [{"kind": "toaster", "ieee": "0000000000000001"}]}')

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.emulators.serve", "--tcp", "127.0.0.1:0", "--home", str(bad)),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert b"toaster" in errors

    asyncio.run(scenario())
