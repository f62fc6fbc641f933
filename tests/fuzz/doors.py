"""The doors by which bytes from outside come in. Each takes any bytes and gives a result or its documented error,
nothing else; a door's `give` raises whatever is left over.

`python -m tests.fuzz` runs them: coverage-guided where atheris is installed, by plain mutation where not.
"""

import base64
import json
import random
import tempfile
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from hub.core.control.classes import Profile, read_about
from hub.services.identity.est import BadEnrolment, certificate_of
from hub.services.update.fetch import Hopeless, check_url
from hub.wire.keys.operators import BadOperators, parse_operators
from hub.wire.mqttsn.topics import is_topic_filter, matches, route_for
from hub.wire.uplink.args import BadArgs, check_args
from hub.wire.uplink.cbor import BadCbor, decode, encode
from hub.wire.uplink.command import BadCommand, parse_command
from hub.wire.uplink.envelope import BadEnvelope, open_envelope, split_sign1
from hub.wire.uplink.event import decode_event
from hub.wire.uplink.pack import DEFLATED, BadPack, decode_pack, inflate_pack
from hub.wire.uplink.reading import BadReading, parse_payload
from hub.wire.uplink.receipt import decode_receipt
from tests.fuzz.targets import CORPUS, GatewayTarget, fuzz_decode, fuzz_decode2
from tests.harness.operator import Operator, dumps

# What one input may cost, in CPU seconds and in bytes of memory at once, on a slow and busy machine.
MAX_CPU_S = 1.0
MAX_BYTES = 64 << 20


class Door(NamedTuple):
    """`give`: takes any bytes. `longest`: of an input. `seeds`: what is right, to begin with."""

    give: Callable[[bytes], object]
    longest: int
    seeds: Callable[[], list[bytes]]


def _is_short(text: str) -> None:
    """No error quotes more of its input than a line holds, nor anything that moves a cursor."""
    assert len(text) < 400 and text.isprintable(), f"an error's text: {text[:100]!r}"


def _cbor(data: bytes) -> None:
    try:
        value = decode(data)
    except BadCbor as error:
        _is_short(str(error))
        return
    assert encode(value) == data, "one value, one encoding"


def _command(data: bytes) -> None:
    try:
        command = parse_command(data)
    except BadCommand as error:
        _is_short(str(error))
        return
    try:
        check_args(command.op, command.args)
    except BadArgs as error:
        _is_short(str(error))


def _operators(data: bytes) -> None:
    try:
        parse_operators(data.decode("utf-8", "replace"))
    except BadOperators as error:
        _is_short(str(error))


def _about(data: bytes) -> None:
    profile = read_about(data)
    assert (isinstance(profile, Profile) and 0 <= profile.floor_w <= profile.nominal_w) or profile.nominal_w == 0


def _readings(data: bytes) -> None:
    try:
        found = parse_payload(data)
    except BadReading as error:
        _is_short(str(error))
        return
    for ago_ms, mantissa, exponent in found:
        assert ago_ms >= 0 and abs(mantissa) < 1 << 63 and abs(exponent) < 100


