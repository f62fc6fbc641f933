"""The socket under paho: it reads ahead and gathers writes, and loses nothing by it."""

import ctypes
import gc
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local_broker import Broker
from deploy.pki import DevelopmentAuthority
from drivers.tls import TlsSocket, client_context
from tests.harness.waiting import wait_for


class Peer:
    """A server with one connection; sends in small records, reads what comes."""

    def __init__(self, authority: DevelopmentAuthority) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
        context.load_cert_chain(authority.directory / "broker.pem", authority.directory / "broker.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._context = context
        self.got = bytearray()
        self.records = 0
        self.may_read, self.accepted = threading.Event(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        raw, _ = self._listener.accept()
        self.sock = self._context.wrap_socket(raw, server_side=True)
        self.accepted.set()
        self.may_read.wait(60)
        try:
            while raw := self.sock.recv(65_536):  # one record at a time
                self.records += 1
                self.got += raw
        except OSError:
            pass

    def close(self) -> None:
        self._listener.close()
        self.sock.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[TlsSocket, Peer]]:
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost"])
    authority.issue("MTR-1", file_name="hub")
    peer = Peer(authority)
    context = client_context(authority.ca_file, tmp_path / "pki/hub.pem", tmp_path / "pki/hub.key")
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", peer.port)), server_hostname="localhost")
    assert isinstance(sock, TlsSocket) and peer.accepted.wait(60)
    sock.setblocking(False)
    yield sock, peer
    sock.close()
    peer.close()


def byte_by_byte(sock: TlsSocket, count: int) -> bytes:
    got = bytearray()

    def more() -> bool:
        try:
            got.extend(sock.recv(1))
        except ssl.SSLWantReadError:
            assert sock.is_dry
        return len(got) == count

    wait_for("the bytes", more, period_s=0)
    return bytes(got)


def test_who_reads_an_byte_at_a_time_gets_them_all(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    raw = os.urandom(3 * 16_384 + 7)
    sock.buffer()
    for at in range(0, len(raw), 1000):
        peer.sock.sendall(raw[at : at + 1000])
    assert byte_by_byte(sock, len(raw)) == raw
    assert sock.pending() == 0
    with pytest.raises(ssl.SSLWantReadError):
        sock.recv(1)
    peer.sock.sendall(b"once more")
    assert byte_by_byte(sock, 1) == b"o"
    assert sock.pending() == len(b"nce more")


def test_many_small_records_are_seen_together_and_taken_in_pieces(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    assert sock.peek() == b"" and sock.is_dry
    for number in range(50):
        peer.sock.sendall(b"%04d" % number)
    whole = b"".join(b"%04d" % number for number in range(50))
    seen = bytearray()

    def all_seen() -> bool:
        piece = sock.peek()
        # What was not there at the first look may have come by the second.
        assert not piece or piece == sock.peek(), "to look takes nothing"
        seen.extend(piece[:7])
        sock.skip(len(piece[:7]))
        return bytes(seen) == whole

    wait_for("the bytes", all_seen, period_s=0)
    assert sock.is_dry and sock.peek() == b""


def test_the_end_of_the_line_comes_behind_what_was_sent_before_it(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    peer.sock.sendall(b"last ")
    peer.sock.sendall(b"words")
    peer.sock.shutdown(socket.SHUT_WR)
    assert byte_by_byte(sock, 10) == b"last words"
    wait_for("the end", lambda: _read(sock) == b"")


def test_what_a_line_ends_of_is_said_to_who_reads_behind_what_came_before(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    peer.sock.sendall(b"before")
    os.write(peer.sock.fileno(), b"no record of TLS")
    seen = bytearray()

    def ended() -> bool:
        assert sock.peek() in (b"before"[len(seen) :], b""), "to look raises nothing"
        try:
            seen.extend(sock.recv(1))
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return False

    wait_for("the end", ended, period_s=0)
    assert bytes(seen) == b"before"


def _read(sock: TlsSocket) -> bytes | None:
    try:
        return sock.recv(1)
    except ssl.SSLWantReadError:
        return None


def test_what_is_written_in_one_turn_is_one_record(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    for _ in range(100):
        assert sock.send(b"four") == 4
    assert sock.has_unsent
    sock.flush()
    assert not sock.has_unsent
    peer.may_read.set()
    wait_for("all of it", lambda: bytes(peer.got) == b"four" * 100)
    assert peer.records == 1


def test_what_a_full_line_does_not_take_goes_later_and_in_order(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    raw = os.urandom(900_000)
    sent = 0
    with pytest.raises(ssl.SSLWantWriteError):  # a peer that reads nothing
        while True:
            sock.send(raw[:100_000])
            sent += 100_000
            sock.flush()
    peer.may_read.set()

    def flushed() -> bool:
        try:
            sock.flush()
        except ssl.SSLWantWriteError:
            return False
        return True

    wait_for("the line to take it", flushed)
    wait_for("all of it", lambda: len(peer.got) == sent)
    assert bytes(peer.got) == raw[:100_000] * (sent // 100_000)


def test_what_was_written_last_goes_before_the_end(pair: tuple[TlsSocket, Peer]) -> None:
    sock, peer = pair
    sock.buffer()
    sock.send(b"goodbye")
    sock.close()
    peer.may_read.set()
    wait_for("the last word", lambda: bytes(peer.got) == b"goodbye")


class _Heap(ctypes.Structure):
    """mallinfo2(3)"""

    _fields_ = [(f"_{n}" if n != 7 else "uordblks", ctypes.c_size_t) for n in range(10)]


def heap_bytes() -> int:
    """What the C library has given away."""
    gc.collect()
    asked = ctypes.CDLL(None).mallinfo2
    asked.restype = _Heap
    found: int = asked().uordblks
    return found


def test_a_line_that_breaks_again_and_again_takes_no_memory(tmp_path: Path) -> None:
    """CPython loses a copy of each TLS session that is asked for."""
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("broker", hosts=["localhost"])
    broker = Broker(tmp_path / "broker", authority, somebody=False).start()
    context = client_context(authority.ca_file, *authority.issue("hub"))
    connect = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x0a\x00\x03hub"  # MQTT 3.1.1 section 3.1

    def come_and_go() -> bool:
        line = socket.create_connection(("localhost", broker.port), timeout=30)
        with context.wrap_socket(line, server_hostname="localhost") as tls:
            tls.sendall(connect)
            assert tls.recv(4) == b"\x20\x02\x00\x00"
            return bool(tls.session_reused)

    try:
        assert not come_and_go()
        come_and_go()
        before = heap_bytes()
        resumed = [come_and_go() for _ in range(200)]
        assert (heap_bytes() - before) / len(resumed) < 1000
        assert all(resumed)
        context.forget_sessions()
        assert not come_and_go()
        assert come_and_go()
    finally:
        broker.stop()
