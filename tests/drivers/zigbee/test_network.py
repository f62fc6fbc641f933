"""The home's network outlives the stick: another network, a blank radio, lost files, a counter that fell; its end."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zigpy import types as t

from drivers.zigbee.network import FILE, FORM_ANEW, HomeNetwork
from drivers.zigbee.survey import ChannelSurvey
from tests.drivers.zigbee.radio import PLUG, PLUG_IEEE, Emulator, HubSide, bench_on, short_directory, until
from tests.emulators import home
from tests.emulators.bench import Bench
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.line import TcpLine

PLUG_CLIENT = "zb-" + PLUG_IEEE
UTC = 1_790_000_000.0


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


async def formed(tty: Path, data: Path) -> dict[str, Any]:
    """Let a hub form (or find) its network and take its snapshot."""
    async with HubSide(tty, data, utc=lambda: UTC) as hub:
        await hub.up()
        await until("the snapshot", (data / FILE).exists)
        return {key: hub.status[key] for key in ("channel", "pan_id", "ieee")}


def test_a_radio_with_another_network_is_given_the_homes() -> None:
    with short_directory() as place:

        async def scenario(tty: Path, ours: dict[str, Any]) -> None:
            async with HubSide(tty, place / "ours") as hub:
                await hub.up()
                assert {key: hub.status[key] for key in ours} == ours
                assert hub.names() == ["radio.other_network", "radio.restored", "radio.up"]
                assert hub.events[0][1]["pan_id"] == ours["pan_id"] != hub.events[0][1]["found"]
                assert not hub.conditions()

        found: list[dict[str, Any]] = []

        async def form(tty: Path, name: str) -> None:
            found.append(await formed(tty, place / name))

        with Emulator(place, []) as radio:
            run(form(radio.tty, "ours"))
        radio.state.unlink()
        with Emulator(place, []) as radio:
            run(form(radio.tty, "theirs"))
            assert found[0]["pan_id"] != found[1]["pan_id"]
            run(scenario(radio.tty, found[0]))


def test_a_radio_behind_a_socket_is_not_given_up_while_it_is_being_formed() -> None:
    """Each reset there waits two seconds for a banner: the start takes longer than a sign of life may be away."""
    with short_directory() as place:

        async def scenario() -> None:
            bench = Bench(Ncp(NonVolatile(bytes.fromhex("0100000000c0ffee")[::-1]), Air([])))
            line = TcpLine("127.0.0.1", 0, bench.received)
            bench.attach(line)
            await line.plug()
            try:
                async with HubSide(place, place / "data", path=f"socket://{line.where}") as hub:
                    await hub.up()
                    assert hub.names() == ["radio.formed", "radio.up"] and not hub.conditions()
                    assert bench.ncp.counters["formNetwork"] == 2, "for a scan, and for good: not given up half-way"
            finally:
                bench.stop()
                await line.unplug()

        run(scenario())


@pytest.mark.parametrize("lost", [("radio.db",), ("radio.db", FILE)], ids=["the database", "both"])
def test_a_blank_radio_and_lost_files_do_not_orphan_the_home(lost: tuple[str, ...]) -> None:
    with short_directory() as place:
        kept: list[dict[str, Any]] = []

        async def scenario(radio: Emulator, networks: list[Any]) -> None:
            hub = HubSide(radio.tty, place / "data", utc=lambda: UTC)
            hub.link.keep_network = kept.append
            hub.link.kept_network = lambda: kept[-1] if kept else None
            async with hub:
                await hub.up()
                networks.append({key: hub.status[key] for key in ("channel", "pan_id", "ieee")})
                assert ("radio.formed" in hub.names()) is (len(networks) == 1)
                await until("the snapshot", lambda: kept)

        networks: list[Any] = []
        with Emulator(place, []) as radio:
            run(scenario(radio, networks))
        radio.state.unlink()
        for name in lost:
            (place / "data" / name).unlink()
        with Emulator(place, []) as radio:
            run(scenario(radio, networks))
        assert networks[0] == networks[1]


def test_devices_come_back_before_they_speak_when_the_database_is_lost() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario(first: bool) -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                if first:
                    await hub.open()
                    await hub.quantities("power")

                    def has_it() -> bool:
                        path = place / "data" / FILE
                        return path.exists() and PLUG_IEEE in json.loads(path.read_text())["devices"]

                    await until("a snapshot with the plug", has_it)
                else:
                    await hub.quantities("power")  # the plug's relay rests and its power does not change

        run(scenario(first=True))
        for name in ("radio.db", "radio-appliances.json"):
            (place / "data" / name).unlink(missing_ok=True)
        run(scenario(first=False))


def test_a_counter_that_fell_is_raised_until_somebody_acknowledges() -> None:
    """The stick counted on by far more than its rate foretells; its blank successor is not heard at first."""
    with short_directory() as place:

        async def scenario() -> None:
            air = Air([home.build(PLUG, 0.0)])
            for number in range(2):
                hub_side = HubSide(place / "tty", place / "data", utc=lambda: UTC)
                async with bench_on(place / "tty", air), hub_side as hub:
                    if number == 0:
                        await hub.open()
                        await hub.quantities("power")
                        await until("the snapshot", (place / "data" / FILE).exists)
                        plug = air.devices[home.parse_ieee(PLUG_IEEE)]
                        plug.counter_heard += 6_000_000
                    else:
                        await hub.quantities("power")
                        assert air.counters["replays"] > 0, "it was heard at once: this proves nothing"
                        assert hub.names()[0] == "radio.restored"

        run(scenario())


def test_the_counter_runs_on_as_fast_as_it_was_seen_to() -> None:
    with short_directory() as place, Emulator(place, []) as radio:
        run(_only_form(radio.tty, place / "data"))
        network = HomeNetwork(place / "data")
        backup = network.backup()
        assert backup is not None and network.document is not None
        saved = int(backup.network_info.network_key.tx_counter)
        network.document["rate"] = 2.0

        def counter(utc: float | None, raised: int = 0) -> int:
            restored = network.to_restore(utc, raised)
            assert restored is not None
            return int(restored.network_info.network_key.tx_counter)

        assert counter(UTC) == saved and counter(UTC + 3600, 5) == saved + 4 * 3600 + 5
        assert counter(None) > saved + 30 * 86400, "how long ago is not known: a month"
        assert counter(UTC + 1e12) <= saved + 200_000_000, "never near the counter's end"


async def _only_form(tty: Path, data: Path) -> None:
    await formed(tty, data)


def test_after_a_factory_reset_the_network_is_another_and_nobody_is_at_home() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario(first: bool) -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                if first:
                    await hub.open()
                    await hub.quantities("power")
                    await until("the snapshot", (place / "data" / FILE).exists)
                    pans.append(hub.status["pan_id"])
                    return
                await hub.up()
                assert hub.names() == ["radio.formed", "radio.up"] and hub.status["pan_id"] != pans[0]
                assert not (place / "data" / FORM_ANEW).exists()
                await hub.link.permit(60)  # the former home's plug does not come in by itself
                await radio.ask("switch", device="kettle", on=False)
                await asyncio.sleep(2)
                assert not hub.readings and PLUG_IEEE not in hub.status["devices"]

        pans: list[str] = []
        run(scenario(first=True))
        for path in (place / "data").iterdir():  # as store/factory_reset.py does
            path.unlink()
        (place / "data" / FORM_ANEW).touch()
        run(scenario(first=False))


def test_a_device_that_is_removed_leaves_and_is_no_member() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("power")
                with pytest.raises(ValueError, match="no device"):
                    await hub.link.remove("0" * 16)
                assert await hub.link.remove(PLUG_IEEE) == {"ieee": PLUG_IEEE, "told": True}
                await radio.until("it to leave", "kettle", lambda row: not row["joined"])
                assert hub.link.appliances() == [] and PLUG_IEEE not in hub.status["devices"]
                members = place / "data/radio-members.json"
                await until("the list of members", lambda: PLUG_IEEE not in members.read_text())

        run(scenario())


@pytest.mark.parametrize("version", [13, 18])
def test_the_networks_key_is_changed_and_who_missed_it_comes_back(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.zigbee.application.KEY_SPREAD_S", 1.0)
    away = PLUG | {"ieee": "000d6f0000000009", "name": "away"}
    with short_directory() as place, Emulator(place, [PLUG, away], version) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                await hub.open()
                await until(
                    "both", lambda: {client for client, _, _ in hub.readings} >= {PLUG_CLIENT, "zb-" + away["ieee"]}
                )
                await until("the snapshot", (place / "data" / FILE).exists)
                before = json.loads((place / "data" / FILE).read_text())
                await radio.ask("set", device="away", powered=False)
                assert await hub.link.rotate_key() == {"sequence": 1}
                assert ("radio.key_rotated", {"sequence": 1}) in hub.events
                after = json.loads((place / "data" / FILE).read_text())
                assert after["backup"]["network_key"]["key"] != before["backup"]["network_key"]["key"]
                hub.readings.clear()
                await radio.ask("switch", device="kettle", on=False)  # it has the new key
                await until("its report", lambda: (PLUG_CLIENT, "state", "0") in hub.readings)
                await radio.ask("set", device="away", powered=True)
                await radio.ask("switch", device="away", on=False)
                await asyncio.sleep(1)
                assert "zb-" + away["ieee"] not in {client for client, _, _ in hub.readings}, "it has the old key"
                await radio.ask("rejoin", device="away")
                await until("it", lambda: "zb-" + away["ieee"] in {client for client, _, _ in hub.readings})

        async def after_a_restart() -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                await hub.up()
                assert hub.names() == ["radio.up"], "it is the home's network, with another key"

        run(scenario())
        run(after_a_restart())


def test_a_hub_that_died_between_two_keys_knows_its_network_by_either(tmp_path: Path) -> None:
    with short_directory() as place, Emulator(place, []) as radio:
        run(_only_form(radio.tty, place / "data"))
        network = HomeNetwork(place / "data")
        backup = network.backup()
        assert backup is not None
        key = bytes(range(16))
        document = network.expect_key(key)
        assert document is not None
        network.write(document)
        survivor = HomeNetwork(place / "data")
        info = backup.network_info
        other = replace(backup, network_info=info.replace(network_key=info.network_key.replace(key=t.KeyData(key))))
        stranger = replace(
            backup, network_info=info.replace(network_key=info.network_key.replace(key=t.KeyData(b"x" * 16)))
        )
        assert survivor.is_same(backup) and survivor.is_same(other) and not survivor.is_same(stranger)


def test_the_network_moves_and_its_devices_with_it() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                await hub.open()
                await hub.quantities("power")
                before = hub.status["channel"]
                for wrong in (before, 10, 27):
                    with pytest.raises(ValueError, match="channel"):
                        await hub.link.move(wrong, 0.0)
                to = 25 if before != 25 else 20
                assert await hub.link.move(to, 0.0) == {"channel": to, "in_s": 0}
                await until(
                    "the move", lambda: ("radio.channel_moved", {"channel": to, "before": before}) in hub.events
                )
                assert hub.status["channel"] == to
                hub.readings.clear()
                await radio.ask("switch", device="kettle", on=False)
                await until("its report", lambda: (PLUG_CLIENT, "state", "0") in hub.readings)
                assert json.loads((place / "data" / FILE).read_text())["backup"]["channel"] == to

        async def after_a_restart() -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                await hub.up()
                assert hub.names() == ["radio.up"]

        run(scenario())
        run(after_a_restart())


def test_a_channel_that_is_loud_for_days_is_left_and_that_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.zigbee.link.PERIOD_S", 0.0)
    monkeypatch.setattr("drivers.zigbee.link._SURVEY_LOOK_S", 0.1)
    monkeypatch.setattr("drivers.zigbee.link._MOVE_NOTICE_S", 1.0)
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data", utc=lambda: UTC) as hub:
                await hub.up()
                before = hub.status["channel"]
                await radio.ask("noise", channel=before, rssi=-30)
                await until("the plan", lambda: "radio.channel_planned" in hub.names())
                assert hub.events[-1][1]["reason"] == "noise" and hub.status["move_to"] not in (None, before)
                await until("the move", lambda: "radio.channel_moved" in hub.names())
                assert hub.status["channel"] != before

        run(scenario())


def test_a_survey_says_where_to_move_and_is_not_moved_by_one_evening() -> None:
    loud, quiet = {11: 60.0, 15: 200.0, 20: 50.0, 25: 70.0}, {11: 60.0, 15: 90.0, 20: 50.0, 25: 70.0}
    survey = ChannelSurvey()
    assert [survey.take(heard, 15) for heard in (loud, loud, quiet, loud, loud, loud)] == [None] * 5 + [20]
    assert survey.take(loud, 15) is None, "it has moved"
    everywhere = dict.fromkeys((11, 15, 20, 25), 200.0)
    assert [survey.take(everywhere, 15) for _ in range(5)] == [None] * 5, "nowhere is better"
    assert survey.take({}, 15) is None and survey.take({15: 250.0}, 15) is None


def test_what_is_said_under_the_link_key_is_heard_from_a_replacement_too() -> None:
    """Its counter is another one than the network's (R22, 4.4.1.2), and no backup of bellows has it."""
    relay = {"kind": "relay", "ieee": "000d6f0000000004", "name": "relay", "device_class": 4}
    client = "zb-000d6f0000000004"
    with short_directory() as place:

        async def scenario() -> None:
            air = Air([home.build(relay, 0.0)])
            for number in range(2):
                hub_side = HubSide(place / "tty", place / "data", utc=lambda: UTC)
                async with bench_on(place / "tty", air), hub_side as hub:
                    if number == 0:
                        await hub.open()
                    await until("its interview", lambda hub=hub: hub.link._loads.can_hold(client))
                    for share in (0.5, 0.25, 0.75):
                        await hub.link.hold(client, share, 600.0)
                    if number == 0:
                        await until("the snapshot", (place / "data" / FILE).exists)
            assert air.devices[home.parse_ieee(relay["ieee"])].duty_cycle == 75  # type: ignore[arg-type,attr-defined]
            assert not air.counters.get("aps_replays") and not air.counters.get("undecryptable")

        run(scenario())
