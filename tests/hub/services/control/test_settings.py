"""Settings changed by command, on a real store: kept, resumed after a kill, rolled back when the uplink stays away."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.app.config import Config, load_config, override
from hub.core.control.records import Outcome
from hub.services.control.settings import ITEM, TRIAL_S, Settings
from store import Store

CTI, OTHER = b"c" * 16, b"d" * 16


@pytest.fixture
def file(tmp_path: Path) -> Config:
    path = tmp_path / "hub.toml"
    path.write_text('[uplink]\nhost = "good.example"\nca_file = "a"\ncert_file = "b"\nkey_file = "c"\n')
    return load_config(path)


@pytest.fixture
def open_settings(file: Config, tmp_path: Path) -> Iterator[Callable[[bool], Settings[Config]]]:
    """`open_settings(is_up)`: as after a (re)start; the store of before is closed."""
    stores: list[Store] = []

    def start(is_up: bool) -> Settings[Config]:
        for old in stores:
            old.close()
        store = Store(tmp_path / "data", seal=lambda *_: b"")
        store.start()
        stores.append(store)
        kept = store.control_state().result(10).get(ITEM)
        settings = Settings(file, store, kept, override)
        settings.is_up = lambda: is_up
        settings.trial_s = 0.2
        return settings

    (tmp_path / "data").mkdir()
    yield start
    for store in stores:
        store.close()


def change(settings: Settings, cti: bytes, **wanted: object) -> Outcome:
    return asyncio.run(settings.change(cti, {f"uplink.{key}": value for key, value in wanted.items()}))


def test_a_change_with_which_the_uplink_returns_is_kept_over_a_restart(
    open_settings: Callable[[bool], Settings[Config]],
) -> None:
    settings = open_settings(True)
    assert change(settings, CTI, host="better.example")[:2] == ("completed", "")
    assert open_settings(True).config.uplink.hosts == (("better.example", 8883),)


def test_one_that_cuts_the_hub_off_is_rolled_back(open_settings: Callable[[bool], Settings[Config]]) -> None:
    settings, applied = open_settings(False), []
    settings.apply = lambda config: applied.append(config.uplink.hosts[0][0])
    assert change(settings, CTI, host="nowhere.example", port=1)[:2] == ("failed", "rolled-back")
    assert applied == ["nowhere.example", "good.example"]
    assert open_settings(True).config.uplink.hosts == (("good.example", 8883),)


def test_a_hub_that_dies_on_trial_goes_on_with_the_trial(open_settings: Callable[[bool], Settings[Config]]) -> None:
    settings = open_settings(False)
    settings.trial_s = TRIAL_S

    async def die() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(settings.change(CTI, {"uplink.host": "nowhere.example"}), 0.5)

    asyncio.run(die())
    resumed = open_settings(False)
    assert resumed.config.uplink.hosts[0][0] == "nowhere.example", "the trial goes on where it was"
    assert change(resumed, CTI, host="nowhere.example")[:2] == ("failed", "rolled-back")
    assert open_settings(True).config.uplink.hosts[0][0] == "good.example"


@pytest.mark.parametrize("is_up", [False, True])
def test_a_change_that_waited_behind_a_trial_does_not_make_a_way_back_of_it(
    open_settings: Callable[[bool], Settings[Config]], is_up: bool
) -> None:
    """Two commands, and the hub dies in the first one's trial: after the restart the second may be first."""
    settings = open_settings(False)
    settings.trial_s = TRIAL_S

    async def die() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(settings.change(CTI, {"uplink.host": "other.example"}), 0.5)

    asyncio.run(die())
    resumed = open_settings(is_up)

    async def go_on() -> list[Outcome]:
        second, first = {"uplink.pack_interval_s": 900}, {"uplink.host": "other.example"}
        return await asyncio.gather(resumed.change(OTHER, second), resumed.change(CTI, first))

    statuses = [outcome[0] for outcome in asyncio.run(go_on())]
    assert statuses == ["completed" if is_up else "failed"] * 2
    kept = open_settings(True).config.uplink
    assert kept.hosts[0][0] == ("other.example" if is_up else "good.example")
    assert kept.pack_interval_s == (900 if is_up else 60)


@pytest.mark.parametrize(
    "wanted", [{"hub.data_dir": "/tmp"}, {"uplink.port": "many"}, {"uplink.keepalive_s": -1}, {"no.such": 1}]
)
def test_what_may_not_be_changed_changes_nothing(
    open_settings: Callable[[bool], Settings[Config]], wanted: dict[str, object]
) -> None:
    settings = open_settings(True)
    before = settings.config
    status, reason, detail, _ = asyncio.run(settings.change(OTHER, wanted))
    assert (status, reason) == ("failed", "bad-args") and next(iter(wanted)) in detail["text"]
    assert settings.config is before