def _topics(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    topic_filter, _, topic = text.partition("\n")
    route_for("plug-1", topic)
    if is_topic_filter(topic_filter):
        matches(topic_filter, topic)


def _receipt(data: bytes) -> None:
    for read in (decode_receipt, decode_event):
        try:
            read(data)
        except ValueError as error:
            _is_short(str(error)[:390])


def _pack(data: bytes) -> None:
    for header in ({}, {DEFLATED: "deflate"}):
        try:
            decode_pack(inflate_pack(header, data))
        except BadPack as error:
            _is_short(str(error))


def _envelope(data: bytes) -> None:
    for read in (split_sign1, lambda raw: open_envelope(raw, lambda kid: None)):
        try:
            read(data)
        except BadEnvelope as error:
            _is_short(str(error))


class _Est:
    """An EST server's answer, to somebody who asked with a key."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1()).public_key()

    def __call__(self, data: bytes) -> None:
        try:
            certificate_of(base64.encodebytes(data), self.key)
        except BadEnrolment as error:
            _is_short(str(error))


def _enrolments() -> list[bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MTR-1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(datetime(2026, 1, 1)).not_valid_after(datetime(2036, 1, 1))
    return [pkcs7.serialize_certificates([made.sign(key, hashes.SHA256())], serialization.Encoding.DER)]


def _url(data: bytes) -> None:
    try:
        check_url(data.decode("latin-1"))
    except Hopeless as error:
        if error.reason != "bad-args":
            raise
        _is_short(str(error))


class _Gateway:
    """One machine for all inputs: an input is several datagrams, each with a byte of its length before it."""

    def __init__(self) -> None:
        self.target = GatewayTarget(random.Random(1))

    def __call__(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            datagram = data[at + 1 : at + 1 + data[at]]
            at += 1 + data[at]
            fuzz_decode(datagram)
            fuzz_decode2(datagram)
            self.target.take(datagram)


class _AdminSocket:
    """A server on a real socket, one line after another on one connection; a line that ends it opens the next."""

    def __init__(self) -> None:
        import asyncio

        from hub.services.admin.server import AdminServer

        self._loop = asyncio.new_event_loop()
        self._folder = tempfile.TemporaryDirectory(prefix="mh-fuzz-")
        self._path = Path(self._folder.name) / "admin.sock"
        self._asyncio = asyncio
        server = AdminServer(self._path, {"echo": self._echo, "limit": self._limit}, ("limit",), "")
        self._loop.run_until_complete(server.start())
        self._server = server
        self._streams: Any = None

    @staticmethod
    async def _echo(request: dict[str, Any]) -> Any:
        return request

    @staticmethod
    async def _limit(request: dict[str, Any]) -> Any:
        return int(request["limit"]) if type(request.get("limit")) is int else None

    def __call__(self, data: bytes) -> None:
        self._loop.run_until_complete(self._asyncio.wait_for(self._ask(data.replace(b"\n", b" ") + b"\n"), 10))

    def close(self) -> None:
        self._loop.run_until_complete(self._end())
        self._loop.close()
        self._folder.cleanup()

    async def _end(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        await self._server.close()
        await self._asyncio.sleep(0.05)  # the server's half sees the end

    async def _ask(self, line: bytes) -> None:
        if self._streams is None:
            self._streams = await self._asyncio.open_unix_connection(self._path, limit=1 << 24)
        reader, writer = self._streams
        writer.write(line)
        answer = await reader.readline()
        if not answer:
            self._streams = None
            return
        found = json.loads(answer)
        assert set(found) in ({"answer"}, {"error"})
        assert "internal error" not in str(found.get("error", "")), found


def _hexes(folder: str) -> list[bytes]:
    return [bytes.fromhex(path.read_text()) for path in sorted((CORPUS / folder).glob("*.hex"))]


def _datagrams() -> list[bytes]:
    found = [bytes.fromhex(path.read_text()) for path in sorted(CORPUS.glob("*.hex"))]
    return [bytes((len(data),)) + data for data in found if len(data) < 256]


def _signed() -> list[bytes]:
    operator = Operator()
    args: list[tuple[str, dict[str, Any]]] = [
        ("limit", {"watts": 5, "duration": 60}),
        ("switch", {"client": "plug-1", "on": False, "duration": 60}),
        ("price", {"currency": "GBP", "steps": [[1, 2, 0.5]]}),
        ("trust", {"operators": "x", "approvals": [b"1"]}),
        ("booked", {"readings": [1, 2]}),
    ]
    return [operator.command(op, said, iat=1, exp=2, cti=bytes(16), ctr=1) for op, said in args]


def _packs() -> list[bytes]:
    pack = dumps({0: 1, 1: 1_795_000_000_000, 2: [["plug-1", "power", -1, [0, 1000], [2301, -5]]]})
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return [pack, deflater.compress(pack * 3) + deflater.flush()]


def _receipts() -> list[bytes]:
    receipt = {1: "MTR-1", 6: 1, "re": bytes(16), "digest": bytes(32), "status": "accepted", "reason": "",
               "detail": {}, "prev": bytes(32), "i": 1}  # fmt: skip
    return [dumps(receipt), dumps({"t": 1, "event": "adapter.joined", "client": "plug-1", "link": "udp"})]


DOORS: dict[str, Door] = {
    "cbor": Door(_cbor, 16 << 10, lambda: [*_receipts(), dumps([1.5, -1, "é", b"", None, True, {1: []}])]),
    "command": Door(_command, 16 << 10, _signed),
    "operators": Door(_operators, 8 << 10, lambda: [Operator().toml.encode(), b"threshold = 2\n"]),
    "about": Door(_about, 4 << 10, lambda: [b'{"class":"water-heater","nominal_w":2e3,"sheddable":true,"priority":3}']),
    "readings": Door(_readings, 4 << 10, lambda: [b"-12.50", b"60:1.5,0:2", b"+.5", b"99999999999999999999"]),
    "topics": Door(_topics, 600, lambda: [b"a/+/#\na/b/c", b"readings/#\nreadings/power", b"about/x\nabout/plug-1"]),
    "mqttsn": Door(None, 4 << 10, _datagrams),  # type: ignore[arg-type]
    "receipt": Door(_receipt, 64 << 10, _receipts),
    "pack": Door(_pack, 64 << 10, _packs),
    "envelope": Door(_envelope, 64 << 10, _signed),
    "url": Door(_url, 2 << 10, lambda: [b"https://host:443/path?x=1", b"https://[::1]/x", b"https://u:p@h"]),
    "est": Door(None, 16 << 10, _enrolments),  # type: ignore[arg-type]
    "admin": Door(None, 64 << 10, lambda: [b'{"ask":"echo"}', b'{"ask":"limit","limit":5}', b"[]"]),  # type: ignore[arg-type]
}
_MADE: dict[str, Callable[[], Callable[[bytes], object]]] = {"mqttsn": _Gateway, "est": _Est, "admin": _AdminSocket}


def door(name: str) -> Door:
    """A door, with what lives behind it made anew."""
    found = DOORS[name]
    return found._replace(give=_MADE[name]()) if name in _MADE else found


def close(opened: Door) -> None:
    """Take down what lives behind a door."""
    getattr(opened.give, "close", lambda: None)()


def seeds_of(name: str) -> list[bytes]:
    """What is right, and what once broke it (tests/fuzz/corpus/NAME)."""
    return [*DOORS[name].seeds(), *_hexes(name)]


def bounded(rng: random.Random, name: str, mutated: Callable[..., Iterator[bytes]]) -> Iterator[bytes]:
    """Mutations of a door's seeds for ever, none longer than it takes."""
    longest = DOORS[name].longest
    for data in mutated(rng, seeds_of(name)):
        yield data[:longest]
