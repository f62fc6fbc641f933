"""A TCP proxy of ours between hub and broker: passes, cuts, stalls, drops, delays: a network that fails on demand."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any


class Proxy:
    """Listens on a free port of the loopback and passes everything to `target_port`. Runs a loop in its own thread."""

    def __init__(self, target_port: int) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self.delay_s = 0.0
        self._target_port = target_port
        self._is_cut = False
        self._drops = False
        self._flows = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._flows.set()
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer, True), self._pump(far_reader, writer, False))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flows.wait()
                if self._drops:
                    continue
                if up:
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    def cut(self) -> None:
        """Reset every connection and every new one, until `mend`."""

        async def act() -> None:
            self._is_cut = True
            for writer in self._writers:
                writer.transport.abort()

        self._call(act())

    def reset(self) -> None:
        """Reset every connection there is; new ones pass."""

        async def act() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._call(act())

    def mend(self) -> None:
        """Let connections through again."""

        async def act() -> None:
            self._is_cut = False
            self._flows.set()
            if self._drops:  # TCP would not go on behind what is missing
                self._drops = False
                for writer in self._writers:
                    writer.transport.abort()

        self._call(act())

    def stall(self) -> None:
        """Keep connections open and pass nothing: the half-open TCP of a modem that lost its network."""

        async def act() -> None:
            self._flows.clear()

        self._call(act())

    def drop(self) -> None:
        """Take what comes and lose it, until `mend`, which resets the connections that have a hole now."""

        async def act() -> None:
            self._drops = True

        self._call(act())

    def close(self) -> None:
        self.cut()

        async def act() -> None:
            self._server.close()

        self._call(act())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
