"""SML files, COSEM pushes, enciphered telegrams and Linky's TIC of our own: what each says, or that it says nothing."""

from collections.abc import Sequence

import pytest

from drivers.meter.cipher import BadKeys, Keys, parse_keys
from drivers.meter.dlms import Dlms
from drivers.meter.quantities import Meaning, meaning_of
from drivers.meter.records import Bad, Framer, Readout, Unreadable
from drivers.meter.sml import Sml
from drivers.meter.tic import Tic
from tests.emulators.meter import even, p1_telegram
from tests.emulators.meter_telegrams import (
    AUTHENTICATION_KEY,
    KEY,
    Entry,
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

WH, W, V, A, VARH = 30, 27, 35, 33, 32
REGISTERS: list[Entry] = [
    ("1-0:1.8.0", WH, -1, 12345678), ("1-0:2.8.0", WH, -1, 5), ("1-0:16.7.0", W, 0, -420), ("1-0:32.7.0", V, -1, 2301),
]  # fmt: skip
SAID = {"energy": "1234567.8", "energy.export": "0.5", "power": "-420", "voltage.l1": "230.1"}
DZG, EMH = bytes.fromhex("0a01445a4700000000ff"), bytes.fromhex("0a01454d4800000000ff")
IN_FNN, OUT_FNN = 0x1C0104, 0x1C0904
IN_EDL, OUT_EDL = 0x182, 0x1A2


def meant(framer: Framer, data: bytes, step: int = 100_000) -> Meaning:
    found = [item for at in range(0, len(data), step) for item in framer.receive(data[at : at + step], 0.0)]
    [readout] = [item for item in found if isinstance(item, Readout)]
    return meaning_of(readout)


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("kermit", [False, True])
def test_an_sml_file(kermit: bool, step: int) -> None:
    meaning = meant(Sml(), b"\x1b\x1b" + sml_file(REGISTERS, kermit=kermit) + b"\0", step)
    assert meaning.values == SAID and meaning.number == "1EMU0000065537"


def test_an_sml_file_of_many_registers_and_texts() -> None:
    phases: list[Entry] = [(f"1-0:{code}.7.0", W, 0, code) for code in (36, 56, 76)]
    tariffs: list[Entry] = [(f"1-0:1.8.{tariff}", WH, -1, tariff * 10) for tariff in range(1, 10)]
    more: list[Entry] = [*phases, *tariffs, *[(f"1-0:81.7.{at}", 8, 0, at) for at in range(1, 16)]]
    meaning = meant(Sml(), sml_file([*REGISTERS, *more], texts=[("1-0:96.50.1", b"EMU"), ("1-0:96.5.0", b"\x1b" * 4)]))
    assert {name: meaning.values[name] for name in ("power.l1", "power.l3", "energy.t9", "energy")} == {
        "power.l1": "36", "power.l3": "76", "energy.t9": "9", "energy": "1234567.8",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("server", "status", "width", "value", "expected"),
    [
        (DZG, IN_FNN, 2, -29912, "356.24"),  # 35,624 hundredths in two bytes
        (DZG, IN_FNN, 3, -1, "167772.15"),
        (DZG, OUT_FNN, 2, -10550, "-105.5"),
        (DZG, OUT_FNN, 3, -78851, "-788.51"),
        (DZG, IN_FNN, 2, 21599, "215.99"),
        (DZG, IN_FNN, 4, -29912, "-299.12"),
        (DZG, None, 2, -29912, None),  # which way it flows, nobody says
        (EMH, IN_FNN, 2, -29912, "-299.12"),
    ],
)
def test_dzgs_power(server: bytes, status: int | None, width: int, value: int, expected: str | None) -> None:
    entries = [REGISTERS[0], ("1-0:16.7.0", W, -2, value)]
    meaning = meant(Sml(), sml_file(entries, server=server, status=status, power_width=width))
    assert meaning.values.get("power") == expected


@pytest.mark.parametrize(
    ("maker", "status", "expected"),
    [(b"EMH", IN_EDL, "126.6"), (b"EMH", OUT_EDL, "-126.6"), (b"EMH", None, None), (b"DNT", IN_EDL, None)],
)
def test_power_without_a_sign_is_read_where_the_status_word_has_it(
    maker: bytes, status: int | None, expected: str | None
) -> None:
    entries = [REGISTERS[0], ("1-0:15.7.0", W, -1, 1266)]
    meaning = meant(Sml(), sml_file(entries, status=status, texts=[("129-129:199.130.3", maker)]))
    assert meaning.values.get("power") == expected


def test_what_sml_leaves_open_is_absent() -> None:
    entries: list[Entry] = [
        ("1-0:1.8.0", 255, 0, 5), ("1-0:2.8.0", W, 0, 5), ("1-0:16.7.0", W, 99, 5), ("1-0:32.7.0", V, 0, 230),
    ]  # fmt: skip
    assert meant(Sml(), sml_file(entries)).values == {"voltage.l1": "230"}


PUSHED: list[Entry] = [
    ("1-0:1.7.0", W, 0, 1122), ("1-0:2.7.0", W, 0, 0), ("1-0:1.8.0", WH, 1, 2272138), ("1-0:2.8.0", WH, 0, 8),
    ("1-0:31.7.0", A, -1, 75), ("1-0:32.7.0", V, -1, 2307), ("1-0:3.8.0", VARH, 1, 58243),
]  # fmt: skip
PUSHED_SAYS = {
    "power": "1122", "energy": "22721380", "energy.export": "8", "current.l1": "7.5", "voltage.l1": "230.7",
    "reactive_energy": "582430",
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 50, 5000])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("frame", [hdlc, mbus, lambda apdu: hdlc(apdu, most=100), lambda apdu: mbus(apdu, most=90)])
def test_a_push_with_codes_scales_and_units(frame: "object", nested: bool, step: int) -> None:
    assert callable(frame)
    data = frame(notification(PUSHED, number="7359992892587665", version="EMU_V0001", nested=nested))
    meaning = meant(Dlms(), b"\x7e\x68\xdb" + data, step)
    assert meaning.values == PUSHED_SAYS and meaning.number == "7359992892587665"


