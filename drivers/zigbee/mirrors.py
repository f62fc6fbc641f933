"""Mirrors for meters that sleep (hub/wire/zigbee/mirror.py): who has which, what they said, what of it is a reading."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zigpy import types as t
from zigpy.device import ZigbeeDevice

from drivers.zigbee.address import client_id_of, hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.kept import RecordsFile
from drivers.zigbee.scaling import bcd, fixed
from drivers.zigbee.smart_energy import EPOCH_2000, MIRROR_ENDPOINTS
from hub.wire.zigbee import mirror, zcl

log = logging.getLogger(__name__)

FILE = "radio-mirrors.json"
_MOST_ATTRIBUTES = 64  # of one meter: whoever says more is not listened to
_MOST_RAW_BYTES = 64
_LONGEST_AGO_S = 86_400
_TAKEN = "another meter is {client} already"


class Mirror:
    """One meter's. `records`: what it said last, attribute by attribute."""

    def __init__(self, endpoint: int, record: dict[str, Any] | None = None) -> None:
        self.endpoint = endpoint
        self.records: dict[int, zcl.Record] = {}
        self.notification = mirror.Notification(False, 0)
        self.doubt = ""
        for attribute, (kind, raw) in ((record or {}).get("facts") or {}).items():
            self.records[int(attribute)] = zcl.Record(int(attribute), int(kind), bytes.fromhex(raw))
        if record is not None:
            self.notification = mirror.Notification(*record["notification"])

    def to_record(self) -> dict[str, Any]:
        """What outlives the hub, ready for JSON."""
        facts = {str(a): [r.kind, r.raw.hex()] for a, r in self.records.items() if a in mirror.FACTS}
        return {"endpoint": self.endpoint, "notification": list(self.notification), "facts": facts}

    def take(self, records: list[zcl.Record]) -> bool:
        """What a report says; whether something of that is worth keeping."""
        is_news = False
        for record in records:
            if len(record.raw) > _MOST_RAW_BYTES or (
                record.attribute not in self.records and len(self.records) >= _MOST_ATTRIBUTES
            ):
                continue
            is_news |= record.attribute in mirror.FACTS and self.records.get(record.attribute) != record
            self.records[record.attribute] = record
        return is_news

    @property
    def client(self) -> str:
        """What it is called; "" while it has not said what it is."""
        meaning, _ = mirror.meaning_of(self.records)
        return "" if meaning is None else meaning.client

    def reading(self, utc: float | None) -> tuple[str, str, str] | None:
        """Client, quantity and text of its register; None, and `doubt` says why, where that is not certain."""
        meaning, self.doubt = mirror.meaning_of(self.records)
        record = self.records.get(mirror.SUMMATION)
        raw = None if record is None else record.number
        if meaning is None:
            return None
        counted = bcd(raw) if meaning.is_digits and isinstance(raw, int) else raw
        if not isinstance(counted, int):
            self.doubt = "its register is none"
            return None
        return meaning.client, meaning.quantity, self._ago(utc) + fixed(meaning.factor).text(counted)

    def _ago(self, utc: float | None) -> str:
        """How old the register is, where the meter says when it read it."""
        record = self.records.get(mirror.SNAPSHOT_TIME)
        if utc is None or record is None or len(record.raw) != 4:
            return ""
        ago_s = round(utc - EPOCH_2000 - int.from_bytes(record.raw, "little"))
        return f"{ago_s}:" if 0 < ago_s <= _LONGEST_AGO_S else ""


