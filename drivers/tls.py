"""TLS to the broker: mutual, verified, resumed where the server allows it, its bytes counted (P6, P8)."""

import os
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivers.durable_file import write_whole
from hub.core.uplink.traffic import LineBytes
from hub.wire.keys.pkcs11 import SCHEME, to_pem, uri_of

# struct tcp_info of linux/tcp.h, offsets fixed by the kernel's promise to user space.
_BYTES_ACKED, _SEGMENTS, _BYTES_SENT = 120, 136, 200
_TCP_INFO_BYTES = 256
_RECORD = _READ_AHEAD = 16_384  # RFC 8446 section 5.1: what a record holds
_MOST_UNSENT = 1 << 20
# CPython (3.11 and 3.13) makes a copy of a session that is asked for, and loses it: 6.5 kB that never come back. So a
# hub asks seldom, about once in two hours where its line breaks all the time, and at last makes full handshakes.
_MOST_SESSIONS = 1000


def line_bytes_of(sock: socket.socket) -> LineBytes:
    """Ask the kernel what a connection carried. Zeros where it does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        acked, received = struct.unpack_from("=QQ", info, _BYTES_ACKED)
        out, into = struct.unpack_from("=II", info, _SEGMENTS)
        sent = struct.unpack_from("=Q", info, _BYTES_SENT)[0] if len(info) >= _BYTES_SENT + 8 else acked
        return LineBytes(sent, acked, received, out, into)
    except (OSError, struct.error):
        return LineBytes(0, 0, 0, 0, 0)


class TlsSocket(ssl.SSLSocket):
    """Before it closes it is asked for what only an open socket can tell: its bytes and its session.

    After `buffer()` it reads ahead, and keeps what is sent until `flush()`: who reads a byte at a time, or sends a
    packet at a time, then pays one call of TLS, and one record on the line, for many. Not blocking, from then on.
    """

    before_close: "Callable[[TlsSocket], None] | None" = None
    _is_buffered = False
    _is_dry = True  # nothing more was there at the last look
    _failed: OSError | None = None  # what the line ended of, behind what is still to be read
    _ahead = b""
    _ahead_at = 0
    _unsent: bytearray

    def buffer(self) -> None:
        """Read ahead and gather writes from now on."""
        self._unsent = bytearray()
        self._is_buffered = True

    @property
    def is_dry(self) -> bool:
        """Whether all that was there has been taken."""
        return self._is_dry and self._ahead_at >= len(self._ahead)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As of a socket; SSLWantReadError while nothing is there."""
        if not self._is_buffered:
            return super().recv(buflen, flags)
        at = self._ahead_at
        if at >= len(self._ahead):
            self._read_ahead()
            at = 0
        self._ahead_at = at + buflen
        return self._ahead[at : at + buflen]

    def peek(self) -> bytes:
        """What `recv` would give, all of it, and leave it there; nothing where it would have to be waited for."""
        if self._ahead_at >= len(self._ahead):
            try:
                self._read_ahead()
            except OSError as error:
                if not isinstance(error, ssl.SSLWantReadError):
                    self._failed = error  # to be said to who reads
                return b""
        return self._ahead[self._ahead_at :]

    def skip(self, count: int) -> None:
        """Take so many of the bytes that `peek` showed."""
        self._ahead_at += count

    def _read_ahead(self) -> None:
        """All that is there: a broker that answers each message by a record of its own is read in one go."""
        self._ahead, self._ahead_at = b"", 0
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error
        gathered = []
        size = 0
        try:
            self._is_dry = False
            while size < _READ_AHEAD and (data := super().recv(_RECORD)):
                gathered.append(data)
                size += len(data)
        except ssl.SSLWantReadError:
            self._is_dry = True
            if not gathered:
                raise
        except OSError as error:
            if not gathered:
                raise
            self._failed = error
        self._ahead = b"".join(gathered)

    def pending(self) -> int:
        """LineBytes that can be read without waiting for the line."""
        return max(0, len(self._ahead) - self._ahead_at) + super().pending()

    def send(self, data: Any, flags: int = 0) -> int:
        """As of a socket; buffered: all of it is taken, and goes with `flush()`."""
        if not self._is_buffered:
            return super().send(data, flags)
        if len(self._unsent) >= _MOST_UNSENT:
            self.flush()
        self._unsent += data
        return len(data)

    @property
    def has_unsent(self) -> bool:
        return self._is_buffered and bool(self._unsent)

    def flush(self) -> None:
        """Send what was kept. Raises SSLWantWriteError where the line takes no more now: to be asked again then."""
        while self.has_unsent:
            # OpenSSL wants a record that it could not send offered again: the same bytes, and they are still first.
            del self._unsent[: super().send(bytes(self._unsent[:_RECORD]))]

    def close(self) -> None:
        try:
            self.flush()
        except (OSError, ValueError):
            pass  # it ends either way
        before_close, self.before_close = self.before_close, None
        if before_close is not None:
            before_close(self)
        super().close()