def test_kamstrups_list() -> None:
    values = [("1.7.0", 1896), ("2.7.0", 0), ("31.7.0", 896), ("32.7.0", 225), ("1.8.0", 7745250), ("2.8.0", 1)]
    assert meant(Dlms(), hdlc(kamstrup(values, "34374909"))).number == "34374909"
    meaning = meant(Dlms(), hdlc(kamstrup(values)))
    assert meaning.number == "5706567000000000" and meaning.values == {
        "power": "1896", "current.l1": "8.96", "voltage.l1": "225", "energy": "77452500", "energy.export": "10",
    }  # fmt: skip


def test_kaifas_lists() -> None:
    powers, three = [4904, 0, 0, 17], [14571, 15643, 9525, 2193, 0, 2205]
    dlms = Dlms()
    assert meant(dlms, hdlc(kaifa([*powers, *three, 79591144, 0, 889389, 3210932]))).values == {
        "power": "4904", "current.l1": "14.571", "current.l2": "15.643", "current.l3": "9.525", "voltage.l1": "219.3",
        "voltage.l2": "0", "voltage.l3": "220.5", "energy": "79591144", "energy.export": "0",
        "reactive_energy": "889389", "reactive_energy.export": "3210932",
    }  # fmt: skip
    short = hdlc(b"\x0f\x40\x00\x00\x00\x00\x02\x01\x06\x00\x00\x01\xf4")
    assert meant(dlms, short).values == {"power": "500"}
    [other] = Dlms().receive(short, 0.0)
    assert isinstance(other, Unreadable), "500 of what, a meter that never said its name does not say"


OBJECTS = [
    ("1-1:1.8.0", 21956), ("1-1:2.8.0", 4547), ("1-1:1.8.1", 20000), ("1-1:3.8.0", 27256), ("1-0:1.7.0", 11),
    ("1-0:2.7.0", 0), ("1-0:32.7.0", 2357), ("1-0:31.7.0", 6),
]  # fmt: skip
OBJECTS_SAY = {
    "energy": "21956", "energy.export": "4547", "energy.t1": "20000", "reactive_energy": "27256", "power": "11",
}  # fmt: skip


