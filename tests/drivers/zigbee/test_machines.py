"""The driver's decisions without a radio: queues, strangers, duplicates, recovery, scaling, sources, members."""

import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zigbee.duplicates import KEPT, WINDOW_S, Duplicates
from drivers.zigbee.members import FILE, Members
from drivers.zigbee.outbox import IN_FLIGHT_LIMIT, QUEUE_LIMIT, STALE_S, AirQueue
from drivers.zigbee.recovery import EVENTS, STATES, RadioState, diagnose
from drivers.zigbee.scaling import scale_of
from drivers.zigbee.strangers import ASK_PERIOD_S, HELD_FRAMES, REFUSED_PERIOD_S, STRANGERS_LIMIT, Strangers
from hub.wire.uplink.reading import parse_decimal

ROOT = Path(__file__).resolve().parents[3]


def test_devices_take_turns_and_keep_their_order() -> None:
    outbox = AirQueue()
    for n in range(3):
        for address in "ab":
            outbox.put(address, bytes((n,)), 0.0)
    assert [outbox.take(0.0), outbox.take(0.0), outbox.take(0.0)] == [("a", b"\0"), ("b", b"\0"), None]
    outbox.done("b")
    assert outbox.take(0.0) == ("b", b"\1")
    outbox.done("a")
    assert outbox.take(0.0) == ("a", b"\1") and len(outbox) == 2


def test_what_waits_is_bounded_in_number_time_and_frames_under_way() -> None:
    outbox = AirQueue()
    for n in range(QUEUE_LIMIT + 5):
        outbox.put("a", bytes((n,)), 0.0)
    assert outbox.dropped == 5 and outbox.take(0.0) == ("a", b"\5")
    outbox.done("a")
    assert outbox.take(STALE_S + 1) is None and outbox.dropped == QUEUE_LIMIT + 4 and not len(outbox)
    for n in range(IN_FLIGHT_LIMIT + 1):
        outbox.put(str(n), b"", 20.0)
    assert sum(outbox.take(20.0) is not None for _ in range(9)) == IN_FLIGHT_LIMIT


def test_a_stranger_is_asked_for_seldom_and_held_briefly() -> None:
    strangers: Strangers[int] = Strangers()
    assert [strangers.heard(1, n, n / 10) for n in range(6)] == [True, *[False] * 5]
    assert strangers.dropped == 6 - HELD_FRAMES
    assert strangers.heard(1, None, ASK_PERIOD_S + 0.1)
    assert strangers.known(1) == [0, 1, 2, 3] and strangers.known(1) == []


def test_a_refused_stranger_is_left_alone_until_the_network_opens() -> None:
    strangers: Strangers[int] = Strangers()
    strangers.heard(1, 1, 0.0)
    strangers.refused(1, 1.0)
    assert not strangers.heard(1, 2, REFUSED_PERIOD_S) and strangers.dropped == 2
    strangers.reconsider()
    assert strangers.heard(1, 3, REFUSED_PERIOD_S) and strangers.known(1) == [3]
    for nwk in range(2 * STRANGERS_LIMIT):
        strangers.heard(nwk, nwk, 0.0)
    assert strangers.known(0) == [] and strangers.dropped == 2 + STRANGERS_LIMIT


