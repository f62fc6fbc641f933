# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire between the emulated radio and the hub: a pseudo-terminal or a TCP port, that can be pulled out.

Both call `received(bytes)`; both take `write(bytes)`, `unplug()`, `plug()`, `flush_host()` and `close()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

Received = Callable[[bytes], None]

OUT_LIMIT: Final = 64 * 1024  # bytes kept for a host that does not read; a UART would have lost them long before
READ_SIZE: Final = 4096


class Line(Protocol):
    """What `serve` needs of a wire."""

    async def plug(self) -> None: ...

    async def unplug(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def flush_host(self) -> None: ...

    @property
    def where(self) -> str: ...


class PtyLine:
    """A pseudo-terminal whose slave is reachable under a name that stays the same.

    We keep the slave open ourselves, so that the host may close it and open it again without the master noticing.
    """

    def __init__(self, link: Path, received: Received) -> None:
        self._link, self._received = link, received
        self._master = self._slave = -1
        self._out = bytearray()
        self._writing = False

    @property
    def where(self) -> str:
        return str(self._link)

    async def plug(self) -> None:
        """Make the terminal and point the name at it."""
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        fresh = self._link.with_name(self._link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self._link)

    async def unplug(self) -> None:
        """Hang up: the host gets an end of file or EIO, and the name is gone."""
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        self._link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        self._writing = False
        self._out.clear()

    def write(self, data: bytes) -> None:
        if self._master < 0:
            return
        self._out += data
        del self._out[:-OUT_LIMIT]
        self._writable()

    def flush_host(self) -> None:
        """Throw away what the host has not read yet: what a driver does when the radio restarts."""
        self._out.clear()
        if self._slave >= 0:
            termios.tcflush(self._slave, termios.TCIFLUSH)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, READ_SIZE)
        except (BlockingIOError, OSError):
            return
        if data:
            self._received(data)

    def _writable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: os.write(self._master, self._out)]
        loop = asyncio.get_running_loop()
        if self._out and not self._writing:
            loop.add_writer(self._master, self._writable)
        elif not self._out and self._writing:
            loop.remove_writer(self._master)
        self._writing = bool(self._out)


class TcpLine:
    """A TCP port that takes one host at a time; a second one replaces the first, as serial servers do."""

    def __init__(self, host: str, port: int, received: Received) -> None:
        self._host, self._port, self._received = host, port, received
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def where(self) -> str:
        return f"{self._host}:{self._port}"

    async def plug(self) -> None:
        """Listen. Port 0 is replaced by the one the system gave, and kept."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self._host, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        """Stop listening and drop the host."""
        if self._server is not None:
            self._server.close()
            self._drop()
            await self._server.wait_closed()
            self._server = None

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    def write(self, data: bytes) -> None:
        writer = self._writer
        if writer is not None and writer.transport.get_write_buffer_size() < OUT_LIMIT:
            writer.write(data)

    def flush_host(self) -> None:
        """Nothing to do: TCP has no queue we could empty."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._drop()
        self._writer = writer
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_SIZE):
                self._received(data)
        if self._writer is writer:
            self._writer = None
        writer.close()