@pytest.mark.parametrize(
    ("setup", "more"),
    [
        ("0-6:25.9.0", {"voltage.l1": "235.7", "current.l1": "0.06"}),
        ("0-8:25.9.0", {"voltage.l1": "2357"}),  # whole volts; hundredths of an ampere or whole ones, nobody says
    ],
)
def test_a_list_of_objects_and_their_values(setup: str, more: dict[str, str]) -> None:
    meaning = meant(Dlms(), hdlc(pushed_objects(setup, OBJECTS), most=200), 7)
    assert meaning.values == {**OBJECTS_SAY, **more} and meaning.number == "EMU1030000000001"


def test_a_list_of_objects_of_a_meter_whose_scales_nobody_tells_says_nothing() -> None:
    told = reasons(Dlms(), hdlc(pushed_objects("0-5:25.9.0", OBJECTS)))
    assert told == ["DLMS, no register with a code, a scale and a unit"]


def test_a_push_in_blocks() -> None:
    sent = blocks(pushed_objects("0-6:25.9.0", OBJECTS), most=80)
    assert len(sent) > 3
    dlms = Dlms()
    for _ in range(2):
        assert meant(dlms, b"".join(map(hdlc, sent)), 11).values["energy"] == "21956"
    sealed = blocks(enciphered(pushed_objects("0-6:25.9.0", OBJECTS), 7))
    assert meant(Dlms(Keys(KEY)), b"".join(map(hdlc, sealed))).values["energy"] == "21956"


@pytest.mark.parametrize("order", [[0, 1, 1, 2, 3], [0, 2, 3], [1, 2, 3], [0, 1, 3], [0, 1, 2, 0]])
def test_a_push_of_which_a_block_is_lost_or_comes_twice_says_nothing(order: list[int]) -> None:
    sent = blocks(pushed_objects("0-6:25.9.0", OBJECTS), most=80)
    assert len(sent) == 4
    dlms = Dlms()
    found = dlms.receive(b"".join(hdlc(sent[at]) for at in order), 0.0) + dlms.handle_timer(5.0)
    assert found and all(isinstance(item, Bad) for item in found)


@pytest.mark.parametrize(
    "block", [b"\xe0", b"\xe0\x40\0\1\0\0", b"\xe0\xc0\0\1\0\0\x05abc", b"\xe0\xc0\0\1\0\0\x02\xe0\xc0"]
)
def test_a_block_that_is_none(block: bytes) -> None:
    found = Dlms().receive(hdlc(block), 0.0)
    assert found and all(isinstance(item, Bad) for item in found)


PAIRS = [("1-0:1.8.0", 4408736), ("1-0:1.8.1", 3593919), ("1-0:1.8.2", 814817), ("1-0:1.7.0", 2893), ("1-0:2.7.0", 0)]
PAIRS_SAY = {"energy": "4408736", "energy.t1": "3593919", "energy.t2": "814817", "power": "2893"}


def test_pairs_without_scale_are_read_of_the_maker_that_documents_them() -> None:
    data = hdlc(enciphered(bare_pairs(PAIRS), 7, title=b"LGZ\0\0\0\0\1"))
    assert meant(Dlms(Keys(KEY)), data).values == PAIRS_SAY
    other = hdlc(enciphered(bare_pairs(PAIRS), 7))
    assert reasons(Dlms(Keys(KEY)), other) == ["DLMS, no register with a code, a scale and a unit"]


def test_the_czech_interface() -> None:
    meaning = meant(Dlms(), hdlc(described(PAIRS)), 13)
    assert meaning.values == PAIRS_SAY and meaning.number == "5100000001"


