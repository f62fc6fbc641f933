"""An EST server: HTTPS with mutual TLS, /cacerts and /simplereenroll of RFC 7030, development authorities behind it."""

import base64
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from deploy.pki import DevelopmentAuthority

Answer = tuple[int, bytes]


class EstServer:
    """`authority`: whose server certificate it shows and whose clients it knows; `issuer` signs what it hands out.

    `listed`: what /cacerts says, if not its own authority; more may be added. `looks`: how often that was asked.
    `answer(request)`, if given, says `(status, body)` in place of a certificate.
    """

    def __init__(
        self,
        authority: DevelopmentAuthority,
        issuer: DevelopmentAuthority | None = None,
        answer: Callable[[x509.CertificateSigningRequest], Answer] | None = None,
        listed: list[x509.Certificate] | None = None,
    ) -> None:
        self.looks = 0
        self.listed = [authority.certificate] if listed is None else listed
        self.requests: list[tuple[str, x509.CertificateSigningRequest]] = []
        self._issuer = issuer or authority
        self._answer = answer or self._certify
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.directory / "broker.pem", authority.directory / "broker.key")
        context.load_verify_locations(authority.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.serve(self)

            def do_GET(self) -> None:
                assert self.path == "/.well-known/est/cacerts"
                server.looks += 1
                server.send(self, 200, certs_only(*server.listed))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://localhost:{self._http.server_address[1]}/.well-known/est"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        peer = handler.connection.getpeercert()
        subject = {key: value for part in peer["subject"] for key, value in part}
        request = x509.load_der_x509_csr(base64.b64decode(body))
        assert handler.path == "/.well-known/est/simplereenroll"
        assert handler.headers["Content-Type"] == "application/pkcs10" and request.is_signature_valid
        self.requests.append((subject["commonName"], request))
        self.send(handler, *self._answer(request))

    def send(self, handler: BaseHTTPRequestHandler, status: int, answer: bytes) -> None:
        """An answer."""
        handler.send_response(status)
        handler.send_header("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _certify(self, request: x509.CertificateSigningRequest) -> Answer:
        return 200, certs_only(self._issuer.certify(request))

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def certs_only(*certificates: x509.Certificate) -> bytes:
    """The body of an answer: PKCS #7, base64."""
    return base64.encodebytes(pkcs7.serialize_certificates(list(certificates), serialization.Encoding.DER))
