# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the emulated radio and its home: `python -m tests.emulators.serve --link PATH | --tcp HOST:PORT [...]`.

It prints one line of JSON when it is ready, and ends cleanly on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from . import home
from .bench import Bench
from .control import LINE_LIMIT, Control
from .ezsp.air import Air
from .ezsp.ncp import Ncp
from .ezsp.nv import NonVolatile, Save, dumps
from .ezsp.tables import VERSIONS
from .line import Line, PtyLine, TcpLine

DEFAULT_EUI = bytes.fromhex("0100000000c0ffee")[::-1]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.serve", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--link", type=Path, help="make a pseudo-terminal and this symbolic link to it")
    where.add_argument("--tcp", metavar="HOST:PORT", help="listen here; port 0 takes a free one")
    parser.add_argument("--state", type=Path, help="the NCP's flash and the whereabouts of devices (JSON)")
    parser.add_argument("--home", type=Path, help="the devices (JSON, see home.py)")
    parser.add_argument("--control", type=Path, help="a UNIX socket for requests (see control.py)")
    parser.add_argument("--baud", type=int, default=0, help="pace the line like this; 0: as fast as it goes")
    parser.add_argument("--version", type=int, default=13, choices=VERSIONS, help="EZSP protocol version")
    parser.add_argument("--seed", type=int, default=0, help="for everything that rolls dice")
    return parser.parse_args(argv)


def save_to(path: Path) -> Save:
    """A function that replaces the state file in one step."""

    def save(state: dict[str, Any]) -> None:
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(dumps(state))
        fresh.replace(path)

    return save


def build(arguments: argparse.Namespace, air: Air, now: float) -> Ncp:
    """The NCP, with the state it had. Raises ValueError for a state file that is not ours."""
    nv = NonVolatile(DEFAULT_EUI)
    path: Path | None = arguments.state
    if path is not None and path.exists():
        try:
            saved = json.loads(path.read_text())
            nv = NonVolatile.from_dict(saved["ncp"])
            air.restore(saved["air"], now)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a state file: {error!r}") from error
    save = None if path is None else save_to(path)
    return Ncp(nv, air, version=arguments.version, save=save, seed=arguments.seed)


def make_line(arguments: argparse.Namespace, bench: Bench) -> Line:
    """The wire the command line asks for."""
    if arguments.link is not None:
        return PtyLine(arguments.link, bench.received)
    host, _, port = arguments.tcp.rpartition(":")
    return TcpLine(host, int(port), bench.received)


@contextlib.asynccontextmanager
async def control_socket(path: Path | None, control: Control) -> AsyncIterator[None]:
    """The control socket, as long as the context lasts."""
    if path is None:
        yield
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = await asyncio.start_unix_server(control.serve, path, limit=LINE_LIMIT)
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


async def serve(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    """Run until `stop` is set."""
    now = asyncio.get_running_loop().time()
    ncp = build(arguments, home.load(arguments.home, now), now)
    bench = Bench(ncp, baud=arguments.baud, seed=arguments.seed)
    line = make_line(arguments, bench)
    bench.attach(line)
    await line.plug()
    try:
        async with control_socket(arguments.control, Control(bench, line)):
            bench.changed()
            print(json.dumps({"ready": line.where, "pid": os.getpid(), "ezsp": ncp.version}), flush=True)
            await stop.wait()
    finally:
        bench.stop()
        await line.unplug()
        ncp.save()


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(arguments, stop)


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 2 with one line that says what is wrong with a file or an address."""
    arguments = parse_arguments(argv)
    try:
        asyncio.run(_main(arguments))
    except (OSError, ValueError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
