# SPDX-License-Identifier: GPL-3.0-or-later
"""The adapter's half in conversations: what the client says, what it hears, what the caller is told."""

from typing import Any

from hub.core.adapter.client import Client
from hub.wire.mqttsn import messages as codec
from hub.wire.mqttsn.messages import ConnAck, Disconnect, Message

NORMAL, PREDEFINED, SHORT = 0, 1, 2


class Talk:
    """A client on a virtual clock, and the other end of its line."""

    def __init__(self, **settings: Any) -> None:
        self.client = Client("plug-1", **settings)
        self.now = 0.0

    def says(self, *messages: Message) -> None:
        assert [codec.decode(datagram) for datagram in self.client.datagrams_to_send()] == list(messages)

    def hears(self, *messages: Message) -> None:
        for message in messages:
            self.client.receive_datagram(message.encode(), self.now)

    def told(self, *events: tuple[object, ...]) -> None:
        got = []
        while (event := self.client.next_event()) is not None:
            got.append(event)
        assert got == list(events)

    def waits(self, seconds: float) -> None:
        """Let time pass, firing every timer at its own moment."""
        end = self.now + seconds
        while (due := self.client.get_timer()) is not None and due <= end:
            assert due >= self.now, "a timer that was due was left armed"
            self.now = due
            self.client.handle_timer(due)
            after = self.client.get_timer()
            assert after is None or after > due, "a timer that fires for ever"
        self.now = end


def connected(**settings: Any) -> Talk:
    talk = Talk(**settings)
    talk.client.connect(talk.now)
    talk.hears(ConnAck(0))
    talk.client.datagrams_to_send()
    talk.told(("connected",))
    assert talk.client.state == "active"
    return talk


def asleep(**settings: Any) -> Talk:
    talk = connected(**settings)
    talk.client.disconnect(talk.now, 600)
    talk.says(Disconnect(600))
    talk.hears(Disconnect())
    talk.told(("asleep",))
    assert talk.client.state == "asleep"
    return talk
