"""Every message in every state has a defined outcome: what comes back and where the session stands then.

`states.txt` is the table; `python -m tests.property.test_states` prints it as the machine has it, to be read before it
is kept.
"""

from pathlib import Path

import pytest

from hub.mqttsn import codec
from hub.mqttsn.codec import Message
from hub.mqttsn.session import TRANSITIONS
from tests.hub.mqttsn.playbook import Playbook

TABLE = Path(__file__).with_name("states.txt")

STATES = ("unknown", "disconnected", "active", "asleep", "awake", "lost", "awaiting-will-topic", "awaiting-will-msg")

MESSAGES: dict[str, Message] = {
    "ADVERTISE": codec.Advertise(1, 900),
    "SEARCHGW": codec.SearchGw(1),
    "GWINFO": codec.GwInfo(1),
    "CONNECT": codec.Connect("plug-1", 60, clean_session=False),
    "CONNECT clean": codec.Connect("plug-1", 60),
    "CONNECT will": codec.Connect("plug-1", 60, clean_session=False, will=True),
    "CONNECT bad": codec.Connect("plug-1", 60, protocol_id=9),
    "CONNACK": codec.ConnAck(0),
    "WILLTOPICREQ": codec.WillTopicReq(),
    "WILLTOPIC": codec.WillTopic("x/will"),
    "WILLTOPIC empty": codec.WillTopic(""),
    "WILLTOPIC forbidden": codec.WillTopic("price"),
    "WILLMSGREQ": codec.WillMsgReq(),
    "WILLMSG": codec.WillMsg(b"bye"),
    "REGISTER": codec.Register(0, 1, "x/z"),
    "REGACK": codec.RegAck(1, 1, 0),
    "PUBLISH -1": codec.Publish(1, 1, 0, b"5", -1),
    "PUBLISH 0": codec.Publish(1, 1, 0, b"5", 0),
    "PUBLISH 1": codec.Publish(1, 1, 5, b"5", 1),
    "PUBLISH 2": codec.Publish(1, 1, 5, b"5", 2),
    "PUBACK": codec.PubAck(1, 1, 0),
    "PUBCOMP": codec.PubComp(1),
    "PUBREC": codec.PubRec(9),
    "PUBREL": codec.PubRel(9),
    "SUBSCRIBE": codec.Subscribe(0, "x/z", 1, 1),
    "SUBACK": codec.SubAck(1, 1, 0),
    "UNSUBSCRIBE": codec.Unsubscribe(0, "x/z", 1),
    "UNSUBACK": codec.UnsubAck(1),
    "PINGREQ": codec.PingReq(),
    "PINGREQ id": codec.PingReq("plug-1"),
    "PINGRESP": codec.PingResp(),
    "DISCONNECT": codec.Disconnect(),
    "DISCONNECT sleep": codec.Disconnect(60),
    "WILLTOPICUPD": codec.WillTopicUpd("x/will"),
    "WILLTOPICRESP": codec.WillTopicResp(0),
    "WILLMSGUPD": codec.WillMsgUpd(b"bye"),
    "WILLMSGRESP": codec.WillMsgResp(0),
    "forwarded PINGREQ": codec.Forward(0, b"7", codec.PingReq().encode()),
}


def in_state(state: str) -> Playbook:
    """A kept session with a message waiting where one can wait (asleep, awake), brought into a state."""
    play = Playbook()
    if state == "unknown":
        return play
    play.connects(clean=False)
    play.subscribes("x/y", 1)
    if state == "disconnected":
        play.hears("a", codec.Disconnect())
    elif state in ("asleep", "awake"):
        play.hears("a", codec.Disconnect(600)).publishes("x/y", b"1")
        if state == "awake":
            play.hears("a", codec.PingReq("plug-1"))
    elif state == "lost":
        play.waits(91)
    elif state.startswith("awaiting"):
        play.hears("a", codec.Connect("plug-1", 60, clean_session=False, will=True))
        if state == "awaiting-will-msg":
            play.hears("a", codec.WillTopic("x/will"))
    assert play.state() == state
    return play.forget()


def outcome(state: str, name: str) -> str:
    play = in_state(state)
    play.hears("a", MESSAGES[name])
    said = "+".join(
        type(message).__name__ + (f".{message.return_code}" if getattr(message, "return_code", 0) else "")
        for _, message in play.out
    )
    there = [session.state for session in play.gateway.sessions() if session.client_id == "plug-1"]
    return f"{said or '-'} -> {there[0] if there else 'unknown'}"


def read_table() -> dict[tuple[str, str], str]:
    table = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, state, result = (part.strip() for part in line.split("|"))
            table[name, state] = result
    return table


EXPECTED = read_table() if TABLE.exists() else {}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", MESSAGES)
def test_outcome(name: str, state: str) -> None:
    assert outcome(state, name) == EXPECTED[name, state]


def test_the_table_is_whole() -> None:
    assert set(EXPECTED) == {(name, state) for name in MESSAGES for state in STATES}
    types = {type(message) for message in MESSAGES.values()}
    assert types == {*filter(None, codec._TYPES), codec.Forward}


def test_every_state_is_reached_and_left() -> None:
    states = set(STATES) - {"unknown"}
    assert set(TRANSITIONS.values()) == states
    assert {state for state, _ in TRANSITIONS} == states


if __name__ == "__main__":
    for each in MESSAGES:
        for where in STATES:
            print(f"{each:20} | {where:20} | {outcome(where, each)}")
