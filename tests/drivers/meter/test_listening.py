"""What speaks at a port is found out within a minute, at whatever rate and parity, and read through noise, cuts, parity
errors and changes of the rate: meters of our own on a line of our own, on a virtual clock at the line's pace."""

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from drivers.meter.cipher import Keys
from drivers.meter.happenings import Memory
from drivers.meter.iec62056 import IDLE, TRANSITIONS
from drivers.meter.listener import PROTOCOLS, Listener, Setting
from drivers.meter.reader import MeterReader
from drivers.meter.records import Bad, Readout, SetLine, Unreadable
from tests.drivers.meter.test_binary import (
    BASE,
    OBJECTS,
    OFF_PEAK,
    PAIRS,
    PUSHED,
    REGISTERS,
    STANDARD,
    THREE_PHASES,
)
from tests.drivers.meter.test_telegrams import p1
from tests.emulators.meter import p1_telegram
from tests.emulators.meter_line import Answering, Line, Pushing, Spoil, play
from tests.emulators.meter_telegrams import (
    KEY,
    bare_pairs,
    blocks,
    described,
    enciphered,
    hdlc,
    kaifa,
    kamstrup,
    mbus,
    notification,
    pushed_objects,
    sml_file,
    tic,
)

WITHIN_S = 60.0
P1 = p1_telegram(1234, 0)
OLD_P1 = p1(
    "0-0:96.1.1(12345678)", "1-0:1.8.1(00001.234*kWh)", "1-0:1.8.2(00002.345*kWh)", "1-0:1.7.0(0000.36*kW)", check=""
)
SML, PUSH = sml_file(REGISTERS), notification(PUSHED)
READ_OUT = ["F.F(00)", "0.0.0(00012345)", "1.8.0(0012345.678*kWh)", "16.7.0(-00.420*kW)", "32.7.0(229.8*V)"]
PUSHED_READ_OUT = b"/ESY5Q3D V3\r\n\r\n1-0:0.0.0*255(1234)\r\n1-0:1.8.0*255(0012345.678*kWh)\r\n!\r\n"
HAGER = b"/HAG5eHZ010C\r\n1-0:0.0.0*255(1095110000006703)\r\n1-0:1.8.1*255(000065.7067)\r\n!\r\n"
KEYS = Keys(KEY)
OBJECTS_PUSH = pushed_objects("0-6:25.9.0", OBJECTS)
LANDIS = enciphered(bare_pairs(PAIRS), 7, title=b"LGZ\0\0\0\0\1")


class Speaker(NamedTuple):
    """A meter, what it is found to be, and one value that it says. keys: the home's."""

    name: str
    make: Callable[[], Pushing | Answering]
    spoken: str
    quantity: str
    value: str
    protocol: str = "auto"
    keys: Keys | None = None
    for_s: float = 130.0


def pushing(line: Line, *telegrams: bytes, every_s: float, first_s: float = 0.3) -> Callable[[], Pushing]:
    return lambda: Pushing(line, telegrams, every_s, first_s)


def answering(**how: object) -> Callable[[], Answering]:
    return lambda: Answering(READ_OUT, **how)  # type: ignore[arg-type]


