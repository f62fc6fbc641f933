# SPDX-License-Identifier: GPL-3.0-or-later
"""The codec against vectors written from the layouts of MQTT-SN 1.2, and against every byte string there is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.wire.mqttsn import messages

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
ALL = {c.__name__: c for c in vars(messages).values() if isinstance(c, type) and getattr(c, "MSG_TYPE", -1) >= 0}

REASONS = {
    "truncated", "trailing bytes", "bad length", "unknown message type", "bad UTF-8", "U+0000 in text",
    "illegal QoS", "reserved topic id type",
}  # fmt: skip


def build(name: str, fields: list[Any]) -> messages.Message:
    return ALL[name](*[bytes.fromhex(f["bytes"]) if isinstance(f, dict) else f for f in fields])


def named(rows: list[list[Any]]) -> list[Any]:
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("raw", "name", "fields"), named(VECTORS["messages"]))
def test_a_message_and_its_bytes(raw: str, name: str, fields: list[Any]) -> None:
    message = build(name, fields)
    assert message.encode() == bytes.fromhex(raw)
    assert messages.decode(bytes.fromhex(raw)) == message


@pytest.mark.parametrize(("raw", "name", "fields"), named(VECTORS["lenient"]))
def test_what_is_understood_all_the_same(raw: str, name: str, fields: list[Any]) -> None:
    assert messages.decode(bytes.fromhex(raw)) == build(name, fields)


@pytest.mark.parametrize(("raw", "reason"), named(VECTORS["malformed"]))
def test_malformed_says_why(raw: str, reason: str) -> None:
    with pytest.raises(messages.Malformed) as error:
        messages.decode(bytes.fromhex(raw))
    assert str(error.value) == reason


def test_the_vectors_leave_no_message_and_no_reason_out() -> None:
    assert len(ALL) == 28
    assert {row[2] for row in VECTORS["messages"]} == set(ALL)
    assert {row[2] for row in VECTORS["malformed"]} == REASONS


def test_messages_of_different_types_differ_whatever_their_fields() -> None:
    assert messages.RegAck(1, 2, 0) != messages.PubAck(1, 2, 0)
    assert messages.PubRec(1) != messages.PubRel(1)
    assert messages.PubAck(1, 2, 0) != (1, 2, 0)


def test_a_message_has_its_fields_and_no_others() -> None:
    message = messages.PubAck(1, 2, 3)
    assert (message.topic_id, message.msg_id, message.return_code) == (1, 2, 3)
    assert repr(message) == "PubAck(1, 2, 3)"
    with pytest.raises(AttributeError):
        message.qos = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        messages.PingResp(1)


@pytest.mark.parametrize(("data", "head"), [(248, "ff0c"), (249, "0101020c"), (65526, "01ffff0c")])
def test_length_grows_to_three_bytes_at_256(data: int, head: str) -> None:
    message = messages.Publish(messages.TOPIC_PREDEFINED, 1, 1, bytes(data), 1)
    assert message.encode().hex().startswith(head)
    assert messages.decode(message.encode()) == message


@pytest.mark.parametrize(
    "message",
    [
        messages.Publish(0, 1, 1, bytes(65527), 1),
        messages.WillMsg(bytes(65532)),
        messages.Forward(0, bytes(253), b"\x02\x17"),
    ],
)
def test_what_no_length_can_say_is_not_encoded(message: messages.Message) -> None:
    with pytest.raises(ValueError):
        message.encode()


def test_any_bytes_like_object_is_decoded_and_the_data_is_bytes() -> None:
    raw = bytes.fromhex("090c 21 0001 0009 3536".replace(" ", ""))
    for data in (raw, bytearray(raw), memoryview(raw)):
        message = messages.decode(data)
        assert isinstance(message, messages.Publish)
        assert type(message.data) is bytes


def test_short_topic_names_are_two_bytes() -> None:
    assert messages.short_topic_id("ab") == 0x6162
    assert messages.short_topic_name(0x6162) == "ab"
    for name in ("", "a", "abc", "é", "éa"):
        with pytest.raises(ValueError):
            messages.short_topic_id(name)
    with pytest.raises(messages.Malformed):
        messages.short_topic_name(0xFFFF)


u2 = st.integers(0, 3)
u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
qos = st.integers(0, 2)
flag = st.booleans()
raw = st.binary(max_size=300)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=100)
name = text.filter(bool)
topic = st.one_of(st.tuples(st.just(0), name), st.tuples(st.sampled_from([1, 2]), u16))
will = st.one_of(st.just(("", 0, False)), st.tuples(name, qos, flag))
acks = st.tuples(u16, u16, u8)

FIELDS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "Advertise": st.tuples(u8, u16),
    "SearchGw": st.tuples(u8),
    "GwInfo": st.tuples(u8, raw),
    "Connect": st.tuples(text, u16, flag, flag, u8),
    "ConnAck": st.tuples(u8),
    "WillTopicReq": st.tuples(),
    "WillTopic": will,
    "WillMsgReq": st.tuples(),
    "WillMsg": st.tuples(raw),
    "Register": st.tuples(u16, u16, name),
    "RegAck": acks,
    "Publish": st.one_of(
        st.tuples(u2.filter(lambda kind: kind < 3), u16, u16, raw, qos, flag, flag),
        st.tuples(st.sampled_from([1, 2]), u16, u16, raw, st.just(-1), flag, flag),
    ),
    "PubAck": acks,
    "PubRec": st.tuples(u16),
    "PubRel": st.tuples(u16),
    "PubComp": st.tuples(u16),
    "Subscribe": st.tuples(topic, u16, qos, flag).map(lambda f: (*f[0], *f[1:])),
    "SubAck": st.tuples(u16, u16, u8, qos),
    "Unsubscribe": st.tuples(topic, u16).map(lambda f: (*f[0], f[1])),
    "UnsubAck": st.tuples(u16),
    "PingReq": st.tuples(text),
    "PingResp": st.tuples(),
    "Disconnect": st.tuples(st.none() | u16),
    "WillTopicUpd": will,
    "WillTopicResp": st.tuples(u8),
    "WillMsgUpd": st.tuples(raw),
    "WillMsgResp": st.tuples(u8),
    "Forward": st.tuples(u2, st.binary(min_size=1, max_size=252), st.binary(min_size=1, max_size=300)),
}


@pytest.mark.parametrize("message_name", sorted(ALL))
@given(data=st.data())
def test_decode_undoes_encode(message_name: str, data: st.DataObject) -> None:
    message = ALL[message_name](*data.draw(FIELDS[message_name]))
    assert messages.decode(message.encode()) == message


@given(FIELDS["Publish"], acks)
def test_the_functions_and_the_objects_write_the_same(publish: tuple[Any, ...], ack: tuple[int, int, int]) -> None:
    assert messages.encode_publish(*publish) == messages.Publish(*publish).encode()
    assert messages.encode_puback(*ack) == messages.PubAck(*ack).encode()


@given(st.one_of(st.binary(max_size=400), st.tuples(st.integers(0, 0x1F), st.binary(max_size=30)).map(
    lambda message: bytes((len(message[1]) + 2, message[0])) + message[1]
)))  # fmt: skip
@example(b"\x01\x00\x04\xfe")
@example(b"\x02\xfe")
@example(b"\x04\xfe\x00\xaa")
def test_any_bytes_are_a_message_or_malformed(raw: bytes) -> None:
    try:
        message = messages.decode(raw)
    except messages.Malformed as error:
        reason = str(error)
    else:
        assert messages.decode(message.encode()) == message  # what is understood can be said again
        return
    assert reason in REASONS
