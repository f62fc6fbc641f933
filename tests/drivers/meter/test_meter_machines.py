"""The meter's protocols and what becomes a reading, on a virtual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.meter.actions import Machine, Send, SetBaudrate, Telegram, with_parity
from drivers.meter.iec62056 import IDLE, READING, TRANSITIONS, Iec62056
from drivers.meter.obis import quantities_of, read_lines
from drivers.meter.p1 import P1, crc16
from drivers.meter.sampling import Sampling
from tests.emulators.meter import even, p1_telegram, readout

MACHINES = (P1, Iec62056)


def telegrams(machine: Machine) -> list[Telegram]:
    return [action for action in machine.take_actions() if isinstance(action, Telegram)]


def read(lines: tuple[str, ...]) -> dict[str, str]:
    return quantities_of(read_lines(lines))


def test_crc_is_that_of_the_catalogues() -> None:
    assert crc16(b"123456789") == 0xBB3D


@given(st.lists(st.integers(1, 400), max_size=20))
def test_a_p1_telegram_is_read_however_it_is_cut(cuts: list[int]) -> None:
    data, machine = p1_telegram(1234, energy_wh=(123456, 654321)), P1(0.0)
    for cut in cuts:
        machine.receive(data[:cut], 0.0)
        data = data[cut:]
    machine.receive(data, 0.0)
    [telegram] = telegrams(machine)
    assert telegram.ident == "EMU5\\2METER0001"
    assert read(telegram.lines) == {
        "power": "1234", "energy": "777777", "energy.t1": "123456", "energy.t2": "654321", "energy.export": "1500",
        "energy.export.t1": "0", "energy.export.t2": "1500", "voltage": "230.1", "current": "2",
    }  # fmt: skip


def test_power_is_signed_and_a_flipped_bit_is_no_telegram() -> None:
    machine = P1(0.0)
    good = p1_telegram(0, 870)
    machine.receive(good.replace(b"00.870", b"09.870"), 0.0)
    machine.receive(good[: len(good) // 2] + p1_telegram(0, 880), 0.0)  # one breaks off, the next is whole
    [telegram] = telegrams(machine)
    assert read(telegram.lines)["power"] == "-880"
    assert machine.counters == {"telegrams": 1, "bad": 1}


def test_an_old_p1_meter_has_no_crc_seven_bits_and_another_rate() -> None:
    machine = P1(0.0)
    body = p1_telegram(500).split(b"!")[0] + b"!\r\n"
    assert machine.baudrate == 115200
    machine.handle_timer(machine.get_timer())
    assert machine.take_actions() == [SetBaudrate(9600)]
    machine.receive(even(body), 30.0)
    assert read(telegrams(machine)[0].lines)["power"] == "500"
    machine.handle_timer(30.1)
    assert not machine.take_actions(), "a rate at which something reads is kept"


def drive(machine: Iec62056, until: float) -> list[object]:
    """Let its timers run; everything that it does."""
    done: list[object] = [*machine.take_actions()]
    while machine.get_timer() <= until:
        machine.handle_timer(machine.get_timer())
        done += machine.take_actions()
    return done


def test_mode_c_asks_acknowledges_changes_the_rate_and_reads() -> None:
    machine = Iec62056(0.0)
    assert drive(machine, 0.0) == [Send(with_parity(b"/?!\r\n"))]
    machine.receive(even(b"/?!\r\n/EMU5METER0002\r\n"), 0.5)  # an optical head echoes
    assert not machine.take_actions(), "the meter needs its reaction time"
    assert drive(machine, 1.5) == [Send(with_parity(b"\x06050\r\n")), SetBaudrate(9600)]
    assert machine.state == READING
    message = readout(-1250)
    machine.receive(message[:100], 1.6)
    machine.receive(message[100:], 1.7)
    [telegram, rate] = machine.take_actions()
    assert isinstance(telegram, Telegram) and telegram.ident == "EMU5METER0002" and rate == SetBaudrate(300)
    assert read(telegram.lines) == {
        "power": "-1250", "energy": "12345678", "energy.t1": "12000000", "energy.t2": "345678", "energy.export": "0",
        "voltage": "229.8", "current": "4.35",
    }  # fmt: skip
    assert machine.state == IDLE and drive(machine, 14.9) == [] and drive(machine, 15.0) != []


@pytest.mark.parametrize(("mark", "rate"), [(b"D", 4800), (b"?", None)])
def test_modes_b_and_a_are_not_acknowledged(mark: bytes, rate: int | None) -> None:
    machine = Iec62056(0.0)
    drive(machine, 0.0)
    machine.receive(even(b"/EMU" + mark + b"X\r\n"), 0.5)
    assert machine.take_actions() == ([] if rate is None else [SetBaudrate(rate)])
    machine.receive(readout(10), 0.6)
    assert isinstance(machine.take_actions()[0], Telegram)


@pytest.mark.parametrize("fault", ["silent", "breaks off", "bad BCC", "endless"])
def test_a_meter_that_fails_is_asked_again_at_300_baud(fault: str) -> None:
    machine = Iec62056(0.0)
    drive(machine, 0.0)
    if fault != "silent":
        machine.receive(even(b"/EMU5X\r\n"), 0.5)
        drive(machine, 1.5)
        message = readout(10)
        said = {"breaks off": message[:50], "bad BCC": message[:-1] + b"\x7f", "endless": message[:50] * 400}
        machine.receive(said[fault], 1.6)
    done = drive(machine, 30.0)
    assert Send(with_parity(b"/?!\r\n")) in done and machine.baudrate == 300
    assert machine.counters["bad"] + machine.counters["unanswered"] >= 1 and machine.counters["telegrams"] == 0


def test_every_step_of_the_dialogue_leads_back_to_idle() -> None:
    states = {state for state, _ in TRANSITIONS}
    for state in states:
        reached = {state}
        for _ in states:
            reached |= {end for (begin, _), end in TRANSITIONS.items() if begin in reached}
        assert IDLE in reached


@given(st.sampled_from(MACHINES), st.lists(st.tuples(st.binary(max_size=64), st.floats(0, 5)), max_size=30))
def test_any_octets_at_any_moment_raise_nothing(
    kind: type[P1] | type[Iec62056], said: list[tuple[bytes, float]]
) -> None:
    machine, now = kind(0.0), 0.0
    for data, pause_s in said:
        now += pause_s
        machine.handle_timer(now)
        machine.receive(data, now)
        for telegram in telegrams(machine):
            quantities_of(read_lines(telegram.lines))
        assert machine.get_timer() >= 0


@given(st.lists(st.text(max_size=60), max_size=10))
def test_any_lines_give_readings_or_nothing(lines: list[str]) -> None:
    quantities_of(read_lines(lines))


@pytest.mark.parametrize("value", ["", "abc*kWh", "1*", "1*parsec", "1.2.3*kWh", "1" * 16 + "*kWh", "-*W"])
def test_what_is_no_value_is_no_reading(value: str) -> None:
    assert read((f"1-0:1.7.0({value})",)) == {}


def test_gas_and_earlier_periods_are_not_the_households_electricity() -> None:
    lines = ("0-1:1.7.0(00.100*kW)", "1-0:1.7.0(00.200*kW)", "1-0:1.7.0*01(00.300*kW)")
    assert read(lines) == {"power": "200"}


def test_power_is_told_every_ten_seconds_or_when_it_jumps_and_registers_once_a_minute() -> None:
    sampling = Sampling()
    assert sampling.choose({"power": "500", "energy": "1"}, 0.0) == {"power": "500", "energy": "1"}
    assert not sampling.choose({"power": "550", "energy": "2"}, 5.0), "a small step waits"
    assert not sampling.choose({"power": "2500"}, 1.0), "a jump does not flood"
    assert sampling.choose({"power": "2500", "energy": "3"}, 6.0) == {"power": "2500"}
    assert not sampling.choose({"power": "2620"}, 9.0), "less than a tenth"
    assert sampling.choose({"power": "2620"}, 16.0) == {"power": "2620"}
    assert sampling.choose({"energy": "9"}, 60.0) == {"energy": "9"}