def test_a_code_whose_tag_and_length_are_changed_about() -> None:
    entries: list[Entry] = [("1-0:1.7.0", W, 0, 560), ("1-0:31.7.0", A, -2, 244), ("0-0:1.8.0", WH, 0, 34479)]
    data = notification(entries, number="40799390\0\0\0\0", version="EMBRIQ_V1_1")
    wrong = data.replace(b"\x09\x06\x01\x00\x1f\x07", b"\x06\x09\x01\x00\x1f\x07")
    assert wrong != data
    meaning = meant(Dlms(), hdlc(wrong))
    assert meaning.values == {"power": "560", "current.l1": "2.44", "energy": "34479"} and meaning.number == "40799390"


@pytest.mark.parametrize("frame", [hdlc, mbus])
@pytest.mark.parametrize("authentication_key", [AUTHENTICATION_KEY, b"", bytes(range(16))])
def test_an_enciphered_push(frame: "object", authentication_key: bytes) -> None:
    assert callable(frame)
    data = frame(enciphered(notification(PUSHED), 7, authentication_key=authentication_key))
    assert meant(Dlms(Keys(KEY, authentication_key)), data).values == PUSHED_SAYS
    assert meant(Dlms(Keys(KEY)), data).values == PUSHED_SAYS, "the frame's check vouches for it"
    assert reasons(Dlms(), data) == ["DLMS, encrypted, no key"]
    assert reasons(Dlms(Keys(bytes(16))), data) == ["DLMS, encrypted, the key does not fit"]


def reasons(framer: Framer, data: bytes) -> list[str]:
    found = framer.receive(data, 0.0)
    assert not any(isinstance(item, Readout) for item in found)
    return [item.reason for item in found if isinstance(item, Unreadable | Bad)]


def test_an_enciphered_p1_telegram() -> None:
    data = enciphered(p1_telegram(500), 7)
    for step in (1, 100, 5000):
        assert meant(Dlms(Keys(KEY)), b"\xdb\x08noise" + data, step).values["power"] == "500"
    assert reasons(Dlms(), data) == ["DLMS, encrypted, no key"]
    assert reasons(Dlms(Keys(bytes(16))), data) == ["DLMS, encrypted, the key does not fit"]
    other = enciphered(p1_telegram(500), 7, authentication_key=bytes(range(16)))
    assert meant(Dlms(Keys(KEY)), other).values["power"] == "500", "the telegram's own CRC vouches for it"
    no_crc = enciphered(p1_telegram(500).partition(b"!")[0] + b"!\r\n", 7, authentication_key=bytes(range(16)))
    assert reasons(Dlms(Keys(KEY)), no_crc) == ["its CRC is wrong"]


def test_an_enciphered_push_without_a_frame_needs_its_tag() -> None:
    data = enciphered(notification(PUSHED), 7, authentication_key=bytes(range(16)))
    assert meant(Dlms(Keys(KEY, bytes(range(16)))), data).values == PUSHED_SAYS
    assert reasons(Dlms(Keys(KEY)), data) == ["DLMS, encrypted, no authentication key"]


def test_a_damaged_one_of_a_meter_that_was_read_is_no_wrong_key() -> None:
    dlms = Dlms(Keys(KEY))
    assert meant(dlms, enciphered(p1_telegram(500), 7)).values
    data = bytearray(enciphered(p1_telegram(500), 8))
    data[100] ^= 4
    [item] = dlms.receive(bytes(data), 1.0)
    assert isinstance(item, Bad)


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (KEY.hex().encode(), Keys(KEY)),
        (KEY.hex().upper().encode() + b"\n", Keys(KEY)),
        (
            b"#GUEK\n" + KEY.hex().encode() + b"\n" + AUTHENTICATION_KEY.hex().encode() + b"\n",
            Keys(KEY, AUTHENTICATION_KEY),
        ),
        (bytes(range(128, 144)), Keys(bytes(range(128, 144)))),
    ],
)
def test_key_files(data: bytes, keys: Keys) -> None:
    assert parse_keys(data) == keys


@pytest.mark.parametrize("data", [b"", b"hello", KEY.hex().encode()[:-1], KEY.hex().encode() * 2, b"\xff" * 40])
def test_what_is_no_key_file_says_so_and_no_more(data: bytes) -> None:
    with pytest.raises(BadKeys, match="32 hexadecimal digits"):
        parse_keys(data)