FAST, SLOW, SEVEN = Line(115200), Line(9600), Line(9600, "7E")
SPEAKERS = [
    Speaker("DSMR 5", pushing(FAST, P1, every_s=1), "p1", "power", "1234"),
    Speaker("DSMR 4", pushing(FAST, P1, every_s=10, first_s=9.5), "p1", "power", "1234"),
    Speaker("Hungary", pushing(FAST, p1("0-0:96.13.0(" + "\xff" * 1024 + ")", "1-0:1.8.0(1.5*kWh)"), every_s=10),
            "p1", "energy", "1500"),
    Speaker("DSMR 2, 7E1", pushing(SEVEN, OLD_P1, every_s=10, first_s=9), "p1", "energy", "3579"),
    Speaker("DSMR 2, no parity", pushing(SLOW, OLD_P1, every_s=10, first_s=9), "p1", "energy", "3579"),
    Speaker("P1 at 9600", pushing(SLOW, P1, every_s=10), "p1", "power", "1234"),
    Speaker("SML each second", pushing(SLOW, SML, every_s=1), "sml", "power", "-420"),
    Speaker("SML each four", pushing(SLOW, SML, every_s=4, first_s=3.9), "sml", "power", "-420"),
    Speaker("SML, Kermit", pushing(SLOW, sml_file(REGISTERS, kermit=True), every_s=2), "sml", "power", "-420"),
    Speaker("Aidon", pushing(Line(2400, "E"), hdlc(PUSH), every_s=10, first_s=9), "dlms", "power", "1122"),
    Speaker("Aidon, no parity", pushing(Line(2400), hdlc(PUSH), every_s=10, first_s=9), "dlms", "power", "1122"),
    Speaker("Aidon each 2.5 s", pushing(Line(2400, "E"), hdlc(PUSH), every_s=2.5), "dlms", "power", "1122"),
    Speaker("Kamstrup", pushing(Line(2400), hdlc(kamstrup([("1.7.0", 1896), ("2.7.0", 0)])), every_s=10), "dlms",
            "power", "1896"),
    Speaker("Kaifa", pushing(Line(2400, "E"), hdlc(kaifa([4904, 0, 0, 1, 14571, 2193])), every_s=10), "dlms", "power",
            "4904"),
    Speaker("Austria, M-Bus", pushing(Line(2400, "E"), mbus(enciphered(PUSH, 7)), every_s=5), "dlms", "power", "1122",
            keys=KEYS),
    Speaker("Austria, HDLC at 9600", pushing(SLOW, hdlc(enciphered(PUSH, 7)), every_s=5), "dlms", "power", "1122",
            keys=KEYS),
    Speaker("Austria, Landis+Gyr", pushing(Line(2400, "E"), b"".join(map(hdlc, blocks(LANDIS))), every_s=5), "dlms",
            "energy", "4408736", keys=KEYS),
    Speaker("Switzerland, in blocks", pushing(Line(2400, "E"), b"".join(map(hdlc, blocks(OBJECTS_PUSH))), every_s=5),
            "dlms", "energy", "21956"),
    Speaker("Switzerland, fast", pushing(FAST, hdlc(OBJECTS_PUSH, most=150), every_s=5), "dlms", "energy", "21956"),
    Speaker("Czechia", pushing(SLOW, hdlc(described(PAIRS)), every_s=9), "dlms", "power", "2893"),
    Speaker("Luxembourg", pushing(FAST, enciphered(P1, 7), every_s=10), "p1", "power", "1234", keys=KEYS),
    Speaker("Linky, historic", pushing(Line(1200, "7E"), tic(BASE), every_s=1.6), "tic", "energy", "7191269"),
    Speaker("Linky, off-peak", pushing(Line(1200, "7E"), tic(OFF_PEAK), every_s=1.6), "tic", "energy", "300000"),
    Speaker("Linky, standard", pushing(SEVEN, tic(STANDARD, standard=True), every_s=1.5), "tic", "energy", "1234567"),
    Speaker("Linky, three phases", pushing(SEVEN, tic(THREE_PHASES, standard=True), every_s=1.8), "tic", "voltage.l3",
            "231"),
    Speaker("read-out, mode C", answering(), "iec62056-21", "power", "-420"),
    Speaker("read-out, mode C at 19200", answering(fast=19200), "iec62056-21", "power", "-420"),
    Speaker("read-out, mode C at 300", answering(fast=300), "iec62056-21", "power", "-420"),
    Speaker("read-out, mode B", answering(mode="B", fast=4800), "iec62056-21", "power", "-420"),
    Speaker("read-out, mode A", answering(mode="A"), "iec62056-21", "power", "-420"),
    Speaker("read-out without BCC", answering(framed=False), "iec62056-21", "power", "-420"),
    Speaker("read-out of one that sleeps", answering(sleeps=True), "iec62056-21", "power", "-420"),
    Speaker("read-out, its rate does not work", answering(works=False), "iec62056-21", "power", "-420"),
    Speaker("read-out, mode D at 9600", pushing(SEVEN, PUSHED_READ_OUT, every_s=2), "iec62056-21", "energy",
            "12345678"),
    Speaker("read-out, mode D at 2400", pushing(Line(2400, "7E"), PUSHED_READ_OUT, every_s=3), "iec62056-21", "energy",
            "12345678"),
    Speaker("read-out, no units", pushing(SEVEN, HAGER, every_s=2), "iec62056-21", "energy", "65706.7"),
]  # fmt: skip
# The same where hub.toml says what it is.
NAMED = [
    speaker._replace(name=f"{speaker.name}, named", protocol="p1" if speaker.name == "Luxembourg" else speaker.spoken)
    for speaker in SPEAKERS
    if speaker.spoken in PROTOCOLS and speaker.name != "read-out, mode D at 2400"
]


