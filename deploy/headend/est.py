"""EST (RFC 7030) over the authorities of deploy/headend/authorities.py: where hubs renew their certificates.

/cacerts for everybody (by it hubs see that another authority certifies by now); /simpleenroll and /simplereenroll for
whoever shows a certificate of an authority that is believed, is in the registry, and was not revoked. A hub gets a
certificate for its own name and no other. The certificate is durable in the book before the hub has it, so what it
signs is believed from its first message on.
HTTP is uvicorn's, TLS OpenSSL's. Not here: /fullcmc, /serverkeygen, /csrattrs (optional all three: RFC 7030, table 1),
HTTP authentication, the channel binding in a request (section 3.5: TLS 1.3 has none that is unique).
"""

import asyncio
import base64
import binascii
import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from deploy.headend.authorities import Authorities
from deploy.headend.certificates import MOST_A_DAY
from deploy.headend.control_point import ControlPoint
from hub.headend.bookkeeper import CommandToSend
from hub.headend.database import FAILURES
from hub.wire.keys.identity import common_name
from hub.wire.keys.pkcs11 import HardwareError
from hub.wire.printable import plain, why

_LOG = logging.getLogger("headend")
PATH = "/.well-known/est"
_PEER = "meterhub.peer"  # in an ASGI scope: the client's certificate, DER, or None
_MAX_BODY = 16 * 1024
_BODY_S = 15.0
_DAY_S = 86_400
_MOST_AT_ONCE = 200
_BUSY_S = 60
Asked = Callable[[ControlPoint], tuple[Any, list[CommandToSend]]]


class _Refused(Exception):
    """The answer is no: status of HTTP, and why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Enrolment:
    """What a request comes to. `ask(do)`: does something with the control point, in a transaction. Any thread."""

    def __init__(self, authorities: Authorities, ask: Callable[[Asked], Any], counts: dict[str, int]) -> None:
        self._authorities, self._ask, self._counts = authorities, ask, counts
        counts.setdefault("enrolled", 0)
        counts.setdefault("enrolments_refused", 0)

    def cacerts(self) -> bytes:
        """The body of /cacerts: the authority that certifies, and those before it. A hub takes the one that began last
        for the one that certifies, so others', that brokers believe too, are not among them."""
        return _certs_only([authority.certificate for authority in self._authorities.with_keys])

    def enrol(self, peer_der: bytes | None, body: bytes, *, again: bool) -> bytes:
        """The body of an answer. `peer_der`: the certificate that the client showed. Raises _Refused."""
        try:
            peer, hub = self._peer(peer_der)
            request = _request_of(body)
            _check_names(request, peer, hub, again=again)
            now_s = int(time.time())
            if refusal := self._ask(lambda point: (_refusal(point, peer, hub, now_s), [])):
                raise refusal
            certificate = self._certify(request, hub, peer)

            def keep(point: ControlPoint) -> tuple[_Refused | None, list[CommandToSend]]:
                # It was signed meanwhile: the hub may have been revoked, or have asked many times at once.
                if (refusal := _refusal(point, peer, hub, now_s)) is None:
                    point.certified(hub, certificate, now_s)
                return refusal, []

            if refusal := self._ask(keep):
                raise refusal
        except _Refused as refused:
            self._counts["enrolments_refused"] += 1
            _LOG.warning("no certificate: %s", refused)
            raise
        self._counts["enrolled"] += 1
        return _certs_only([certificate])

    def _peer(self, peer_der: bytes | None) -> tuple[x509.Certificate, str]:
        if peer_der is None:
            raise _Refused(403, "a client certificate is needed")
        peer = x509.load_der_x509_certificate(peer_der)
        hub = common_name(peer)
        # TLS has verified it against what was believed when the server started.
        if not self._authorities.issued(peer):
            raise _Refused(403, f"{plain(hub)}: not a certificate of an authority that is believed")
        return peer, hub

    def _certify(
        self, request: x509.CertificateSigningRequest, hub: str, present: x509.Certificate
    ) -> x509.Certificate:  # fmt: skip
        try:
            return self._authorities.certify(request, hub, present)
        except HardwareError as error:
            _LOG.error("the authority's token: %s", error)
            raise _Refused(503, "the authority cannot sign now") from None
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _Refused(400, plain(str(error))) from None


def _refusal(point: ControlPoint, peer: x509.Certificate, hub: str, now_s: int) -> _Refused | None:
    if not point.registry.knows(hub):
        return _Refused(403, f"{plain(hub)}: no hub of that name is known")
    if point.certificates.is_revoked(peer):
        return _Refused(403, f"{hub}: the certificate was revoked")
    if point.certificates.made_since(hub, now_s - _DAY_S) >= MOST_A_DAY:
        return _Refused(429, f"{hub}: it was given {MOST_A_DAY} certificates in a day")
    return None


