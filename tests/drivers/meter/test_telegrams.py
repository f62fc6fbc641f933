"""Telegrams of text of our own, in the shapes that meters all over Europe send: what each says, or that it says
nothing."""

from typing import NamedTuple

import pytest

from drivers.meter.checks import bcc, crc16_arc, crc16_kermit, crc16_x25
from drivers.meter.quantities import Meaning, meaning_of
from drivers.meter.records import CRC, NONE, PARITY, Bad, Readout
from drivers.meter.telegrams import Telegrams
from tests.emulators.meter import crc_arc, even

IDENT = "/EMU5\\METER"
TOTAL = "1-0:1.8.0(000123.456*kWh)"


def p1(*lines: str, ident: str = IDENT, newline: str = "\r\n", check: str | None = None) -> bytes:
    """A P1 telegram; `check`: what stands behind the `!` in place of the CRC."""
    body = newline.join([ident, "", *lines, "!"]).encode("latin-1")
    return body + (f"{crc_arc(body):04X}" if check is None else check).encode() + newline.encode()


def d0(*lines: str, ident: str = "/EMU5METER", framed: bool = True) -> bytes:
    body = "\r\n".join([*lines, "!", ""]).encode()
    return f"{ident}\r\n".encode() + (b"\x02" + body + b"\x03" + bytes([bcc(body + b"\x03")]) if framed else body)


def d0_tight(*lines: str) -> bytes:
    body = "\r\n".join([*lines, "!"]).encode() + b"\x03"
    return b"/EMU5METER\r\n\x02" + body + bytes([bcc(body)])


def d0_joined(*lines: str) -> bytes:
    body = "\r\n".join(lines).encode() + b"!\r\n\x03"
    return b"/EMU5METER\r\n\x02" + body + bytes([bcc(body)])


def unpadded() -> bytes:
    """A telegram whose CRC begins with a zero, which the meter does not write."""
    for count in range(100_000):
        data = p1(f"0-0:96.1.1({count})", TOTAL)
        if data[-6:-5] == b"0":
            return data[:-6] + data[-6:].lstrip(b"0")
    raise AssertionError


def found_in(data: bytes) -> list[Readout | Bad]:
    telegrams = Telegrams()
    found = telegrams.receive(data, 0.0) + telegrams.handle_timer(1.0) + telegrams.handle_timer(5.0)
    return [item for item in found if isinstance(item, Readout | Bad)]


def meant(data: bytes) -> Meaning:
    [readout] = [item for item in found_in(data) if isinstance(item, Readout)]
    return meaning_of(readout)


class Case(NamedTuple):
    name: str
    data: bytes
    values: dict[str, str]


