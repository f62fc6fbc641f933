# SPDX-License-Identifier: GPL-3.0-or-later
"""A board fetches the adapter by itself: MicroPython's own `mip`, from an index on the loopback."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.adapter.build import listed
from tests.deploy.adapter.ports import compiled_tree, run, unix, unix_command


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    built = compiled_tree(tmp_path / "built")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_mip_installs_it_from_an_index_of_ones_own(index: str, tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.mkdir()
    done = run([*unix(), "-c", f"import mip; mip.install('meterhub-adapter', index='{index}', target='{board}')"])
    assert "Done" in done.stdout, done.stdout + done.stderr
    files = {path.relative_to(board).as_posix() for path in board.rglob("*.mpy")}
    assert files == {Path(target).with_suffix(".mpy").as_posix() for target, _ in listed()}
    # What came runs: without an address the example says what it lacks, and nothing that is not there.
    done = run(unix_command(board, "deploy.adapter.examples.always_on"))
    assert "IndexError" in done.stderr, done.stderr
