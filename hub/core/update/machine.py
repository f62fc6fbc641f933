"""An update's life: a table of states, and the judgements on the way. No I/O, no clock; see loop.py for who acts.

    asked -> (waiting ->) downloading -> checking -> installing -> rebooting -> trial -> good
                                ^------ torn ---'         |            |          |
    (failed, superseded: from all of these)               '--> failed  '----------+--> returning -> rolled back

What a state asks for is done again after a crash, so everything done in one is harmless to repeat. The record is
durable before anything is done in its state: whatever the power does, the receipt tells the truth.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hub.core.backoff import Backoff, Pace
from hub.wire.uplink.cbor import decode_own, encode

ASKED, WAITING, DOWNLOADING, CHECKING, INSTALLING = "asked", "waiting", "downloading", "checking", "installing"
REBOOTING, TRIAL, RETURNING = "rebooting", "trial", "returning"
GOOD, FAILED, ROLLED_BACK, SUPERSEDED = "good", "failed", "rolled-back", "superseded"
OVER = frozenset({GOOD, FAILED, ROLLED_BACK, SUPERSEDED})
# Until here another update may take its place; from here on slots are being changed.
EARLY = frozenset({ASKED, WAITING, DOWNLOADING, CHECKING})

# (state, what happened): state
TABLE: dict[tuple[str, str], str] = {
    (ASKED, "begun"): DOWNLOADING,
    (ASKED, "not alone"): WAITING,  # the command is for many hubs: each takes its turn
    (WAITING, "begun"): DOWNLOADING,
    (ASKED, "runs already"): GOOD,
    (DOWNLOADING, "fetched"): CHECKING,
    (CHECKING, "torn"): DOWNLOADING,  # a download that was resumed does not add up: once more, from the start
    (CHECKING, "sound"): INSTALLING,
    (INSTALLING, "installed"): REBOOTING,
    (REBOOTING, "new slot"): TRIAL,
    (REBOOTING, "old slot"): ROLLED_BACK,
    (TRIAL, "well"): GOOD,
    (TRIAL, "unwell"): RETURNING,
    (TRIAL, "old slot"): ROLLED_BACK,
    (RETURNING, "new slot"): RETURNING,
    (RETURNING, "old slot"): ROLLED_BACK,
    **{(state, "superseded"): SUPERSEDED for state in EARLY},
    **{(state, "failed"): FAILED for state in (*EARLY, INSTALLING)},
}

# After the new slot has booted: how long the hub has to be locally well.
WELL_WITHIN_S = 300.0


class UnknownStep(Exception):
    """The table does not know this happening in this state: a fault of ours."""


@dataclass(frozen=True, slots=True)
class Update:
    """One update, as it is kept. `slot` and `version_before`: what ran when it was asked for; `boot`: the boot in which
    it was installed; `was_up`, `was_radio_up`: whether uplink and radio worked before it; `is_for_many`: the command is
    not for this hub alone."""

    cti: bytes
    source: str  # "url" or "han"
    place: str
    sha256: str
    version: str
    state: str = ASKED
    version_before: str = ""
    slot: str = ""
    boot: str = ""
    was_up: bool = False
    was_radio_up: bool = False
    retried: bool = False
    reason: str = ""
    text: str = ""
    is_for_many: bool = False

    def encode(self) -> bytes:
        """For the store."""
        return encode([getattr(self, name) for name in Update.__slots__])

    @property
    def is_over(self) -> bool:
        return self.state in OVER


def decode_update(item: bytes) -> Update:
    """Read the store's item. Raises ValueError or TypeError."""
    update = Update(*decode_own(item))
    if update.state not in {state for state, _ in TABLE} | OVER:
        raise ValueError(f"{update.state!r} is no state of an update")
    return update


def step(update: Update, happening: str, **changes: Any) -> Update:
    """What becomes of an update. Raises UnknownStep."""
    try:
        state = TABLE[update.state, happening]
    except KeyError:
        raise UnknownStep(f"{happening} in state {update.state}") from None
    return replace(update, state=state, retried=update.retried or happening == "torn", **changes)


# Judgements


