"""TLS 1.3 of a client that stays small.

OpenSSL makes the handshake and takes the tickets; then its state of the connection, 33 kB, is let go, and the records
go on here with what they need: two keys, two counters (RFC 8446 section 5). For the swarm alone, where a session's
memory is what bounds how many hubs a machine plays. The traffic secrets are read from OpenSSL's key log, which is a
file in memory. Whatever has to do with trust (certificates, the name, the Finished messages) OpenSSL has judged by
then.
"""

import os
import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_, _ALERT, _HANDSHAKE, _DATA = _KINDS = range(20, 24)  # section 5.1, ContentType
_CLOSE_NOTIFY = 0  # section 6.1
_KEY_UPDATE, _UPDATE_REQUESTED = 24, 1  # sections 4, 4.6.3
_HEAD_BYTES, _TAG_BYTES = 5, 16
_RECORD_BYTES = 16_384  # of plaintext, section 5.1
_MOST_SEALED_BYTES = _RECORD_BYTES + 256  # section 5.2
_READ_BYTES = 16_384


class _Suite(NamedTuple):
    """Section B.4."""

    aead: type[AESGCM] | type[ChaCha20Poly1305]
    key_bytes: int
    hash: hashes.HashAlgorithm


_SUITES = {
    "TLS_AES_128_GCM_SHA256": _Suite(AESGCM, 16, hashes.SHA256()),
    "TLS_AES_256_GCM_SHA384": _Suite(AESGCM, 32, hashes.SHA384()),
    "TLS_CHACHA20_POLY1305_SHA256": _Suite(ChaCha20Poly1305, 32, hashes.SHA256()),
}


class RecordKeys:
    """One direction of a connection: its secret, and how many records there have been (section 5.3)."""

    __slots__ = ("_iv", "_key", "_secret", "_suite", "count")

    def __init__(self, suite: _Suite, secret: bytes, count: int = 0) -> None:
        self._suite, self.count = suite, count
        self._take(secret)

    def _take(self, secret: bytes) -> None:
        self._secret = secret
        self._key = self._expand(b"key", self._suite.key_bytes)
        self._iv = int.from_bytes(self._expand(b"iv", 12))

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label with no context (section 7.1)."""
        label = b"tls13 " + label
        info = length.to_bytes(2) + bytes((len(label),)) + label + b"\0"
        return HKDFExpand(self._suite.hash, length, info).derive(self._secret)

    def update(self) -> None:
        """The next generation (section 7.2)."""
        self._take(self._expand(b"traffic upd", self._suite.hash.digest_size))
        self.count = 0

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self.count).to_bytes(12)
        self.count += 1
        return nonce

    def seal(self, kind: int, data: bytes) -> bytes:
        """A record."""
        head = bytes((_DATA, 3, 3)) + (len(data) + 1 + _TAG_BYTES).to_bytes(2)
        return head + self._suite.aead(self._key).encrypt(self._nonce(), data + bytes((kind,)), head)

    def open(self, record: bytes) -> tuple[int, bytes]:
        """What kind it is of, and what it holds. Raises ssl.SSLError."""
        try:
            inner = self._suite.aead(self._key).decrypt(
                self._nonce(), record[_HEAD_BYTES:], record[:_HEAD_BYTES]
            ).rstrip(b"\0")  # fmt: skip
        except InvalidTag:
            raise ssl.SSLError("the peer sent a record that is not of this connection") from None
        if not inner:
            raise ssl.SSLError("the peer sent a record of nothing but padding")
        return inner[-1], inner[:-1]


class ThinTlsContext:
    """The TLS of all sessions that believe one authority. A context a hub would hold a store of authorities each; what
    a session shows is read from its files when it is opened, and OpenSSL hands it to that session alone."""

    def __init__(self, ca_file: Path) -> None:
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._log = os.memfd_create("secrets", os.MFD_CLOEXEC)
        self._context.keylog_filename = f"/proc/self/fd/{self._log}"

    def close(self) -> None:
        os.close(self._log)

    def wrap(
        self, cert_file: Path, earlier: ssl.SSLSession | None, sock: socket.socket, *, server_hostname: str,
        do_handshake_on_connect: bool = False,
    ) -> "ThinTlsSocket":  # fmt: skip
        """`earlier`: a session to resume, where the peer still knows it. The rest as of ssl.SSLContext.wrap_socket;
        `cert_file`'s key lies beside it."""
        self._context.load_cert_chain(cert_file, cert_file.with_suffix(".key"))
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(into, out, server_hostname=server_hostname, session=earlier)
        wrapped = ThinTlsSocket(sock, _Openssl(tls, earlier, into, out, self))
        if do_handshake_on_connect:
            wrapped.do_handshake()
        return wrapped

    def take_secrets(self) -> dict[str, bytes]:
        """Of the handshake that was made last, by their names in the log."""
        text = os.pread(self._log, os.fstat(self._log).st_size, 0).decode()
        os.ftruncate(self._log, 0)
        lines = (line.split() for line in text.splitlines())
        return {words[0]: bytes.fromhex(words[2]) for words in lines if len(words) == 3}


class _Openssl:
    """The connection while OpenSSL has it."""

    __slots__ = ("_secrets", "_suite", "earlier", "into", "out", "shared", "tls")

    def __init__(
        self, tls: ssl.SSLObject, earlier: ssl.SSLSession | None, into: ssl.MemoryBIO, out: ssl.MemoryBIO,
        shared: ThinTlsContext,
    ) -> None:  # fmt: skip
        self.tls, self.earlier, self.into, self.out, self.shared = tls, earlier, into, out, shared

    def end_of_handshake(self) -> None:
        """Keep what is to be known once OpenSSL is gone."""
        cipher = self.tls.cipher()
        assert cipher is not None
        self._suite, self._secrets = _SUITES[cipher[0]], self.shared.take_secrets()

    def keys(self, side: str, count: int) -> RecordKeys:
        """Of "CLIENT" or "SERVER", after so many records."""
        return RecordKeys(self._suite, self._secrets[f"{side}_TRAFFIC_SECRET_0"], count)


