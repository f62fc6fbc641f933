# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated mesh in EZSP's words: hops, route records and errors, children, conflicts, broadcasts, interference."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.ezsp.air import Air
from tests.emulators.ezsp.device import HUB, Device
from tests.emulators.ezsp.stack import CONFIG_MAX_END_DEVICE_CHILDREN
from tests.emulators.harness import Host

NEAR, SECOND, FAR = b"near-eui", b"2nd--eui", b"far--eui"
VERSIONS = [8, 13, 14, 16, 18, 19]


def device(ieee: bytes, *hears: bytes, **more: Any) -> Device:
    return Device(ieee, hears=hears or (HUB,), hop=(hears or (HUB,))[0], **more)


def home(version: int = 13, **far: Any) -> tuple[Host, Device, Device, Device]:
    """A radio, two routers that it hears, and a device behind either."""
    devices = device(NEAR), device(SECOND), device(FAR, NEAR, SECOND, **far)
    host = Host(*devices, version=version)
    host.form()
    host.open()
    host.wait(1)
    # The first call opens the coordinator alone; who hears only routers joins once they are open, too.
    for router in devices[:2]:
        router.permit_until = host.now + 60
    host.air.join(devices[2], host.now)
    host.wait(1)
    assert all(each.joined for each in devices)
    host.callbacks.clear()
    return host, *devices


def send(host: Host, to: Device) -> None:
    aps = {"profile": 0x0104, "cluster": 6, "src_ep": 1, "dst_ep": 1, "options": 0x0140}
    host.command("sendUnicast", type=0, destination=to.nwk, aps=aps, tag=1, message=b"hello")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_concentrator_is_told_over_which_routers_a_frame_came(version: int) -> None:
    host, near, _, far = home(version)
    assert far.hop == NEAR
    host.command("setConcentrator", on=1, type=0xFFF9, min_s=5, max_s=60, route_errors=3, delivery_failures=1, hops=0)
    for _ in range(2):
        far.transmit(0x0104, 6, 1, 1, b"hello")
        host.air.speak(far, host.now)
        host.wait(1)
    records = host.named("incomingRouteRecordHandler")
    assert [(row["id"], row["relays"]) for row in records] == [(far.nwk, b"\x01" + near.nwk.to_bytes(2, "little"))]
    assert len(host.named("incomingMessageHandler")) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_broken_route_is_told_and_another_one_found(version: int) -> None:
    host, near, _, far = home(version)
    near.powered = False
    send(host, far)
    host.wait(3)
    assert [row["id"] for row in host.named("incomingRouteErrorHandler")] == [far.nwk]
    assert [(row["error"], row["id"]) for row in host.named("incomingNetworkStatusHandler")] == [(0x0B, far.nwk)]
    failed = host.named("messageSentHandler")[-1]["status"]
    assert far.hop == SECOND and host.air.counters["repaired"] == 1
    send(host, far)
    host.wait(1)
    assert host.named("messageSentHandler")[-1]["status"] == 0 != failed


def test_a_device_behind_another_takes_its_time_and_its_losses() -> None:
    host, near, _, far = home(delay_s=0.01)
    near.delay_s = 0.5
    send(host, far)
    host.wait(0.4)
    assert not host.named("messageSentHandler")
    host.wait(0.3)
    assert host.named("messageSentHandler")[-1]["status"] == 0
    near.loss = 1.0
    send(host, far)
    host.wait(2)
    assert host.named("messageSentHandler")[-1]["status"] != 0


