"""Where bundles come from: HTTPS with mutual TLS and ranges, and every fault that a server or a line may have."""

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deploy.pki import DevelopmentAuthority


class UpdateServer:
    """Serves `files` by name. `cuts`: after how many bytes each of the next answers breaks off; `fault(handler)`, if
    given, may answer itself and return True; `delay_s` before each 64 KiB; `ranges` False: it knows none."""

    def __init__(self, authority: DevelopmentAuthority) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.fault: Callable[[BaseHTTPRequestHandler], bool] | None = None
        self.delay_s = 0.0
        self.ranges = True
        self.sent_bytes = 0  # of bodies, so far
        self.requests: list[tuple[str, str, str]] = []  # client's CN, path, Range
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.directory / "broker.pem", authority.directory / "broker.key")
        context.load_verify_locations(authority.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that hangs up is what some tests are about

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port: int = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"https://localhost:{self.port}/{name}"

    def add(self, file: Path) -> str:
        """Serve a file, and its index where there is one; its URL."""
        for served in (file, file.with_name(f"{file.name}.idx")):
            if served.exists():
                self.files[f"/{served.name}"] = served.read_bytes()
        return self.url(file.name)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        subject = {key: value for part in handler.connection.getpeercert()["subject"] for key, value in part}
        wanted = handler.headers.get("Range", "")
        self.requests.append((subject["commonName"], handler.path, wanted))
        if self.fault is not None and self.fault(handler):
            return
        data = self.files.get(handler.path)
        if data is None:
            handler.send_error(404)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin = int(first) if wanted and self.ranges else 0
        if last and self.ranges:
            data = data[: int(last) + 1]
        if begin >= len(data) and not last:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if wanted and self.ranges else 200)
        handler.send_header("Content-Length", str(len(data) - begin))
        if wanted and self.ranges:
            handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        self._send(handler, data[begin:])

    def _send(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        if self.cuts and len(data) > (cut := self.cuts.pop(0)):
            data = data[:cut]
            handler.close_connection = True
        for at in range(0, len(data), 65536):
            if self.delay_s:
                time.sleep(self.delay_s)
            handler.wfile.write(data[at : at + 65536])
            self.sent_bytes += len(data[at : at + 65536])

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
