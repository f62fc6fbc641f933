"""Who asks the hub and has to wait is told so, and never that there is none."""

import socket
import threading
import time
from pathlib import Path

import pytest

from hub.services.admin.client import NoDaemon, RequestRefused, ask


def answers(path: Path, *pieces: tuple[float, bytes]) -> None:
    """A daemon that answers one question: each piece after so long."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        sock, _ = server.accept()
        with server, sock:
            sock.recv(4096)
            for after_s, data in pieces:
                time.sleep(after_s)
                sock.sendall(data)

    threading.Thread(target=serve, daemon=True).start()


def test_an_answer_that_takes_its_time_is_waited_for_and_told_of(tmp_path: Path) -> None:
    answers(tmp_path / "s", (2.3, b'{"answer":'), (0.1, b" [1]}\n"))
    waited: list[float] = []
    assert ask(tmp_path / "s", "readings", 30.0, waited.append) == [1]
    assert len(waited) == 1


def test_a_busy_hub_is_not_called_absent(tmp_path: Path) -> None:
    answers(tmp_path / "s", (30.0, b""))
    with pytest.raises(RequestRefused, match=r"the hub is there, and has not answered within 0\.2 s"):
        ask(tmp_path / "s", "readings", 0.2)


def test_a_hub_that_dies_over_its_answer_is(tmp_path: Path) -> None:
    answers(tmp_path / "s", (0.0, b'{"answer": [1'))
    with pytest.raises(NoDaemon, match="closed the connection"):
        ask(tmp_path / "s", "readings", 30.0)
