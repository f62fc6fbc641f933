"""What may be believed of a telegram, and what may not: on a virtual clock, through the door that the port uses."""

from collections.abc import Sequence

import pytest

from drivers.meter.happenings import Memory
from drivers.meter.reader import IMPLAUSIBLE, MeterReader, Outcome
from drivers.meter.records import CRC, NONE, PARITY, Bad, Found
from drivers.meter.telegrams import Telegrams
from tests.drivers.meter.test_telegrams import p1
from tests.emulators.meter import even


class Home:
    """A meter that says something every ten seconds, and what becomes of it."""

    def __init__(self, check: str = NONE, memory: Memory | None = None, every_s: float = 10.0) -> None:
        self.reader = MeterReader(memory or Memory())
        self._check = check
        self._every_s = every_s
        self.now = 0.0

    def hear(self, *lines: str) -> Outcome:
        data = p1(*lines, check=None if self._check == CRC else "")
        if self._check == PARITY:
            data = even(data)
        return self.take(Telegrams(), data)

    def take(self, telegrams: Telegrams, data: bytes) -> Outcome:
        self.now += self._every_s
        found: list[Found] = telegrams.receive(data, self.now) + telegrams.handle_timer(self.now + 1)
        [item] = found
        return self.reader.take(item, self.now)


def says(energy_wh: int, power_w: int = 360, *more: str, number: str = "12345") -> list[str]:
    return [
        f"0-0:96.1.1({number})",
        f"1-0:1.8.0({energy_wh / 1000:010.3f}*kWh)",
        f"1-0:1.7.0({power_w / 1000:06.3f}*kW)",
        *more,
    ]


def told(outcome: Outcome) -> dict[str, str]:
    return {reading.quantity: reading.text for reading in outcome.readings}


def flags(outcome: Outcome) -> dict[str, int]:
    return {reading.quantity: reading.flags for reading in outcome.readings if reading.flags}


# Without a checksum


def test_the_first_telegram_without_a_checksum_waits_for_a_second_that_agrees() -> None:
    home = Home()
    assert not home.hear(*says(1000)).readings
    assert told(home.hear(*says(1001))) == {"energy": "1001", "power": "360"}


def test_parity_does_not_see_a_byte_that_was_lost() -> None:
    home = Home(PARITY)
    assert not home.hear(*says(1000)).readings
    assert not home.hear("0-0:96.1.1(12345)", "1-0:1.8.0(000001.00*kWh)", "1-0:1.7.0(00.360*kW)").readings
    assert home.reader.last_fault == "a digit was lost"
    home.hear(*says(1001))
    assert told(home.hear(*says(1002))) == {"energy": "1002", "power": "360"}


def test_values_without_leading_zeros_may_grow() -> None:
    home = Home()
    for watts in ("0.360", "12.360", "9.360"):
        home.hear("1-0:1.8.0(9*kWh)", f"1-0:1.7.0({watts}*kW)")
    assert home.reader.counters["doubtful"] == 0


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        (says(1002, 82_500), "power jumped"),
        (says(5002), "energy jumped"),
        (says(2), "energy fell"),
        (says(1002, number="12341"), "another meter's number"),
        (says(1002)[1:], "another meter's number"),
        (says(1002)[:-1], "other registers than before"),
    ],
)
def test_a_flipped_bit_is_counted_and_moves_nothing(spoiled: Sequence[str], why: str) -> None:
    home = Home()
    home.hear(*says(1000)), home.hear(*says(1001))
    outcome = home.hear(*spoiled)
    assert (outcome.readings, outcome.control_w, outcome.events) == ([], None, [])
    assert home.reader.counters["doubtful"] == 1 and home.reader.last_fault == why
    after = [home.hear(*says(1003 + count)) for count in range(10)]
    assert home.reader.counters["doubtful"] == 1, "what follows is as before"
    assert all(not flags(outcome) for outcome in after) and {o.control_w for o in after} == {360.0}
    assert home.reader.memory.number == "12345"


def test_no_single_telegram_moves_the_power_that_limits_are_judged_by() -> None:
    home = Home()
    powers = [400, 400, 400, 9_000, 400, 400, 7_400, 7_400, 7_400]
    heard = [home.hear(*says(1000 + 30 * at, watts)).control_w for at, watts in enumerate(powers)]
    assert heard == [None, 400.0 if heard[1] else None, *heard[2:]]
    assert 9_000.0 not in heard and heard[-1] == 7_400.0
    assert heard.index(7_400.0) == 7, "a load that stays is seen with the second telegram"


def test_a_step_of_power_is_a_reading_once_the_next_telegram_agrees() -> None:
    home = Home()
    for at in range(4):
        home.hear(*says(1000 + at))
    assert "power" not in told(home.hear(*says(1010, 11_000))), "nothing vouches for it"
    assert told(home.hear(*says(1040, 11_000)))["power"] == "11000"
    assert home.reader.counters["doubtful"] == 0, "a stove is no fault"


