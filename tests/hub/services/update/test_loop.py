"""Updates as the hub carries them out, on a store and a board's helper: one at a time, whenever they are asked for."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from drivers.tls import client_context
from hub.core.control.records import JobRequest, Outcome
from hub.core.health import Health
from hub.services.update.helper import REQUEST, SystemPlaces, serve_one
from hub.services.update.loop import HubAround, Updates
from hub.services.update.slots import Slots
from hub.wire.uplink.receipt import Receipt
from store import Store
from tests.harness.board import Board
from tests.harness.update_server import UpdateServer


@pytest.fixture
def server(pki: DevelopmentAuthority) -> Iterator[UpdateServer]:
    """It takes every question and answers none, until the test is over."""
    server, ended = UpdateServer(pki), threading.Event()

    def keeps_silent(handler: BaseHTTPRequestHandler) -> bool:
        ended.wait()
        handler.close_connection = True
        return True

    server.fault = keeps_silent
    yield server
    ended.set()
    server.close()


async def _help(board: Board) -> None:
    """What meterhub-slots.path and its service do."""
    here = SystemPlaces(
        board.slots_dir, board.folder / "bundle.raucb", str(board.folder / "rauc"), board.folder / "A/os-release",
        board.folder / "boot_id", board.folder / "A",
    )  # fmt: skip
    while True:
        if (board.slots_dir / REQUEST).exists():
            await asyncio.to_thread(serve_one, here)
        await asyncio.sleep(0.02)


def test_commands_that_come_at_one_moment_leave_the_last_of_them(
    tmp_path: Path, pki: DevelopmentAuthority, server: UpdateServer
) -> None:
    """After an outage the broker hands over at once what waited: each takes the place of the one before it, also of one
    whose record is not durable yet."""

    def context() -> ssl.SSLContext:
        return client_context(pki.ca_file, pki.directory / "hub.pem", pki.directory / "hub.key")

    def receipt(cti: bytes, digest: bytes, status: str, detail: dict[str, object]) -> Receipt:
        return Receipt("MTR-1", 0, cti, digest, status, "", detail)

    board = Board(tmp_path / "board")
    (tmp_path / "data").mkdir()
    store = Store(tmp_path / "data", seal=lambda *_: b"")
    store.start()
    around = HubAround(context, lambda: True, lambda: False, lambda _: "", receipt, lambda: 0.0)

    def request(number: int) -> JobRequest:
        args = {"url": server.url(f"b{number}"), "sha256": f"{number}" * 64, "version": f"2.0.{number}"}
        return JobRequest(bytes([number] * 16), "grid", b"", "update", args)

    async def scenario() -> list[Outcome]:
        updates = Updates(
            tmp_path / "update", Slots(board.slots_dir), store, Health(), around,
            max_bytes=1 << 20, bytes_per_s=0, well_s=1, uplink_s=6,
        )  # fmt: skip
        helper = asyncio.create_task(_help(board))
        *early, last = [asyncio.create_task(updates.run(request(number))) for number in (1, 2, 3)]
        outcomes = await asyncio.wait_for(asyncio.gather(*early), 60)
        assert updates.update is not None and updates.update.version == "2.0.3" and not last.done()
        for task in (last, helper):
            task.cancel()
        return outcomes

    try:
        outcomes = asyncio.run(scenario())
    finally:
        store.close()
    assert [status for status, *_ in outcomes] == ["superseded", "superseded"]