def believed(
    speaker: Speaker, spoil: Spoil | None = None, first: Setting | None = None
) -> tuple[Listener, MeterReader, list[tuple[float, dict[str, str]]]]:
    listener = Listener(speaker.protocol, 0.0, keys=speaker.keys, first=first)
    reader = MeterReader(Memory())
    told = []
    for at, item in play(listener, speaker.make(), for_s=speaker.for_s, spoil=spoil):
        readings = reader.take(item, at).readings
        if readings:
            told.append((at, {reading.quantity: reading.text for reading in readings}))
    return listener, reader, told


@pytest.mark.parametrize("speaker", [*SPEAKERS, *NAMED], ids=lambda speaker: speaker.name)
def test_who_speaks_is_found_out_within_a_minute(speaker: Speaker) -> None:
    listener, reader, told = believed(speaker)
    assert listener.spoken == speaker.spoken
    first_at, values = told[0]
    # A first telegram that nothing vouches for waits for the next one, ten seconds at most; a wake-up takes four.
    assert first_at <= WITHIN_S + (11.0 if reader.details()["check"] == "none" else 0.0)
    assert values[speaker.quantity] == speaker.value
    assert reader.counters["telegrams"] >= 3 and reader.counters["bad"] == 0


def noise(data: bytes, number: int, chance: random.Random) -> bytes:
    """A third of the telegrams meets a burst."""
    if chance.random() > 0.3:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes(chance.randrange(256) for _ in range(12)) + data[at + 12 :]


def cut(data: bytes, number: int, chance: random.Random) -> bytes:
    """Some lose their end, some their begin."""
    at, fate = chance.randrange(1, len(data)), chance.random()
    return data[:at] if fate < 0.2 else data[at:] if fate < 0.35 else data


def flips(data: bytes, number: int, chance: random.Random) -> bytes:
    """A third of the telegrams has one wrong bit."""
    if chance.random() > 0.3:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(7)]) + data[at + 1 :]


def losses(data: bytes, number: int, chance: random.Random) -> bytes:
    """A third of the telegrams lacks a byte: the hub was slow to read."""
    if chance.random() > 0.3:
        return data
    at = chance.randrange(len(data))
    return data[:at] + data[at + 1 :]


@pytest.mark.parametrize("spoil", [noise, cut, flips, losses])
@pytest.mark.parametrize("speaker", [one for one in SPEAKERS if "does not" not in one.name], ids=lambda one: one.name)
def test_through_a_bad_cable_it_says_nothing_wrong(speaker: Speaker, spoil: Spoil) -> None:
    _, _, right = believed(speaker)
    said = {quantity: text for _, values in right for quantity, text in values.items()}
    listener, reader, told = believed(speaker._replace(for_s=400.0), spoil)
    for _, values in told:
        assert {quantity: said.get(quantity) for quantity in values} == values
    assert reader.counters["telegrams"] >= 2
    assert listener.spoken in (speaker.spoken, None)