class ThinTlsSocket:
    """As much of ssl.SSLSocket as paho uses. A record at a time goes to OpenSSL, so that it is known which is the first
    one behind the handshake; the first data end its part: tickets come before them."""

    __slots__ = (
        "_arrived", "_is_closed", "_openssl", "_plain", "_received", "_sealed", "_sealed_bytes", "_sent", "_sock",
        "session", "session_reused",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, openssl: _Openssl) -> None:
        self._sock = sock
        self._openssl: _Openssl | None = openssl
        self._arrived = b""  # not whole records yet
        self._plain = b""  # not read yet
        self._sealed, self._sealed_bytes = b"", 0  # not sent yet, and how much of the plaintext that is
        self._sent: RecordKeys | int = 0  # keys; before: how many records under the connection's own keys
        self._received: RecordKeys | int = 0
        self._is_closed = False
        self.session: ssl.SSLSession | None = None
        self.session_reused = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def settimeout(self, timeout_s: float | None) -> None:
        self._sock.settimeout(timeout_s)

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        self._sock.close()
        self._openssl = None

    def do_handshake(self) -> None:
        """Waits for the peer. Raises OSError, ssl.SSLError."""
        openssl = self._openssl
        assert openssl is not None
        openssl.shared.take_secrets()  # of one that failed
        while True:
            try:
                openssl.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._sock.sendall(openssl.out.read())
            except ssl.SSLError:
                self._sock.sendall(openssl.out.read())  # the alert that says why
                raise
            while not (record := self._next_record()):
                self._read_more()
            openssl.into.write(record)
        self._sock.sendall(openssl.out.read())
        openssl.end_of_handshake()
        self.session_reused = bool(openssl.tls.session_reused)

    def _read_more(self) -> None:
        """Raises BlockingIOError, TimeoutError; ssl.SSLEOFError at the end."""
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer has closed the connection")
        self._arrived += data

    def _next_record(self) -> bytes:
        """Nothing where none has come whole."""
        if len(self._arrived) < _HEAD_BYTES:
            return b""
        end = _HEAD_BYTES + int.from_bytes(self._arrived[3:_HEAD_BYTES])
        if self._arrived[0] not in _KINDS or end > _HEAD_BYTES + _MOST_SEALED_BYTES:
            raise ssl.SSLError("the peer sent no TLS record")
        if len(self._arrived) < end:
            return b""
        record, self._arrived = self._arrived[:end], self._arrived[end:]
        return record

    def recv(self, size: int) -> bytes:
        """Nothing at the end; raises BlockingIOError where nothing is there, ssl.SSLError."""
        while not self._plain and not self._is_closed:
            try:
                while not (record := self._next_record()):
                    self._read_more()
            except ssl.SSLEOFError:
                self._is_closed = True
                break
            self._take(record)
        found, self._plain = self._plain[:size], self._plain[size:]
        return found

    def _take(self, record: bytes) -> None:
        if isinstance(self._received, RecordKeys):
            kind, data = self._received.open(record)
            if kind == _DATA:
                self._plain += data
            elif kind == _ALERT:
                self._is_closed = True
                if data[-1:] != bytes((_CLOSE_NOTIFY,)):
                    raise ssl.SSLError(f"the peer ended the connection by alert {data[-1:].hex()}")
            elif kind == _HANDSHAKE and data[:1] == bytes((_KEY_UPDATE,)):
                self._received.update()
                if data[-1] == _UPDATE_REQUESTED and isinstance(self._sent, RecordKeys):
                    self._sealed += self._sent.seal(_HANDSHAKE, bytes((_KEY_UPDATE, 0, 0, 1, 0)))
                    self._sent.update()
            return  # tickets that come late are of no use
        assert self._openssl is not None
        self._received += 1
        self._openssl.into.write(record)
        try:
            self._plain = self._openssl.tls.read(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self._is_closed = True
            return
        self._let_go(self._openssl)

    def _let_go(self, openssl: _Openssl) -> None:
        assert isinstance(self._sent, int) and isinstance(self._received, int)
        # CPython loses a copy of each session that is asked for, 6.5 kB (drivers/tls.py): only of a new one.
        self.session = openssl.earlier if self.session_reused else openssl.tls.session
        self._sent, self._received = openssl.keys("CLIENT", self._sent), openssl.keys("SERVER", self._received)
        self._openssl = None

    def pending(self) -> int:
        """How much can be read of what has come already."""
        if self._plain:
            return len(self._plain)
        whole = len(self._arrived) >= _HEAD_BYTES + int.from_bytes(self._arrived[3:_HEAD_BYTES])
        return int(whole and len(self._arrived) > _HEAD_BYTES)

    def send(self, data: Any) -> int:
        """Raises BlockingIOError where the line takes no more: to be called again then with the same data."""
        if not self._sealed_bytes:
            part = bytes(data[:_RECORD_BYTES])
            self._sealed += self._seal(part)
            self._sealed_bytes = len(part)
        while self._sealed:
            self._sealed = self._sealed[self._sock.send(self._sealed) :]
        taken, self._sealed_bytes = self._sealed_bytes, 0
        return taken

    def _seal(self, data: bytes) -> bytes:
        if isinstance(self._sent, RecordKeys):
            return self._sent.seal(_DATA, data)
        assert self._openssl is not None
        self._openssl.tls.write(data)
        self._sent += 1
        return self._openssl.out.read()
