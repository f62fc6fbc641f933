# SPDX-License-Identifier: GPL-3.0-or-later
"""The unmodified bellows against the emulator on a pseudo-terminal: form, resume, join, report, raw APS."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zigpy.config as zigpy_config
import zigpy.types
from bellows.zigbee.application import ControllerApplication

from tests.emulators import home
from tests.emulators.bench import Bench
from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.device import ApsFrame, Device
from tests.emulators.ezsp.ncp import Ncp
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.ezsp.zdo import Endpoint
from tests.emulators.line import PtyLine

zigpy_types: Any = zigpy.types  # its integers are all types of their own
PROFILE, CLUSTER, ENDPOINT = 0xC53A, 0x4D51, 0xE9
LIMIT_S = 20.0
EUI = bytes.fromhex("0102030405060708")
PLUG = {"kind": "plug", "ieee": "0000000000000001", "appliance": {"kind": "plain", "nominal_w": 75}}


class Echo(Device):
    """Sends back what it gets."""

    def receive_data(self, frame: ApsFrame, now: float) -> None:
        self.transmit(PROFILE, CLUSTER, ENDPOINT, frame.src_ep, frame.payload[::-1])


class Listener:
    """Collects what zigpy tells its listeners."""

    def __init__(self) -> None:
        self.initialized: list[Any] = []
        self.messages: list[bytes] = []

    def device_initialized(self, device: Any) -> None:
        self.initialized.append(device)

    def handle_message(self, _device: Any, profile: int, _cluster: int, _src: int, _dst: int, data: bytes) -> None:
        if profile == PROFILE:
            self.messages.append(data)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # zigpy's listeners are plain calls, from any thread


@asynccontextmanager
async def radio(directory: Path, *devices: Device, version: int = 13, state: Any = None) -> AsyncIterator[Bench]:
    nv, air = NonVolatile(EUI), Air(devices)
    if state is not None:
        nv = NonVolatile.from_dict(state["ncp"])
        air.restore(state["air"], asyncio.get_running_loop().time())
    bench = Bench(Ncp(nv, air, version=version))
    line = PtyLine(directory / "radio", bench.received)
    bench.attach(line)
    await line.plug()
    try:
        yield bench
    finally:
        bench.stop()
        await line.unplug()


@asynccontextmanager
async def hub(directory: Path, **more: Any) -> AsyncIterator[tuple[Any, Listener]]:
    settings: dict[str, Any] = {
        zigpy_config.CONF_DEVICE: {zigpy_config.CONF_DEVICE_PATH: str(directory / "radio")},
        zigpy_config.CONF_DATABASE: str(directory / "zigbee.db"),
        "backup_enabled": False,
        "topology_scan_enabled": False,
        "ota": {"enabled": False},
        "network": {"pan_id": 0x1A62, "channel": 20},
    } | more
    async with asyncio.timeout(LIMIT_S):
        application = await ControllerApplication.new(settings, auto_form=True)
    listener = Listener()
    application.add_listener(listener)
    try:
        yield application, listener
    finally:
        await application.shutdown()


@pytest.mark.parametrize("version", [8, 13, 14, 19])
def test_it_forms_a_network_and_keeps_it(tmp_path: Path, version: int) -> None:
    async def scenario() -> None:
        async with radio(tmp_path, version=version) as bench:
            async with hub(tmp_path) as (application, _):
                formed = application.state.network_info
                assert (formed.pan_id, formed.channel) == (0x1A62, 20)
            state = bench.ncp.to_dict()
        async with radio(tmp_path, version=version, state=state), hub(tmp_path) as (application, _):
            kept = application.state.network_info
            assert kept.extended_pan_id == formed.extended_pan_id
            assert kept.network_key.key == formed.network_key.key
            assert kept.network_key.tx_counter > formed.network_key.tx_counter

    asyncio.run(scenario())


def test_a_plug_joins_is_interviewed_and_reports(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with radio(tmp_path, home.build(PLUG, 0.0)), hub(tmp_path) as (application, listener):
            await application.permit(30)
            await until(lambda: listener.initialized)
            (plug,) = listener.initialized
            assert plug.model == "plug-1"
            power = plug.endpoints[1].electrical_measurement
            values, _ = await power.read_attributes([0x050B])
            assert values == {0x050B: 75}
            reports: list[int] = []
            power.on_event("attribute_report", lambda event: reports.append(event.value))
            await power.bind()
            await power.configure_reporting(0x050B, 0, 60, 1)
            await plug.endpoints[1].on_off.off()
            await until(lambda: 0 in reports)

    asyncio.run(scenario())


def test_raw_aps_goes_both_ways(tmp_path: Path) -> None:
    echo = Echo(bytes((7,)) * 8, endpoints={ENDPOINT: Endpoint(PROFILE, 1, (CLUSTER,), (CLUSTER,))})

    async def scenario() -> None:
        async with radio(tmp_path, echo), hub(tmp_path) as (application, listener):
            await application.permit(30)
            await until(lambda: listener.initialized)
            (device,) = listener.initialized
            packet = zigpy_types.ZigbeePacket(
                src=zigpy_types.AddrModeAddress(addr_mode=zigpy_types.AddrMode.NWK, address=0),
                src_ep=ENDPOINT,
                dst=zigpy_types.AddrModeAddress(addr_mode=zigpy_types.AddrMode.NWK, address=device.nwk),
                dst_ep=ENDPOINT,
                tsn=1,
                profile_id=PROFILE,
                cluster_id=CLUSTER,
                data=zigpy_types.SerializableBytes(b"abc"),
            )
            await application.send_packet(packet)
            await until(lambda: b"cba" in listener.messages)

    asyncio.run(scenario())


@pytest.mark.parametrize(("version", "routed"), [(8, True), (13, False)])
def test_the_host_sets_a_source_route_where_the_radio_takes_one(tmp_path: Path, version: int, routed: bool) -> None:
    near, far = home.build(PLUG, 0.0), home.build(PLUG | {"ieee": "0000000000000002"}, 0.0)
    far.hears, far.hop = (near.ieee,), near.ieee

    async def scenario() -> None:
        async with (
            radio(tmp_path, near, far, version=version) as bench,
            hub(tmp_path, source_routing=True) as (application, listener),
        ):
            await application.permit(30)
            await until(lambda: listener.initialized)
            await application.permit(30)  # the router, too
            await until(lambda: len(listener.initialized) == 2)
            plug = next(device for device in listener.initialized if device.nwk == far.nwk)
            await until(lambda: plug.relays == [near.nwk])
            before = bench.ncp.air.counters.get("source_routed", 0)
            await plug.endpoints[1].on_off.off()
            await plug.endpoints[1].on_off.on()
            assert (bench.ncp.air.counters.get("source_routed", 0) >= before + 2) is routed
            assert not bench.ncp.air.counters.get("source_routes_broken")

    asyncio.run(scenario())


def test_it_starts_on_a_line_that_damages_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with radio(tmp_path) as bench:
            bench.corrupt = 0.0005
            async with hub(tmp_path) as (application, _):
                assert application.state.network_info.channel == 20

    asyncio.run(scenario())


def test_a_spontaneous_reset_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with radio(tmp_path) as bench, hub(tmp_path) as (application, _):
            lost: list[Any] = []
            application.connection_lost = lost.append
            bench.ncp.reset(asyncio.get_running_loop().time(), 3)
            bench.changed()
            await until(lambda: lost)

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="pseudo-terminals as Linux has them")
def test_the_name_of_the_terminal_survives_unplugging(tmp_path: Path) -> None:
    async def scenario() -> None:
        heard: list[bytes] = []
        line = PtyLine(tmp_path / "radio", heard.append)
        for _ in range(2):
            await line.plug()
            for _ in range(2):  # the host may close it and open it again
                host = os.open(tmp_path / "radio", os.O_RDWR | os.O_NOCTTY)
                os.write(host, b"\x1a\xc0")
                await until(lambda: b"".join(heard) == b"\x1a\xc0")
                heard.clear()
                os.close(host)
            await line.unplug()
            assert not (tmp_path / "radio").exists()

    asyncio.run(scenario())
