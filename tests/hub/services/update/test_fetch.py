"""A bundle over real HTTPS, from a server and over a line with every fault: whole, or told why not."""

import asyncio
import os
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.pki import DevelopmentAuthority
from deploy.update_index import cuts, index_of
from drivers.https import HttpsClient, HttpsFault
from drivers.tls import client_context
from hub.core.update.chunk_index import (  # fmt: skip
    BadIndex,
    Chunk,
    bytes_to_get,
    decode_index,
    encode_index,
    from_offset,
    plan,
)
from hub.core.update.machine import Unfit, Update
from hub.services.update.delta import NotThisWay, fetch_delta
from hub.services.update.download import BASE, Download
from hub.services.update.fetch import RESERVE_BYTES, Bounds, Hopeless, Interrupted, check_url, fetch
from tests.harness.update_server import UpdateServer

DATA = random.Random(3).randbytes(900_000)
NEXT = DATA[:300_000] + b"something new" + DATA[300_000:700_000] + random.Random(4).randbytes(60_000) + DATA[700_000:]
BOUNDS = Bounds(1 << 21, 0)


@pytest.fixture
def server(pki: DevelopmentAuthority) -> Iterator[UpdateServer]:
    server = UpdateServer(pki)
    server.files = {"/b": DATA, "/next": NEXT, "/next.idx": index_of(NEXT)}
    yield server
    server.close()


class Client:
    """One download into a folder, as often as it is asked to go on."""

    def __init__(self, folder: Path, pki: DevelopmentAuthority, server: UpdateServer) -> None:
        self.folder, self.server, self.pki = folder, server, pki
        self.part, self.base = folder / "x.part", folder / "base.raucb"
        self.told: list[tuple[int, int | None]] = []
        self.stop = threading.Event()

    def context(self, name: str = "hub") -> ssl.SSLContext:
        return client_context(self.pki.ca_file, self.pki.directory / f"{name}.pem", self.pki.directory / f"{name}.key")

    def _progress(self, have: int, size: int | None) -> None:
        self.told.append((have, size))

    def fetch(self, name: str = "b", bounds: Bounds = BOUNDS) -> None:
        fetch(self.server.url(name), self.context(), self.part, bounds, self.stop, self._progress)

    def fetch_delta(self, bounds: Bounds = BOUNDS) -> None:
        url = self.server.url("next")
        fetch_delta(url, self.context(), self.part, self.base, bounds, self.stop, self._progress)

    def has_base(self, data: bytes = DATA) -> None:
        self.base.write_bytes(data)
        self.base.with_name("base.raucb.idx").write_bytes(index_of(DATA))


@pytest.fixture
def client(tmp_path: Path, pki: DevelopmentAuthority, server: UpdateServer) -> Client:
    return Client(tmp_path, pki, server)


def test_it_goes_on_where_the_line_broke(client: Client) -> None:
    client.server.cuts = [1, 0, 16_384, 300_000]
    for _ in range(4):
        with pytest.raises(Interrupted):
            client.fetch()
    client.fetch()
    assert client.part.read_bytes() == DATA
    assert [wanted for _, _, wanted in client.server.requests] == [
        "", "bytes=1-", "bytes=1-", "bytes=16385-", "bytes=316385-",
    ]  # fmt: skip
    assert client.told[-1] == (len(DATA), len(DATA))
    client.fetch()  # what is whole is asked for once more, and stays
    assert client.part.read_bytes() == DATA


def test_a_server_without_ranges_begins_anew(client: Client) -> None:
    client.server.ranges = False
    client.part.write_bytes(b"the beginning of something else")
    client.fetch()
    assert client.part.read_bytes() == DATA


