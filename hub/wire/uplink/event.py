"""Events: what happened at a hub, one CBOR map each, content type 60 (design 3.3)."""

from typing import Any

from hub.wire.uplink.cbor import decode, encode

MAX_BYTES = 64 * 1024  # what a hub seals in one of these

CONTENT_TYPE = 60  # application/cbor, RFC 8949 section 9.5

# Every event the hub can send, with its fields: an integrator's list, and a test's.
EVENTS: dict[str, tuple[str, ...]] = {
    "hub.started": ("boot", "version", "reason"),
    "hub.stopped": ("boot", "reason"),
    "adapter.joined": ("client", "link"),
    "adapter.left": ("client", "reason"),
    "adapter.lost": ("client",),
    "adapter.moved": ("client", "before", "after", "state"),  # a ClientId is heard from another address
    # So many events of one kind (what) came at once that they are told together; clients: the first of them.
    "adapter.many": ("what", "count", "clients"),
    "adapter.alarm": ("client", "text"),
    "adapter.limit_cleared": ("client",),
    "adapter.interview_failed": ("client",),  # it joined and does not say what it is; the hub goes on asking
    "adapter.withheld": ("client", "quantity", "reason"),  # a value whose scale is not certain is not sent
    "adapter.updated": ("client", "version"),  # an appliance on the radio has loaded the firmware that it was offered
    "adapter.update_failed": ("client", "version", "reason"),
    "radio.up": ("channel", "pan_id", "ieee"),
    "radio.down": ("reason",),
    "radio.restored": ("channel", "pan_id"),  # the home's network was put into a radio that had lost it
    "radio.other_network": ("found", "pan_id"),  # the radio came with another network: the home's is put back
    "radio.unstable": ("resets", "reason"),  # it goes again and again (in an hour): not told one by one any more
    "radio.formed": ("channel", "pan_id"),
    "radio.key_rotated": ("sequence",),  # the network has another key, with this number
    # The network will move to another channel. reason: "asked", or "noise" (ours was taken for days).
    "radio.channel_planned": ("to", "in_s", "reason"),
    "radio.channel_moved": ("channel", "before"),
    "radio.pan_id_changed": ("pan_id", "before"),
    "uplink.up": ("host", "protocol"),
    "certificate.expires_soon": ("not_after", "days"),  # once a day from 60 days before
    "certificate.renewed": ("not_after", "x5c"),  # x5c: the chain, DER, the hub's own first (RFC 9360 section 2)
    "certificate.rolled_back": ("reason",),
    "store.set_aside": ("hub", "folder"),  # the folder held another hub's data
    "store.salvaged": ("reason", "kept", "set_aside"),
    # What was given up for want of space. what: "readings" (thinned to one in resolution_s; series = a row each,
    # [client, quantity, from_ms, to_ms, kept, dropped, resolution_s]), "forwards" (from_ms, to_ms: when they went) or
    # "packs": of readings that the broker acknowledged and nobody booked (from_ms, to_ms: when they were sealed;
    # numbers: epoch and number of the first, epoch and number of the last; between them others may have been booked).
    "store.gap": ("what", "from_ms", "to_ms", "kept", "dropped", "resolution_s", "series", "numbers"),
    # The daily write budget makes adapters wait for company (stretched), or no longer does.
    "store.wear": ("stretched", "window_s"),
    "clock.stepped": ("step_ms",),
    # The meter's own register port. line: rate and parity, "9600 7E1". reason: "missing", "silent" or "unreadable".
    "meter.up": ("ident", "protocol", "meter_number", "line"),
    "meter.lost": ("reason",),
    # Another meter's number; what the old and the new one's registers were, quantity -> decimal text.
    "meter.replaced": ("old_number", "new_number", "last_registers", "first_registers"),
    # The meter's counters (of short and of long failures), and of a long one when it ended (as the meter wrote it,
    # local time) and how long it was.
    "meter.power_failed": ("power_failures", "long_power_failures", "ended", "duration_s"),
    "meter.voltage_sag": ("phase", "count"),
    "meter.voltage_swell": ("phase", "count"),
    # Belgium: rows of [month's end, when it was, W], times as the meter wrote them.
    "meter.peaks": ("peaks",),
    "limit.ignored": ("client", "power_w"),
    "limit.opted_out": ("client",),
    "control.lost": ("operator",),  # its heartbeats stopped: what it had commanded ended
    "operators.changed": ("operators", "by"),  # by `trust`; on trial until `trust.confirm`
    "operators.returned": ("operators",),  # nobody confirmed the new list
    "operators.recovered": ("operators", "by"),  # by a field engineer, with the manufacturer's signature
    # state: what begins (asked, waiting, downloading, checking, installing, rebooting, trial, returning).
    # percent: of the download.
    "update.progress": ("version", "state", "percent"),
    "update.good": ("version", "slot"),
    "update.failed": ("version", "reason", "text"),
    "update.rolled_back": ("version", "runs", "text"),
    # Another slot, or an older image, runs than before, and no update has asked for it.
    "slot.fell_back": ("slot", "version", "from_slot", "from_version"),
    "flash.aged": ("life_used_percent", "pre_eol"),  # a step of the flash's own registers
    "store.in_memory": ("reason",),  # the board's data partition could not be used at this start
}


# What of them is a household's consumption: not for everybody who may know what happened at a hub.
CONSUMPTION = frozenset({"last_registers", "first_registers", "peaks", "power_w"})


class UnknownEvent(ValueError):
    """The name is not in EVENTS: an event that no document lists helps nobody."""


def encode_event(t_ms: int, event: str, fields: dict[str, Any]) -> bytes:
    """Encode one event; `t_ms` is UTC epoch milliseconds. Raises UnknownEvent for a name or field not listed."""
    listed = EVENTS.get(event)
    if listed is None or not set(fields) <= {*listed, "clock"}:
        raise UnknownEvent(f"{event} with {sorted(fields)} is not in hub/wire/uplink/event.py")
    return encode({"t": t_ms, "event": event, **fields})


def decode_event(data: bytes) -> dict[str, Any]:
    """Decode one event into its map. Raises ValueError when it is not one."""
    event = decode(data, max_bytes=MAX_BYTES)
    # type(), as a CBOR true is an int to Python, and no time to a database.
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or type(event.get("t")) is not int:
        raise ValueError("not an event: a map with t and event is expected")
    return event
