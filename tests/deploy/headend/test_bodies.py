"""Requests that go on and on."""

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from starlette.testclient import TestClient

from deploy.headend.api import make_api
from deploy.headend.config import HeadendConfig
from deploy.headend.live import Live
from deploy.headend.service import Service
from hub.wire.uplink.envelope import FileSigner

MIB = 1 << 20


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    """The API of a service that nobody has started: who asks here is a stranger."""
    place, none = tmp_path / "data", tmp_path / "none"
    config = HeadendConfig(place, "", 0, ZoneInfo("UTC"), (), none, none, none, "test", "op", none)
    signer = FileSigner(ed25519.Ed25519PrivateKey.generate(), b"")
    live = Live()
    return TestClient(make_api(config, Service(config, signer, live.heard), live))


@pytest.mark.parametrize(
    "path", ["/oauth/token", "/openadr3/auth/token", "/v1/orders", "/v1/rollouts", "/openadr3/events"]
)
def test_a_stranger_does_not_fill_the_memory(client: TestClient, path: str) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while read < 64 * MIB:
            read += MIB // 4
            yield b" " * (MIB // 4)

    answer = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and "bytes at most" in answer.text
    assert client.post(path, content=b"{}" + b" " * (MIB // 2)).status_code < 500