def test_it_stops_when_it_is_told_and_keeps_to_its_pace(client: Client) -> None:
    client.stop.set()
    with pytest.raises(Interrupted, match="told to stop"):
        client.fetch(bounds=Bounds(1 << 21, 1000.0))
    assert client.part.stat().st_size <= 32_768, "a thousand bytes a second: it would have waited after the first"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, Hopeless, "not-found"), (410, Hopeless, "not-found"), (403, Hopeless, "server-refused"),
        (302, Hopeless, "server-refused"), (500, Interrupted, "500"), (503, Interrupted, "503"),
        (429, Interrupted, "429"), (408, Interrupted, "408"),
    ],
)  # fmt: skip
def test_what_a_server_says_is_understood(client: Client, status: int, kind: type[Exception], words: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(status)
        handler.send_header("Retry-After", "77")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    client.server.fault = answer
    with pytest.raises(kind) as caught:
        client.fetch()
    found = caught.value
    assert words in (found.reason if isinstance(found, Hopeless) else str(found))
    if isinstance(found, Interrupted):
        assert found.retry_after_s == 77.0


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"HTTP/9.9 hello\r\n\r\n", b"\x00" * 5000, b"HTTP/1.1 206 x\r\nContent-Range: bytes x/y\r\n\r\n",
        b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-9/\xb3\r\n\r\n", b"HTTP/1.1 503 x\r\nRetry-After: \xb2\r\n\r\n",
        b"HTTP/1.1 416 x\r\nContent-Range: bytes */" + b"9" * 5000 + b"\r\n\r\n",
    ],
)  # fmt: skip
def test_a_server_that_talks_nonsense_is_interrupted(client: Client, raw: bytes) -> None:
    client.part.write_bytes(DATA[:1000])

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        handler.wfile.write(raw)
        handler.close_connection = True
        return True

    client.server.fault = answer
    with pytest.raises(Interrupted):
        client.fetch()
    assert client.part.read_bytes() == DATA[:1000]


def test_bounds_are_kept(client: Client) -> None:
    with pytest.raises(Hopeless) as caught:
        client.fetch(bounds=Bounds(len(DATA) - 1, 0))
    assert caught.value.reason == "too-large" and not client.part.exists()


def test_a_server_of_another_authority_is_not_asked(client: Client, tmp_path: Path, pki: DevelopmentAuthority) -> None:
    other = DevelopmentAuthority(tmp_path / "other")
    other.issue("broker", hosts=["localhost"])
    rogue = UpdateServer(other)
    try:
        with pytest.raises(Interrupted, match="not trusted"):
            fetch(rogue.url("b"), client.context(), client.part, BOUNDS, client.stop, lambda *_: None)
        assert rogue.requests == []
    finally:
        rogue.close()


# The difference alone


def test_only_what_is_new_is_fetched_and_a_broken_line_costs_no_more(client: Client) -> None:
    client.has_base()
    client.server.cuts = [10**9, 20_000]  # the index, then half of the first piece
    with pytest.raises(Interrupted):
        client.fetch_delta()
    client.fetch_delta()
    assert client.part.read_bytes() == NEXT
    new = bytes_to_get(plan(decode_index(index_of(NEXT)), decode_index(index_of(DATA))))
    assert 60_000 < new < len(NEXT) / 2 and client.server.sent_bytes == new + 2 * len(index_of(NEXT))
    assert decode_index(client.part.with_name("x.part.idx").read_bytes()) == decode_index(index_of(NEXT))


@pytest.mark.parametrize("what", ["no index", "garbage", "too large", "short base", "no ranges", "stranger", "no base"])
def test_whatever_is_amiss_the_whole_bundle_is_the_way(
    client: Client, what: str, tmp_path: Path, pki: DevelopmentAuthority
) -> None:
    client.has_base(DATA[:1000] if what == "short base" else DATA)
    bounds = Bounds(1000, 0) if what == "too large" else BOUNDS
    client.server.ranges = what != "no ranges"
    if what == "no index":
        del client.server.files["/next.idx"]
    if what == "garbage":
        client.server.files["/next.idx"] = b"MHX1" + bytes(20)
    if what == "no base":
        client.base.unlink()
        client.base.mkdir()  # it is there, and cannot be read
    if what == "stranger":
        client.base.with_name("base.raucb.idx").write_bytes(b"no index")
    with pytest.raises(NotThisWay):
        client.fetch_delta(bounds)