def test_power_that_the_registers_do_not_count_is_no_power() -> None:
    home = Home()
    heard = [home.hear(*says(1000 + at, 8_360)) for at in range(20)]  # a bit that is always set; 360 W in truth
    assert heard[2].control_w == 8_360.0, "steady, so far"
    assert {outcome.control_w for outcome in heard[8:]} == {None}
    assert not any("power" in told(outcome) for outcome in heard[8:])
    honest = Home()
    heard = [honest.hear(*says(1000 + 24 * at, 8_640)) for at in range(20)]
    assert {outcome.control_w for outcome in heard[3:]} == {8_640.0}
    changing = Home()
    watts = [300, 11_000, 300, 11_000] * 5
    energy = [1000 + sum(watts[: at + 1]) // 360 for at in range(20)]
    heard = [changing.hear(*says(wh, w)) for wh, w in zip(energy, watts)]
    assert changing.reader.counters["doubtful"] == 0 and heard[-1].control_w is not None


def test_what_the_connection_cannot_draw_is_never_a_reading() -> None:
    home = Home()
    for at in range(5):
        outcome = home.hear(*says(1000 + at, 888_880))
        assert "power" not in told(outcome) and outcome.control_w is None
    fused = Home()
    for at in range(5):
        outcome = fused.hear(*says(1000 + at, 40_000, "0-0:17.0.0(017.0*kW)"))
        assert "power" not in told(outcome) and outcome.control_w is None


def test_what_changed_and_stays_changed_is_believed_with_the_second_telegram() -> None:
    home = Home()
    home.hear(*says(1000)), home.hear(*says(1001))
    assert not home.hear(*says(500_000)).readings
    assert flags(home.hear(*says(500_001))) == {"energy": IMPLAUSIBLE}


def test_gas_that_jumps_is_in_doubt() -> None:
    home = Home()
    gas = ("0-1:24.1.0(3)", "0-1:24.3.0(210627190000)(08)(60)(1)(0-1:24.2.1)(m3)", "({}.782)")
    home.hear(*says(1000, 360, *gas[:2], "(25210.782)")), home.hear(*says(1001, 360, *gas[:2], "(25210.782)"))
    assert not home.hear(*says(1002, 360, *gas[:2], "(65210.782)")).readings
    assert home.reader.last_fault == "meter-gas jumped"


# With a checksum


def levels(home: Home, *registers: int) -> list[dict[str, int]]:
    return [flags(home.hear(*says(register))) for register in registers]


@pytest.mark.parametrize(
    ("registers", "implausible_at"),
    [
        ((1000, 1001, 0, 1002, 1003), {2}),  # reads 0 once
        ((1000, 1001, 700, 1002), {2}),  # falls once
        ((1000, 1001, 90_000, 1002), {2}),  # jumps once
        ((1000, 1001, 1100, 1300), set()),  # 100 Wh in ten seconds are 36 kW
    ],
)
def test_a_register_that_falls_jumps_or_reads_0_is_told_and_marked(
    registers: tuple[int, ...], implausible_at: set[int]
) -> None:
    home = Home(CRC)
    heard = [home.hear(*says(register)) for register in registers]
    assert {at for at, outcome in enumerate(heard) if flags(outcome)} == implausible_at
    for at in implausible_at:
        assert told(heard[at])["energy"] == str(registers[at]), "at once, and nothing is smoothed"
        assert told(heard[at + 1])["energy"] == str(registers[at + 1]) and not flags(heard[at + 1])
    assert home.reader.counters["doubtful"] == 0


def test_a_register_that_stays_where_it_fell_to_is_at_that_level_after_two_minutes() -> None:
    home = Home(CRC)
    levels(home, 100_000, 100_001)
    heard = levels(home, *range(5, 30))
    marked = [bool(found) for found in heard]
    assert marked[0] and not marked[-1]
    assert not home.reader.take(Bad("", b""), home.now).readings


def test_a_fall_while_the_hub_was_off_is_seen() -> None:
    memory = Memory(number="12345", registers={"energy": "50000"})
    assert flags(Home(CRC, memory).hear(*says(10))) == {"energy": IMPLAUSIBLE}
    memory = Memory(number="12345", registers={"energy": "50000"})
    assert not flags(Home(CRC, memory).hear(*says(60_000))), "days may have passed"


def test_an_exchanged_meter_starts_anew_and_is_told_with_both_numbers_and_last_registers() -> None:
    home = Home(CRC)
    home.hear(*says(77_000))
    outcome = home.hear(*says(12, number="99999"))
    fields = {
        "old_number": "12345", "new_number": "99999", "last_registers": {"energy": "77000"},
        "first_registers": {"energy": "12"},
    }  # fmt: skip
    assert outcome.events == [("meter.replaced", fields)]
    assert not flags(outcome) and home.reader.memory.number == "99999"
    assert told(outcome) == {"energy": "12", "power": "360"}, "at once, though the old one's were just told"
    assert home.hear(*says(13, number="99999")).events == []


def test_a_meter_that_was_exchanged_while_the_hub_was_off() -> None:
    memory = Memory(number="12345", registers={"energy": "50000"})
    [(event, fields)] = Home(CRC, memory).hear(*says(12, number="99999")).events
    assert event == "meter.replaced" and fields["last_registers"] == {"energy": "50000"}


def test_a_short_list_without_the_power_that_flows_out_does_not_say_that_none_does() -> None:
    home = Home(CRC)
    both = ("1-0:1.7.0(00.000*kW)", "1-0:2.7.0(01.500*kW)")
    assert told(home.hear(*both)) == {"power": "-1500"}
    outcome = home.hear("1-0:1.7.0(00.000*kW)", "1-0:32.7.0(230*V)")
    assert "power" not in told(outcome) and outcome.control_w is None
    assert home.hear("1-0:1.7.0(00.300*kW)").control_w == 300.0


# What happened


def counts(short: int, long: int, sags: int = 0, log: str = "") -> list[str]:
    more = [f"0-0:96.7.21({short:05d})", f"0-0:96.7.9({long:05d})", f"1-0:32.32.0({sags:05d})", "1-0:32.36.0(00000)"]
    return [*more, f"1-0:99.97.0(1)(0-0:96.7.19){log}"] if log else more


def test_power_failures_and_sags_are_events() -> None:
    home = Home(CRC)
    assert home.hear(*says(1000, 360, *counts(5, 2))).events == [], "what was before is not news"
    assert home.hear(*says(1000, 360, *counts(5, 2))).events == []
    log = "(180417201458S)(0000000236*s)"
    assert home.hear(*says(1000, 360, *counts(6, 3, 1, log))).events == [
        ("meter.power_failed",
         {"power_failures": 6, "long_power_failures": 3, "ended": "180417201458S", "duration_s": 236}),
        ("meter.voltage_sag", {"phase": 1, "count": 1}),
    ]  # fmt: skip
    assert home.hear(*says(1000, 360, *counts(6, 3, 1, log))).events == []


def test_a_power_failure_that_took_the_hub_down_is_told_when_it_is_back() -> None:
    before = Home(CRC)
    before.hear(*says(1000, 360, *counts(5, 2)))
    after = Home(CRC, before.reader.memory)
    [(event, fields)] = after.hear(*says(1000, 360, *counts(5, 3))).events
    assert event == "meter.power_failed" and fields["long_power_failures"] == 3


def test_the_peaks_of_past_months_are_told_once() -> None:
    home = Home(CRC)
    months = "0-0:98.1.0(1)(1-0:1.6.0)(1-0:1.6.0)(230201000000W)(230114124500W)(03.332*kW)"
    [(event, fields)] = home.hear(*says(1000, 360, months)).events
    assert (event, fields) == ("meter.peaks", {"peaks": [["230201000000W", "230114124500W", "3332"]]})
    assert home.hear(*says(1000, 360, months)).events == []


# Figures


def test_the_share_of_bad_telegrams() -> None:
    home = Home(CRC)
    for at in range(19):
        home.hear(*says(1000 + at))
    assert home.reader.bad_share() is None and not home.reader.is_garbled()
    home.reader.take(Bad("the CRC is wrong", b"/EMU"), home.now)
    assert home.reader.bad_share() == pytest.approx(0.05) and not home.reader.is_garbled(), "5 % is no more than 5 %"
    home.reader.take(Bad("the CRC is wrong", b"/EMU"), home.now)
    assert home.reader.is_garbled()
    for at in range(30):
        home.hear(*says(1020 + at))
    assert not home.reader.is_garbled(), "it goes by itself"


def test_nothing_of_what_the_household_uses_is_in_the_figures_of_a_support_bundle() -> None:
    home = Home(CRC)
    home.hear(*says(7_654_321, 4_321))
    assert "7654321" not in str(home.reader.figures()) and "12345" not in str(home.reader.figures())
    details = home.reader.details()
    assert details["quantities"] == {"power": "4321", "energy": "7654321"} and details["number"] == "12345"
    assert details["registers"]["1-0:1.8.0"] == {"value": "7654321", "unit": "Wh"} and "!" in details["raw"]


def test_readings_of_other_meters_are_told_once_with_their_age() -> None:
    home = Home(CRC)
    gas = ("0-0:1.0.0(230119120000W)", "0-1:24.1.0(003)", "0-1:24.2.1(230119115500W)(00012.345*m3)")
    [reading] = [reading for reading in home.hear(*says(1000, 360, *gas)).readings if reading.client != "meter"]
    assert reading == ("meter-gas", "volume", "300:12.345", 0)
    assert all(reading.client == "meter" for reading in home.hear(*says(1000, 360, *gas)).readings)


def test_power_is_told_every_ten_seconds_or_when_it_jumps_and_registers_once_a_minute() -> None:
    home = Home(CRC, every_s=1.0)
    first = home.hear(*says(1000, 500))
    assert told(first) == {"power": "500", "energy": "1000"}
    assert told(home.hear(*says(1001, 550))) == {}, "a small step waits"
    assert told(home.hear(*says(1002, 2500))) == {"power": "2500"}
    assert told(home.hear(*says(1003, 500))) == {}, "a jump does not flood"
    heard = [told(home.hear(*says(1004 + at, 500))) for at in range(60)]
    assert sum("power" in quantities for quantities in heard) in (6, 7)
    assert sum("energy" in quantities for quantities in heard) == 1
