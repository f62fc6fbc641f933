"""What a read-out means: quantities under the names of the contract (design 3.2), exact or absent. No I/O, no clock.

Sources: IEC 62056-61 and the list of standard OBIS codes (DLMS UA), DSMR 5.0.2 P1 section 6.12, e-MUCS P1 (Belgium).
A sum is taken of registers that are all there, and of one unit; what is in doubt is left out.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from drivers.meter.records import Readout, RegisterValue

MAX_DIGITS = 18  # of a reading's value (design 3.2)

# Quantity -> its unit and the registers that it is, first choice first; a choice is a sum of (sign, C.D.E). OBIS codes
# are those of medium 1 (electricity). These are what deploy/asyncapi.yaml lists, too.
_Choice = tuple[tuple[int, str], ...]


class Source(NamedTuple):
    """Where a quantity comes from."""

    unit: str
    choices: tuple[_Choice, ...]
    tariffs: str = ""  # the code's beginning: else the sum of all its tariffs


def _difference(both: str, plus: str, minus: str) -> tuple[_Choice, ...]:
    return ((1, both),), ((1, plus), (-1, minus)), ((1, plus),)


QUANTITIES: dict[str, Source] = {
    "power": Source("W", _difference("16.7.0", "1.7.0", "2.7.0")),
    **{
        f"power.l{phase}": Source("W", _difference(f"{code + 15}.7.0", f"{code}.7.0", f"{code + 1}.7.0"))
        for phase, code in ((1, 21), (2, 41), (3, 61))
    },
    "energy": Source("Wh", (((1, "1.8.0"),),), "1.8."),
    "energy.export": Source("Wh", (((1, "2.8.0"),),), "2.8."),
    "reactive_energy": Source("varh", (((1, "3.8.0"),), ((1, "5.8.0"), (1, "6.8.0"))), "3.8."),
    "reactive_energy.export": Source("varh", (((1, "4.8.0"),), ((1, "7.8.0"), (1, "8.8.0"))), "4.8."),
    **{
        f"{name}.t{tariff}": Source(unit, (((1, f"{code}.8.{tariff}"),),))
        for name, unit, code in (
            ("energy", "Wh", 1), ("energy.export", "Wh", 2),
            ("reactive_energy", "varh", 3), ("reactive_energy.export", "varh", 4),
        )
        for tariff in range(1, 10)
    },
    "voltage.l1": Source("V", (((1, "32.7.0"),), ((1, "12.7.0"),))),
    "voltage.l2": Source("V", (((1, "52.7.0"),),)),
    "voltage.l3": Source("V", (((1, "72.7.0"),),)),
    "current.l1": Source("A", (((1, "31.7.0"),), ((1, "11.7.0"),))),
    "current.l2": Source("A", (((1, "51.7.0"),),)),
    "current.l3": Source("A", (((1, "71.7.0"),),)),
    "peak": Source("W", (((1, "1.6.0"),),)),
}  # fmt: skip
# What the meter passes on of others: client and quantity -> OBIS code, n being the M-Bus channel, and unit.
PASSED_ON = {
    ("meter-gas", "volume"): ("0-n:24.2.1, else 0-n:24.2.3", "m3"),
    ("meter-water", "volume"): ("0-n:24.2.1", "m3"),
    ("meter-heat", "volume"): ("0-n:24.2.1", "m3"),
    ("meter-heat", "energy"): ("0-n:24.2.1", "Wh"),
    ("meter-heat", "heat_gj"): ("0-n:24.2.1", "GJ"),
}


def codes_of(quantity: str) -> str:
    """The OBIS codes that a quantity of client `meter` is made of, in words, the first choice first."""
    source = QUANTITIES[quantity]
    choices = []
    for choice in source.choices:
        terms = [("- " if sign < 0 else "+ ") + f"1-0:{code}" for sign, code in choice]
        choices.append(" ".join(terms).removeprefix("+ "))
    if source.tariffs:
        choices.append(f"the sum of all of 1-0:{source.tariffs}1 to 1-0:{source.tariffs}9")
    return ", else ".join(choices)


REGISTERS = ("energy", "reactive_energy")  # quantities that count up, and their tariffs

# Device types of M-Bus (EN 13757-3, table 3) -> the client that its readings have.
_DEVICES = {3: "meter-gas", 7: "meter-water", 4: "meter-heat", 12: "meter-heat"}
_NUMBERS = (
    "0-0:96.1.1", "0-0:96.1.0", "1-0:96.1.0", "C.1.0", "C.1", "1-0:0.0.0", "0-0:96.1.255", "0-0:42.0.0", "1-0:0.0.9",
    "0-0:0.0.0", "1-1:0.0.0", "1-1:96.1.0", "1-1:96.1.1",
)  # fmt: skip
# Those that P1 has in hexadecimal. Eight digits are a number as it is (Slovenia), which may look like one: 50544841 is
# not PTHA.
_HEXADECIMAL = frozenset(("0-0:96.1.1", "0-0:96.1.0", "1-0:96.1.0", "0-0:42.0.0"))
_LEAST_HEXADECIMAL = 10
_DATE = re.compile(r"\d{12}[SW]\Z")
_ODD_DATES = ("632525252525", "000101", "700101")  # nothing was ever heard, or the clock was never set
_NINES = re.compile(r"9{3,}0*\Z")
_STALE = timedelta(days=1)


class Other(NamedTuple):
    """A value of another meter that this one passes on. ago_s: how old it is by the meter's own clock, or None."""

    client: str
    quantity: str
    text: str
    at: str
    ago_s: int | None