def test_a_loop_of_routers_leads_nowhere() -> None:
    host, near, second, far = home()
    near.hears, near.hop = (SECOND,), SECOND
    second.hears, second.hop = (NEAR,), NEAR
    assert host.air.mesh.relays(far) is None and host.air.mesh.way(near) is None
    send(host, far)
    host.wait(5)
    assert host.named("messageSentHandler")[-1]["status"] != 0 and host.air.counters["no_way"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_child_whose_parent_goes_finds_another_and_both_are_told(version: int) -> None:
    child = device(FAR, HUB, NEAR, poll_s=0.5)
    host = Host(device(NEAR), child, version=version)
    host.form()
    host.open()
    host.wait(1)
    told = [(row["joining"], row["eui"]) for row in host.named("childJoinHandler")]
    assert told == [(1, FAR)]
    assert host.named("trustCenterJoinHandler")[-1]["parent"] == 0
    child.hears = (NEAR,)  # the radio is behind a wall now
    host.air.rejoin(child, host.now)
    host.wait(1)
    assert [(row["joining"], row["eui"]) for row in host.named("childJoinHandler")][1:] == [(0, FAR)]
    last = host.named("trustCenterJoinHandler")[-1]
    assert last["parent"] == host.air.devices[NEAR].nwk and last["update"] == 0


def test_a_full_table_of_children_sends_the_next_one_to_a_router() -> None:
    children = [device(b"child-%02d" % n, poll_s=1.0) for n in range(3)]
    host = Host(device(NEAR), *children)
    host.command("setConfigurationValue", id=CONFIG_MAX_END_DEVICE_CHILDREN, value=2)
    host.form()
    host.open()
    host.wait(1)
    assert [child.hop for child in children if child.joined] == [HUB, HUB]
    host.air.devices[NEAR].permit_until = host.now + 60
    host.air.join(children[2], host.now)
    host.wait(1)
    assert children[2].joined and children[2].hop == NEAR
    assert host.command("getParentChildParameters")["child_count"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_an_address_conflict_is_told_and_both_take_another(version: int) -> None:
    host, near, second, _ = home(version)
    before = near.nwk
    host.air.conflict(near, second, host.now)
    host.wait(1)
    assert [row["id"] for row in host.named("idConflictHandler")] == [before]
    assert len({before, near.nwk, second.nwk}) == 3
    announced = [row["message"] for row in host.named("incomingMessageHandler") if row["aps"]["cluster"] == 0x0013]
    assert {message[3:11] for message in announced} == {NEAR, SECOND}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pan_id_that_is_anothers_is_changed_and_sleepers_look_for_the_network(version: int) -> None:
    host, _, second, far = home(version, poll_s=1.0)
    host.ncp.stack.change_pan(0x2222)
    host.wait(0.1)
    assert host.command("getNetworkParameters")["parameters"]["pan_id"] == 0x2222
    assert len(host.named("stackStatusHandler")) == 1
    send(host, second)
    host.wait(1)
    assert host.named("messageSentHandler")[-1]["status"] == 0
    far.transmit(0x0104, 6, 1, 1, b"anybody?")
    host.air.speak(far, host.now)
    host.wait(15)
    assert far.pan_id == 0x2222 and host.named("trustCenterJoinHandler")[-1]["eui"] == FAR


def test_a_storm_of_broadcasts_fills_the_table_for_nine_seconds() -> None:
    host, near, _, _ = home()
    host.wait(10)  # what joined has announced itself
    aps = {"profile": 0, "cluster": 0x0036, "options": 0}
    for _ in range(20):
        near.announce()
    host.air.speak(near, host.now)
    host.wait(1)
    busy = host.command("sendBroadcast", destination=0xFFFC, aps=aps, message=b"\0\0\0")["status"]
    host.wait(9)
    assert host.command("sendBroadcast", destination=0xFFFC, aps=aps, message=b"\0\0\0")["status"] == 0 != busy


def test_a_loud_neighbour_costs_frames_on_his_channel_alone() -> None:
    lost = {}
    for channel in (15, 20):
        plug = device(NEAR)
        air = Air([plug], seed=3)
        air.network(b"n" * 24, b"t" * 8, 0.0, 15)
        plug.network_id, plug.nwk = b"n" * 24, 0x1234
        air.noise[channel] = -50
        lost[channel] = sum(air._lost(plug) for _ in range(400))
    assert 150 < lost[15] < 250 and lost[20] == 0
