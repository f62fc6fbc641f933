"""The Zigbee link against the emulated radio in its own process: networks, recovery, the tunnel, appliances."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from zigpy.util import convert_install_code

from drivers.zigbee.application import Application
from tests.drivers.zigbee.radio import (
    ADAPTER,
    ADAPTER_IEEE,
    PLUG,
    PLUG_IEEE,
    Emulator,
    HubSide,
    short_directory,
    until,
)

PLUG_CLIENT = "zb-" + PLUG_IEEE


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


@pytest.mark.parametrize("version", [8, 13, 14, 18])
def test_a_blank_radio_is_formed_once_and_kept(version: int) -> None:
    with short_directory() as place, Emulator(place, [], version) as radio:

        async def scenario() -> None:
            networks = []
            for _start in range(2):
                async with HubSide(radio.tty, place / "data") as hub:
                    await hub.up()
                    assert not hub.conditions()
                    networks.append({key: hub.status[key] for key in ("channel", "pan_id", "ieee")})
                    assert hub.names() == (["radio.formed", "radio.up"] if _start == 0 else ["radio.up"])
                    assert hub.events[-1][1] == networks[-1]
            assert networks[0] == networks[1]
            assert 1 <= int(networks[0]["pan_id"], 16) < 0xFFFF
            # The endpoints are there although forming resets the radio.
            assert "no_such_endpoint" not in (await radio.ask("counters"))["air"]

        run(scenario())


@pytest.mark.parametrize("tunnel", ["native", "digi"])
def test_mqttsn_goes_both_ways(tunnel: str) -> None:
    with short_directory() as place, Emulator(place, [ADAPTER | {"tunnel": tunnel, "search": True}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data", tunnel) as hub:
                await hub.open()
                await until("SEARCHGW", lambda: any(data[1] == 0x01 for _, data in hub.arrived))
                hub.link.send([(("zigbee", "*"), b"\x03\x02\x01")])  # GWINFO, to everybody
                row = await radio.until("acknowledgements", "boiler-1", lambda row: row["totals"]["acknowledged"] >= 4)
                assert row["session"] == "active"
                assert {peer for peer, _ in hub.arrived} == {("zigbee", ADAPTER_IEEE)}
                assert hub.status["failed"] == hub.status["dropped"] == hub.status["duplicates"] == 0
                assert hub.status["devices"][ADAPTER_IEEE]["lqi"] == 180
                assert hub.link.appliances() == []

        run(scenario())


def test_a_reset_of_the_radio_is_survived() -> None:
    with short_directory() as place, Emulator(place, [ADAPTER | {"period_s": 2}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                before = await radio.until("a quiet moment", "boiler-1", lambda row: row["totals"]["acknowledged"] >= 5)
                await radio.ask("reset")
                await until("the reset to be noticed", lambda: hub.status["resets"] == 1)
                await hub.up()
                acknowledged = before["totals"]["acknowledged"]
                await radio.until("traffic", "boiler-1", lambda row: row["totals"]["acknowledged"] > acknowledged)
                assert ("radio.down", {"reason": "RESET_WATCHDOG"}) in hub.events
                assert not hub.conditions()
                # The engineer's window is open still.
                assert (await radio.ask("counters"))["permit_s"] > 20

        run(scenario())


def test_a_radio_that_is_pulled_out_and_put_back() -> None:
    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("a session", "boiler-1", lambda row: row["session"] == "active")
                await radio.ask("unplug")
                await until("it to be missed", lambda: hub.conditions() == {"radio-missing"})
                assert hub.status["state"] == "missing"
                hub.link.send([(("zigbee", ADAPTER_IEEE), b"\x02\x16")])  # goes nowhere, raises nothing
                with pytest.raises(ValueError, match="not up"):
                    await hub.link.permit(5)
                await radio.ask("plug")
                await hub.up()
                assert not hub.conditions()
                arrived = len(hub.arrived)
                await until("traffic", lambda: len(hub.arrived) > arrived)

        run(scenario())


@pytest.mark.parametrize("layer", ["ash", "ezsp"])
def test_a_silent_radio_is_noticed(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Application, "_watchdog_period", 0.2)
    if layer == "ezsp":
        monkeypatch.setattr("drivers.zigbee.application._LOOPBACK_S", 0.2)
    # Patience of bellows', in seconds: how long it waits for the answer to a reset, and to a command.
    monkeypatch.setattr("bellows.uart.RESET_TIMEOUT", 0.3)
    monkeypatch.setattr("bellows.ash.T_RX_ACK_MAX", 0.4)
    monkeypatch.setattr("bellows.ezsp.protocol.EZSP_CMD_TIMEOUT", 0.5)
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                await radio.ask("mute", layer=layer)
                await until("the silence to be noticed", lambda: hub.conditions() == {"radio-silent"})
                await radio.ask("unmute")
                await hub.up()
                assert not hub.conditions() and hub.status["resets"] == 1

        run(scenario())


def test_no_radio_at_all() -> None:
    with short_directory() as place:

        async def scenario() -> None:
            async with HubSide(place / "nothing", place / "data") as hub:
                await until("the condition", lambda: hub.conditions() == {"radio-missing"})
                assert hub.status["state"] == "missing" and hub.status["channel"] is None
                assert hub.events == []
            assert hub.status["state"] == "off"

        run(scenario())


@pytest.mark.parametrize("profile", [0x0104, 0x0109])
def test_a_plug_is_read_and_switched(profile: int) -> None:
    with short_directory() as place, Emulator(place, [PLUG | {"profile": profile}]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("state", "power", "energy", "voltage", "current")
                first = {quantity: text for _, quantity, text in hub.readings[:5]}
                assert first | {"energy": ""} == {
                    "state": "1", "power": "1200", "voltage": "230", "current": "5.217", "energy": "",
                }  # fmt: skip
                assert {client for client, _, _ in hub.readings} == {PLUG_CLIENT}
                assert ("adapter.joined", {"client": PLUG_CLIENT, "link": "zigbee"}) in hub.events
                for on in (False, True):
                    hub.readings.clear()
                    await hub.link.switch(PLUG_CLIENT, on)
                    assert (await radio.device("kettle"))["on"] is on
                    await until("the report", lambda on=on: (PLUG_CLIENT, "state", f"{on:d}") in hub.readings)
                (row,) = hub.link.appliances()
                assert row["client"] == PLUG_CLIENT and row["state"] == "active" and row["model"] == "plug-1"

        run(scenario())


def test_a_plug_is_read_anew_after_a_reset_and_goes_on_reporting() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("reporting", "kettle", lambda row: len(row["reporting"]) == 5)
                # What was on its way when the radio went says nothing of its return.
                hub.link.changed = lambda is_up: None if is_up else hub.readings.clear()
                await radio.ask("reset")
                await until("the reset to be noticed", lambda: hub.status["resets"] == 1)
                await hub.up()
                await hub.quantities("state", "power", "energy", "voltage", "current")
                await radio.ask("switch", device="kettle", on=False)
                await until("a report", lambda: (PLUG_CLIENT, "state", "0") in hub.readings)
                assert hub.names().count("adapter.joined") == 1
                await radio.ask("leave", device="kettle")
                await until("the farewell", lambda: "adapter.left" in hub.names())
                assert hub.link.appliances()[0]["state"] == "left"

        run(scenario())


def test_a_plug_that_forgot_its_reporting_is_told_again_when_it_comes_back() -> None:
    """A power cut at the wall, and firmware that keeps neither bindings nor reporting through one."""
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await radio.until("reporting", "kettle", lambda row: len(row["reporting"]) == 5)
                await radio.ask("forget", device="kettle")
                row = await radio.device("kettle")
                assert not row["reporting"] and not row["bindings"]
                await radio.ask("rejoin", device="kettle", same=True)
                await radio.until("reporting", "kettle", lambda row: len(row["reporting"]) == 5 and row["bindings"])
                await radio.ask("switch", device="kettle", on=False)
                await until("a report", lambda: (PLUG_CLIENT, "state", "0") in hub.readings)

        run(scenario())


def test_orders_that_cannot_be_carried_out() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                await hub.quantities("state")
                for name in ("zb-0000000000000000", "boiler-1", PLUG_IEEE):
                    with pytest.raises(ValueError, match="no appliance"):
                        await hub.link.switch(name, True)
                await radio.ask("set", device="kettle", in_range=False)
                with pytest.raises(ConnectionError):
                    await hub.link.switch(PLUG_CLIENT, False)

        run(scenario())


def test_a_blank_replacement_radio_gets_the_network_back() -> None:
    with short_directory() as place:

        async def scenario(radio: Emulator, networks: list[Any]) -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                networks.append({key: hub.status[key] for key in ("channel", "pan_id", "ieee")})
                if len(networks) == 1:
                    await until("the backup", lambda: hub.link._supervisor.application.backups.backups)  # type: ignore[union-attr]
                else:
                    assert hub.names() == ["radio.restored", "radio.up"]

        networks: list[Any] = []
        with Emulator(place, []) as radio:
            run(scenario(radio, networks))
        radio.state.unlink()
        with Emulator(place, []) as radio:
            run(scenario(radio, networks))
        assert networks[0] == networks[1]


def test_a_damaged_database_is_set_aside_and_the_members_are_served() -> None:
    with short_directory() as place, Emulator(place, [PLUG]) as radio:

        async def scenario(first: bool) -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                if first:
                    await hub.link.permit(60)
                    await radio.until("reporting", "kettle", lambda row: len(row["reporting"]) == 5)
                else:  # it reports by itself, out of the blue
                    await radio.ask("switch", device="kettle", on=False)
                await hub.quantities("power")
                await until("the list of members", (place / "data/radio-members.json").exists)

        run(scenario(first=True))
        (place / "data/radio.db").write_bytes(b"not a database at all, " * 400)
        run(scenario(first=False))
        assert (place / "data/radio.db.damaged").exists()
        assert PLUG_IEEE in json.loads((place / "data/radio-members.json").read_text())


def test_the_policy_is_restored_when_the_window_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.zigbee.application._WINDOW_GRACE_S", 0.2)
    with short_directory() as place, Emulator(place, [ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                counters = (await radio.ask("counters"))["ezsp"]
                assert "importTransientKey" not in counters, "the start put the well-known key into the radio"
                ezsp = hub.link._supervisor.application._ezsp  # type: ignore[union-attr]

                async def policy() -> int:
                    from bellows.types import EzspPolicyId

                    return int((await ezsp.getPolicy(policyId=EzspPolicyId.TRUST_CENTER_POLICY))[1])

                shut = await policy()
                await hub.link.permit(1)
                await hub.link.permit(2)  # the later one counts
                assert await policy() == 3
                await asyncio.sleep(1.6)  # the first one would have shut it by now
                assert await policy() == 3
                await asyncio.sleep(0.9)
                assert await policy() == shut
                assert (await radio.ask("counters"))["ezsp"]["clearTransientLinkKeys"] >= 2

        run(scenario())


def test_an_install_code_lets_in_its_own_device_and_nobody_else() -> None:
    # The example of the Zigbee Base Device Behavior specification (table 10-1): 16 bytes and their CRC.
    code = "83fed3407a939723a5c639b26916d505c3b5"
    key = bytes(convert_install_code(bytes.fromhex(code))).hex()
    devices = [ADAPTER | {"link_key": key}, PLUG]
    with short_directory() as place, Emulator(place, devices) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                for ieee, given in ((ADAPTER_IEEE, None), (ADAPTER_IEEE, code[:-2] + "00"), ("12", code)):
                    with pytest.raises(ValueError, match=r"install|Install|IEEE"):
                        await hub.link.permit(60, ieee, given)
                await hub.link.permit(60, ADAPTER_IEEE, code)
                await until("its frames", lambda: bool(hub.arrived))
                assert {peer for peer, _ in hub.arrived} == {("zigbee", ADAPTER_IEEE)}
                assert PLUG_IEEE not in hub.status["devices"]

        run(scenario())


def test_an_interview_that_fails_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # zigpy's patience with a device of which it knows nothing, in seconds.
    monkeypatch.setattr("zigpy.device.APS_REPLY_TIMEOUT_EXTENDED", 0.2)
    deaf = {
        "kind": "zcl", "ieee": PLUG_IEEE, "name": "deaf", "manufacturer": "M", "model": "T", "habits": {"deaf": 5},
        "endpoints": {"1": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}}}},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [deaf]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                failed = ("adapter.interview_failed", {"client": PLUG_CLIENT})
                await until("the failure to be told", lambda: failed in hub.events)
                assert "adapter-not-interviewed" in hub.conditions()
                await hub.quantities("state")
                assert hub.events.count(failed) == 1
                await until("the condition to go", lambda: not hub.conditions())

        run(scenario())


def test_what_is_known_of_an_appliance_outlives_the_hub() -> None:
    """Its reports are read at once after a start, whether it answers questions then or not."""
    tuya = {
        "kind": "zcl", "ieee": PLUG_IEEE, "name": "plug", "manufacturer": "M", "model": "T", "habits": {"report_s": 1},
        "endpoints": {"1": {"in": {"0x0000": {}, "0x0702": {
            "0x0000": ["25", 5], "0x0300": ["30", 0], "0x0301": ["22", 1], "0x0302": ["22", 1000],
        }}}},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [tuya]) as radio:

        async def scenario(first: bool) -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                if first:
                    await hub.open()
                    await radio.until("reports", "plug", lambda row: row["reports"])
                    await hub.quantities("energy")
                else:
                    await hub.up()
                    reads = (await radio.device("plug"))["reads"]
                    await hub.quantities("energy")
                    assert (await radio.device("plug"))["reads"] <= reads + 1, "its scale was asked for again"
                    assert "adapter.joined" not in hub.names()

        run(scenario(first=True))
        kept = json.loads((place / "data/radio-appliances.json").read_text())
        assert kept[PLUG_IEEE]["told"] and kept[PLUG_IEEE]["facts"]
        run(scenario(first=False))


def test_a_babbling_plug_is_muted_and_said() -> None:
    babbler = {
        "kind": "zcl", "ieee": PLUG_IEEE, "name": "plug", "manufacturer": "M", "model": "T",
        "habits": {"report_s": 0.02, "unasked": True},
        "endpoints": {"1": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}}}},
    }  # fmt: skip
    with short_directory() as place, Emulator(place, [babbler, ADAPTER]) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.open()
                row = await radio.until("babble", "plug", lambda row: row["reports"] >= 300)
                await until("the condition", lambda: "adapter-babbles" in hub.conditions(), timeout_s=70)
                said = sum(1 for client, _, _ in hub.readings if client == PLUG_CLIENT)
                assert said <= 40 < row["reports"], "the store pays for each"
                (row,) = hub.link.appliances()
                assert row["muted"] and row["dropped"] > 200

        run(scenario())