class Failure(NamedTuple):
    """An entry of the log of long power failures: when it ended (as the meter wrote it) and how long it was."""

    ended: str
    duration_s: int


class Meaning(NamedTuple):
    """values: quantity -> decimal text. counts: what went wrong so far, "power_failures", "sags.l1" ... -> count.
    months: Belgium's peaks of past months, (month's end, when, W). limit_w: the most that the connection allows, where
    the meter says it."""

    number: str
    values: dict[str, str]
    others: tuple[Other, ...]
    counts: dict[str, int]
    failures: tuple[Failure, ...]
    months: tuple[tuple[str, str, str], ...]
    limit_w: float | None
    steps: dict[str, float]  # the least step of each value
    digits: dict[str, str]  # how each register was written (records.Register), by its code


def meaning_of(readout: Readout) -> Meaning:
    """All that a read-out says to us. Never raises."""
    electric = _electric(readout.registers)
    values, steps = quantities_of(electric)
    return Meaning(
        number_of(readout),
        values,
        others_of(readout),
        _counts(readout.texts),
        _failures(readout.texts),
        _months(readout.texts),
        _limit_w(readout.registers, electric),
        steps,
        {code: register.digits for code, register in readout.registers.items() if register.digits},
    )


def _electric(registers: Mapping[str, RegisterValue]) -> dict[str, RegisterValue]:
    """Registers of electricity by C.D.E; of several channels the lowest counts."""
    found: dict[str, tuple[int, RegisterValue]] = {}
    for key, register in registers.items():
        prefix, _, code = key.partition(":")
        medium, _, channel = prefix.partition("-")
        if medium == "1" and channel.isdigit() and (code not in found or int(channel) < found[code][0]):
            found[code] = int(channel), register
    return {code: register for code, (_, register) in found.items()}


def quantities_of(registers: Mapping[str, RegisterValue]) -> tuple[dict[str, str], dict[str, float]]:
    """Quantity -> its value as the text of a decimal number, as an adapter would publish it; and its least step."""
    found: dict[str, str] = {}
    steps: dict[str, float] = {}
    for quantity, source in QUANTITIES.items():
        terms = _terms(source, registers)
        if terms and all(register.unit == source.unit for _, register in terms):
            text = _text(terms)
            if text is not None:
                found[quantity] = text
                steps[quantity] = 10.0 ** min(register.exponent for _, register in terms)
    return found, steps


