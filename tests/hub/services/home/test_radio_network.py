"""The Zigbee network's snapshot, through a real store and back."""

import asyncio
from pathlib import Path

from hub.services.home.radio_network import ITEM, RadioNetwork
from store import Store


def test_a_snapshot_outlives_the_store(tmp_path: Path) -> None:
    document = {"counter": 7, "devices": {"00": 1}, "backup": {"key": "secret"}}

    def opened() -> Store:
        store = Store(tmp_path, seal=lambda *message: b"", max_mb=16, retention_days=1)
        store.start()
        return store

    store = opened()
    network = RadioNetwork(store, None)
    assert network.document() is None
    network.keep(document)
    store.control_state().result(10)
    store.close()
    store = opened()
    try:
        kept = store.control_state().result(10)[ITEM]
        assert RadioNetwork(store, kept).document() == document
        for damage in (b"", b"x", kept[:-9], kept[:4] + b"\0" + kept[5:]):
            assert RadioNetwork(store, damage).document() in (None, document)
    finally:
        store.close()


def test_a_store_that_refuses_is_no_obstacle() -> None:
    class Refusing:
        def commit_control(self, journal: object) -> "asyncio.Future[None]":
            from concurrent.futures import Future

            done: Future[None] = Future()
            done.set_exception(OSError("full"))
            return done  # type: ignore[return-value]

    network = RadioNetwork(Refusing(), None)  # type: ignore[arg-type]
    network.keep({"counter": 1})
    assert network.document() == {"counter": 1}
