"""Firmware for appliances: what an operator signed is loaded block by block; everything else is refused, and said."""

import asyncio
import hashlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee.firmware import FOLDER
from drivers.zigbee.upgrades import BLOCK_BYTES, Ended, StoredImage, Upgrades
from hub.wire.uplink.envelope import FileSigner, sign_sign1
from hub.wire.uplink.firmware import FirmwareNote, open_firmware, sign_firmware
from hub.wire.zigbee import ota
from tests.drivers.zigbee.radio import PLUG_IEEE, Emulator, HubSide, short_directory, until
from tests.harness.witness import came, went

PLUG_CLIENT = "zb-" + PLUG_IEEE
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = FileSigner(KEY, b"")
KIND = (0x1166, 0x0042)
DEVICE = {
    "kind": "zcl", "ieee": PLUG_IEEE, "name": "plug", "manufacturer": "M", "model": "T",
    "habits": {"firmware": [*KIND, 1]},
    "endpoints": {"1": {"in": {"0x0000": {}, "0x0006": {"0x0000": ["10", 1]}}, "out": ["0x0019"]}},
}  # fmt: skip


def image(version: int = 2, size: int = 300, kind: tuple[int, int] = KIND) -> bytes:
    return (ota.header_of(ota.ImageHeader(*kind, version, size), "test") + bytes(range(256)) * 40)[:size]


def note_of(data: bytes, **changes: Any) -> FirmwareNote:
    header = ota.parse_header(data)
    return FirmwareNote(hashlib.sha256(data).digest(), *header[:3])._replace(**changes)


def put(folder: Path, name: str, data: bytes, note: bytes | None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    if note is not None:
        (folder / (name + ".cose")).write_bytes(note)


def opened(document: bytes) -> FirmwareNote:
    return open_firmware(document, lambda kid: KEY.public_key() if kid == "grid" else None)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


# The note


def test_a_note_holds_what_was_signed_and_from_whom() -> None:
    note = note_of(image())
    document = sign_firmware(SIGNER, "grid", note)
    assert opened(document) == note
    stranger = FileSigner(ec.generate_private_key(ec.SECP256R1()), b"")
    command = sign_sign1(SIGNER.sign, {1: SIGNER.alg, 3: 61, 4: b"grid"}, b"\xa0")
    for wrong, why in (
        (sign_firmware(SIGNER, "who", note), "nobody"),
        (sign_firmware(stranger, "grid", note), "signature"),
        (document[:-1] + b"\0", "signature"),
        (command, "no note"),
        (b"", "COSE"),
        (document + b"\0" * 5000, "COSE"),
        (sign_firmware(SIGNER, "grid", note._replace(sha256=b"short")), "32 bytes"),
        (sign_firmware(SIGNER, "grid", note._replace(version=-1)), "32 bits"),
    ):
        with pytest.raises(ValueError, match=why):
            opened(wrong)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_note_or_an_image_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ValueError):
        opened(data)
    with pytest.raises(ValueError):
        ota.parse_header(data)


# The machine


def upgrades(version: int = 2, size: int = 100) -> tuple[Upgrades, bytes]:
    data = image(version, size)
    machine = Upgrades()
    machine.images[KIND] = StoredImage(ota.parse_header(data), lambda at, n: data[at : at + n])
    return machine, data


def ask(command: int, *fields: bytes, version: int = 2, front: int = 0) -> bytes:
    place = KIND[0].to_bytes(2, "little") + KIND[1].to_bytes(2, "little") + version.to_bytes(4, "little")
    return bytes((0x01, 7, command, front)) + place + b"".join(fields)


def block_at(offset: int, most: int = 63) -> bytes:
    return ask(ota.IMAGE_BLOCK, offset.to_bytes(4, "little"), bytes((most,)))


def test_an_image_is_offered_to_older_ones_alone_byte_by_byte() -> None:
    machine, _ = upgrades()
    place = b"\x66\x11\x42\x00"
    [said], _ = machine.heard("a", ask(ota.QUERY_NEXT, version=1), 0.0)
    assert said == b"\x19\x07\x02\x00" + place + b"\x02\0\0\0" + (100).to_bytes(4, "little")
    for version in (2, 3):
        assert machine.heard("a", ask(ota.QUERY_NEXT, version=version), 0.0)[0] == [b"\x19\x07\x02\x98"]