def _terms(source: Source, registers: Mapping[str, RegisterValue]) -> list[tuple[int, RegisterValue]]:
    for choice in source.choices:
        if all(code in registers for _, code in choice):
            return [(sign, registers[code]) for sign, code in choice]
    if not source.tariffs:
        return []
    # All tariffs are 1 to n: with a gap, or one beyond nine, it is not sure that these are all there are.
    tariffs = {code: register for code, register in registers.items() if code.startswith(source.tariffs)}
    numbers = sorted(int(code.rpartition(".")[2]) for code in tariffs)
    if not numbers or numbers != list(range(1, len(numbers) + 1)) or len(numbers) > 9:
        return []
    return [(1, register) for register in tariffs.values()]


def _text(terms: list[tuple[int, RegisterValue]]) -> str | None:
    exponent = min(register.exponent for _, register in terms)
    if exponent < -12 or max(register.exponent for _, register in terms) > 12:
        return None
    mantissa = sum(sign * register.mantissa * 10 ** (register.exponent - exponent) for sign, register in terms)
    return decimal_text(mantissa, exponent)


def decimal_text(mantissa: int, exponent: int) -> str | None:
    """The value in as few digits as it has, or None where it has more than a reading may."""
    while exponent < 0 and mantissa % 10 == 0:
        mantissa, exponent = mantissa // 10, exponent + 1
    if exponent >= 0:
        text = str(mantissa * 10**exponent)
    else:
        digits = str(abs(mantissa)).rjust(1 - exponent, "0")
        text = ("-" if mantissa < 0 else "") + digits[:exponent] + "." + digits[exponent:]
    return text if len(text.strip("-").replace(".", "")) <= MAX_DIGITS else None


def number_of(readout: Readout) -> str:
    """The meter's own number as it is printed on it (P1 writes it in hexadecimal, others do not), or ""."""
    for code in _NUMBERS:
        groups = readout.texts.get(code)
        if groups and groups[0]:
            text = groups[0].strip()
            is_hexadecimal = readout.protocol == "p1" and code in _HEXADECIMAL
            return (_unhex(text) if is_hexadecimal else text).strip()[:40]
    return ""


def _unhex(text: str) -> str:
    """`4B384547...` as the ASCII that it stands for; what is no hexadecimal of printable ASCII stays as it is."""
    if len(text) >= _LEAST_HEXADECIMAL and len(text) % 2 == 0 and re.fullmatch(r"[0-9A-Fa-f]+", text):
        characters = bytes.fromhex(text)
        if characters.isascii() and characters.strip().isalnum():  # some are padded with a space
            return characters.decode("ascii")
    return text


def others_of(readout: Readout) -> tuple[Other, ...]:
    """Gas, water and heat of the M-Bus channels. Where two devices are of one kind (one was exchanged, and the old
    one's channel stays), the one that still reports counts, of two that do the lower channel."""
    now = _time((readout.texts.get("0-0:1.0.0") or ("",))[0])
    best: dict[tuple[str, str], tuple[datetime | None, Other]] = {}
    for channel in range(1, 10):
        kind = (readout.texts.get(f"0-{channel}:24.1.0") or ("",))[0].strip()
        client = _DEVICES.get(int(kind)) if kind.isdigit() and len(kind) <= 3 else None
        if client is None and not kind and f"0-{channel}:24.2.3" in readout.registers:
            client = "meter-gas"  # e-MUCS: gas that is not temperature compensated
        register = readout.registers.get(f"0-{channel}:24.2.1") or readout.registers.get(f"0-{channel}:24.2.3")
        if client is None or register is None or register.mantissa < 0:
            continue
        # A gigajoule is no whole number of watt hours, so heat in GJ keeps its unit, in the quantity's name.
        quantity, scale = {"m3": ("volume", 0), "Wh": ("energy", 0), "J": ("heat_gj", 9)}.get(register.unit, (None, 0))
        text = decimal_text(register.mantissa, register.exponent - scale)
        if quantity is None or text is None or register.at.startswith(_ODD_DATES):
            continue
        at = _time(register.at)
        ago_s = None if now is None or at is None else int((now - at).total_seconds())
        if ago_s is not None and ago_s > 40 * 86400:
            continue  # it does not report any more
        if ago_s is not None and ago_s < 0:
            ago_s = None  # its clock and the meter's do not agree
        other = Other(client, quantity, text, register.at, ago_s)
        known = best.get((client, quantity))
        if known is None or (at is not None and known[0] is not None and at - known[0] > _STALE):
            best[client, quantity] = at, other
    return tuple(other for _, other in best.values())


