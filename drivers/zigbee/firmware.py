"""Firmware for appliances out of a folder: what an operator signed is offered, and nothing else.

`NAME.ota` is the maker's image, `NAME.ota.cose` the note by which an operator with the role `admin` vouches for it
(hub/wire/uplink/firmware.py). An engineer copies both; devices ask by themselves, and are told that they may.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from zigpy import types as t
from zigpy.device import ZigbeeDevice

from drivers.clock import monotonic
from drivers.conditions import ConditionTable
from drivers.zigbee.address import client_id_of, hex_of
from drivers.zigbee.application import Application
from drivers.zigbee.frames import zcl_answer
from drivers.zigbee.upgrades import StoredImage, Upgrades
from hub.wire.uplink.firmware import MAX_BYTES, FirmwareNote
from hub.wire.zigbee import ota

log = logging.getLogger(__name__)

FOLDER = "zigbee-firmware"
SUFFIX, NOTE_SUFFIX = ".ota", ".ota.cose"
CONDITION = "firmware-refused"
_LOOK_S = 30.0
# What was refused may be right by now: the clock is set, another operator may sign.
_JUDGE_AGAIN_S = 600.0
_MOST_IMAGES = 32
_CHUNK = 1 << 16
_NOTIFY_SPACING_S = 1.0

# The note, once its signature has been verified. Raises ValueError.
OpenNote = Callable[[bytes], FirmwareNote]


class Firmware:
    """It outlives the radio's applications. `open_note`: see OpenNote."""

    def __init__(
        self,
        data_dir: Path,
        open_note: Callable[[], OpenNote | None],
        health: ConditionTable,
        record_event: Callable[[str, dict[str, Any]], Any],
    ) -> None:
        """`open_note()`: who verifies notes at present; None: nobody yet."""
        self._folder = data_dir / FOLDER
        self._open_note = open_note
        self._health = health
        self._record_event = record_event
        self._upgrades = Upgrades()
        self._refused: dict[str, str] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._files: dict[str, tuple[int, ...]] = {}  # what was looked at: as it was then
        self._descriptors: list[int] = []
        self._judge_again_at = 0.0
        self._application: Application | None = None
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self, application: Application) -> None:
        self._application = application
        self._looking = asyncio.get_running_loop().create_task(self._look(application), name="zigbee-firmware")

    def detach(self) -> None:
        self._application = None
        for task in (self._looking, *self._tasks):
            if task is not None:
                task.cancel()
        self._looking = None

    def close(self) -> None:
        """The hub stops."""
        self._let_files_go()

    def status(self) -> dict[str, Any]:
        """What is offered, what is refused and why, who loads."""
        under_way = self._upgrades.under_way(monotonic())
        return {
            "images": [
                {
                    "file": self._names[key],
                    "manufacturer": image.header.manufacturer,
                    "type": image.header.image_type,
                    "version": image.header.version,
                    "bytes": image.header.size,
                }
                for key, image in self._upgrades.images.items()
            ],
            "refused": dict(self._refused),
            "loading": None if under_way is None else client_id_of(under_way[0]),
            "loaded_bytes": None if under_way is None else under_way[1],
        }

    # The folder

    async def _look(self, application: Application) -> None:
        """Every half minute; it ends with the radio's life."""
        while True:
            try:
                if await self._look_once():
                    await self._notify(application)
            except OSError as error:
                log.warning("%s: %s", self._folder, error)
            await asyncio.sleep(_LOOK_S)

    async def _look_once(self) -> bool:
        """Whether there is something new to offer."""
        open_note = self._open_note()
        found = await asyncio.to_thread(_list, self._folder)
        is_due = found != self._files or (bool(self._refused) and monotonic() >= self._judge_again_at)
        if open_note is None or not is_due:
            return False
        self._judge_again_at = monotonic() + _JUDGE_AGAIN_S
        images, refused, names, descriptors = await asyncio.to_thread(_read_all, self._folder, found, open_note)
        before = {key: image.header for key, image in self._upgrades.images.items()}
        self._let_files_go()
        self._files, self._descriptors, self._names = found, descriptors, names
        self._upgrades.images = images
        if refused != self._refused:
            self._refused = refused
            told = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items())[:3])
            self._health.set_condition(CONDITION, bool(refused), told)
        return any(before.get(key) != image.header for key, image in images.items())

    def _let_files_go(self) -> None:
        self._upgrades.images = {}
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    # Devices

    async def _notify(self, application: Application) -> None:
        """Tell each device that listens all the time and takes upgrades that there is something."""
        for device, endpoint in application.clients_of(ota.CLUSTER):
            if device.node_desc is None or device.node_desc.is_end_device:
                continue  # who sleeps asks by itself
            place = (int(endpoint.profile_id or 0), ota.CLUSTER, 1, int(endpoint.endpoint_id))
            to = t.AddrModeAddress(t.AddrMode.NWK, device.nwk)
            tsn = int(application.get_sequence())
            frame = zcl_answer(to, place, tsn, ota.image_notify(tsn))
            try:
                await application.send_packet(frame)
            except Exception as error:  # it asks by itself, some day
                log.debug("notifying %s: %r", device.ieee, error)
            await asyncio.sleep(_NOTIFY_SPACING_S)

    def heard(self, device: ZigbeeDevice, packet: t.ZigbeePacket) -> None:
        """A client of the cluster asks (ota.is_of_client)."""
        application, ieee = self._application, hex_of(device.ieee)
        frames, ended = self._upgrades.heard(ieee, packet.data.serialize(), monotonic())
        if ended is not None:
            told = {"client": client_id_of(ieee), "version": ended.version}
            if ended.status == ota.SUCCESS:
                self._record_event("adapter.updated", told)
            else:
                self._record_event("adapter.update_failed", told | {"reason": f"status 0x{ended.status:02x}"})
        if application is None or packet.src is None:
            return
        place = (int(packet.profile_id), ota.CLUSTER, int(packet.dst_ep or 0), int(packet.src_ep or 0))
        for frame in frames:
            answer = zcl_answer(packet.src, place, application.get_sequence(), frame)
            self._spawn(application.send_packet(answer))

    def _spawn(self, sending: Coroutine[Any, Any, Any]) -> None:
        async def send() -> None:
            try:
                await sending
            except Exception as error:  # it asks again
                log.debug("firmware: %r", error)

        task = asyncio.get_running_loop().create_task(send(), name="zigbee-firmware-send")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _list(folder: Path) -> dict[str, tuple[int, ...]]:
    """The files there are, each with what changes when it is written anew. Blocks, as all that follows."""
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        if entry.name.endswith((SUFFIX, NOTE_SUFFIX)) and entry.is_file():
            stat = entry.stat()
            found[entry.name] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


