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


# -- frame counters and keys of what devices send -------------------------------------------------------------------


def say(host: Host, there: Device, message: bytes = b"hello", *, is_encrypted: bool = False) -> int:
    """What a device says; how many messages the host has had by then."""
    there.transmit(0x0104, 6, 1, 1, message, is_encrypted=is_encrypted)
    host.air.speak(there, host.now)
    host.wait(1)
    return len(host.named("incomingMessageHandler"))


def failures(host: Host) -> dict[int, int]:
    """The NCP's own counters that are not zero, of those that say why a frame was dropped (EmberCounterType)."""
    raw = host.command("readCounters")["counters"]
    return {n: raw[2 * n] for n in (21, 22, 25, 26) if raw[2 * n]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_frame_is_dropped_and_counted(version: int) -> None:
    host, near, _, far = home(version)
    assert say(host, far) == 1
    host.air.replay(far)
    host.wait(1)
    assert len(host.named("incomingMessageHandler")) == 1 and failures(host) == {21: 1}
    host.air.replay(far, resealed=True)  # of whoever has the network's key the network's counter says nothing
    host.wait(1)
    assert len(host.named("incomingMessageHandler")) == 2 and near.counter > 1


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_encrypted_with_the_link_key_is_numbered_once_more(version: int) -> None:
    host, _, _, far = home(version)
    assert say(host, far, is_encrypted=True) == 1
    assert host.named("incomingMessageHandler")[-1]["aps"]["options"] & 0x0020
    host.air.replay(far, resealed=True)
    host.wait(1)
    assert len(host.named("incomingMessageHandler")) == 1 and failures(host) == {22: 1}
    far.tc_key = b"another key 1234"
    assert say(host, far, is_encrypted=True) == 1 and failures(host) == {22: 1, 26: 1}
    assert say(host, far) == 2


def test_a_device_whose_counter_fell_is_neither_heard_nor_acknowledged_until_it_has_its_keys_anew() -> None:
    host, near, *_ = home()
    say(host, near)
    near.counter = 0
    assert say(host, near) == 1
    send(host, near)
    host.wait(3)
    assert host.named("messageSentHandler")[-1]["status"] != 0, "its acknowledgement is a frame of it, too"
    host.command("setPolicy", id=0, decision=0)
    near.counter = 0
    host.air.rejoin(near, host.now)
    host.wait(1)
    assert say(host, near) == 1 and host.air.counters["rejoin_refused"] == 1, "as for its request to come back"
    host.command("setPolicy", id=0, decision=2)  # unsecured rejoins: it is given the network's key under its own
    host.air.rejoin(near, host.now)
    host.wait(1)
    assert say(host, near) == 3, "its announcement, too"
    send(host, near)
    host.wait(1)
    assert host.named("messageSentHandler")[-1]["status"] == 0


def test_after_a_restart_of_the_radio_the_next_frame_of_each_is_taken_as_it_comes() -> None:
    host, near, *_ = home()
    say(host, near)
    host.start()
    host.command("networkInit")
    near.counter -= 1
    assert say(host, near) == 2


def test_what_is_sent_under_an_older_network_key_cannot_be_read() -> None:
    host, near, second, _ = home()
    second.in_range = False
    host.command("broadcastNextNetworkKey", key=b"M" * 16)
    host.wait(1)
    host.command("broadcastNetworkKeySwitch")
    second.in_range = True
    assert say(host, near) == 1 and failures(host) == {}
    assert say(host, second) == 1 and failures(host) == {25: 1}


def test_the_radios_own_frames_are_numbered_each_with_a_number_of_its_own() -> None:
    """A reply (an acknowledgement of a fragment) and the message after it, too: the second would be a replay."""
    host, near, *_ = home()
    aps = {"profile": 0x0104, "cluster": 6, "src_ep": 1, "dst_ep": 1, "options": 0x8140}
    for _ in range(3):
        host.command("sendReply", destination=near.nwk, aps=aps, message=b"")
        send(host, near)
    near.transmit(0, 0x0005, 0, 0, b"\1\0\0")  # Active_EP_req, which the radio answers by itself
    host.air.speak(near, host.now)
    host.wait(1)
    assert [row["status"] for row in host.named("messageSentHandler")] == [0, 0, 0]
    assert not host.air.counters.get("replays")


# -- children that do not ask for their messages --------------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "limit_s"), [(None, 256 * 60.0), (0, 10.0), (1, 120.0), (3, 480.0)])
def test_a_child_that_does_not_ask_is_forgotten_and_joins_again_when_it_does(
    timeout: int | None, limit_s: float
) -> None:
    child = device(FAR, poll_s=2.0, timeout=timeout)
    host = Host(child)
    host.form()
    host.open()
    host.wait(5)
    assert host.command("getChildData", index=0)["child"]["timeout"] == (8 if timeout is None else timeout)
    child.powered = False
    host.wait(limit_s * 0.8)
    assert host.command("getParentChildParameters")["child_count"] == 1
    host.wait(limit_s * 0.4 + 60)
    told = [(row["joining"], row["eui"]) for row in host.named("childJoinHandler")]
    assert told == [(1, FAR), (0, FAR)] and host.command("getParentChildParameters")["child_count"] == 0
    send(host, child)
    child.powered = True
    host.wait(limit_s / 4 + 5)
    assert host.named("messageSentHandler")[-1]["status"] != 0, "nobody kept it"
    assert [row["joining"] for row in host.named("childJoinHandler")] == [1, 0, 1]
    assert host.named("trustCenterJoinHandler")[-1]["update"] == 0, "with its keys"
    send(host, child)
    host.wait(5)
    assert host.named("messageSentHandler")[-1]["status"] == 0


def test_a_child_that_asks_is_not_forgotten_and_one_that_asks_too_seldom_comes_back_each_time() -> None:
    often, seldom = device(NEAR, poll_s=5.0, timeout=0), device(FAR, poll_s=30.0, timeout=0)
    host = Host(often, seldom)
    host.form()
    host.open()
    host.wait(121)
    told = [(row["joining"], row["eui"]) for row in host.named("childJoinHandler")]
    assert told.count((1, NEAR)) == 1 and (0, NEAR) not in told
    assert told.count((1, FAR)) >= 4 and told.count((0, FAR)) >= 3


def test_a_router_forgets_its_children_too_and_nobody_is_told() -> None:
    host, _, _, far = home(poll_s=1.0, timeout=0)
    far.powered = False
    host.wait(30)
    assert far.is_forgotten and host.air.counters["aged"] == 1 and not host.named("childJoinHandler")
    far.powered = True
    host.wait(10)
    assert not far.is_forgotten and far.hop == NEAR


# -- source routes ----------------------------------------------------------------------------------------------------


def set_route(host: Host, to: Device, *relays: int) -> None:
    raw = bytes((len(relays),)) + b"".join(relay.to_bytes(2, "little") for relay in relays)
    assert host.command("setSourceRoute", id=to.nwk, relays=raw)["status"] == 0


def test_the_next_message_takes_the_route_that_was_set_and_no_other_does() -> None:
    host, near, second, far = home(8)
    assert far.hop == NEAR
    near.delay_s = 5.0
    set_route(host, far, second.nwk)
    send(host, far)
    host.wait(0.5)
    assert [row["status"] for row in host.named("messageSentHandler")] == [0], "not over the slow one"
    send(host, far)
    host.wait(0.5)
    assert len(host.named("messageSentHandler")) == 1, "the next one goes the network's way"


def test_a_route_that_leads_nowhere_is_told() -> None:
    host, near, second, far = home(8)
    for relays in ((), (0x9999,), (near.nwk, second.nwk), (far.nwk,)):
        host.callbacks.clear()
        set_route(host, far, *relays)
        send(host, far)
        host.wait(2)
        assert host.named("messageSentHandler")[-1]["status"] != 0
        assert [row["id"] for row in host.named("incomingRouteErrorHandler")] == [far.nwk], relays
    host.callbacks.clear()
    second.powered = False
    set_route(host, far, second.nwk)
    send(host, far)
    host.wait(2)
    assert len(host.named("incomingRouteErrorHandler")) == 1


def test_a_route_costs_room_in_the_frame() -> None:
    host, near, _, far = home(8)
    aps = {"profile": 0x0104, "cluster": 6, "src_ep": 1, "dst_ep": 1, "options": 0x0140}
    answers = []
    for size in (79, 78):
        set_route(host, far, near.nwk)
        assert host.command("getExtendedValue", id=2, characteristics=far.nwk)["value"] == b"\x04"
        sent = host.command("sendUnicast", type=0, destination=far.nwk, aps=aps, tag=1, message=b"x" * size)
        answers.append(sent["status"] == 0)
    assert answers == [False, True]


def test_from_version_nine_on_the_radio_says_yes_and_goes_its_own_way() -> None:
    host, near, second, far = home(13)
    near.delay_s = 5.0
    set_route(host, far, second.nwk)
    send(host, far)
    host.wait(0.5)
    assert not host.named("messageSentHandler")
