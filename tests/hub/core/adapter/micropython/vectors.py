# SPDX-License-Identifier: GPL-3.0-or-later
"""On MicroPython: every vector, both ways."""

import json

from hub.wire.mqttsn import messages


def raw(text):
    return bytes.fromhex(text.replace(" ", ""))


def build(name, fields):
    return getattr(messages, name)(*[raw(f["bytes"]) if isinstance(f, dict) else f for f in fields])


with open("/vectors.json") as file:
    vectors = json.load(file)

wrong = []
for title, text, name, fields in vectors["messages"]:
    if build(name, fields).encode() != raw(text):
        wrong.append("encode " + title)
for title, text, name, fields in vectors["messages"] + vectors["lenient"]:
    if messages.decode(raw(text)) != build(name, fields):
        wrong.append("decode " + title)
for title, text, reason in vectors["malformed"]:
    try:
        messages.decode(raw(text))
        wrong.append("accepted " + title)
    except messages.Malformed as error:
        if str(error) != reason:
            wrong.append(title + ": " + str(error))

# Any bytes: a message or Malformed. The generator is fixed, so that a failure comes back.
seed = 1
for _ in range(20000):
    data = bytearray()
    for _ in range(seed % 13):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        data.append(seed >> 16 & 0xFF)
    seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
    if len(data) > 1 and seed & 0x10000:
        data[0] = len(data)
        data[1] %= 0x1E
    try:
        messages.decode(bytes(data))
    except messages.Malformed:
        pass

assert not wrong, wrong
assert messages.RegAck(1, 2, 0) != messages.PubAck(1, 2, 0)
assert repr(messages.PubAck(1, 2, 0)) == "PubAck(1, 2, 0)"
print("ok")
