"""An update's table and judgements, on a clock in our hands."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.update import machine
from hub.core.update.machine import (  # fmt: skip
    EARLY,
    OVER,
    TABLE,
    Patience,
    SlotTrial,
    Unfit,
    UnknownStep,
    Update,
    decode_update,
    judge_bundle,
    judge_version,
    step,
    version_key,
)

NEW = Update(bytes(16), "url", "https://updates.example/2", "00" * 32, "2.0.0", version_before="1.0.0", slot="A")
SYSTEM = {"compatible": "meterhub-x", "version": "1.0.0"}
STATES = sorted({state for state, _ in TABLE} | OVER)
HAPPENINGS = sorted({happening for _, happening in TABLE})


@given(st.lists(st.sampled_from(HAPPENINGS), max_size=12))
def test_whatever_happens_an_end_is_final_and_every_record_reads_again(happenings: list[str]) -> None:
    update = NEW
    for happening in happenings:
        was_over = update.is_over
        try:
            update = step(update, happening)
        except UnknownStep:
            continue
        assert not was_over, "nothing happens to an update that is over"
        assert decode_update(update.encode()) == update


def test_every_state_can_come_to_an_end_and_good_needs_a_trial_or_that_it_runs_already() -> None:
    ends = set(OVER)
    for _ in STATES:
        ends |= {state for (state, _), after in TABLE.items() if after in ends}
    assert ends == set(STATES)
    assert {state for (state, _), after in TABLE.items() if after == machine.GOOD} == {machine.TRIAL, machine.ASKED}
    for state, happening in itertools.product(STATES, HAPPENINGS):
        if TABLE.get((state, happening)) == machine.SUPERSEDED:
            assert state in EARLY, "slots are being changed: too late to give way"


@pytest.mark.parametrize("item", [b"", b"\x80", b"\x83\x01\x02\x03", b"not cbor at all"])
def test_a_damaged_record_is_told(item: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode_update(item)


def test_versions_are_ordered_as_semantic_versioning_says() -> None:
    # Section 11's own example, and more of the kind.
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
             "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10.0", "2"]  # fmt: skip
    keys = [version_key(version) for version in order]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert version_key("1.0") == version_key("1.0.0") == version_key("1.0.0+build.7")
    for bad in ("", "v1", "1.0.0-", "1..0", "1.0 ", "one", "1.0.0.0.0", "9" * 40):
        with pytest.raises(ValueError):
            version_key(bad)


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        ({"compatible": "meterhub-y", "version": "2.0.0"}, "wrong-board"),
        ({"compatible": None, "version": None}, "wrong-board"),
        ({"compatible": "meterhub-x", "version": "2.0.1"}, "wrong-version"),
        ({"compatible": "meterhub-x", "version": "2.0.0"}, ""),
    ],
)
def test_a_bundle_is_for_this_board_and_what_was_signed_for(bundle: dict[str, str], reason: str) -> None:
    try:
        judge_bundle(NEW, bundle, SYSTEM)
        found = ""
    except Unfit as error:
        found = error.reason
    assert found == reason


@pytest.mark.parametrize(("wanted", "reason"), [("1.0.0", "downgrade"), ("0.9", "downgrade"), ("x", "wrong-version")])
def test_only_newer_versions_are_installed(wanted: str, reason: str) -> None:
    with pytest.raises(Unfit) as caught:
        judge_version(wanted, "1.0.0")
    assert caught.value.reason == reason


def run_trial(was_up: bool, ailing_until_s: float, up_at_s: float) -> tuple[str, float]:
    trial, now = SlotTrial(was_up, 10.0, 900.0, 0.0), 0.0
    while (verdict := trial.look("radio" if now < ailing_until_s else "", now >= up_at_s, now)) is None:
        now += 1.0
        assert now < 5000
    return verdict[0], now


NEVER = float("inf")


@pytest.mark.parametrize(
    ("was_up", "ailing_until_s", "up_at_s", "verdict", "at_s"),
    [
        (True, 0, 5, "well", 10),
        (True, 30, 5, "well", 40),
        (True, 0, 800, "well", 800),
        (True, 0, NEVER, "unwell", 900),
        (False, 0, NEVER, "well", 10),  # it was away before: no fault of this version
        (False, NEVER, 0, "unwell", 300),
        (True, NEVER, 0, "unwell", 300),
    ],
)
def test_a_trial_ends_in_time(was_up: bool, ailing_until_s: float, up_at_s: float, verdict: str, at_s: float) -> None:
    assert run_trial(was_up, ailing_until_s, up_at_s) == (verdict, at_s)


def test_a_download_is_patient_spread_and_not_for_ever() -> None:
    patience, now, delays = Patience(lambda: 0.5, 0.0), 0.0, []
    while (delay_s := patience.delay_s(now)) is not None:
        delays.append(delay_s)
        now += delay_s
    assert delays[:3] == [1.5, 3.0, 6.0] and max(delays) == 1536.0
    assert 3 * 86400 < now < 3 * 86400 + 3600
    patience.moved(now)
    assert patience.delay_s(now, asked_s=120.0) == 121.5, "what the server asks for is a least"
