"""Whatever comes: nothing is raised, memory and work are bounded, and one flipped bit of a telegram that has a checksum
never becomes a value that was not said."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.meter import dlms, sml, telegrams, tic
from drivers.meter.cipher import Keys, parse_keys
from drivers.meter.cosem import MalformedCosem, read_notification
from drivers.meter.happenings import Memory
from drivers.meter.iec62056 import Iec62056
from drivers.meter.lines import read_lines
from drivers.meter.listener import PROTOCOLS, Listener
from drivers.meter.quantities import QUANTITIES, codes_of, meaning_of
from drivers.meter.reader import MeterReader
from drivers.meter.records import Framer, Readout
from hub.wire.uplink.reading import is_quantity, parse_payload, unit_of
from tests.drivers.meter.test_binary import BASE, OBJECTS, PAIRS, PUSHED, REGISTERS, STANDARD
from tests.drivers.meter.test_telegrams import d0, p1
from tests.emulators.meter import even, p1_telegram
from tests.emulators.meter_telegrams import (
    KEY,
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
)
from tests.emulators.meter_telegrams import (
    tic as tic_frame,
)

KEYS = Keys(KEY)
FRAMERS: dict[str, Callable[[], Framer]] = {
    "text": telegrams.Telegrams, "sml": sml.Sml, "dlms": lambda: dlms.Dlms(KEYS), "tic": tic.Tic,
}  # fmt: skip
SEEDS: dict[str, tuple[str, bytes]] = {
    "p1": ("text", p1_telegram(1234, 0)),
    "p1 in seven bits": ("text", even(p1_telegram(1234, 0))),
    "read-out": ("text", d0("0.0.0(12345678)", "1.8.0(0012345.678*kWh)", "16.7.0(-00.420*kW)")),
    "read-out, 7E1": ("text", even(d0("0.0.0(12345678)", "1.8.0(0012345.678*kWh)", "16.7.0(-00.420*kW)"))),
    "sml": ("sml", sml_file(REGISTERS, status=0x1C0104)),
    "sml, kermit": ("sml", sml_file(REGISTERS, kermit=True)),
    "hdlc": ("dlms", hdlc(notification(PUSHED))),
    "hdlc in segments": ("dlms", hdlc(notification(PUSHED), most=80)),
    "mbus": ("dlms", mbus(notification(PUSHED, nested=False), most=100)),
    "mbus, enciphered": ("dlms", mbus(enciphered(notification(PUSHED), 7))),
    "p1, enciphered": ("dlms", enciphered(p1_telegram(500), 7)),
    "kamstrup": ("dlms", hdlc(kamstrup([("1.7.0", 500), ("1.8.0", 7745250)]))),
    "kaifa": ("dlms", hdlc(kaifa([500, 0, 0, 0, 2000, 2301]))),
    "objects in blocks": ("dlms", b"".join(map(hdlc, blocks(pushed_objects("0-6:25.9.0", OBJECTS), most=80)))),
    "described": ("dlms", hdlc(described(PAIRS))),
    "tic": ("tic", even(tic_frame(BASE))),
    "tic, no parity": ("tic", tic_frame(BASE)),
    "tic, standard": ("tic", tic_frame(STANDARD, standard=True)),
}  # fmt: skip


def said(framer: Framer, data: bytes) -> list[dict[str, str]]:
    found = framer.receive(data, 0.0) + framer.handle_timer(1.0) + framer.handle_timer(6.0)
    return [meaning_of(item).values for item in found if isinstance(item, Readout) and item.check != "none"]


@pytest.mark.parametrize("name", SEEDS)
def test_one_flipped_bit_never_becomes_a_value(name: str) -> None:
    kind, data = SEEDS[name]
    [right] = said(FRAMERS[kind](), data)
    assert right
    for place in range(len(data)):
        for bit in range(8):
            spoiled = bytearray(data)
            spoiled[place] ^= 1 << bit
            for values in said(FRAMERS[kind](), bytes(spoiled)):
                assert values == right, f"bit {bit} of byte {place}"


@pytest.mark.parametrize("name", SEEDS)
def test_one_that_breaks_off_says_nothing_and_the_next_is_heard(name: str) -> None:
    kind, data = SEEDS[name]
    [right] = said(FRAMERS[kind](), data)
    for cut in range(1, len(data), 7):
        framer = FRAMERS[kind]()
        assert [values for values in said(framer, data[:cut]) if values != right] == []
        framer = FRAMERS[kind]()
        heard = said(framer, data[:cut] + data + data)
        assert right in heard and all(values == right for values in heard), cut


SOUP = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([data for _, data in SEEDS.values()]),
        st.sampled_from([b"/", b"/EMU5", b"!", b"!ABCD", b"\r\n", b"\x02", b"\x03", b"\x1b" * 4, b"\x01" * 4,
        b"\x7e\xa0"]), st.sampled_from([b"\x68\xff\xff\x68", b"\xdb\x08EMU", b"\x82\xff\xff\x30", b"1-0:1.8.0(1*kWh)",
        b"\0" * 40]),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PROTOCOLS), SOUP, st.lists(st.floats(0, 70), max_size=25))
def test_any_bytes_at_any_moment_raise_nothing(protocol: str, soup: list[bytes], pauses: list[float]) -> None:
    listener, reader, now = Listener(protocol, 0.0, keys=KEYS), MeterReader(Memory()), 0.0
    for at, data in enumerate(soup):
        now += pauses[at % len(pauses)] if pauses else 0.1
        for item in [*listener.handle_timer(now), *listener.receive(data, now)]:
            reader.take(item, now)
        listener.take_actions()
        assert listener.get_timer() >= 0
    reader.figures(), reader.details()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FRAMERS)), SOUP)
def test_a_framer_keeps_little_and_goes_on(kind: str, soup: list[bytes]) -> None:
    framer = FRAMERS[kind]()
    for data in soup:
        framer.receive(data, 0.0)
    framer.handle_timer(100.0)
    seed = next(data for of, data in SEEDS.values() if of == kind)
    heard = framer.receive(seed, 200.0) + framer.receive(seed, 201.0) + framer.handle_timer(300.0)
    assert any(isinstance(item, Readout) for item in heard), "silence ends whatever was begun"


@pytest.mark.parametrize("kind", sorted(FRAMERS))
@pytest.mark.parametrize(
    "piece",
    [b"/EMU5", b"/EMU5\r\n!ABCD\r\n", b"!ABCD", b"\x02\n", b"\x1b" * 4 + b"\x01" * 4, b"\x1b", b"\x7e\xa7\xff",
    b"\x68\xff\xff\x68",
     b"\xdb\x08EMUxxxxx\x82\x1f\xff\x30", b"1", b"\x00", b"\xff"],
)  # fmt: skip
def test_what_never_ends_is_forgotten(kind: str, piece: bytes) -> None:
    framer = FRAMERS[kind]()
    data = piece * (1 + 4096 // len(piece))
    for _ in range(64):  # a quarter of a megabyte
        framer.receive(data, 0.0)
    held = sum(len(value) for value in vars(framer).values() if isinstance(value, bytes | bytearray))
    assert held <= 2 * (telegrams.MAX_BYTES + len(data))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_take_a_decoder_down(data: bytes) -> None:
    try:
        read_notification(b"\x0f" + data)
    except MalformedCosem:
        pass
    try:
        parse_keys(data)
    except ValueError:
        pass
    sml_body = sml._readout
    try:
        sml_body(data, data)
    except sml._Malformed:
        pass


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400))
def test_any_lines_are_read_or_not(text: str) -> None:
    lines = read_lines(text)
    meaning_of(Readout("p1", "", "crc", lines.registers, lines.texts, b""))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.floats(0, 5)), max_size=30))
def test_a_dialogue_goes_on_whatever_is_answered(answers: list[tuple[bytes, float]]) -> None:
    machine, now = Iec62056(0.0), 0.0
    for data, pause_s in answers:
        now += pause_s
        machine.handle_timer(now)
        machine.receive(data, now)
        machine.take_actions()
        assert machine.get_timer() <= now + 125


def test_after_a_storm_of_bad_telegrams_a_good_one_is_heard_at_once() -> None:
    framer = telegrams.Telegrams()
    good = p1_telegram(500)
    for _ in range(200):
        framer.receive(good.replace(b"00.500", b"09.500"), 0.0)
        framer.receive(b"/EMU5\r\n!ABCD\r\n" * 20, 0.0)
    assert any(isinstance(item, Readout) for item in framer.receive(good, 0.0))


CODES = [
    "1-0:1.8.0",
    "1-0:1.8.1",
    "1-0:2.8.1",
    "1-0:1.7.0",
    "1-0:2.7.0",
    "1-0:32.7.0",
    "0-0:96.1.1",
    "0-0:1.0.0",
    "0-0:17.0.0",
    "0-1:24.1.0",
    "0-1:24.2.1",
    "0-0:96.7.21",
    "1-0:32.32.0",
    "1-0:99.97.0",
    "0-0:98.1.0",
    "1-0:31.4.0",
    "C.1.0",
    "P.01",
]
CONTENTS = [
    "0",
    "1",
    "003",
    "999999999999999.999999999*kWh",
    "-0.000*kWh",
    "0*kWh",
    "5*kW",
    "-5*kW",
    "9*V",
    "1*A",
    "7*MWh",
    "x",
    "230119120000W",
    "17.0*kW",
    "632525252525S)(0*m3",
    "230119120000W)(1*m3",
    "1)(0-0:96.7.19)(230119120000W)(5*s",
    "00000000000000000000000000000000000000",
    "1)(1-0:1.6.0)(1-0:1.6.0)(230201000000W)(230114124500W)(3*kW",
]
LINES = st.lists(st.builds("{}({})".format, st.sampled_from(CODES), st.sampled_from(["", *CONTENTS])), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(LINES, st.booleans(), st.floats(0, 1e7)), max_size=8))
def test_whatever_a_telegram_says_it_is_taken(said_so: list[tuple[list[str], bool, float]]) -> None:
    reader, now = MeterReader(Memory()), 0.0
    for lines, has_crc, pause_s in said_so:
        now += pause_s
        framer = telegrams.Telegrams()
        for item in [*framer.receive(p1(*lines, check=None if has_crc else ""), now), *framer.handle_timer(now + 1)]:
            for reading in reader.take(item, now).readings:
                parse_payload(reading.text.encode())
    reader.figures(), reader.details()


def test_each_quantity_says_what_it_is_made_of() -> None:
    assert codes_of("power") == "1-0:16.7.0, else 1-0:1.7.0 - 1-0:2.7.0, else 1-0:1.7.0"
    assert codes_of("energy.export") == "1-0:2.8.0, else the sum of all of 1-0:2.8.1 to 1-0:2.8.9"
    assert all(
        is_quantity(name) and codes_of(name) and unit_of(name) == source.unit for name, source in QUANTITIES.items()
    )