@pytest.mark.parametrize(
    ("telegram", "line", "keys", "reason"),
    [
        (mbus(enciphered(PUSH, 7)), Line(2400, "E"), None, "DLMS, encrypted, no key"),
        (hdlc(enciphered(PUSH, 7)), Line(2400), None, "DLMS, encrypted, no key"),
        (enciphered(P1, 7), FAST, None, "DLMS, encrypted, no key"),
        (mbus(enciphered(PUSH, 7)), Line(2400, "E"), Keys(bytes(16)), "DLMS, encrypted, the key does not fit"),
        (hdlc(b"\x0f\0\0\0\0\0\x02\x01\x06\0\0\0\1"), Line(2400), None,
         "DLMS, no register with a code, a scale and a unit"),
        (b"\x68\x0b\x0b\x68\x08\x01\x72\x78\x56\x34\x12\x24\x23\x01\x02\xd9\x16", Line(2400, "E"), None,
         "M-Bus, and not DLMS in it"),
    ],
)  # fmt: skip
def test_what_speaks_and_cannot_be_read_is_said(telegram: bytes, line: Line, keys: Keys | None, reason: str) -> None:
    listener = Listener("auto", 0.0, keys=keys)
    found = play(listener, Pushing(line, [telegram], 5), for_s=90)
    assert found[0][0] <= WITHIN_S and {item.reason for _, item in found if isinstance(item, Unreadable)} == {reason}
    assert listener.spoken == "dlms" and listener.line == SetLine(line.baudrate, line.parity), "and it stays with it"


def test_what_was_found_is_tried_first_the_next_time() -> None:
    slow = next(speaker for speaker in SPEAKERS if speaker.name == "Aidon, no parity")
    listener, _, told = believed(slow)
    _, _, again = believed(slow, first=listener.setting)
    assert told[0][0] > 30 and again[0][0] < 12


def test_a_meter_that_is_exchanged_for_another_kind_is_found_again() -> None:
    listener = Listener("auto", 0.0)
    play(listener, Pushing(SLOW, [SML], 2), for_s=30)
    assert listener.spoken == "sml"

    class Later(Pushing):
        """It begins to speak when the other one has gone."""

    meter = Later(FAST, [P1], 1, first_s=40.0)
    found = play(listener, meter, for_s=200)
    assert listener.spoken == "p1" and any(isinstance(item, Readout) for _, item in found)


def test_an_address_is_asked_for_where_several_share_a_line() -> None:
    meter = Answering(READ_OUT, address="12345678")
    listener = Listener("iec62056-21", 0.0, address="12345678")
    found = play(listener, meter, for_s=40)
    assert any(isinstance(item, Readout) for _, item in found) and meter.asked[0] == b"/?12345678!\r\n"
    assert not any(
        isinstance(item, Readout) for _, item in play(Listener("auto", 0.0), Answering(READ_OUT, address="1"), for_s=90)
    )


def test_nobody_there_is_asked_gently() -> None:
    class Nobody(Pushing):
        """A cable that ends nowhere; it counts what is sent into it."""

        said = 0

        def hear(self, data: bytes, baudrate: int, now: float) -> None:
            self.said += len(data)

    meter = Nobody(FAST, [b""], 1, first_s=10_000.0)
    assert play(Listener("auto", 0.0), meter, for_s=600) == []
    assert 0 < meter.said < 2_000


def test_random_noise_is_nobody() -> None:
    chance = random.Random(7)
    telegrams = [bytes(chance.randrange(256) for _ in range(300)) for _ in range(20)]
    found = play(Listener("auto", 0.0), Pushing(SLOW, telegrams, 1), for_s=300)
    assert all(isinstance(item, Bad) for _, item in found)


def test_every_step_of_the_dialogue_leads_back_to_idle() -> None:
    states = {state for state, _ in TRANSITIONS}
    for state in states:
        reached = {state}
        for _ in states:
            reached |= {end for (begin, _), end in TRANSITIONS.items() if begin in reached}
        assert IDLE in reached