_Read = tuple[dict[tuple[int, int], StoredImage], dict[str, str], dict[tuple[int, int], str], list[int]]


def _read_all(folder: Path, found: dict[str, tuple[int, ...]], open_note: OpenNote) -> _Read:
    images: dict[tuple[int, int], StoredImage] = {}
    refused: dict[str, str] = {}
    names: dict[tuple[int, int], str] = {}
    descriptors: list[int] = []
    for name in [name for name in found if name.endswith(SUFFIX)][:_MOST_IMAGES]:
        descriptor = -1
        try:
            note = open_note(_small(folder / (name + NOTE_SUFFIX.removeprefix(SUFFIX))))
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
            header = _verified(descriptor, note)
            key = (header.manufacturer, header.image_type)
            if key in images and images[key].header.version >= header.version:
                raise ValueError(f"{names[key]} is newer")
        except FileNotFoundError:
            refused[name] = f"{name}{NOTE_SUFFIX.removeprefix(SUFFIX)} is not there: nobody vouches for it"
        except (OSError, ValueError) as error:
            refused[name] = str(error)[:120]
        else:
            images[key], names[key] = StoredImage(header, _reader(descriptor)), name
            descriptors.append(descriptor)
            continue
        if descriptor >= 0:
            os.close(descriptor)
    return images, refused, names, descriptors


def _small(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _verified(descriptor: int, note: FirmwareNote) -> ota.ImageHeader:
    """The header of an image that is what its note says; read by the descriptor that will be served."""
    header = ota.parse_header(os.pread(descriptor, ota.HEADER_BYTES, 0))
    digest, at = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, _CHUNK, at):
        digest.update(chunk)
        at += len(chunk)
        if at > ota.MAX_IMAGE_BYTES:
            raise ValueError("it is too large for an image")
    if digest.digest() != note.sha256:
        raise ValueError("it is not the file that was signed")
    if (note.manufacturer, note.image_type, note.version) != header[:3]:
        raise ValueError("its header is not what was signed")
    if at < header.size:
        raise ValueError("it is shorter than it says")
    return header


def _reader(descriptor: int) -> Callable[[int, int], bytes]:
    return lambda offset, size: os.pread(descriptor, size, offset)