def _time(text: str) -> datetime | None:
    """`YYMMDDhhmmss` with S or W behind it, as winter time."""
    if not _DATE.match(text) or text.startswith(_ODD_DATES[:1]):
        return None
    try:
        at = datetime.strptime(text[:12], "%y%m%d%H%M%S")
    except ValueError:
        return None
    return at - timedelta(hours=1) if text.endswith("S") else at


_COUNTS = {
    "0-0:96.7.21": "power_failures", "0-0:96.7.9": "long_power_failures",
    **{f"1-0:{code}.32.0": f"sags.l{phase}" for phase, code in ((1, 32), (2, 52), (3, 72))},
    **{f"1-0:{code}.36.0": f"swells.l{phase}" for phase, code in ((1, 32), (2, 52), (3, 72))},
}  # fmt: skip


def _counts(texts: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for code, name in _COUNTS.items():
        groups = texts.get(code)
        if groups and len(groups) == 1 and groups[0].isdigit() and len(groups[0]) <= 6:
            found[name] = int(groups[0])
    return found


def _failures(texts: Mapping[str, tuple[str, ...]]) -> tuple[Failure, ...]:
    """`1-0:99.97.0(2)(0-0:96.7.19)(101208152415W)(0000000240*s)...`; what no clock can have said is left out."""
    groups = texts.get("1-0:99.97.0", ())[2:]
    found = []
    for ended, duration in zip(groups[::2], groups[1::2]):
        match = re.fullmatch(r"(\d{1,10})\*s", duration)
        if match and _time(ended) is not None and not ended.startswith(_ODD_DATES) and int(match.group(1)) < 2**31 - 1:
            found.append(Failure(ended, int(match.group(1))))
    return tuple(found[:10])


def _months(texts: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str, str], ...]:
    """`0-0:98.1.0(2)(1-0:1.6.0)(1-0:1.6.0)(month's end)(when)(04.329*kW)...`, as Belgian meters send it."""
    from drivers.meter.lines import read_value

    groups = texts.get("0-0:98.1.0", ())
    if groups[1:3] != ("1-0:1.6.0", "1-0:1.6.0"):
        return ()
    found = []
    for ended, when, value in zip(groups[3::3], groups[4::3], groups[5::3]):
        register = read_value(value)
        if register is None or register.unit != "W" or _time(ended) is None or _time(when) is None:
            continue
        text = decimal_text(register.mantissa, register.exponent)
        if text is not None:
            found.append((ended, when, text))
    return tuple(found[:13])


def _limit_w(registers: Mapping[str, RegisterValue], electric: Mapping[str, RegisterValue]) -> float | None:
    """The limit that the meter itself would switch off at (0-0:17.0.0), or its fuse (1-0:31.4.0); nines mean none."""
    limits = []
    threshold, fuse = registers.get("0-0:17.0.0"), electric.get("31.4.0")
    for register, units, volts in ((threshold, ("W", "VA"), 1), (fuse, ("A",), 3 * 253)):
        if register is not None and register.unit in units and not _NINES.match(str(register.mantissa)):
            limits.append(register.mantissa * 10.0**register.exponent * volts)
    limits = [limit for limit in limits if 1_000 <= limit < 1_000_000]
    return max(limits) if limits else None
