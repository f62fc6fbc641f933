"""Every message in every state has a defined outcome: what comes back and where the session stands then.

`states.txt` is the table; `python -m tests.property.test_states` prints it as the machine has it, to be read before it
is kept.
"""

from pathlib import Path

import pytest

from hub.core.gateway.session import TRANSITIONS
from hub.wire.mqttsn import messages
from hub.wire.mqttsn.messages import Message
from tests.hub.core.gateway.playbook import Playbook

TABLE = Path(__file__).with_name("states.txt")

STATES = ("unknown", "disconnected", "active", "asleep", "awake", "lost", "awaiting-will-topic", "awaiting-will-msg")

MESSAGES: dict[str, Message] = {
    "ADVERTISE": messages.Advertise(1, 900),
    "SEARCHGW": messages.SearchGw(1),
    "GWINFO": messages.GwInfo(1),
    "CONNECT": messages.Connect("plug-1", 60, clean_session=False),
    "CONNECT clean": messages.Connect("plug-1", 60),
    "CONNECT will": messages.Connect("plug-1", 60, clean_session=False, will=True),
    "CONNECT bad": messages.Connect("plug-1", 60, protocol_id=9),
    "CONNACK": messages.ConnAck(0),
    "WILLTOPICREQ": messages.WillTopicReq(),
    "WILLTOPIC": messages.WillTopic("x/will"),
    "WILLTOPIC empty": messages.WillTopic(""),
    "WILLTOPIC forbidden": messages.WillTopic("price"),
    "WILLMSGREQ": messages.WillMsgReq(),
    "WILLMSG": messages.WillMsg(b"bye"),
    "REGISTER": messages.Register(0, 1, "x/z"),
    "REGACK": messages.RegAck(1, 1, 0),
    "PUBLISH -1": messages.Publish(1, 1, 0, b"5", -1),
    "PUBLISH 0": messages.Publish(1, 1, 0, b"5", 0),
    "PUBLISH 1": messages.Publish(1, 1, 5, b"5", 1),
    "PUBLISH 2": messages.Publish(1, 1, 5, b"5", 2),
    "PUBACK": messages.PubAck(1, 1, 0),
    "PUBCOMP": messages.PubComp(1),
    "PUBREC": messages.PubRec(9),
    "PUBREL": messages.PubRel(9),
    "SUBSCRIBE": messages.Subscribe(0, "x/z", 1, 1),
    "SUBACK": messages.SubAck(1, 1, 0),
    "UNSUBSCRIBE": messages.Unsubscribe(0, "x/z", 1),
    "UNSUBACK": messages.UnsubAck(1),
    "PINGREQ": messages.PingReq(),
    "PINGREQ id": messages.PingReq("plug-1"),
    "PINGRESP": messages.PingResp(),
    "DISCONNECT": messages.Disconnect(),
    "DISCONNECT sleep": messages.Disconnect(60),
    "WILLTOPICUPD": messages.WillTopicUpd("x/will"),
    "WILLTOPICRESP": messages.WillTopicResp(0),
    "WILLMSGUPD": messages.WillMsgUpd(b"bye"),
    "WILLMSGRESP": messages.WillMsgResp(0),
    "forwarded PINGREQ": messages.Forward(0, b"7", messages.PingReq().encode()),
}


def in_state(state: str) -> Playbook:
    """A kept session with a message waiting where one can wait (asleep, awake), brought into a state."""
    play = Playbook()
    if state == "unknown":
        return play
    play.connects(clean=False)
    play.subscribes("x/y", 1)
    if state == "disconnected":
        play.hears("a", messages.Disconnect())
    elif state in ("asleep", "awake"):
        play.hears("a", messages.Disconnect(600)).publishes("x/y", b"1")
        if state == "awake":
            play.hears("a", messages.PingReq("plug-1"))
    elif state == "lost":
        play.waits(91)
    elif state.startswith("awaiting"):
        play.hears("a", messages.Connect("plug-1", 60, clean_session=False, will=True))
        if state == "awaiting-will-msg":
            play.hears("a", messages.WillTopic("x/will"))
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
    assert types == {*filter(None, messages._TYPES), messages.Forward}


def test_every_state_is_reached_and_left() -> None:
    states = set(STATES) - {"unknown"}
    assert set(TRANSITIONS.values()) == states
    assert {state for state, _ in TRANSITIONS} == states


if __name__ == "__main__":
    for each in MESSAGES:
        for where in STATES:
            print(f"{each:20} | {where:20} | {outcome(where, each)}")