@given(st.lists(st.sampled_from([b"a" * 7, b"b" * 9, b"c" * 4, b"d"]), min_size=1), st.data())
@settings(max_examples=200)
def test_a_plan_makes_the_new_file_wherever_it_is_resumed(new: list[bytes], data: st.DataObject) -> None:
    base = data.draw(st.lists(st.sampled_from([b"a" * 7, b"b" * 9, b"x" * 5]), max_size=8))

    def chunks(parts: list[bytes]) -> list[Chunk]:
        return decode_index(encode_index((len(part), part.ljust(16)) for part in parts))

    old, wanted = b"".join(base), b"".join(new)
    have = data.draw(st.integers(0, len(wanted)))
    pieces = plan(chunks(new), chunks(base))
    made = wanted[:have]
    for piece in from_offset(pieces, have):
        source, at = (wanted, piece.offset) if piece.base_offset is None else (old, piece.base_offset)
        assert piece.offset == len(made)
        made += source[at : at + piece.length]
    assert made == wanted
    assert bytes_to_get(pieces) == sum(len(part) for part in new if part not in base)


def test_chunks_are_found_again_where_something_moved() -> None:
    moved = b"a longer beginning" * 100 + DATA
    assert bytes_to_get(plan(decode_index(index_of(moved)), decode_index(index_of(DATA)))) < 0.15 * len(DATA)
    assert sum(length for _, length in cuts(DATA)) == len(DATA) and list(cuts(b"")) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_an_index_or_told(data: bytes) -> None:
    for raw in (data, b"MHX1" + data):
        try:
            chunks = decode_index(raw)
        except BadIndex:
            continue
        assert all(chunk.length > 0 for chunk in chunks)


@pytest.mark.parametrize(
    "url",
    ["https://h/a b", "https://h/a\tb", "https://h/\x7f", "https://h/é", "http://h/x", "https:///x", "https://h:0/"],
)
def test_an_url_that_no_server_can_be_asked_for_is_bad_args(url: str) -> None:
    with pytest.raises(Hopeless) as refused:
        check_url(url)
    assert refused.value.reason == "bad-args" and str(refused.value).isprintable()


def test_a_server_that_says_continue_without_end_does_not_hold_the_thread(client: Client, server: UpdateServer) -> None:
    ended = threading.Event()

    def continues(handler: BaseHTTPRequestHandler) -> bool:
        try:
            while not ended.is_set():
                handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            pass
        return True

    server.fault = continues
    try:
        with pytest.raises(Interrupted, match="100 Continue"):
            client.fetch()
        client.has_base()
        with pytest.raises((Interrupted, NotThisWay)):
            client.fetch_delta()
    finally:
        ended.set()


def test_headers_that_never_end_are_given_up(pki: DevelopmentAuthority, client: Client, server: UpdateServer) -> None:
    ended = threading.Event()

    def trickles(handler: BaseHTTPRequestHandler) -> bool:
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not ended.wait(0.05):
                handler.wfile.write(b"x")
        except OSError:
            pass
        return True

    server.fault = trickles
    try:
        with (
            HttpsClient(f"https://localhost:{server.port}/b", client.context(), timeout_s=0.5) as asked,
            pytest.raises((OSError, HttpsFault)),
        ):
            asked.request("GET", asked.path)
    finally:
        ended.set()


@pytest.mark.parametrize("size", [b"-1", b"-5", b"zz"])
def test_a_chunk_of_no_length_is_not_read(client: Client, server: UpdateServer, size: bytes) -> None:
    """`-1` was read until the line ended, whatever had been asked for: all that a server cares to send, in memory."""
    server.fault = _chunked(size + b"\r\n" + b"x" * 100_000)
    with (
        HttpsClient(server.url("b"), client.context(), timeout_s=20.0) as asked,
        pytest.raises(HttpsFault) as caught,
    ):
        asked.request("GET", asked.path).read(10)
    assert getattr(caught.value, "partial", b"") == b""