class Unfit(Exception):
    """The bundle is not for this hub. `reason` goes into the receipt."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def judge_bundle(update: Update, bundle: dict[str, Any], system: dict[str, Any]) -> None:
    """Whether a bundle whose signature holds may be installed. Raises Unfit.

    `bundle`: `compatible` and `version` of its signed manifest; `system`: the same of what runs. RAUC checks the first
    again; that a version is newer, and the one that the operator signed for, is our rule.
    """
    if bundle["compatible"] != system["compatible"]:
        raise Unfit("wrong-board", f"it is for {bundle['compatible']}, this is {system['compatible']}")
    if bundle["version"] != update.version:
        raise Unfit("wrong-version", f"it holds {bundle['version']}, the command says {update.version}")
    judge_version(update.version, system["version"])


def judge_version(wanted: str, running: str) -> None:
    """Refuse what is not newer than what runs. Raises Unfit."""
    try:
        is_newer = version_key(wanted) > version_key(running)
    except ValueError as error:
        raise Unfit("wrong-version", str(error)) from None
    if not is_newer:
        raise Unfit("downgrade", f"{wanted} is not newer than {running}, which runs")


_VERSION = re.compile(r"(\d{1,9}(?:\.\d{1,9}){0,3})(?:-([0-9A-Za-z.-]{1,32}))?(?:\+[0-9A-Za-z.-]*)?")


def version_key(version: str) -> tuple[Any, ...]:
    """Orders versions as Semantic Versioning 2.0.0 section 11 does. Raises ValueError."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version[:32]!r} is not a version such as 1.2.3")
    numbers = [int(part) for part in match[1].split(".")]
    early = (match[2] or "").split(".") if match[2] else []
    # Numbers come before words; a version without such a suffix comes after all that have one.
    words = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in early)
    return (*numbers, *[0] * (4 - len(numbers)), not early, words)


class SlotTrial:
    """Whether the new slot is to be kept. `look` is called now and then with what is seen.

    Locally well: kept at once if the uplink was away before the update, too: an outage of the network must not undo it.
    """

    def __init__(self, was_up: bool, well_for_s: float, uplink_within_s: float, now: float) -> None:
        """`well_for_s`: how long it has to be well in one go (what falls over falls over soon); `uplink_within_s`: by
        when an uplink that worked before has to be back."""
        self._was_up = was_up
        self._well_for_s = well_for_s
        self._uplink_within_s = uplink_within_s
        self._began_at = now
        self._well_since: float | None = None
        self._was_well = False

    def look(self, local_fault: str, is_up: bool, now: float) -> tuple[str, str] | None:
        """`("well", "")`, `("unwell", why)`, or None while it is open. `local_fault`: what is wrong locally, or ""."""
        lasted_s = now - self._began_at
        if local_fault:
            self._well_since = None
            return ("unwell", local_fault) if lasted_s >= WELL_WITHIN_S else None
        self._well_since = now if self._well_since is None else self._well_since
        if now - self._well_since < self._well_for_s:
            return None
        if is_up or not self._was_up:
            return "well", ""
        if lasted_s >= self._uplink_within_s:
            return "unwell", f"the uplink did not come back within {self._uplink_within_s:.0f} s"
        return None


class Patience:
    """How long to wait before a download goes on, and when to give it up. `random`: numbers in [0, 1)."""

    PACE = Pace(first_s=2.0, cap_s=2048.0, drawn=0.5)
    GIVE_UP_S = 3 * 86400.0

    def __init__(self, random: Callable[[], float], now: float) -> None:
        self._backoff = Backoff(self.PACE, random)
        self._moved_at = now

    def moved(self, now: float) -> None:
        """Something arrived."""
        self._backoff.reset()
        self._moved_at = now

    def delay_s(self, now: float, asked_s: float | None = None) -> float | None:
        """Seconds until the next attempt; None: nothing has come for three days. `asked_s`: the server's Retry-After.

        A fleet fails at the same moment, so the delay is drawn from a range, and what a server asks for is a least.
        """
        if now - self._moved_at > self.GIVE_UP_S:
            return None
        drawn = self._backoff.next_delay_s()
        return drawn if asked_s is None else min(asked_s, 86400.0) + drawn
