"""P5: genuine commands with hostile arguments: each refused with its reason, and nothing of it done.

Their signature holds: an operator's key was stolen, or its head-end has a fault. What is wrong is the operator's own.
"""

from typing import Any

import pytest

from hub.wire.uplink.args import ARGS
from hub.wire.uplink.cbor import MAX_DEPTH
from tests.harness.operator import Operator
from tests.hub.core.control import test_authority
from tests.hub.core.control.desk import BOILER, UTC, Desk

NAN, INF = float("nan"), float("inf")
_LIMIT: dict[str, Any] = {"watts": 3000, "duration": 60}
_SET: dict[str, Any] = {"client": "boiler", "quantity": "temperature", "value": 50, "duration": 60}
_OFF: dict[str, Any] = {"client": "boiler", "on": False, "duration": 60}
_READ: dict[str, Any] = {"from": 0, "to": 100}
_RESEND: dict[str, Any] = {"lane": "events", "epoch": 1, "from": 1, "to": 2}
_UPDATE: dict[str, Any] = {"url": "https://u.example/b", "sha256": "0" * 64, "version": "2.0.0"}
_PRICE: dict[str, Any] = {"currency": "GBP", "steps": [[int(UTC), 60, 0.1]]}


def without(args: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in args.items() if key != name}


def nested(levels: int) -> Any:
    item: Any = 1
    for _ in range(levels):
        item = [item]
    return item