def test_trailers_that_do_not_end_are_given_up(client: Client, server: UpdateServer) -> None:
    server.fault = _chunked(b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 1000 + b"\r\n")
    with pytest.raises(Interrupted, match="trailers"):
        client.fetch()
    server.fault = _chunked(b"3\r\nabc\r\n0\r\nDigest: y\r\n\r\n")
    client.part.unlink()
    client.fetch()
    assert client.part.read_bytes() == b"abc", "a trailer or two are nobody's fault"


def _chunked(body: bytes) -> Callable[[BaseHTTPRequestHandler], bool]:
    def fault(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True
        return True

    return fault


def test_a_range_that_brings_more_than_was_asked_for_is_not_read_to_its_end(
    client: Client, server: UpdateServer
) -> None:
    """A cache may answer with what it has (RFC 9110 section 14.2); the rest, however much, went into memory."""

    def generous(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.endswith(".idx"):
            return False
        first = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{len(NEXT) - 1}/{len(NEXT)}")
        handler.send_header("Content-Length", str(len(NEXT) - first))
        handler.end_headers()
        handler.wfile.write(NEXT[first:])
        return True

    client.has_base()
    server.fault = generous
    with pytest.raises(NotThisWay, match="more than the range"):
        client.fetch_delta()


def test_what_does_not_fit_is_no_space(client: Client, server: UpdateServer) -> None:
    def boasts(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 60))
        handler.end_headers()
        handler.close_connection = True
        return True

    server.fault = boasts
    with pytest.raises(Hopeless) as refused:
        client.fetch(bounds=Bounds(1 << 61, 0))
    assert refused.value.reason == "no-space" and not client.part.exists()


def _boasts(size: int) -> Callable[[BaseHTTPRequestHandler], bool]:
    def fault(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.endswith(".idx"):
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        handler.close_connection = True
        return True

    return fault


@pytest.mark.parametrize(("left_bytes", "fits"), [(RESERVE_BYTES // 2, False), (2 * RESERVE_BYTES, True)])
def test_an_update_leaves_the_hub_its_reserve(
    client: Client, server: UpdateServer, left_bytes: int, fits: bool
) -> None:
    """A bundle that fits on the disk and would fill it is not begun."""
    free = os.statvfs(client.part.parent)
    server.fault = _boasts(free.f_bavail * free.f_frsize - left_bytes)
    with pytest.raises(Interrupted if fits else Hopeless) as ended:
        client.fetch(bounds=Bounds(1 << 61, 0))
    assert getattr(ended.value, "reason", "no-space") == "no-space"


def _download(client: Client) -> tuple[Download, Update]:
    client.part.parent.joinpath("updates").mkdir()
    folder = client.part.parent / "updates"
    download = Download(folder, client.context, lambda: 0.0, max_bytes=1 << 61, bytes_per_s=0)
    update = Update(b"c" * 16, "url", client.server.url("b"), "0" * 64, "1.0.0")
    return download, update


def test_the_last_bundle_gives_way_to_the_new_one_and_only_once(client: Client, server: UpdateServer) -> None:
    download, update = _download(client)
    base = client.part.parent / "updates" / BASE
    base.write_bytes(b"the last one")
    too_large = _boasts(1 << 60)
    server.fault = lambda handler: base.exists() and too_large(handler)
    asyncio.run(download.run(update))
    assert not base.exists() and download.part(update).read_bytes() == DATA


def test_where_no_bundle_can_give_way_there_is_no_space(client: Client, server: UpdateServer) -> None:
    download, update = _download(client)
    server.fault = _boasts(1 << 60)
    with pytest.raises(Unfit) as unfit:
        asyncio.run(asyncio.wait_for(download.run(update), 60))
    assert unfit.value.reason == "no-space"


def test_what_is_begun_anew_may_have_the_room_of_what_was_there(client: Client, server: UpdateServer) -> None:
    """A server without ranges sends the whole again, and the part makes room for it byte by byte."""
    with client.part.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * RESERVE_BYTES)
    free = os.statvfs(client.part.parent)
    server.fault = _boasts(free.f_bavail * free.f_frsize)  # the reserve fits beside it once the part is gone
    with pytest.raises(Interrupted, match="the connection ended"):
        client.fetch(bounds=Bounds(1 << 61, 0))
