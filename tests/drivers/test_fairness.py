"""Who sends much waits for it alone: the queue by address, the kernel's filter, and both in the UDP link."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from drivers import socket_filter
from drivers.fair_queue import PORT_HOLDS, TOTAL_HOLDS, TURN_OF_MANY, FairQueue
from drivers.link import Datagrams
from drivers.udp import UdpLink


def peer(host: str, port: int = 1) -> tuple[str, str, int]:
    return ("udp", host, port)


def test_each_host_has_its_turn_and_each_of_its_ports() -> None:
    queue = FairQueue()
    for number in range(300):
        queue.put(peer("10.0.0.66"), b"%d" % number)
    for port in (1, 2):
        for number in range(3):
            queue.put(peer("10.0.0.1", port), b"%d" % number)
    queue.put(peer("10.0.0.2"), b"only")
    taken = queue.take()
    assert len(taken) == TURN_OF_MANY
    assert [host for (_, host, _), _ in taken[:3]] == ["10.0.0.66", "10.0.0.1", "10.0.0.2"]
    honest = [(port, data) for (_, host, port), data in taken if host == "10.0.0.1"]
    assert honest == [(1, b"0"), (2, b"0"), (1, b"1"), (2, b"1"), (1, b"2"), (2, b"2")]
    rest = []
    while queue:
        rest += queue.take()
    assert [data for _, data in rest] == [b"%d" % number for number in range(TURN_OF_MANY - 7, 300)], "in order"


def test_what_waits_is_bounded_and_what_is_dropped_is_its_senders() -> None:
    queue = FairQueue()
    for _ in range(PORT_HOLDS + 88):
        queue.put(peer("10.0.0.66"), b"x")
    queue.put(peer("10.0.0.1"), b"y")
    assert len(queue) == PORT_HOLDS + 1 and queue.take_dropped() == {peer("10.0.0.66"): 88}
    for number in range(2 * TOTAL_HOLDS):
        queue.put(peer(f"10.1.{number >> 8}.{number & 255}"), b"x")
    assert len(queue) == TOTAL_HOLDS
    for _ in range(200):
        queue.put(peer("10.0.0.3"), bytes(65000))
    assert len(queue) == TOTAL_HOLDS
    while queue:
        queue.take()
    assert not queue._hosts and not queue._bytes


@pytest.fixture(params=["127.0.0.1", "::1"])
def sockets(request: Any) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        made = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
        for one in made:
            one.bind((request.param, 0))
            one.setblocking(False)
    except OSError:
        pytest.skip(f"no {request.param} here")
    yield made[0], made[1], made[2]
    for one in made:
        one.close()


def received(sock: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(sock.recv(100))
        except BlockingIOError:
            return found


def test_the_kernel_drops_one_port_or_a_whole_host_and_lets_it_speak_again(sockets: Any) -> None:
    hub, bad, good = sockets
    host, port = bad.getsockname()[:2]

    def say() -> list[bytes]:
        bad.sendto(b"bad", hub.getsockname())
        good.sendto(b"good", hub.getsockname())
        return received(hub)  # loopback delivers before sendto returns

    assert say() == [b"bad", b"good"]
    elsewhere = "10.9.9.9" if "." in host else "fd00::1"
    assert socket_filter.attach(hub, [(elsewhere, None), (host, port), (elsewhere, port)])
    assert say() == [b"good"]
    assert socket_filter.attach(hub, [(elsewhere, port), (host, None)])
    assert say() == []
    assert socket_filter.attach(hub, []) and socket_filter.attach(hub, [])
    assert say() == [b"bad", b"good"]


def test_more_senders_than_a_filter_takes_are_not_too_many(sockets: Any) -> None:
    hub, bad, good = sockets
    host, port = bad.getsockname()[:2]
    assert socket_filter.attach(hub, [(host, port)] + [(host, other) for other in range(1, 500)])
    bad.sendto(b"bad", hub.getsockname())
    good.sendto(b"good", hub.getsockname())
    assert received(hub) == [b"good"]


def test_a_flooder_is_held_off_and_an_honest_client_is_heard() -> None:
    async def play() -> None:
        link = UdpLink("127.0.0.1", 0)
        heard: list[Datagrams] = []
        await link.start(heard.append)
        bad, good = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            for _ in range(8000):  # all of it waits in the kernel before the link sees the first
                bad.sendto(b"bad", link.address)
            good.sendto(b"good", link.address)
            for _ in range(400):
                await asyncio.sleep(0.005)
                if any(data == b"good" for turn in heard for _, data in turn):
                    break
            said = [data for turn in heard for _, data in turn]
            assert b"good" in said and len(said) < 3000
            status = link.status()
            assert status["flooding"] == ["127.0.0.1"] and status["flooded"] > 1000
            heard.clear()
            bad.sendto(b"bad", link.address)
            good.sendto(b"again", link.address)
            for _ in range(400):
                await asyncio.sleep(0.005)
                if heard:
                    break
            assert [data for turn in heard for _, data in turn] == [b"again"], "the kernel drops the flooder's"
        finally:
            await link.close()
            bad.close()
            good.close()

    asyncio.run(asyncio.wait_for(play(), 60))
