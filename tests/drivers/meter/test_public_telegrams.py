"""What real meters said, where the folder of cases is there: read with the eye, written down here, and compared.

`NOTHING`: telegrams that are damaged, cut, or whose checksum is wrong as they stand.
"""

from pathlib import Path

import pytest

from drivers.meter.happenings import Memory
from drivers.meter.quantities import Meaning, meaning_of
from drivers.meter.reader import MeterReader
from drivers.meter.records import Readout
from drivers.meter.telegrams import Telegrams

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "telegrams"

NOTHING = (
    "00",
    "01",
    "03",
    "04",
    "05",
    "29",
    "37",
    "40",
    "42",
    "43",
    "44",
    "45",
    "46",
    "47",
    "48",
    "49",
    "52",
    "53",
    "54",
)

# Telegram -> quantities, "" in front of a medium is the meter's own. Powers W, energies Wh, volumes m3.
EXPECTED: dict[str, dict[str, str]] = {
    "02": {"power": "320", "energy": "18080235", "energy.t2": "9067890", "energy.export": "18912468",
           "voltage.l1": "227", "voltage.l3": "230.4", "power.l3": "118", "meter-gas": "123.456"},
    "06": {"power": "-333", "energy": "1010760", "energy.export": "123579", "power.l2": "-111", "current.l3": "1",
           "meter-gas": "845.206"},
    "07": {"power": "69", "energy": "1010760", "energy.export": "123579"},
    "08": {"power": "360", "energy": "5556509", "energy.export": "2", "meter-gas": "7890.693"},
    "09": {"power": "143", "energy": "2336278", "power.l1": "-178"},
    "10": {"power": "111", "energy": "1471254", "current.l2": "222", "meter-gas": "1197.484"},
    "11": {"power": "3074", "energy": "5675956", "energy.export": "2", "reactive_energy": "120721",
           "reactive_energy.export": "697336"},
    "12": {"energy": "671578", "energy.t1": "671578"},
    "13": {"power": "333", "energy.t1": "671578", "energy.t2": "842472", "current.l2": "2.4", "meter-gas": "473.789"},
    "14": {"power": "479", "energy": "2966", "energy.export": "92", "voltage.l2": "243"},
    "15": {"power": "532", "energy": "3190", "voltage.l1": "236.8", "meter-gas": "0.038"},
    "16": {"power": "1190", "energy": "24691356", "energy.export": "24691356", "meter-gas": "1.001"},
    "17": {"power": "-30", "energy": "53137", "energy.export": "5", "meter-gas": "1.16"},
    "18": {"power": "2027", "energy": "3016829", "power.l2": "1247", "current.l2": "6", "meter-gas": "981.443"},
    "19": {"power": "277", "energy": "7572", "energy.export": "3", "voltage.l1": "226"},
    "20": {"power": "333", "energy": "1514050", "power.l1": "332", "meter-gas": "473.789"},
    "21": {"power": "2124.86", "energy": "52185782.5309", "energy.export": "19949322.1493", "power.l3": "639.73"},
    "22": {"power": "338", "energy": "571562", "peak": "3064", "current.l1": "0.27", "meter-gas": "92.287",
           "meter-water": "8.579"},
    "23": {"power": "286", "energy": "6545766", "energy.t1": "5017120", "energy.export": "58", "reactive_energy": "747",
           "reactive_energy.t2": "747", "reactive_energy.export": "3897726", "reactive_energy.export.t1": "2692848"},
    "24": {"power": "-2601", "energy": "173640", "energy.t2": "125921", "energy.t4": "0", "energy.export": "627177",
           "energy.export.t1": "401829", "reactive_energy": "123", "reactive_energy.export": "303131"},
    "25": {"voltage.l1": "1234.56"},
    "26": {"energy": "3579", "energy.export": "8023", "meter-gas": "7890.693"},
    "27": {"power": "-11111", "energy": "1111111110", "energy.export": "121212212", "power.l1": "-3333",
           "meter-gas": "12321.232"},
    "28": {"power": "744", "energy": "6657553", "power.l3": "681"},
    "30": {"power": "-98", "energy": "29681851", "energy.export": "8588987", "power.l2": "-842"},
    "31": {"power": "670", "energy": "36135364", "energy.export": "2676791", "meter-gas": "13376.292"},
    "32": {"power": "-620", "energy": "8143938", "energy.export": "4548914", "meter-gas": "5271.144"},
    "33": {"power": "680", "energy": "10088860", "energy.export": "0", "meter-gas": "2025.003"},
    "34": {"power": "374", "energy": "10012929", "energy.export": "313", "meter-gas": "1091.352"},
    "35": {"power": "0", "energy": "55023", "energy.export": "528", "power.l1": "4"},
    "36": {"power": "105", "energy": "4000745", "energy.export": "4000852", "meter-gas": "2000.671"},
    "38": {"power": "378", "energy": "6657459", "voltage.l2": "235.1"},
    "39": {"power": "980", "energy": "269000", "energy.export": "32000", "meter-gas": "124.477"},
    "41": {"power": "-1869", "energy": "9570775", "energy.export": "11049011", "meter-gas": "5359.919"},
    "50": {"power": "82", "energy": "812421", "energy.export": "1714369", "energy.t1": "470111",
           "reactive_energy": "18858", "reactive_energy.export": "439269", "voltage.l2": "232.7"},
    "51": {"power": "244", "energy": "6825", "energy.export": "2444", "current.l1": "0.48", "meter-gas": "0.107"},
}  # fmt: skip
# What must not be there: sums that are not sure to be sums of all tariffs, gas whose kind nobody names, values that are
# marked as invalid, a power that no household draws and nothing vouches for.
ABSENT = {
    "07": ("meter-gas",), "12": ("power",), "13": ("energy", "energy.export"), "14": ("meter-gas",), "25": ("energy",),
    "26": ("power",), "35": ("meter-gas",),
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="the folder of public telegrams is not beside the repository"
)


