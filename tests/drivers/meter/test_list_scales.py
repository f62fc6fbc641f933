"""Kamstrup's list says no scales, and its meters differ: each is heard as the port hears it, on a virtual clock.

The lists are of the form that owners of such meters published (amsreader-firmware, issues 216, 239, 359, 811 and 970):
a direct meter by the maker's description, one whose registers count Wh, one that has changed to them overnight, one of
hundredths of a volt, one behind current transformers.
"""

from pathlib import Path

from drivers.meter.dlms import Dlms
from drivers.meter.happenings import Memory
from drivers.meter.listener import Setting
from drivers.meter.reader import IMPLAUSIBLE, MeterReader
from drivers.meter.records import SetLine
from drivers.meter.state_file import StateFile
from tests.emulators.meter_telegrams import hdlc, kamstrup

NUMBER = "5706567000000001"


class Kamstrup:
    """A meter that sends a list every ten seconds, and what is told of it. `volt`, `ampere`, `wh`: a count of each."""

    def __init__(
        self, memory: Memory | None = None, *, volt: float = 1, ampere: float = 0.01, wh: int = 10, watt: float = 1
    ) -> None:
        self.memory = memory or Memory()
        self.reader = MeterReader(self.memory)
        self.volt, self.ampere, self.wh, self.watt = volt, ampere, wh, watt
        self.now = 0.0
        self.energy_wh, self.export_wh = 7_745_000.0, 120.0
        self.told: dict[str, str] = {}
        self.flags: dict[str, int] = {}
        self.control_w: float | None = None

    def say(
        self, power_w: float, *, phases: tuple[float, ...] = (232, 234, 231), var: float = 0, is_long: bool = True,
        taken_w: float = 0,
    ) -> dict[str, str]:  # fmt: skip
        """One list: what it makes the hub tell. taken_w: what one phase takes and another gives, beside `power_w`."""
        self.now += 10.0
        self.energy_wh += max(power_w, 0) / 360
        self.export_wh += max(-power_w, 0) / 360
        amperes = (((power_w**2 + var**2) ** 0.5) + 2 * taken_w) / sum(volts for volts in phases if volts > 30)
        values = [
            ("1.7.0", round(max(power_w, 0) / self.watt)), ("2.7.0", round(max(-power_w, 0) / self.watt)),
            ("3.7.0", 0), ("4.7.0", round(var / self.watt)),
            *((f"{code}.7.0", round(amperes / self.ampere) if volts > 30 else 0)
              for code, volts in zip((31, 51, 71), phases)),
            *((f"{code}.7.0", round(volts / self.volt)) for code, volts in zip((32, 52, 72), phases)),
        ]  # fmt: skip
        if is_long:
            energies = ("1.8.0", self.energy_wh), ("2.8.0", self.export_wh), ("3.8.0", 100.0), ("4.8.0", 200.0)
            values += [(code, int(wh) // self.wh) for code, wh in energies]
        [item] = Dlms().receive(hdlc(kamstrup(values, NUMBER)), self.now)
        outcome = self.reader.take(item, self.now)
        said = {reading.quantity: reading.text for reading in outcome.readings}
        self.told.update(said)
        self.flags.update({reading.quantity: reading.flags for reading in outcome.readings if reading.flags})
        self.control_w = outcome.control_w
        return said

    def live(self, hours: float, power_w: float = 1500.0, *, long_every: int = 1, ripple_w: float = 1200.0) -> None:
        """A household, whose power goes up and down."""
        for count in range(int(hours * 360)):
            self.say(power_w + (ripple_w if count // 7 % 2 else -ripple_w / 2), is_long=count % long_every == 0)


def test_a_register_that_counts_tens_of_wh_is_told_once_its_power_bears_it_out() -> None:
    meter = Kamstrup()
    said = meter.say(1500)
    assert said["power"] == "1500" and (said["voltage.l2"], said["current.l2"]) == ("234", "2.15")
    assert "energy" not in said and "energy" in meter.reader.figures()["withheld"]
    meter.live(0.25)
    assert abs(float(meter.told["energy"]) - meter.energy_wh) < 60 and meter.told["energy.export"] == "120"
    assert meter.told["reactive_energy"] == "100" and not meter.reader.figures()["withheld"]


def test_a_register_that_counts_wh_is_not_told_ten_times_as_high() -> None:
    meter = Kamstrup(wh=1)
    meter.live(0.25)
    assert abs(float(meter.told["energy"]) - meter.energy_wh) < 60 and meter.told["reactive_energy"] == "100"
    assert not meter.flags


def test_where_energy_comes_once_an_hour_the_second_hour_tells() -> None:
    for wh in (1, 10):
        meter = Kamstrup(wh=wh)
        meter.live(1.0, long_every=360)
        assert "energy" not in meter.told
        meter.live(1.01, long_every=360)
        assert abs(float(meter.told["energy"]) - meter.energy_wh) < 60


def test_what_is_given_back_bears_it_out_too() -> None:
    meter = Kamstrup(wh=1)
    meter.live(0.3, power_w=-1500, ripple_w=400)
    assert abs(float(meter.told["energy.export"]) - meter.export_wh) < 60


def test_a_meter_that_changes_to_wh_overnight_is_never_told_ten_times_as_high() -> None:
    meter = Kamstrup()
    meter.live(0.5)
    meter.wh = 1
    told = [meter.say(1500).get("energy") for _ in range(6)]
    assert told == [None] * 6 and "energy" in meter.reader.figures()["withheld"]
    meter.live(0.25)
    assert abs(float(meter.told["energy"]) - meter.energy_wh) < 60 and not meter.flags


def test_what_was_proved_is_known_after_a_restart(tmp_path: Path) -> None:
    meter = Kamstrup(wh=1)
    meter.live(0.25)
    StateFile(tmp_path / "meter.json").save(Setting(SetLine(2400)), meter.memory)
    again = Kamstrup(StateFile(tmp_path / "meter.json").load()[1], wh=1)
    again.energy_wh = meter.energy_wh
    assert abs(float(again.say(1500)["energy"]) - again.energy_wh) < 60 and not again.flags


def test_another_meter_in_its_place_begins_anew() -> None:
    memory = Memory(number="5706567000000099", wh_exponent=1)
    assert "energy" not in Kamstrup(memory, wh=1).say(1500)


def test_volts_are_volts_however_many_digits_they_have() -> None:
    for volt in (1, 0.1, 0.01):
        meter = Kamstrup(volt=volt)
        said = meter.say(1500, phases=(231.99, 234, 230.4))
        assert [round(float(said[f"voltage.l{phase}"])) for phase in (1, 2, 3)] == [232, 234, 230]
        assert float(said["current.l1"]) == 2.15
    dead = Kamstrup(volt=0.01).say(900, phases=(231.99, 23.4, 0))
    assert dead["voltage.l2"] == "23.4", "a dead phase is counted as the others are"
    assert Kamstrup().say(0, phases=(40, 41, 40)).keys() == {"power"}, "nobody's voltage"


def test_amperes_of_a_meter_behind_transformers_are_not_told_ten_times_as_high() -> None:
    meter = Kamstrup(ampere=0.001)
    for _ in range(30):
        meter.say(-2585, var=63_364)
    assert not {"current.l1", "current.l2", "current.l3"} & set(meter.told)
    assert meter.told["power"] == "-2585" and "current" in meter.reader.figures()["withheld"]


def test_amperes_that_were_borne_out_stay_while_one_phase_gives_what_another_takes() -> None:
    meter = Kamstrup()
    assert "current.l1" in meter.say(1500)
    for _ in range(60):
        meter.say(150, taken_w=2000)
    assert float(meter.told["current.l1"]) > 5
    meter.ampere = 0.001
    for _ in range(400):
        meter.say(1500)
    assert "current" in meter.reader.figures()["withheld"], "counted otherwise since, and for too long"


def test_power_above_what_volts_and_amperes_make_is_none() -> None:
    meter = Kamstrup(watt=0.1)
    said = [meter.say(1500) for _ in range(12)]
    assert not any("power" in one or "current.l1" in one for one in said) and meter.control_w is None
    assert all("voltage.l1" in one for one in said[:1]) and meter.told.get("energy") is None
    meter.watt = 1
    assert meter.say(1500)["power"] == "1500" and meter.control_w == 1500


def test_a_register_that_does_not_count_what_flows_is_withheld() -> None:
    meter = Kamstrup(wh=100)
    meter.live(3.0)
    assert "energy" not in meter.told
    assert not any(flag & IMPLAUSIBLE for flag in meter.flags.values())