def test_blocks_make_up_the_image_and_its_end_is_told() -> None:
    machine, data = upgrades()
    loaded, now = b"", 0.0
    while len(loaded) < len(data):
        [said], _ = machine.heard("a", block_at(len(loaded)), now)
        assert said[3] == 0 and int.from_bytes(said[12:16], "little") == len(loaded) and said[16] <= BLOCK_BYTES
        loaded += said[17:]
        now += 1.0
    assert loaded == data and machine.under_way(now) == ("a", 96)
    [said], ended = machine.heard("a", ask(ota.UPGRADE_END), now)
    assert said == b"\x19\x07\x07\x66\x11\x42\x00\x02\0\0\0" + bytes(8) and ended == Ended("a", 2, 0)
    assert machine.under_way(now) is None


def test_one_at_a_time_and_no_faster_than_the_air_allows() -> None:
    machine, _ = upgrades()
    assert machine.heard("a", block_at(0), 0.0)[0][0][3] == 0
    assert machine.heard("a", block_at(48), 0.01)[0] == [b"\x19\x07\x05\x97" + bytes(4) + b"\x01\0\0\0\0\0"]
    assert machine.heard("b", block_at(0), 1.0)[0] == [b"\x19\x07\x05\x97" + bytes(4) + b"\x3c\0\0\0\0\0"]
    assert machine.heard("b", block_at(0), 121.0)[0][0][3] == 0, "the first has given up"


def test_an_image_that_went_or_cannot_be_read_is_aborted_and_a_refusal_is_told() -> None:
    machine, _ = upgrades()
    assert machine.heard("a", block_at(0, most=0), 0.0)[0] == [b"\x19\x07\x05\x95"]
    machine.heard("a", block_at(0), 5.0)
    _, ended = machine.heard("a", ask(ota.UPGRADE_END, front=0x96), 6.0)
    assert ended == Ended("a", 2, 0x96)
    machine.images.clear()
    assert machine.heard("a", block_at(48), 9.0)[0] == [b"\x19\x07\x05\x95"]


@given(st.binary(min_size=3, max_size=80), st.floats(0, 1e9))
def test_any_bytes_of_a_client_are_answered_in_one_frame(frame: bytes, now: float) -> None:
    machine, _ = upgrades()
    if ota.is_of_client(ota.CLUSTER, frame):
        [said], _ = machine.heard("a", frame, now)
        assert 5 <= len(said) + 1 <= 73 and said[1] == frame[1]


# The folder, and a device behind the emulated radio


@pytest.mark.condition("firmware-refused")
def test_a_device_loads_what_was_signed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.zigbee.firmware._LOOK_S", 0.2)
    good, newer = image(), image(9, 400)
    with short_directory() as place, Emulator(place, [DEVICE]) as radio:
        folder = place / "data" / FOLDER

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                hub.link.open_note = opened
                put(folder, "unsigned.ota", newer, None)
                put(folder, "other.ota", newer, sign_firmware(SIGNER, "grid", note_of(good)))
                put(folder, "stranger.ota", newer, sign_firmware(SIGNER, "somebody", note_of(newer)))
                put(folder, "mislabelled.ota", newer, sign_firmware(SIGNER, "grid", note_of(newer, image_type=1)))
                put(folder, "nothing.ota", b"nothing", sign_firmware(SIGNER, "grid", note_of(good)))
                await hub.open()
                await until("the condition", lambda: came("firmware-refused", hub.conditions()))
                assert {name: why.split()[-1] for name, why in hub.status["firmware"]["refused"].items()} == {
                    "unsigned.ota": "it", "other.ota": "signed", "stranger.ota": "admin", "mislabelled.ota": "signed",
                    "nothing.ota": "image",
                }  # fmt: skip
                await hub.quantities("state")
                row = await radio.device("plug")
                assert row["firmware"]["version"] == 1 and not row["firmware"]["bytes"]

                put(folder, "good.ota", good, sign_firmware(SIGNER, "grid", note_of(good)))
                row = await radio.until("the upgrade", "plug", lambda row: row["firmware"]["version"] == 2)
                assert row["firmware"]["sha256"] == hashlib.sha256(good).hexdigest() and row["firmware"]["notified"]
                await until(
                    "its event", lambda: ("adapter.updated", {"client": PLUG_CLIENT, "version": 2}) in hub.events
                )
                (offered,) = hub.status["firmware"]["images"]
                assert offered == {
                    "file": "good.ota", "manufacturer": KIND[0], "type": KIND[1], "version": 2, "bytes": 300,
                }  # fmt: skip
                for path in folder.iterdir():
                    if not path.name.startswith("good"):
                        path.unlink()
                await until("it to go", lambda: went("firmware-refused", hub.conditions()))

        run(scenario())
