"""The swarm's thin TLS against OpenSSL itself: `openssl s_server` shows what it read, and sends what it is told."""

import fcntl
import os
import socket
import ssl
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.fleet.thin_tls import ThinTlsContext, ThinTlsSocket
from deploy.pki import DevelopmentAuthority
from tests.harness.waiting import free_port, wait_for

SUITES = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")


class Peer:
    """A server that wants a certificate. What it has read is in a file; `say` is what somebody types there."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.authority = DevelopmentAuthority(folder / "pki")
        pki = self.authority.directory
        self.authority.issue("broker", hosts=["localhost"])
        self.cert_file, _ = self.authority.issue("SIM-1")
        self.port = free_port()
        self._read = folder / "read"
        with self._read.open("wb") as out:
            self.process = subprocess.Popen(
                ["openssl", "s_server", "-accept", str(self.port), "-cert", pki / "broker.pem",
                 "-key", pki / "broker.key", "-CAfile", pki / "ca.pem", "-Verify", "1", "-verify_return_error", *more],
                stdin=subprocess.PIPE, stdout=out, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self.context = ThinTlsContext(self.authority.ca_file)
        self.lines: list[socket.socket] = []
        wait_for("it to listen", self._listens)

    def _listens(self) -> bool:
        """Looked up, as a connection would be its client."""
        wanted = f"0100007F:{self.port:04X}", f"00000000:{self.port:04X}", f"{'0' * 32}:{self.port:04X}"
        text = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        return any(words[1] in wanted and words[3] == "0A" for words in map(str.split, text.splitlines()))

    def connect(self, earlier: ssl.SSLSession | None = None, *, name: str = "localhost") -> ThinTlsSocket:
        line = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.lines.append(line)
        return self.context.wrap(self.cert_file, earlier, line, server_hostname=name, do_handshake_on_connect=True)

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def has_heard(self) -> bool:
        """It has taken what was typed."""
        assert self.process.stdin is not None
        waiting = fcntl.ioctl(self.process.stdin, termios.FIONREAD, b"\0" * 4)
        return waiting == b"\0" * 4

    def has_read(self) -> bytes:
        return self._read.read_bytes()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.context.close()
        for line in self.lines:
            line.close()


@pytest.fixture
def peer(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Peer]:
    peer = Peer(tmp_path, *getattr(request, "param", ("-quiet",)))
    yield peer
    peer.stop()


def read(tls: ThinTlsSocket, size: int) -> bytes:
    """So much, in pieces."""
    found = b""
    while len(found) < size:
        data = tls.recv(min(100, size - len(found)))
        assert data, f"it has ended after {found!r}"
        found += data
    return found


@pytest.mark.parametrize("peer", [("-quiet", "-ciphersuites", suite) for suite in SUITES], ids=SUITES, indirect=True)
def test_what_is_said_arrives_before_and_after_openssl_is_let_go(peer: Peer) -> None:
    tls = peer.connect()
    assert tls.send(b"before ") == 7
    assert tls.session is None, "OpenSSL has it still: nothing has come"
    peer.say("one\n")
    assert read(tls, 4) == b"one\n"
    assert tls.session is not None and tls.session.has_ticket
    large = bytes(range(256)) * 300
    sent = 0
    while sent < len(large):
        sent += tls.send(large[sent:])
    peer.say("two\n" * 1000)
    assert read(tls, 4000) == b"two\n" * 1000
    wait_for("all of it to arrive", lambda: peer.has_read() == b"before " + large)


@pytest.mark.parametrize("peer", [()], indirect=True)
@pytest.mark.parametrize("letter", ["k", "K"])
def test_keys_are_renewed_as_the_peer_asks(peer: Peer, letter: str) -> None:
    """s_server has a letter for its own, and one for both sides'."""
    tls = peer.connect()
    peer.say("one\n")
    assert read(tls, 4) == b"one\n"
    for _ in range(3):
        peer.say(f"{letter}\n")
        wait_for("the peer to take the letter alone", peer.has_heard)
        peer.say("two\n")
        assert read(tls, 4) == b"two\n"
        tls.send(b"[taken]")
    wait_for("all of it to arrive", lambda: peer.has_read().count(b"[taken]") == 3)


def test_a_session_is_resumed(peer: Peer) -> None:
    first = peer.connect()
    peer.say("x\n")
    read(first, 2)
    first.close()
    assert not first.session_reused
    again = peer.connect(first.session)
    assert again.session_reused
    peer.say("y\n")
    assert read(again, 2) == b"y\n"
    again.send(b"still here")
    wait_for("it to arrive", lambda: peer.has_read() == b"still here")


def test_a_server_of_another_name_is_refused(peer: Peer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="localhoax"):
        peer.connect(name="localhoax")


@pytest.mark.parametrize("peer", [("-quiet", "-tls1_2")], indirect=True)
def test_a_server_without_tls_1_3_is_refused(peer: Peer) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        peer.connect()


def test_the_end_is_seen(peer: Peer) -> None:
    tls = peer.connect()
    peer.say("x\n")
    read(tls, 2)
    peer.process.kill()
    assert tls.recv(10) == b"" and tls.recv(10) == b""


@pytest.mark.parametrize(
    "hostile",
    [b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x00"],
    ids=["another key", "too long", "no TLS", "empty"],
)
def test_what_somebody_else_puts_on_the_line_is_refused(peer: Peer, hostile: bytes) -> None:
    """As its next record, in place of the peer's."""
    tls = peer.connect()
    peer.say("x\n")
    read(tls, 2)
    line, stranger = socket.socketpair()
    os.dup2(line.fileno(), tls.fileno())
    peer.lines += [line, stranger]
    stranger.sendall(hostile)
    with pytest.raises(ssl.SSLError):
        tls.recv(10)
