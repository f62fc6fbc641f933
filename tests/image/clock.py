"""An NTP server on the loopback (RFC 5905, the few fields that a client looks at), for boards in QEMU."""

import socket
import struct
import threading
import time

_FROM_1900_S = 2_208_988_800
_MODE_SERVER, _VERSION = 4, 4


class TimeServer:
    """Answers with this machine's time, or one that is `offset_s` later. `address`: 127.0.0.1, or ::1."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.offset_s = 0.0
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                request, peer = self._socket.recvfrom(1024)
            except OSError:
                return
            if len(request) >= 48:
                self._socket.sendto(self._answer(request), peer)

    def _answer(self, request: bytes) -> bytes:
        received = _stamp(self.offset_s)
        first = (_VERSION << 3) | _MODE_SERVER
        header = struct.pack(">BBbbII4s", first, 1, request[2], -20, 0, 16, b"TEST")
        return header + received + request[40:48] + received + _stamp(self.offset_s)

    def close(self) -> None:
        self._socket.close()


def _stamp(offset_s: float) -> bytes:
    """Seconds of 32 bits that began in 1900, and begin again in February 2036 (section 6, era 1)."""
    now = time.time() + offset_s + _FROM_1900_S
    return struct.pack(">II", int(now) & 0xFFFFFFFF, int((now % 1) * (1 << 32)))