def believed(data: bytes) -> dict[str, str]:
    """What is told of a meter that says this every ten seconds."""
    telegrams, reader = Telegrams(), MeterReader(Memory())
    told: dict[str, str] = {}
    for count in range(4):
        now = 10.0 * count
        for item in [*telegrams.receive(data, now), *telegrams.handle_timer(now + 1), *telegrams.handle_timer(now + 5)]:
            for reading in reader.take(item, now).readings:
                name = reading.quantity if reading.client == "meter" else reading.client
                told.setdefault(name, reading.text.rpartition(":")[2])
                assert reading.flags == 0
    return told


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_its_values_are_those_that_stand_in_it(name: str) -> None:
    told = believed((CASES / f"{name}.bin").read_bytes())
    assert {quantity: told.get(quantity) for quantity in EXPECTED[name]} == EXPECTED[name]
    assert not set(ABSENT.get(name, ())) & set(told)


@pytest.mark.parametrize("name", NOTHING)
def test_of_what_is_damaged_nothing_is_told(name: str) -> None:
    assert believed((CASES / f"{name}.bin").read_bytes()) == {}


def test_each_telegram_is_judged() -> None:
    assert sorted([*EXPECTED, *NOTHING]) == sorted(path.stem for path in CASES.glob("*.bin"))


def meaning(name: str) -> Meaning:
    telegrams = Telegrams()
    found = telegrams.receive((CASES / f"{name}.bin").read_bytes(), 0.0)
    [readout] = [item for item in found if isinstance(item, Readout)]
    return meaning_of(readout)


def test_other_meters_values_are_as_old_as_they_say() -> None:
    [gas, water] = meaning("22").others
    assert (gas.ago_s, water.ago_s) == (346, 16)
    assert meaning("18").others[0].ago_s is None, "from a fortnight ahead"


def test_what_happened_is_read() -> None:
    assert meaning("30").counts["long_power_failures"] == 4 and meaning("30").failures[-1].duration_s == 2936
    assert meaning("20").failures == (), "a clock that was never set"
    assert meaning("22").months[-1] == ("231101000000W", "231016130000S", "4927") and len(meaning("22").months) == 3
    assert (meaning("11").limit_w, meaning("24").limit_w, meaning("22").limit_w) == (27600.0, 3 * 200 * 253.0, None)
