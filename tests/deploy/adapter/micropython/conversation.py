# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython and CPython: an adapter's day, its hub played by hand; no clock, no socket."""

from deploy.adapter.adapter import Adapter
from deploy.adapter.appliance import AdapterAppliance
from hub.wire.mqttsn.messages import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    decode,
)

POWER, STATE, LIMIT, ABOUT, CONTROL = 1, 6, 7, 0x20, 0x30


class Heater(AdapterAppliance):
    def __init__(self):
        self.told = []

    def set_limit(self, limit_w):
        self.told.append(("limit", limit_w))

    def set_on(self, on):
        self.told.append(("on", on))

    def measure(self):
        return ((POWER, 100 + now, 1),)


class Hub:
    """Answers the adapter and remembers its words, unless it is down."""

    def __init__(self, adapter):
        self.adapter, self.words, self.is_down = adapter, [], False

    def listens(self):
        datagrams = self.adapter.datagrams_to_send()
        while datagrams:
            for datagram in datagrams:
                assert len(datagram) <= 60
                if not self.is_down:
                    self.answers(decode(datagram))
            datagrams = self.adapter.datagrams_to_send()

    def answers(self, message):
        answer = None
        if isinstance(message, Publish):
            self.words.append((message.topic_id, bytes(message.data)))
            answer = PubAck(message.topic_id, message.msg_id, 0)
        elif isinstance(message, Connect):
            self.words.append("connect")
            answer = ConnAck(0)
        elif isinstance(message, Subscribe):
            self.words.append("subscribe")
            answer = SubAck(0, message.msg_id, 0, 1)
        elif isinstance(message, PingReq):
            answer = PingResp()
        elif isinstance(message, Disconnect):
            self.words.append(("sleep", message.duration))
            answer = Disconnect()
        if answer is not None:
            self.adapter.receive_datagram(answer.encode(), now)

    def orders(self, order):
        self.adapter.receive_datagram(Publish(1, CONTROL, 77, order, 1).encode(), now)
        self.listens()

    def heard(self):
        words, self.words = self.words, []
        return words


now = 0
heater = Heater()
adapter = Adapter("heater", heater, lambda bits: 0, about=(("class", "boiler"),), period_s=60, capacity=40)
hub = Hub(adapter)


def passes(seconds):
    global now
    end = now + seconds
    hub.listens()
    while True:
        due = adapter.get_timer()
        if due is None or due > end:
            break
        assert isinstance(due, int)
        now = max(now, due)
        adapter.handle_timer(now)
        hub.listens()
    now = end


def same(got, wanted):
    assert got == wanted, got


adapter.start(0)
passes(1)
same(heater.told, [("limit", None), ("on", True)])
words = hub.heard()
same(words[:2], ["connect", "subscribe"])
same(words[2], (ABOUT, b'{"sheddable":true,"class":"boiler"}'))
same(sorted(words[3:5]), [(STATE, b"1"), (LIMIT, b"")])
same(words[5:], [(POWER, b"100.0")])

passes(120)
same(hub.heard(), [(POWER, b"160.0"), (POWER, b"220.0")])

# Orders, and their own end although the hub is gone.
now = 130
hub.orders(b"limit 500 100")
hub.orders(b"off 50")
hub.orders(b"off 999999")
hub.orders(b"limit nan 5")
same(sorted(hub.heard()), [(STATE, b"0"), (LIMIT, b"500")])
same(adapter.orders.refused, 2)
hub.is_down = True
passes(400)
same(heater.told[2:], [("limit", 500), ("on", False), ("on", True), ("limit", None)])
hub.is_down = False
passes(200)
words = hub.heard()
same(words[0], "connect")
told = dict([word for word in words if isinstance(word, tuple)])
same(told[LIMIT], b"")
assert told[STATE].split(b":")[1] == b"1"
taken = [pair.split(b":") for topic_id, payload in words[2:] if topic_id == POWER for pair in payload.split(b",")]
same([row[-1] for row in taken][:3], [b"280.0", b"340.0", b"400.0"])
same(len(taken), 10)

# A sleeper.
now = 0
hub = Hub(Adapter("room", heater, lambda bits: 0, period_s=60, sleep_s=300))
adapter = hub.adapter
adapter.start(0)
passes(10)
same(hub.heard()[-1], ("sleep", 350))
passes(280)
same(hub.heard(), [])
passes(20)
same(hub.heard(), ["connect", (POWER, b"240:160.0,180:220.0,120:280.0,60:340.0,0:400.0"), ("sleep", 350)])
print("ok")
