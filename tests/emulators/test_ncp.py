# SPDX-License-Identifier: GPL-3.0-or-later
"""The NCP as a host sees it: commands, joining, messages, flash."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.emulators.ezsp import tables
from tests.emulators.ezsp.device import Device
from tests.emulators.ezsp.nv import NonVolatile
from tests.emulators.ezsp.zdo import Endpoint
from tests.emulators.harness import NETWORK, Host

EMBER_DELIVERY_FAILED, EMBER_MESSAGE_TOO_LONG, EMBER_NOT_JOINED = 0x66, 0x74, 0x93


def device(number: int = 1, **options: object) -> Device:
    endpoints = {0xE9: Endpoint(0xC53A, 1, (0x4D51,), (0x4D51,))}
    return Device(bytes((number,)) * 8, endpoints=endpoints, **options)  # type: ignore[arg-type]


def unicast(host: Host, to: int, message: bytes, *, tag: int = 7) -> int:
    aps = {"profile": 0xC53A, "cluster": 0x4D51, "src_ep": 0xE9, "dst_ep": 0xE9, "options": 0x0140}
    status = host.command("sendUnicast", type=0, destination=to, aps=aps, tag=tag, message=message)["status"]
    assert isinstance(status, int)
    return status


def joined(*devices: Device) -> Host:
    host = Host(*devices)
    host.form()
    host.open()
    host.wait(1)
    return host


@pytest.mark.parametrize("version", tables.VERSIONS)
def test_every_version_forms_and_resumes(version: int) -> None:
    host = Host(version=version)
    host.form()
    assert host.named("stackStatusHandler")
    again = Host(version=version, nv=NonVolatile.from_dict(host.ncp.nv.to_dict()))
    assert again.command("networkInit")["status"] == 0
    parameters = again.command("getNetworkParameters")["parameters"]
    assert parameters["extended_pan_id"] == NETWORK["extended_pan_id"]
    assert parameters["pan_id"] == NETWORK["pan_id"]


def test_a_blank_one_is_on_no_network() -> None:
    assert Host().command("networkInit")["status"] == EMBER_NOT_JOINED


def test_unknown_and_short_commands_are_invalid() -> None:
    host = Host()
    with pytest.raises(AssertionError, match=r"invalidCommand.*49"):
        host.command("messageSentHandler")
    assert host.ncp.counters["invalid_commands"] == 1


def test_the_frame_counter_never_repeats() -> None:
    host = Host()
    host.form()
    first = host.command("getNetworkKeyInfo")["info"]["counter"]
    for _ in range(3):
        aps = {"profile": 0, "cluster": 0x0036}
        host.command("sendBroadcast", destination=0xFFFC, aps=aps, message=b"\1\2\3")
    used = host.command("getNetworkKeyInfo")["info"]["counter"]
    assert used == first + 3
    host.start()
    host.command("networkInit")
    assert host.command("getNetworkKeyInfo")["info"]["counter"] > used


def test_joining_needs_an_open_network_and_the_right_key() -> None:
    late, stranger = device(1), device(2, link_key=b"another key 1234")
    host = Host(late, stranger)
    host.form()
    host.wait(1)
    assert not late.joined
    host.open()
    host.wait(1)
    assert late.joined
    assert not stranger.joined
    assert len(host.named("trustCenterJoinHandler")) == 2
    announcements = [m for m in host.named("incomingMessageHandler") if m["aps"]["cluster"] == 0x0013]
    assert [m["sender"] for m in announcements] == [late.nwk]


def test_an_install_code_lets_in_its_own_device_only() -> None:
    wanted, other = device(1, link_key=b"install code key"), device(2)
    host = Host(wanted, other)
    host.form()
    host.command("setPolicy", id=0, decision=0x11)
    host.command("importTransientKey", eui=wanted.ieee, key=b"install code key")
    host.command("importTransientKey", eui=b"\xff" * 8, key=b"ZigBeeAlliance09")
    host.command("permitJoining", duration_s=10)
    host.wait(1)
    assert wanted.joined
    assert not other.joined


def test_a_message_arrives_and_is_reported() -> None:
    there = device()
    host = joined(there)
    assert unicast(host, there.nwk, b"hello") == 0
    host.wait(0.5)
    sent = host.named("messageSentHandler")[-1]
    assert (sent["destination"], sent["tag"], sent["status"]) == (there.nwk, 7, 0)


def test_nobody_there_is_reported_as_failed() -> None:
    there = device()
    host = joined(there)
    there.in_range = False
    assert unicast(host, there.nwk, b"hello") == 0
    host.wait(2)
    assert host.named("messageSentHandler")[-1]["status"] == EMBER_DELIVERY_FAILED


def test_eighty_two_bytes_and_not_one_more() -> None:
    there = device()
    host = joined(there)
    assert unicast(host, there.nwk, b"x" * 82) == 0
    assert unicast(host, there.nwk, b"x" * 83) == EMBER_MESSAGE_TOO_LONG


def test_zdo_to_itself_is_answered_by_the_stack() -> None:
    host = Host()
    host.form()
    aps = {"profile": 0, "cluster": 0x0002}
    host.command("sendUnicast", type=0, destination=0, aps=aps, tag=1, message=b"\x05\0\0")
    host.wait(0.1)
    answer = host.named("incomingMessageHandler")[-1]
    assert answer["aps"]["cluster"] == 0x8002
    assert answer["message"][:4] == b"\x05\0\0\0"


def test_leaving_and_coming_back_under_another_address() -> None:
    there = device()
    host = joined(there)
    was = there.nwk
    host.air.rejoin(there, host.now)
    host.wait(1)
    assert there.joined
    assert there.nwk != was
    host.air.leave(there, host.now)
    host.wait(1)
    assert [m["update"] for m in host.named("trustCenterJoinHandler")] == [1, 0, 2]


def test_a_sleeping_child_gets_its_messages_when_it_polls() -> None:
    sleepy = device(poll_s=5.0, capability=0x80, logical_type=2)
    host = joined(sleepy)
    assert host.command("getChildData", index=0)["child"]["eui"] == sleepy.ieee
    unicast(host, sleepy.nwk, b"wake up")
    host.wait(0.001)
    assert not host.named("messageSentHandler")
    host.wait(8)
    assert host.named("messageSentHandler")[-1]["status"] == 0


def test_the_emulator_is_independent_of_what_it_tests() -> None:
    here = Path(__file__).parent
    for path in here.rglob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in ("bellows", "zigpy", "serialx", "serial"), path
