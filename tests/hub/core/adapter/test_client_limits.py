# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter's half in conversations: what is refused, what is dropped, and that nothing breaks it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.adapter import client as client_module
from hub.core.adapter.client import Client, LocalProtocolError
from hub.core.adapter.exchange import TRANSITIONS
from hub.wire.mqttsn import messages
from hub.wire.mqttsn.messages import (
    ConnAck,
    Disconnect,
    GwInfo,
    Message,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    RegAck,
    Register,
    SubAck,
    UnsubAck,
    WillMsgReq,
    WillMsgResp,
    WillTopicReq,
    WillTopicResp,
)
from tests.hub.core.adapter.talk import Talk, connected

# Limits, and hostility.


@pytest.mark.parametrize(
    "request_",
    [
        lambda c: c.publish("", b"", 0, 0.0),
        lambda c: c.publish("a/#", b"", 0, 0.0),
        lambda c: c.publish("a\0b", b"", 0, 0.0),
        lambda c: c.publish(0, b"", 0, 0.0),
        lambda c: c.publish(0xFFFF, b"", 0, 0.0),
        lambda c: c.publish("abc", b"", 3, 0.0),
        lambda c: c.publish("abc", b"", -2, 0.0),
        lambda c: c.publish(1, bytes(65527), 0, 0.0),
        lambda c: c.subscribe("abc", -1, 0.0),
        lambda c: c.subscribe("", 0, 0.0),
        lambda c: c.disconnect(0.0, 0),
        lambda c: c.disconnect(0.0, 65536),
        lambda c: c.connect(0.0),
    ],
)
def test_what_the_standard_forbids_is_refused_and_sends_nothing(request_: Any) -> None:
    talk = connected()
    with pytest.raises(LocalProtocolError):
        request_(talk.client)
    talk.says()


@pytest.mark.parametrize("state", ["disconnected", "connecting", "active", "asleep", "awake", "lost"])
@pytest.mark.parametrize(
    ("event", "request_"),
    [
        ("connect", lambda c: c.connect(0.0)),
        ("publish", lambda c: c.publish(1, b"", 1, 0.0)),
        ("subscribe", lambda c: c.subscribe("a/b", 0, 0.0)),
        ("subscribe", lambda c: c.unsubscribe("a/b", 0.0)),
        ("ping", lambda c: c.ping(0.0)),
        ("left", lambda c: c.disconnect(0.0)),
        ("update will", lambda c: c.update_will("a", b"", 0, False, 0.0)),
    ],
)
def test_every_request_in_every_state_follows_the_table(state: str, event: str, request_: Any) -> None:
    client = Client("plug-1")
    client.state = state
    if (state, event) in TRANSITIONS:
        request_(client)
        assert len(client.datagrams_to_send()) == 1
    else:
        with pytest.raises(LocalProtocolError):
            request_(client)
        assert client.datagrams_to_send() == []
        assert client.state == state


def test_message_ids_wrap_past_0_and_skip_those_in_use() -> None:
    talk = connected()
    talk.client.publish(1, b"", 1, talk.now)
    talk.client._msg_id = 65534
    assert talk.client.publish(1, b"", 1, talk.now) == 65535
    assert talk.client.publish(1, b"", 1, talk.now) == 2


def test_malformed_and_unexpected_datagrams_are_counted() -> None:
    talk = Talk()
    for hexadecimal in ("", "00", "ff", "0205", "030500", "070d0001000100", "0218", "0306fe", "04fe00aa0217"):
        talk.client.receive_datagram(bytes.fromhex(hexadecimal), 0.0)
    assert talk.client.ignored == 9
    talk.says()
    talk.told()


ANSWERS = st.sampled_from(
    [ConnAck(0), ConnAck(1), WillTopicReq(), WillMsgReq(), PingReq(), PingResp(), Disconnect(), GwInfo(1)]
    + [RegAck(t, m, r) for t in (0, 9) for m in (1, 2, 3) for r in (0, 1, 2)]
    + [PubAck(t, m, r) for t in (1, 9) for m in (0, 1, 2) for r in (0, 1, 2, 3)]
    + [k(m) for k in (PubRec, PubRel, PubComp, UnsubAck) for m in (0, 1, 2, 3)]
    + [SubAck(9, m, r, 1) for m in (1, 2) for r in (0, 1, 3)]
    + [Publish(k, 9, m, b"x", q) for k in (0, 1) for m in (0, 1) for q in (0, 1, 2)]
    + [k(r) for k in (WillTopicResp, WillMsgResp) for r in (0, 1, 2)]
    + [Register(9, 1, "a/b"), Register(9, 2, "other")]
)
REQUESTS = st.sampled_from(
    [
        lambda c, now: c.connect(now),
        lambda c, now: c.disconnect(now),
        lambda c, now: c.disconnect(now, 60),
        lambda c, now: c.publish("a/b", b"1", 0, now),
        lambda c, now: c.publish("a/b", b"1", 1, now),
        lambda c, now: c.publish("a/b", b"1", 2, now),
        lambda c, now: c.publish(1, b"1", -1, now),
        lambda c, now: c.subscribe("a/b", 1, now),
        lambda c, now: c.unsubscribe("a/b", now),
        lambda c, now: c.ping(now),
        lambda c, now: c.search_gateway(now),
        lambda c, now: c.update_will("w", b"", 1, False, now),
    ]
)
STEPS = st.lists(st.one_of(ANSWERS, REQUESTS, st.binary(max_size=12), st.floats(0, 700)), max_size=60)


@given(STEPS, st.booleans())
def test_no_gateway_and_no_caller_can_break_it(steps: list[Any], clean: bool) -> None:
    talk = Talk(clean=clean, will=("w", b"gone", 1, False), max_queue=4)
    states = {state for pair in TRANSITIONS.items() for state in (pair[0][0], pair[1])}
    talk.client.connect(0.0)
    for step in steps:
        if isinstance(step, float):
            talk.waits(step)
        elif isinstance(step, bytes):
            talk.client.receive_datagram(step, talk.now)
        elif isinstance(step, Message):
            talk.hears(step)
        else:
            try:
                step(talk.client, talk.now)
            except LocalProtocolError:
                pass
        assert talk.client.state in states
        for datagram in talk.client.datagrams_to_send():
            messages.decode(datagram)
        in_flight = [k for k in ("publish", "register") if k in talk.client._pending]
        assert len(in_flight) <= 1
        assert talk.client.state == "active" or not in_flight


def test_every_handler_exists() -> None:
    for handler in client_module._HANDLERS.values():
        assert callable(getattr(Client, handler))