class Mirrors:
    """It outlives the radio's applications. `reading(client, quantity, text)` gets what meters count.

    `is_taken(client)`: whether the meter's own port tells one of that name; `utc`: UTC epoch seconds, None while no
    clock can be trusted.
    """

    def __init__(
        self,
        reading: Callable[[str, str, str], None],
        record_event: Callable[[str, dict[str, Any]], Any],
        is_taken: Callable[[str], bool],
        utc: Callable[[], float | None],
        data_dir: Path,
    ) -> None:
        self._reading, self._record_event, self._is_taken, self._utc = reading, record_event, is_taken, utc
        self._file = RecordsFile(data_dir, FILE)
        self._mirrors: dict[str, Mirror] = {}
        for ieee, record in self._file.records.items():
            try:
                self._mirrors[ieee] = Mirror(int(record["endpoint"]), record)
            except (KeyError, TypeError, ValueError) as error:  # the meter will say it again
                log.warning("the mirror of %s: %r", ieee, error)
        self._application: Application | None = None
        self._saving: asyncio.Task[None] | None = None
        self._told: set[tuple[str, str]] = set()
        self._gave_up: set[str] = set()  # what of theirs was under way still is no reason to begin anew

    def attach(self, application: Application) -> None:
        self._application = application

    def detach(self) -> None:
        self._application = None

    def __contains__(self, ieee: str) -> bool:
        return ieee in self._mirrors

    def status(self) -> dict[str, str]:
        """Each meter that has a mirror: what it is called, or why nothing of it is told."""
        return {ieee: held.doubt or held.client or "nothing heard yet" for ieee, held in self._mirrors.items()}

    def forget(self, ieee: str) -> None:
        """It is no device of this network any more."""
        if self._mirrors.pop(ieee, None) is not None:
            self._save()

    def heard(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        """A frame about mirrors or for one (application.py), encrypted with the link key."""
        ieee, frame = hex_of(device.ieee), packet.data.serialize()
        parsed = zcl.parse(frame)
        assert parsed is not None
        header, body = parsed
        if mirror.is_read(int(packet.cluster_id), frame):
            self._answer(packet, mirror.read_response(frame, self._records_at(packet)))
        elif header.is_report:
            self._reported(ieee, packet, header, body)
        elif header.command == mirror.REQUEST_MIRROR:
            self._answer(packet, mirror.request_mirror_response(header.tsn, self._endpoint_for(ieee)))
        elif header.command == mirror.REMOVE_MIRROR:
            gone = self._mirrors.get(ieee)
            self._gave_up.add(ieee)
            self.forget(ieee)
            self._answer(packet, mirror.mirror_removed(header.tsn, None if gone is None else gone.endpoint))
        elif ieee in self._mirrors and (notification := mirror.notification_of(body)) is not None:
            self._mirrors[ieee].notification = notification
            self._save()
            self._answer(packet, zcl.default_response(header))

    def _free(self) -> list[int]:
        taken = {held.endpoint for held in self._mirrors.values()}
        application = self._application
        return [
            endpoint
            for endpoint in MIRROR_ENDPOINTS
            if endpoint not in taken and application is not None and application.has_endpoint(endpoint)
        ]

    def _endpoint_for(self, ieee: str) -> int | None:
        """The endpoint of a meter's mirror, its old one or a new one."""
        self._gave_up.discard(ieee)
        if ieee not in self._mirrors:
            free = self._free()
            if not free:
                log.warning("%s asks for a mirror, and there is none left", client_id_of(ieee))
                return None
            self._mirrors[ieee] = Mirror(free[0])
            self._save()
        return self._mirrors[ieee].endpoint

    def _records_at(self, packet: t.ZigbeePacket) -> dict[int, zcl.Record]:
        if packet.cluster_id == mirror.BASIC:
            return mirror.interface_records(has_room=bool(self._free()))
        found = (held.records for held in self._mirrors.values() if held.endpoint == packet.dst_ep)
        return next(found, {})

    def _reported(self, ieee: str, packet: t.ZigbeePacket, header: zcl.Header, body: bytes) -> None:
        held = self._mirrors.get(ieee)
        if held is None and ieee not in self._gave_up and packet.dst_ep in self._free():
            # The hub lost its memory, and the meter has not: it reports to where it was told to.
            held = self._mirrors[ieee] = Mirror(int(packet.dst_ep or 0))
            self._save()
        if held is None or held.endpoint != packet.dst_ep:
            return
        records = zcl.report(body)
        if held.take(records):
            self._save()
        if any(record.attribute == mirror.SUMMATION for record in records):
            self._tell(ieee, held)
        if held.notification.is_wanted:
            self._answer(packet, mirror.report_response(header.tsn, held.notification.scheme))
        elif header.wants_default_response:
            self._answer(packet, zcl.default_response(header))

    def _tell(self, ieee: str, held: Mirror) -> None:
        reading = held.reading(self._utc())
        if reading is not None and self._is_told_by_another(ieee, reading[0]):
            held.doubt, reading = _TAKEN.format(client=reading[0]), None
        if reading is not None:
            self._reading(*reading)
        elif (ieee, held.doubt) not in self._told:
            self._told.add((ieee, held.doubt))
            told = {"client": client_id_of(ieee), "quantity": "volume", "reason": held.doubt}
            self._record_event("adapter.withheld", told)

    def _is_told_by_another(self, ieee: str, client: str) -> bool:
        """Two meters under one name would be a register that falls and jumps: the one that came first has it."""
        for other, held in self._mirrors.items():
            if other == ieee:
                return self._is_taken(client)
            if held.client == client:
                return True
        return self._is_taken(client)

    def _answer(self, packet: t.ZigbeePacket, data: bytes) -> None:
        if self._application is not None:
            self._application.answer(packet, data)

    # What outlives the hub

    def _save(self) -> None:
        if self._saving is None or self._saving.done():
            self._saving = asyncio.get_running_loop().create_task(self._write(), name="save-mirrors")

    async def _write(self) -> None:
        written: dict[str, Any] | None = None
        try:
            while (records := {ieee: held.to_record() for ieee, held in self._mirrors.items()}) != written:
                await asyncio.to_thread(self._file.write, records)
                written = records
        except OSError as error:  # the meters will say it again
            log.warning("saving the mirrors: %s", error)

    async def close(self) -> None:
        if self._saving is not None:
            await asyncio.wait({self._saving})