CASES = [
    # Which registers are which quantity, and the sum of which tariffs is the total
    Case("a total beside tariffs", p1("1-0:1.8.0(7*kWh)", "1-0:1.8.1(1*kWh)", "1-0:1.8.2(2*kWh)"),
         {"energy": "7000", "energy.t1": "1000", "energy.t2": "2000"}),
    Case("one tariff alone", p1("1-0:1.8.1(000001.500*kWh)"), {"energy": "1500", "energy.t1": "1500"}),
    Case("three tariffs", p1(*(f"1-0:1.8.{n}({n}.000*kWh)" for n in (1, 2, 3))),
         {"energy": "6000", "energy.t1": "1000", "energy.t2": "2000", "energy.t3": "3000"}),
    Case("four tariffs out", p1(*(f"1-0:2.8.{n}({n}.000*kWh)" for n in (4, 3, 2, 1))),
         {"energy.export": "10000", **{f"energy.export.t{n}": f"{n}000" for n in (1, 2, 3, 4)}}),
    Case("nine tariffs", p1(*(f"1-0:1.8.{n}(1*kWh)" for n in range(1, 10))),
         {"energy": "9000", **{f"energy.t{n}": "1000" for n in range(1, 10)}}),
    Case("a tariff that is missing", p1("1-0:1.8.1(1*kWh)", "1-0:1.8.3(3*kWh)"),
         {"energy.t1": "1000", "energy.t3": "3000"}),
    Case("tariffs beyond nine", p1("1-0:1.8.1(1*kWh)", "1-0:1.8.11(3*kWh)"), {"energy.t1": "1000"}),
    Case("tariffs of two units", p1("1-0:1.8.1(1*kWh)", "1-0:1.8.2(3*kvarh)"), {"energy.t1": "1000"}),
    Case("tariffs of two resolutions", p1("1-0:1.8.1(1.5*kWh)", "1-0:1.8.2(0000250*Wh)"),
         {"energy": "1750", "energy.t1": "1500", "energy.t2": "250"}),
    Case("reactive energy", p1("1-0:3.8.0(1*kvarh)", "1-0:4.8.1(2*kvarh)", "1-0:4.8.2(3*kvarh)"),
         {"reactive_energy": "1000", "reactive_energy.export": "5000", "reactive_energy.export.t1": "2000",
          "reactive_energy.export.t2": "3000"}),
    Case("reactive energy by quadrant", p1(*(f"1-0:{n}.8.0({n}*kvarh)" for n in (5, 6, 7, 8))),
         {"reactive_energy": "11000", "reactive_energy.export": "15000"}),
    Case("power both ways", p1("1-0:1.7.0(00.200*kW)", "1-0:2.7.0(01.500*kW)"), {"power": "-1300"}),
    Case("power with its sign", p1("1-0:16.7.0(-03.618*kW)", "1-0:1.7.0(9*kW)"), {"power": "-3618"}),
    Case("power in", p1("1-0:1.7.0(00.200*kW)"), {"power": "200"}),
    Case("power out alone", p1("1-0:2.7.0(00.200*kW)"), {}),
    Case("phases", p1("1-0:21.7.0(1*kW)", "1-0:22.7.0(0*kW)", "1-0:41.7.0(0*kW)", "1-0:42.7.0(2*kW)",
                      "1-0:76.7.0(-100*W)", "1-0:52.7.0(229.9*V)", "1-0:71.7.0(-3*A)"),
         {"power.l1": "1000", "power.l2": "-2000", "power.l3": "-100", "voltage.l2": "229.9", "current.l3": "-3"}),
    Case("one phase's own codes", p1("1-0:12.7.0(230.0*V)", "1-0:11.7.0(4.35*A)"),
         {"voltage.l1": "230", "current.l1": "4.35"}),
    Case("the month's peak", p1("1-0:1.6.0(230116090000W)(11.173*kW)"), {"peak": "11173"}),
    Case("apparent power is not power", p1("1-0:9.7.0(03.000*kVA)", "1-0:1.7.0(3*kVA)"), {}),
    Case("another channel of the meter", p1("1-1:1.8.1(1*kWh)", "1-1:1.8.2(2*kWh)", "1-0:32.7.0(230*V)"),
         {"energy": "3000", "energy.t1": "1000", "energy.t2": "2000", "voltage.l1": "230"}),
    Case("another medium", p1("0-1:1.7.0(00.100*kW)", "6-0:1.8.0(5*kWh)", "1-0:1.7.0(00.200*kW)"), {"power": "200"}),
    # How they may be written
    Case("lower case", p1("1-0:1.8.0(1.5*kwh)", "1-0:32.7.0(230*v)", "1-0:31.7.0(2*a)"),
         {"energy": "1500", "voltage.l1": "230", "current.l1": "2"}),
    Case("a capital and no meaning", p1("1-0:1.8.0(1.5*KWH)", "1-0:3.8.0(2*kVArh)"),
         {"energy": "1500", "reactive_energy": "2000"}),
    Case("milli or mega", p1("1-0:1.8.0(2*MWh)", "1-0:2.8.0(2*mwh)", "1-0:31.7.0(500*mA)"),
         {"energy": "2000000", "current.l1": "0.5"}),
    Case("units that nobody knows", p1("1-0:1.8.0(1*parsec)", "1-0:2.8.0(1*)", TOTAL.replace("1.8", "3.8")), {}),
    Case("a period that is now", p1("1-0:1.7.0*255(1*kW)", "1-0:2.7.0.255(0*kW)"), {"power": "1000"}),
    Case("a period that is past", p1("1-0:1.8.0*01(1*kWh)", "1-0:1.8.0&02(1*kWh)", "1-0:1.8.0(9*kWh)"),
         {"energy": "9000"}),
    Case("a group that is not used", p1("1-0:1.7.255*255(-000142.30*W)", "1-0:21.7.255*255(-000073.69*W)"),
         {"power": "-142.3", "power.l1": "-73.69"}),
    Case("no medium", p1("1.8.0(1*kWh)", "32.7.0(230*V)"), {"energy": "1000", "voltage.l1": "230"}),
    Case("codes of two groups", p1("32.7(241*V)", "1.8(5*kWh)"), {"voltage.l1": "241", "energy": "5000"}),
    Case("several sets a line", p1("1.8.1(1*kWh)1.8.2(2*kWh)32.7(241*V)"),
         {"energy": "3000", "energy.t1": "1000", "energy.t2": "2000", "voltage.l1": "241"}),
    Case("a set whose code has one group", p1("0.0(1)F(0)1.8.1(1*kWh)9.20(64030874)32.7(241*V)"),
         {"energy": "1000", "energy.t1": "1000", "voltage.l1": "241"}),
    Case("a decimal comma", p1("1-0:1.8.0(000123,456*kWh)"), {"energy": "123456"}),
    Case("no unit, with a fraction", p1("1-0:1.8.1*255(000065.7067)", "1-0:2.8.1*255(000000.0000)"),
         {"energy": "65706.7", "energy.t1": "65706.7", "energy.export": "0", "energy.export.t1": "0"}),
    Case("no unit, and no telling", p1("1-0:1.8.0(00123456)", "1-0:1.7.0(5)"), {}),
    Case("no unit where one is sure", p1("32.7(241)", "31.7.0(4.2)"), {"voltage.l1": "241", "current.l1": "4.2"}),
    Case("many digits", p1("1-0:1.8.0(00052185.7825309*kWh)"), {"energy": "52185782.5309"}),
    Case("more digits than a reading has", p1("1-0:1.8.0(999999999999999.999999999*kWh)"), {}),
    Case("what is no number", p1("1-0:1.8.0(--1*kWh)", "1-0:2.8.0(1e3*kWh)", "1-0:1.7.0(0x5*kW)"), {}),
    Case("the first of two", p1("1-0:1.8.0(1*kWh)", "1-0:1.8.0(2*kWh)"), {"energy": "1000"}),
    # How they may be framed
    Case("CR alone", p1(TOTAL, newline="\r"), {"energy": "123456"}),
    Case("LF alone", p1(TOTAL, newline="\n"), {"energy": "123456"}),
    Case("no line behind the CRC", p1(TOTAL).rstrip(), {"energy": "123456"}),
    Case("a CRC in small letters", p1(TOTAL)[:-6] + p1(TOTAL)[-6:].lower(), {"energy": "123456"}),
    Case("a CRC without its leading zero", unpadded(), {"energy": "123456"}),
    Case("bytes of eight bits in a text", p1("0-0:96.13.0(" + "\xff" * 1024 + ")", TOTAL), {"energy": "123456"}),
    Case("! inside a text", p1("0-0:96.13.0(Hello! Pay!1234 now)", TOTAL), {"energy": "123456"}),
    Case("! on a line of its own in a text", p1("0-0:96.13.0(Hello", "!", "world)", TOTAL), {"energy": "123456"}),
    Case("an ident line inside a text", p1("0-0:96.13.0(see", "/xyz5 there)", TOTAL), {"energy": "123456"}),
    Case("/ inside a text", p1("0-0:96.13.0(a/xyz5b)", TOTAL), {"energy": "123456"}),
    Case("a register inside a text", p1("0-0:96.13.0(pay 1-0:2.8.0(5*kWh))", TOTAL), {"energy": "123456"}),
    Case("a telegram of 32 KiB", p1(*["0-0:96.13.0(" + "30" * 2000 + ")"] * 8, TOTAL), {"energy": "123456"}),
    Case("seven bits with a CRC", even(p1(TOTAL)), {"energy": "123456"}),
    Case("noise before", bytes(range(200)) + p1(TOTAL), {"energy": "123456"}),
    Case("the end of one before", p1("1-0:1.8.0(9*kWh)")[30:] + p1(TOTAL), {"energy": "123456"}),
    Case("a cut one before", p1("1-0:1.8.0(9*kWh)")[:30] + p1(TOTAL), {"energy": "123456"}),
    Case("a line feed before", b"\r\n" + p1(TOTAL), {"energy": "123456"}),
    Case("a read-out with BCC", d0("0.0.0(123)", "1.8.0(0000.5*kWh)"), {"energy": "500"}),
    Case("a read-out with BCC and parity", even(d0("0.0.0(123)", "1.8.0(0000.5*kWh)")), {"energy": "500"}),
    Case("a read-out whose ETX follows at once", d0_tight("1.8.0(0000.5*kWh)"), {"energy": "500"}),
    Case("a read-out whose last line ends in !", d0_joined("0.0(1)", "1.8.0(0000.5*kWh)2.8.0(1*kWh)"),
         {"energy": "500", "energy.export": "1000"}),
    Case("a read-out with channels", d0("1-1:F.F(00000000)", "1-1:0.0.0(123)", "1-1:1.8.0(0000.5*kWh)"),
         {"energy": "500"}),
    Case("load profiles and demands", d0("1.6.1(0.345*kW)(0104011200)", "P.01(010401001500)(00000000)(15)(1)(1.5)(kW)",
                                         "(0.1)", "1.8.0*08(9*kWh)", "1.8.0(0000.5*kWh)"), {"energy": "500"}),
    Case("a read-out without", d0("0.0.0(123)", "1.8.0(0000.5*kWh)", framed=False), {"energy": "500"}),
    Case("a control character in the ident", p1(TOTAL, ident="/EMU5\x02METER", check=""), {"energy": "123456"}),
    Case("no CRC, as DSMR 2 and 3", p1(TOTAL, "1-0:1.7.0(0000.36*kW)", check=""), {"energy": "123456", "power": "360"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("step", [1, 61, 100_000])
def test_it_says_this_however_it_is_cut(case: Case, step: int) -> None:
    step = max(step, len(case.data) // 4000)
    telegrams = Telegrams()
    found = []
    for at in range(0, len(case.data), step):
        found += telegrams.receive(case.data[at : at + step], 0.0)
    found += telegrams.handle_timer(1.0) + telegrams.handle_timer(5.0)
    [readout] = [item for item in found if isinstance(item, Readout)]
    assert meaning_of(readout).values == case.values


DAMAGED = [
    ("a wrong CRC", p1(TOTAL, check="ABCD")),
    ("a CRC cut short", p1(TOTAL)[:-5] + b"\r\n"),
    ("no end", p1(TOTAL).partition(b"!")[0]),
    ("a wrong BCC", d0("1.8.0(1*kWh)")[:-1] + bytes([d0("1.8.0(1*kWh)")[-1] ^ 4])),
    ("no ETX behind STX", d0("1.8.0(1*kWh)")[:-2]),
    ("ETX and no STX", d0("1.8.0(1*kWh)").replace(b"\x02", b"")),
    ("a byte of other parity", even(p1(TOTAL, check="")).replace(even(b"4"), b"4" if even(b"4") != b"4" else b"\xb4")),
    ("garbled, and no checksum", p1("1-0:1.8.0(0001#3.456", TOTAL, check="")),
    ("a bracket lost, and no checksum", p1("1-0:1.8.1(000123.456*kWh", "1-0:1.8.2(1*kWh)", check="")),
    ("a bell, and no checksum", p1("1-0:1.8.1(0001\x0723.456*kWh)", check="")),
    ("! at a line's end and a wrong BCC", d0_joined("1.8.0(1*kWh)")[:-1] + bytes([d0_joined("1.8.0(1*kWh)")[-1] ^ 4])),
    ("! not on a line of its own", p1(TOTAL)[:-7] + b'b"!\r\n'),
]  # fmt: skip


@pytest.mark.parametrize("data", [data for _, data in DAMAGED], ids=[name for name, _ in DAMAGED])
def test_what_is_damaged_says_nothing_and_is_counted(data: bytes) -> None:
    found = found_in(data)
    assert found and all(isinstance(item, Bad) for item in found)


def test_a_meter_that_has_a_crc_is_not_believed_without() -> None:
    telegrams = Telegrams()
    assert isinstance(telegrams.receive(p1(TOTAL), 0.0)[0], Readout)
    found = telegrams.receive(p1(TOTAL, check=""), 1.0) + telegrams.handle_timer(2.0)
    assert [item.reason for item in found if isinstance(item, Bad)] == ["its CRC is missing"]


def test_how_sure_it_is() -> None:
    checks = {NONE: p1(TOTAL, check=""), PARITY: even(p1(TOTAL, check="")), CRC: p1(TOTAL)}
    for check, data in checks.items():
        [readout] = found_in(data)
        assert isinstance(readout, Readout) and readout.check == check


def test_a_number_of_digits_is_no_text_in_hexadecimal() -> None:
    data = d0("0.0.0(34374909)", "1.8.0(000123.4*kWh)")
    assert meant(data).number == "34374909"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("0-0:96.1.1(4B384547303034303436333935353037)", "K8EG004046395507"),
        ("0-0:96.1.1(0011223344556677)", "0011223344556677"),
        ("0-0:96.1.1(204B413655303031363630303030303031)", "KA6U001660000001"),
        ("C.1.0(12345678)", "12345678"),
        ("1-0:0.0.0*255(1095110000006703)", "1095110000006703"),
        ("0-0:96.1.255*255(1ESY1313002565)", "1ESY1313002565"),
        ("0-0:96.1.1(50544841)", "50544841"),
        ("0-0:96.1.0(3330303537373735)", "30057775"),
        ("0-0:42.0.0(353044415441303037303035303434)", "50DATA007005044"),
        ("0-0:96.1.1()", ""),
    ],
)
def test_the_meters_own_number(line: str, number: str) -> None:
    assert meant(p1(line, TOTAL)).number == number


def gas(*lines: str) -> list[tuple[str, str, str, int | None]]:
    others = meant(p1("0-0:1.0.0(230119120000W)", *lines)).others
    return [(other.client, other.quantity, other.text, other.ago_s) for other in others]


def test_other_meters_have_their_own_names_and_times() -> None:
    assert gas("0-1:24.1.0(003)", "0-1:24.2.1(230119115500W)(00012.345*m3)") == [("meter-gas", "volume", "12.345", 300)]
    assert gas("0-2:24.1.0(007)", "0-2:24.2.1(230119125500S)(00001.000*m3)") == [("meter-water", "volume", "1", 300)]
    assert gas("0-3:24.1.0(012)", "0-3:24.2.1(230119110000W)(1.5*MWh)") == [("meter-heat", "energy", "1500000", 3600)]
    assert gas("0-3:24.1.0(004)", "0-3:24.2.1(230119110000W)(1.5*m3)") == [("meter-heat", "volume", "1.5", 3600)]
    assert gas("0-3:24.1.0(004)", "0-3:24.2.1(230119110000W)(240.860*GJ)") == [
        ("meter-heat", "heat_gj", "240.86", 3600)
    ]
    assert gas("0-1:24.2.3(230119110000W)(1.5*m3)") == [("meter-gas", "volume", "1.5", 3600)], "Belgium"
    old = ("0-1:24.1.0(03)", "0-1:24.3.0(230119110000)(08)(60)(1)(0-1:24.2.1)(m3)", "(00124.477)")
    assert gas(*old) == [("meter-gas", "volume", "124.477", None)], "DSMR 2: a line of its own, no summer or winter"


@pytest.mark.parametrize(
    "lines",
    [
        ("0-1:24.1.0(003)", "0-1:24.2.1(632525252525S)(00000.000*m3)"),
        ("0-1:24.1.0(003)", "0-1:24.2.1(000101010000W)(00000.000*m3)"),
        ("0-1:24.1.0(003)", "0-1:24.2.1(230119110000W)(00001.000)"),
        ("0-1:24.1.0(003)", "0-1:24.2.1(221119110000W)(00001.000*m3)"),
        ("0-1:24.1.0(002)", "0-1:24.2.1(230119110000W)(00001.000*kWh)"),
        ("0-1:24.2.1(230119110000W)(00001.000*m3)",),
        ("0-1:24.1.0(003)", "0-1:24.2.1(230119110000W)(-0001.000*m3)"),
    ],
    ids=[
        "never heard",
        "clock never set",
        "no unit",
        "months old",
        "a second meter",
        "nobody says what",
        "less than nothing",
    ],
)
def test_what_is_not_sure_of_another_meter_is_absent(lines: tuple[str, ...]) -> None:
    assert gas(*lines) == []


def test_an_exchanged_gas_meters_old_channel_is_not_heard() -> None:
    old = ("0-1:24.1.0(003)", "0-1:24.2.1(230110110000W)(09000.000*m3)")
    new = ("0-2:24.1.0(003)", "0-2:24.2.1(230119110000W)(00001.000*m3)")
    assert gas(*old, *new) == gas(*new)


def test_checksums_are_those_of_the_catalogues() -> None:
    data = b"123456789"
    assert (crc16_arc(data), crc16_x25(data), crc16_kermit(data)) == (0xBB3D, 0x906E, 0x2189)
