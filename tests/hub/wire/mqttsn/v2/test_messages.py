# SPDX-License-Identifier: GPL-3.0-or-later
"""The 2.0 codec against vectors written from the figures of CSD01, and against every byte string there is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.mqttsn.v2 import messages

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
ALL = {c.__name__: c for c in vars(messages).values() if isinstance(c, type) and getattr(c, "MSG_TYPE", -1) >= 0}


def build(name: str, fields: list[Any]) -> messages.Message:
    return ALL[name](*[bytes.fromhex(f["bytes"]) if isinstance(f, dict) else f for f in fields])


def named(rows: list[list[Any]]) -> list[Any]:
    return [pytest.param(bytes.fromhex(row[1].replace(" ", "")), *row[2:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("raw", "name", "fields"), named(VECTORS["messages"]))
def test_a_packet_and_its_bytes(raw: bytes, name: str, fields: list[Any]) -> None:
    packet = build(name, fields)
    assert messages.decode2(raw) == packet
    if getattr(packet, "version", 2) == 2:
        assert packet.encode() == raw


@pytest.mark.parametrize(("raw", "reason"), named(VECTORS["malformed"]))
def test_malformed_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(messages.Malformed) as error:
        messages.decode2(raw)
    assert str(error.value) == reason


def test_the_vectors_leave_no_packet_out() -> None:
    assert len(ALL) == 27
    assert {row[2] for row in VECTORS["messages"]} == set(ALL)


def test_a_connect_with_every_field() -> None:
    """Figure 3-1: will flags behind the flags, then the fixed fields, then the optional ones, the ClientId last."""
    packet = messages.ConnectV2(
        "n-1", 60, 7, False, 86400, 200, messages.Will(messages.TOPIC_NAME, "alarm/n-1", b"gone", 1, True),
        messages.Authentication("PSK", b"\xaa\xbb"), 5, True, True,
    )  # fmt: skip
    raw = bytes.fromhex(
        "2c 01 7e 17 0007 02 003c 00c8 05 00015180"
        " 0009 616c61726d2f6e2d31 0004 676f6e65 03 50534b 0002 aabb 6e2d31".replace(" ", "")
    )
    assert packet.encode() == raw
    assert messages.decode2(raw) == packet


@pytest.mark.parametrize(("data", "head"), [(251, "ff03"), (252, "01010203")])
def test_length_grows_to_three_bytes_at_256(data: int, head: str) -> None:
    packet = messages.PublishV2(messages.PREDEFINED_ALIAS, 1, 0, bytes(data - 1))
    raw = packet.encode()
    if len(raw) > 255:
        assert raw.hex().startswith(head)
    assert messages.decode2(raw) == packet


def test_a_long_length_on_a_short_packet_is_understood() -> None:
    assert messages.decode2(bytes.fromhex("0100060c1234")) == messages.PingReqV2(0x1234)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_packet_or_malformed(raw: bytes) -> None:
    for data in (raw, bytes((len(raw) + 1,)) + raw):
        try:
            packet = messages.decode2(data)
        except messages.Malformed:
            continue
        if getattr(packet, "version", 2) == 2:
            assert messages.decode2(packet.encode()) == packet


@given(st.sampled_from(sorted(ALL.values(), key=lambda kind: kind.MSG_TYPE)), st.binary(max_size=40))
def test_any_body_of_every_type(kind: type[messages.Message], body: bytes) -> None:
    try:
        packet = messages.decode2(bytes((len(body) + 2, kind.MSG_TYPE)) + body)
    except messages.Malformed:
        return
    assert type(packet) is kind