class ResumingContext(ssl.SSLContext):
    """A client context that offers the last session, so that a reconnect costs a third of a full handshake.

    paho builds its sockets through `wrap_socket` and has no way to hand a session in; this is that way. `count` is told
    what each connection carried, also one whose handshake failed.
    """

    count: Callable[[LineBytes], None] | None = None

    def prepare(self) -> None:
        """Make sockets of the kind that tells; once, after construction."""
        self.sslsocket_class = TlsSocket
        self._sessions: dict[str | None, ssl.SSLSession] = {}  # by server name: another server's is no use
        self._taken = 0
        self._open: TlsSocket | None = None

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        name = kwargs.get("server_hostname")
        if name in self._sessions:
            kwargs.setdefault("session", self._sessions[name])
        self.settle()
        wrapped = super().wrap_socket(*args, **kwargs)
        assert isinstance(wrapped, TlsSocket)
        wrapped.before_close = self._before_close
        self._open = wrapped
        return wrapped

    def _before_close(self, sock: TlsSocket) -> None:
        # As late as possible: TLS 1.3 tickets come after the handshake. A session that was resumed stays the one that
        # is offered, as long as the server believes it: asking for another costs 6.5 kB (`_MOST_SESSIONS`).
        if not sock.session_reused and self._taken < _MOST_SESSIONS:
            try:
                session = sock.session
            except ValueError:  # the handshake never came so far
                session = None
            if session is not None:
                self._taken += 1
                self._sessions[sock.server_hostname] = session
        if self.count is not None:
            self.count(line_bytes_of(sock))
        self._open = None

    def settle(self) -> None:
        """Close what a failed connect left open, and count what it cost."""
        if self._open is not None:
            self._open.close()

    def forget_sessions(self) -> None:
        """Make the next handshakes full ones: after a failed one, should resuming have been the trouble."""
        self._sessions.clear()


def client_context(ca_file: Path, cert_file: Path, key_file: Path, crl_file: Path | None = None) -> ResumingContext:
    """A context that verifies the broker against `ca_file` (name included) and shows the hub's certificate.

    With `crl_file` (PEM, from the CA that signed the broker's certificate) a revoked broker is refused, and so is every
    broker once the list is out of date: the utility that hands out a list keeps it fresh. TLS 1.2 at least. `key_file`
    as in hub/wire/keys/identity.py. Raises OSError or ssl.SSLError when a file, or a key in hardware, cannot be used.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
    context.prepare()
    context.hostname_checks_common_name = False  # RFC 6125: a CN is no host's name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca_file)
    if crl_file is not None:
        context.load_verify_locations(crl_file)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    _load_pair(context, cert_file, key_file)
    return context


def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    try:
        uri = uri_of(key_file)
    except ValueError as error:
        raise ssl.SSLError(f"{key_file}: expected {error}") from None
    if uri is None or not str(key_file).startswith(SCHEME):
        context.load_cert_chain(cert_file, key_file)
        return
    # OpenSSL's provider takes a URI in a PEM file alone; this one exists for as long as it is being read.
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        write_whole(descriptor, to_pem(uri))
        context.load_cert_chain(cert_file, f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def stamp_of(file: Path) -> int:
    """Differs when a file of the pair was replaced. Raises OSError. A key in hardware stays what it is."""
    return 0 if str(file).startswith(SCHEME) else file.stat().st_mtime_ns
