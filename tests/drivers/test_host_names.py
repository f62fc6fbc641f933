"""Names of hosts: a resolver that never answers is told in time, and costs one thread however often it is asked."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from drivers.host_names import HostNames


def test_a_resolver_that_never_answers_is_told_and_asked_once() -> None:
    answer, asked = threading.Event(), []

    def ask(host: str, port: int) -> Any:
        asked.append(host)
        answer.wait(60)
        return []

    async def story() -> None:
        names = HostNames(ask)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await names.find("broker.example", 8883, 0.05)
        assert asked == ["broker.example"]
        late = asyncio.ensure_future(names.find("broker.example", 8883, 30.0))
        await asyncio.sleep(0)
        answer.set()
        await late  # the answer to the first question is the answer to this one
        await names.find("broker.example", 8883, 30.0)
        assert asked == ["broker.example"] * 2, "what is known may change: it is asked anew"

    asyncio.run(story())


def test_a_name_that_is_not_there_is_an_error_of_its_own() -> None:
    def ask(host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    async def story() -> None:
        with pytest.raises(socket.gaierror):
            await HostNames(ask).find("nowhere.invalid", 1, 30.0)
        await HostNames().find("127.0.0.1", 1, 30.0)

    asyncio.run(story())