def _request_of(body: bytes) -> x509.CertificateSigningRequest:
    """A PKCS #10 request in base64 (RFC 7030, 4.2.1)."""
    try:
        request = x509.load_der_x509_csr(base64.b64decode(bytes(body).translate(None, b"\r\n \t"), validate=True))
        request.public_key()
        _alternative_names(request)
        return request
    except (ValueError, binascii.Error, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise _Refused(400, f"not a request of PKCS #10 in base64: {plain(str(error), 200)}") from None


def _check_names(request: x509.CertificateSigningRequest, peer: x509.Certificate, hub: str, *, again: bool) -> None:
    wanted = [str(name.value) for name in request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if wanted != [hub]:
        raise _Refused(403, f"{plain(hub)}: a certificate is given for its own name alone")
    # RFC 7030, 4.2.2: subject and alternative names are those of the certificate that is renewed.
    if again and (request.subject != peer.subject or _alternative_names(request) != _alternative_names(peer)):
        raise _Refused(403, f"{plain(hub)}: subject and alternative names are not those of the present certificate")
    if _alternative_names(request) is not None or len(list(request.subject)) != 1:
        raise _Refused(403, f"{plain(hub)}: certificates here name a hub by its CN, and nothing else")


def _alternative_names(holder: x509.Certificate | x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    try:
        return holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _certs_only(certificates: list[x509.Certificate]) -> bytes:
    return base64.encodebytes(pkcs7.serialize_certificates(certificates, serialization.Encoding.DER))


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which says who the client is: `scope[_PEER]`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        peer = None if tls is None else tls.getpeercert(binary_form=True)
        app = self.app

        async def with_peer(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, _PEER: peer}, receive, send)

        self.app = with_peer


def make_app(enrolment: Enrolment) -> Starlette:
    """The server's paths."""

    async def cacerts(_request: Request) -> Response:
        return _answer(enrolment.cacerts())

    async def simple(request: Request) -> Response:
        again = request.url.path.endswith("reenroll")
        try:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/pkcs10":
                raise _Refused(415, "expected application/pkcs10")
            body = await _body_of(request)
            return _answer(await run_in_threadpool(enrolment.enrol, request.scope.get(_PEER), body, again=again))
        except _Refused as refused:
            headers = {"Retry-After": str(_BUSY_S)} if refused.status in (429, 503) else None
            return PlainTextResponse(str(refused), refused.status, headers)
        except (TimeoutError, *FAILURES) as error:  # nothing was given that is not in the book
            _LOG.error("no certificate now: %s", why(error))
            return PlainTextResponse("the service is busy", 503, {"Retry-After": str(_BUSY_S)})

    return Starlette(
        routes=[
            Route(f"{PATH}/cacerts", cacerts, methods=["GET"]),
            Route(f"{PATH}/simpleenroll", simple, methods=["POST"]),
            Route(f"{PATH}/simplereenroll", simple, methods=["POST"]),
        ]
    )


async def _body_of(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > _MAX_BODY:
                    raise _Refused(413, f"a request is {_MAX_BODY} bytes at most")
    except TimeoutError:
        raise _Refused(408, "the request does not end") from None
    return body


def _answer(body: bytes) -> Response:
    headers = {"Content-Transfer-Encoding": "base64"}
    return Response(body, headers=headers, media_type="application/pkcs7-mime; smime-type=certs-only")


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, how: uvicorn.Config, begun: "Future[None]") -> None:
        super().__init__(how)
        self._begun = begun

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._begun.set_result(None)


class EnrolmentServer:
    """The server in a thread of its own. `start` raises OSError, ssl.SSLError where it cannot be had."""

    def __init__(
        self, listen: tuple[str, int], cert_file: Path, key_file: Path, authorities: Authorities, bundle_file: Path,
        enrolment: Enrolment,
    ) -> None:  # fmt: skip
        self._authorities, self._bundle_file = authorities, bundle_file
        self._how = uvicorn.Config(
            make_app(enrolment), host=listen[0], port=listen[1], http=PeerProtocol, log_level="warning",
            ssl_certfile=cert_file, ssl_keyfile=key_file, ssl_ca_certs=str(bundle_file),
            ssl_cert_reqs=ssl.CERT_OPTIONAL, limit_concurrency=_MOST_AT_ONCE, timeout_keep_alive=5,
            timeout_graceful_shutdown=2, lifespan="off", server_header=False,
        )  # fmt: skip
        self._begun: Future[None] = Future()
        self._server = _Server(self._how, self._begun)
        self._thread = threading.Thread(target=self._run, name="est")

    def start(self) -> None:
        self._bundle_file.write_bytes(self._authorities.bundle())
        self._how.load()
        self._thread.start()
        self._begun.result(30)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve())
        except (OSError, SystemExit) as error:
            _LOG.error("EST: %s", why(error))
        finally:
            if not self._begun.done():
                host, port = self._how.host, self._how.port
                self._begun.set_exception(OSError(f"EST: {host}:{port} cannot be listened at"))