Groups = Sequence[tuple[str, ...]]
BASE: Groups = [("ADCO", "012345678901"), ("OPTARIF", "BASE"), ("ISOUSC", "30"), ("BASE", "007191269"),
                ("PTEC", "TH.."), ("IINST", "001"), ("PAPP", "00430"),
                ("HHPHC", "A"), ("MOTDETAT", "000000")]  # fmt: skip
OFF_PEAK: Groups = [*BASE[:2], ("HCHC", "000100000"), ("HCHP", "000200000")]
TEMPO: Groups = [*BASE[:2], *[(f"BBRH{hour}J{day}", f"{at:09d}") for at, (day, hour) in
                              enumerate([(d, h) for d in "BWR" for h in ("C", "P")], 1)]]  # fmt: skip
STANDARD: Groups = [
    ("ADSC", "041876543210"), ("VTIC", "02"), ("DATE", "H210101120000", ""), ("EAST", "001234567"),
    ("EASF01", "001000000"), ("EASF02", "000234567"), ("EAIT", "000000042"), ("ERQ1", "000000010"), ("ERQ2",
    "000000001"), ("ERQ3", "000000002"), ("ERQ4", "000000003"), ("IRMS1", "002"), ("URMS1", "231"), ("PREF", "09"),
    ("SINSTS", "00430"), ("UMOY1", "H210101120000", "230"),
]  # fmt: skip


THREE_PHASES: Groups = [
    *STANDARD[:4], ("IRMS1", "002"), ("IRMS2", "001"), ("IRMS3", "004"), ("URMS1", "234"), ("URMS2", "240"),
    ("URMS3", "231"), ("SMAXSN1", "E210415052715", "02892"), ("SMAXSN-1", "E210414032733", "05487"),
    ("SMAXSN1-1", "E210414052143", "02196"), ("SMAXSN3-1", "E210414114344", "02561"),
    ("MSG1", "PAS DE          MESSAGE         "), ("PJOURF+1", "00008001" + " NONUTILE" * 10),
]  # fmt: skip


@pytest.mark.parametrize("parity", [bytes, even])
@pytest.mark.parametrize(
    ("groups", "standard", "values"),
    [
        (BASE, False, {"energy": "7191269", "current.l1": "1"}),
        (OFF_PEAK, False, {"energy": "300000", "energy.t1": "100000", "energy.t2": "200000"}),
        (TEMPO, False, {"energy": "21", **{f"energy.t{n}": str(n) for n in range(1, 7)}}),
        (STANDARD, True, {"energy": "1234567", "energy.t1": "1000000", "energy.t2": "234567", "energy.export": "42",
                          "reactive_energy": "11", "reactive_energy.export": "5", "current.l1": "2", "voltage.l1":
                          "231"}),
        (THREE_PHASES, True, {"energy": "1234567", "current.l1": "2", "current.l2": "1", "current.l3": "4",
                              "voltage.l1": "234", "voltage.l2": "240", "voltage.l3": "231"}),
    ],
    ids=["base", "off-peak", "tempo", "standard", "three phases"],
)  # fmt: skip
def test_linkys_frames(parity: "object", groups: Groups, standard: bool, values: dict[str, str]) -> None:
    assert callable(parity)
    data = parity(tic(groups, standard=standard))
    for step in (1, 30, 5000):
        meaning = meant(Tic(), data[40:] + data, step)
        assert meaning.values == values and meaning.number == groups[0][1]


def test_a_frame_of_which_a_group_is_lost_or_wrong_says_nothing() -> None:
    data = tic(OFF_PEAK)
    begin = data.index(b"\nHCHP")
    for spoiled in (
        data.replace(b"000200000", b"000200001"),
        data[:begin] + b"\x1a" + data[begin + 1 :],
        data.replace(b"\r\nHCHP", b""),
        data[:begin] + b"\x04" + data[begin:],
    ):
        assert not any(isinstance(item, Readout) for item in Tic().receive(spoiled, 0.0))