# (what, operation, arguments, the receipt's reason)
HOSTILE: list[tuple[str, str, dict[str, Any], str]] = [
    ("a limit without watts", "limit", without(_LIMIT, "watts"), "bad-args"),
    ("a limit without end", "limit", without(_LIMIT, "duration"), "bad-args"),
    ("watts below nothing", "limit", {**_LIMIT, "watts": -1}, "bad-args"),
    ("watts of a power station", "limit", {**_LIMIT, "watts": 1_000_001}, "bad-args"),
    ("watts that are true", "limit", {**_LIMIT, "watts": True}, "bad-args"),
    ("watts that are a text", "limit", {**_LIMIT, "watts": "3000"}, "bad-args"),
    ("watts that are octets", "limit", {**_LIMIT, "watts": b"3000"}, "bad-args"),
    ("watts that are a list", "limit", {**_LIMIT, "watts": [3000]}, "bad-args"),
    ("watts that are nothing", "limit", {**_LIMIT, "watts": None}, "bad-args"),
    ("a limit of no time", "limit", {**_LIMIT, "duration": 0}, "bad-args"),
    ("a limit of less than a second", "limit", {**_LIMIT, "duration": 0.5}, "bad-args"),
    ("a limit that ends before it begins", "limit", {**_LIMIT, "duration": -60}, "bad-args"),
    ("a limit for ever", "limit", {**_LIMIT, "duration": 2**40}, "bad-args"),
    ("a duration that is a map", "limit", {**_LIMIT, "duration": {"s": 60}}, "bad-args"),
    ("a start before all", "limit", {**_LIMIT, "start": -1}, "bad-args"),
    ("a start beyond all", "limit", {**_LIMIT, "start": 2**41}, "bad-args"),
    ("a start that is a text", "limit", {**_LIMIT, "start": "now"}, "bad-args"),
    ("a limit that was over before it came", "limit", {**_LIMIT, "start": int(UTC) - 3600}, "expired"),
    ("a start years ahead", "limit", {**_LIMIT, "start": int(UTC) + 20 * 365 * 86400}, "bad-args"),
    ("more than an hour at random", "limit", {**_LIMIT, "randomise": 3601}, "bad-args"),
    ("less than nothing at random", "limit", {**_LIMIT, "randomise": -1}, "bad-args"),
    ("an end more than an hour at random", "limit", {**_LIMIT, "randomise_end": 3601}, "bad-args"),
    ("an end at random that is a text", "limit", {**_LIMIT, "randomise_end": "0"}, "bad-args"),
    ("criticality ten", "limit", {**_LIMIT, "criticality": 10}, "bad-args"),
    ("criticality one and a half", "limit", {**_LIMIT, "criticality": 1.5}, "bad-args"),
    ("criticality true", "limit", {**_LIMIT, "criticality": True}, "bad-args"),
    ("a direction nobody knows", "limit", {**_LIMIT, "direction": "sideways"}, "bad-args"),
    ("a direction that is a number", "limit", {**_LIMIT, "direction": 1}, "bad-args"),
    ("a direction that is a list", "limit", {**_LIMIT, "direction": ["import"]}, "bad-args"),
    ("an argument in other letters", "limit", {**_LIMIT, "Watts": 1}, "bad-args"),
    ("an argument nobody knows", "limit", {**_LIMIT, "force": True}, "bad-args"),
    ("an argument without a name", "limit", {**_LIMIT, "": 1}, "bad-args"),
    ("an argument with a long name", "limit", {**_LIMIT, "w" * 5000: 1}, "bad-args"),
    ("an argument that clears a screen", "limit", {**_LIMIT, "\x1b[2J": 1}, "bad-args"),
    ("a cancel of a short cti", "limit.cancel", {"cti": b"short"}, "bad-args"),
    ("a cancel of a cti in hexadecimal", "limit.cancel", {"cti": "00" * 16}, "bad-args"),
    ("a cancel of a list", "limit.cancel", {"cti": [bytes(16)]}, "bad-args"),
    ("a cancel of nothing", "limit.cancel", {"cti": None}, "bad-args"),
    ("a cancel of what is not there", "limit.cancel", {"cti": bytes(16)}, "unknown-cti"),
    ("off without an end", "switch", without(_OFF, "duration"), "bad-args"),
    ("off for nobody", "switch", without(_OFF, "client"), "bad-args"),
    ("neither on nor off", "switch", without(_OFF, "on"), "bad-args"),
    ("off as a number", "switch", {**_OFF, "on": 0}, "bad-args"),
    ("off as a text", "switch", {**_OFF, "on": "off"}, "bad-args"),
    ("off for more than a day", "switch", {**_OFF, "duration": 86_401}, "bad-args"),
    ("off for no time", "switch", {**_OFF, "duration": 0}, "bad-args"),
    ("off for a time that is true", "switch", {**_OFF, "duration": True}, "bad-args"),
    ("off for an empty name", "switch", {**_OFF, "client": ""}, "bad-args"),
    ("off for a list of clients", "switch", {**_OFF, "client": ["boiler"]}, "bad-args"),
    ("off for octets", "switch", {**_OFF, "client": b"boiler"}, "bad-args"),
    ("off for a name that is too long", "switch", {**_OFF, "client": "b" * 65}, "bad-args"),
    ("off for whoever", "switch", {**_OFF, "client": "+"}, "unknown-client"),
    ("off for everybody", "switch", {**_OFF, "client": "#"}, "unknown-client"),
    ("off for somebody who is not there", "switch", {**_OFF, "client": "kettle"}, "unknown-client"),
    ("off for the hub", "switch", {**_OFF, "client": "MTR-1"}, "unknown-client"),
    ("off by a path", "switch", {**_OFF, "client": "../boiler"}, "unknown-client"),
    ("off for a terminal", "switch", {**_OFF, "client": "\x1b]52;c;AA\x07"}, "unknown-client"),
    ("set without a value", "set", without(_SET, "value"), "bad-args"),
    ("set without an end", "set", without(_SET, "duration"), "bad-args"),
    ("set without a quantity", "set", without(_SET, "quantity"), "bad-args"),
    ("set without a client", "set", without(_SET, "client"), "bad-args"),
    ("set to a text", "set", {**_SET, "value": "50"}, "bad-args"),
    ("set to true", "set", {**_SET, "value": True}, "bad-args"),
    ("set beyond all numbers", "set", {**_SET, "value": 1e300}, "bad-args"),
    ("set for a year", "set", {**_SET, "duration": 365 * 86_400}, "bad-args"),
    ("set of an empty quantity", "set", {**_SET, "quantity": ""}, "bad-args"),
    ("set of a quantity that is too long", "set", {**_SET, "quantity": "q" * 33}, "bad-args"),
    ("set of a quantity that is a number", "set", {**_SET, "quantity": 5}, "bad-args"),
    ("set for somebody who is not there", "set", {**_SET, "client": "kettle"}, "unknown-client"),
    ("a heartbeat with an argument", "heartbeat", {"kid": "other"}, "bad-args"),
    ("a heartbeat for long", "heartbeat", {"duration": 86_400}, "bad-args"),
    ("a price without a currency", "price", without(_PRICE, "currency"), "bad-args"),
    ("a price in a long currency", "price", {**_PRICE, "currency": "GBPX"}, "bad-args"),
    ("a price in octets", "price", {**_PRICE, "currency": b"GBP"}, "bad-args"),
    ("no prices", "price", {**_PRICE, "steps": []}, "bad-args"),
    ("a thousand and one prices", "price", {**_PRICE, "steps": [[int(UTC), 1, 0]] * 1001}, "bad-args"),
    ("prices that are a map", "price", {**_PRICE, "steps": {"0": 1}}, "bad-args"),
    ("a price of two", "price", {**_PRICE, "steps": [[int(UTC), 60]]}, "bad-args"),
    ("a price of four", "price", {**_PRICE, "steps": [[int(UTC), 60, 1, 1]]}, "bad-args"),
    ("a price that is a text", "price", {**_PRICE, "steps": [[int(UTC), 60, "1"]]}, "bad-args"),
    ("a price beyond all", "price", {**_PRICE, "steps": [[int(UTC), 60, 1e7]]}, "bad-args"),
    ("a price of no time", "price", {**_PRICE, "steps": [[int(UTC), 0, 1]]}, "bad-args"),
    ("a price before all", "price", {**_PRICE, "steps": [[-1, 60, 1]]}, "bad-args"),
    ("weather that is a list", "weather", {"steps": [[int(UTC), 60, [1]]]}, "bad-args"),
    ("weather with texts", "weather", {"steps": [[int(UTC), 60, {"temp": "warm"}]]}, "bad-args"),
    ("weather with true", "weather", {"steps": [[int(UTC), 60, {"sun": True}]]}, "bad-args"),
    ("weather with a long name", "weather", {"steps": [[int(UTC), 60, {"t" * 33: 1}]]}, "bad-args"),
    ("weather with a currency", "weather", {"currency": "GBP", "steps": [[int(UTC), 60, {"t": 1}]]}, "bad-args"),
    ("no weather", "weather", {}, "bad-args"),
    ("read from nowhere", "read", without(_READ, "from"), "bad-args"),
    ("read to nowhere", "read", without(_READ, "to"), "bad-args"),
    ("read from a text", "read", {**_READ, "from": "0"}, "bad-args"),
    ("read to beyond all", "read", {**_READ, "to": 2**41}, "bad-args"),
    ("read of an empty client", "read", {**_READ, "client": ""}, "bad-args"),
    ("read of a long quantity", "read", {**_READ, "quantity": "q" * 33}, "bad-args"),
    ("read of a query", "read", {**_READ, "where": "1=1"}, "bad-args"),
    ("resend of a lane nobody knows", "resend", {**_RESEND, "lane": "secrets"}, "bad-args"),
    ("resend of a lane that is a list", "resend", {**_RESEND, "lane": ["events"]}, "bad-args"),
    ("resend from zero", "resend", {**_RESEND, "from": 0}, "bad-args"),
    ("resend of an epoch below nothing", "resend", {**_RESEND, "epoch": -1}, "bad-args"),
    ("resend of a number that is a float", "resend", {**_RESEND, "to": 2.0}, "bad-args"),
    ("resend without an epoch", "resend", without(_RESEND, "epoch"), "bad-args"),
    ("resend of more than there can be", "resend", {**_RESEND, "to": 2**32}, "bad-args"),
    ("booked of a lane nobody knows", "booked", {"secrets": [1, 1]}, "bad-args"),
    ("booked of one number", "booked", {"events": [1]}, "bad-args"),
    ("booked of a number", "booked", {"events": 7}, "bad-args"),
    ("booked of texts", "booked", {"events": ["1", "7"]}, "bad-args"),
    ("booked below nothing", "booked", {"events": [1, -1]}, "bad-args"),
    ("permit without an end", "permit", {}, "bad-args"),
    ("permit for an hour", "permit", {"duration": 3600}, "bad-args"),
    ("permit for no time", "permit", {"duration": 0}, "bad-args"),
    ("permit for a float", "permit", {"duration": 60.5}, "bad-args"),
    ("permit of an address of letters", "permit", {"ieee": "boiler", "install_code": "00", "duration": 60}, "bad-args"),
    ("permit of an address in octets", "permit", {"ieee": bytes(8), "install_code": "00", "duration": 60}, "bad-args"),
    ("permit with a code of letters", "permit", {"ieee": "00" * 8, "install_code": "zz", "duration": 60}, "bad-args"),
    ("permit with another's key", "permit", {"duration": 60, "link_key": "00" * 16}, "bad-args"),
    ("diagnose of files", "diagnose", {"what": "/etc/shadow"}, "bad-args"),
    ("diagnose of nothing", "diagnose", {}, "bad-args"),
    ("diagnose of a list", "diagnose", {"what": ["status"]}, "bad-args"),
    ("config of nothing", "config", {"set": {}}, "bad-args"),
    ("config of a list", "config", {"set": ["uplink.host"]}, "bad-args"),
    ("config without set", "config", {"uplink.host": "elsewhere"}, "bad-args"),
    ("trust of nothing", "trust", {}, "bad-args"),
    ("trust of octets", "trust", {"operators": b""}, "bad-args"),
    ("trust of a novel", "trust", {"operators": "#" * 12_001}, "bad-args"),
    ("trust of no TOML", "trust", {"operators": "[operator"}, "bad-args"),
    ("trust of nobody", "trust", {"operators": "# nobody"}, "locked-out"),
    ("trust of somebody who is no admin", "trust", {"operators": Operator("x", "limit").toml}, "locked-out"),
    ("trust with approvals of texts", "trust", {"operators": Operator("x").toml, "approvals": ["yes"]}, "bad-args"),
    ("trust with seventeen approvals", "trust", {"operators": Operator("x").toml, "approvals": [b""] * 17}, "bad-args"),
    ("trust with an approval of nothing", "trust", {"operators": Operator("x").toml, "approvals": [b""]}, "threshold"),
    ("trust with an approval of a stranger", "trust",
     {"operators": Operator("x").toml, "approvals": [Operator("y").approval(bytes(32))]}, "threshold"),
    ("trust with the path of a list", "trust", {"operators": "/etc/meterhub/operators.toml"}, "bad-args"),
    ("a confirmation of nothing", "trust.confirm", {}, "no-trial"),
    ("a confirmation with an argument", "trust.confirm", {"operators": ""}, "bad-args"),
    ("an update from nowhere", "update", without(_UPDATE, "url"), "bad-args"),
    ("an update from two places", "update", {**_UPDATE, "han": "x"}, "bad-args"),
    ("an update with a short hash", "update", {**_UPDATE, "sha256": "00"}, "bad-args"),
    ("an update with a hash of other letters", "update", {**_UPDATE, "sha256": "g" * 64}, "bad-args"),
    ("an update with a hash in octets", "update", {**_UPDATE, "sha256": bytes(32)}, "bad-args"),
    ("an update without a version", "update", without(_UPDATE, "version"), "bad-args"),
    ("an update of a long version", "update", {**_UPDATE, "version": "2" * 65}, "bad-args"),
    ("an update that skips the check", "update", {**_UPDATE, "verify": False}, "bad-args"),
    ("an update from a long address", "update", {**_UPDATE, "url": "https://u.example/" + "a" * 1000}, "bad-args"),
    ("watts that are no number", "limit", {**_LIMIT, "watts": NAN}, "malformed"),
    ("watts without end", "limit", {**_LIMIT, "watts": INF}, "malformed"),
    ("watts of a thousand digits", "limit", {**_LIMIT, "watts": 10**1000}, "malformed"),
    ("arguments too deep", "limit", {**_LIMIT, "watts": nested(MAX_DEPTH)}, "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_a_genuine_command_with_hostile_arguments_is_refused(op: str, args: dict[str, Any], reason: str) -> None:
    desk = Desk()
    desk.add("boiler", BOILER, 2000)
    before = (set(desk.kept), list(desk.orders), desk.control.authority.operators)
    cti = desk.send(op, args)
    (receipt,) = desk.receipts
    assert (receipt.status, receipt.reason) == ("refused", reason)
    assert receipt.re == cti or reason == "malformed", "where its claims read, the receipt names it"
    text = str(receipt.detail["text"])
    assert len(text) <= 200 and text.isprintable()
    after = {name for name in desk.kept if not name.startswith(("cti/", "ctr/"))}
    assert after == {name for name in before[0] if not name.startswith(("cti/", "ctr/"))}
    assert desk.orders == before[1] and desk.control.authority.operators is before[2]


def test_the_tables_are_large_enough_and_leave_no_operation_out() -> None:
    """250 rows in all: what nobody known signed, what reads wrong, what is forbidden, what is asked wrongly."""
    names = [row[0] for table in (HOSTILE, test_authority.HOSTILE, test_authority.UNENCODABLE) for row in table]
    assert len(set(names)) == len(names) >= 250
    assert {op for _, op, _, _ in HOSTILE} == set(ARGS)