def test_duplicates_are_recognised_for_a_while() -> None:
    duplicates = Duplicates()
    assert not duplicates.is_duplicate("a", 1, b"x", 0.0)
    assert duplicates.is_duplicate("a", 1, b"x", WINDOW_S)
    assert not any(
        duplicates.is_duplicate(*frame, WINDOW_S) for frame in (("a", 2, b"x"), ("b", 1, b"x"), ("a", 1, b"y"))
    )
    assert not duplicates.is_duplicate("a", 1, b"x", WINDOW_S + 0.1)
    # Three APS retries at 1.6 s (Zigbee R22, apscAckWaitDuration) are within it; a counter's next round is not.
    again = Duplicates()
    assert [again.is_duplicate("a", 1, b"x", at) for at in (0.0, 1.6, 3.2, 4.8, 6.4)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    for n in range(2 * KEPT):
        duplicates.is_duplicate("a", n, b"", 6.0)
    assert len(duplicates._seen) == KEPT


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_the_radio_is_always_in_a_state_it_can_leave(state: str, event: str) -> None:
    radio = RadioState()
    radio.state = state
    after = radio.on(event)
    assert after in STATES
    assert radio.on("stop") == "off" and radio.on("start") == "starting" and radio.on("up") == "up"


def test_a_missing_port_and_a_silent_radio_are_told_apart() -> None:
    wrapped = RuntimeError("could not connect")
    wrapped.__cause__ = ConnectionRefusedError()
    for error in (FileNotFoundError(), PermissionError(), ConnectionResetError(), wrapped, None):
        assert diagnose(error) == "radio-missing"
    for silence in (TimeoutError(), RuntimeError("reset"), AttributeError("send_data")):
        assert diagnose(silence) == "radio-silent"


@pytest.mark.parametrize(
    ("multiplier", "divisor", "exponent", "raw", "text"),
    [
        (1, 10, 0, 2301, "230.1"),
        (1, 1000, 3, 1234, "1234"),
        (1, 10000, 3, 12345, "1234.5"),
        (1, 3600000, 3, 3600000, "1000.000000"),
        (1, 1, 0, -5, "-5"),
        (1, 10, 0, -5, "-0.5"),
        (3, 8, 0, 1, "0.375"),
        (10, 1, 0, 12, "120"),
    ],
)
def test_values_are_exact(multiplier: int, divisor: int, exponent: int, raw: int, text: str) -> None:
    assert scale_of(multiplier, divisor, exponent).text(raw) == text


@given(
    st.integers(1, 0xFFFFFF), st.integers(1, 0xFFFFFF), st.sampled_from([0, 3]), st.integers(-(2**15), 2**15),
)  # fmt: skip
def test_any_value_is_the_nearest_decimal(multiplier: int, divisor: int, exponent: int, raw: int) -> None:
    scale = scale_of(multiplier, divisor, exponent)
    whole, _, fraction = scale.text(raw).lstrip("-").partition(".")
    value = Fraction(int(whole + fraction), 10 ** len(fraction)) * (-1 if scale.text(raw).startswith("-") else 1)
    assert abs(value - raw * Fraction(multiplier, divisor) * 10**exponent) <= Fraction(1, 2 * 10 ** len(fraction))
    assert len(fraction) == scale.decimals or len(whole + fraction) == 18


def test_the_largest_register_still_is_a_reading() -> None:
    for divisor in (1, 1000, 3600000, 7):
        parse_decimal(scale_of(1, divisor, 3).text(2**48 - 2).encode())


def test_members_survive_and_a_damaged_list_is_no_obstacle(tmp_path: Path) -> None:
    members = Members(tmp_path)
    members.add(["a" * 16])
    unsaved = members.take_unsaved()
    assert unsaved == ["a" * 16] and members.take_unsaved() is None
    members.write(unsaved)
    assert "a" * 16 in Members(tmp_path)
    with pytest.raises(OSError):
        Members(tmp_path / "nowhere").write(unsaved)
    for damage in ("", "{", "17", "[[]]"):
        (tmp_path / FILE).write_text(damage)
        assert "a" * 16 not in Members(tmp_path)


def test_the_import_leaves_out_what_fetches_firmware_from_the_internet() -> None:
    code = (
        "import sys, drivers.zigbee; "
        "assert not {'aiohttp', 'jsonschema'} & set(sys.modules), 'loaded after all'; "
        "import zigpy.ota.providers as providers; "
        "assert providers.OTA_PROVIDER_TYPES and 'aiohttp' in sys.modules, 'not there when it is needed'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
