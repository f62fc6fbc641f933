# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython: a day of an adapter."""

from hub.core.adapter.client import Client, LocalProtocolError
from hub.wire.mqttsn import messages as codec

client = Client("plug-1", will=("alarm/plug-1", b"gone", 1, True))


def says(*messages):
    said = [codec.decode(datagram) for datagram in client.datagrams_to_send()]
    assert said == list(messages), said


def hears(now, *messages):
    for message in messages:
        client.receive_datagram(message.encode(), now)


def told(*events):
    got = []
    while True:
        event = client.next_event()
        if event is None:
            break
        got.append(event)
    assert got == list(events), got


client.search_gateway(0.0)
says(codec.SearchGw(1))
hears(0.1, codec.GwInfo(7))
told(("gateway", 7, b""))

client.connect(1.0)
says(codec.Connect("plug-1", 60, True, True))
hears(1.1, codec.WillTopicReq())
says(codec.WillTopic("alarm/plug-1", 1, True))
hears(1.2, codec.WillMsgReq())
says(codec.WillMsg(b"gone"))
hears(1.3, codec.ConnAck(0))
told(("connected",))

assert client.publish("readings/flow", b"12.5", 2, 2.0) == 1
says(codec.Register(0, 2, "readings/flow"))
hears(2.1, codec.RegAck(300, 2, 0))
says(codec.Publish(0, 300, 1, b"12.5", 2))
client.handle_timer(client.get_timer())
says(codec.Publish(0, 300, 1, b"12.5", 2, False, True))
hears(12.2, codec.PubRec(1))
says(codec.PubRel(1))
hears(12.3, codec.PubComp(1))
told(("published", 1, 0))

client.publish(1, b"230", 1, 13.0)
hears(13.1, codec.PubAck(1, 3, 1))
client.handle_timer(client.get_timer())
says(codec.Publish(1, 1, 3, b"230", 1), codec.Publish(1, 1, 3, b"230", 1, False, True))
hears(23.2, codec.PubAck(1, 3, 0))
told(("published", 3, 0))

assert client.subscribe("price/+", 1, 24.0) == 4
says(codec.Subscribe(0, "price/+", 4, 1))
hears(24.1, codec.SubAck(0, 4, 0, 1), codec.Register(301, 1, "price/now"), codec.Publish(0, 301, 2, b"28", 1))
says(codec.RegAck(301, 1, 0), codec.PubAck(301, 2, 0))
told(("subscribed", 4, 0, 1, 0), ("message", "price/now", b"28", 1, False))

client.handle_timer(client.get_timer())
says(codec.PingReq())
hears(74.2, codec.PingResp())

client.disconnect(75.0, 600)
says(codec.Disconnect(600))
hears(75.1, codec.Disconnect())
client.ping(300.0)
says(codec.PingReq("plug-1"))
hears(300.1, codec.Publish(1, 0x30, 3, b"limit 500 60", 2), codec.PubRel(3), codec.PingResp())
says(codec.PubRec(3), codec.PubComp(3))
told(("asleep",), ("awake",), ("message", 0x30, b"limit 500 60", 2, False), ("asleep",))

try:
    client.publish(1, b"1", 1, 301.0)
    raise AssertionError("a sleeping client published")
except LocalProtocolError:
    pass

client.receive_datagram(b"\x05\x0c\xff", 302.0)
assert client.ignored == 1

client.connect(400.0)
says(codec.Connect("plug-1", 60, False, False))
hears(400.1, codec.ConnAck(0))
client.publish(1, b"231", 1, 401.0)
while client.state == "active":
    client.handle_timer(client.get_timer())
told(("connected",), ("lost",))
print("ok")
