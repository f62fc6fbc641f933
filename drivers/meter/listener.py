"""Finds out what speaks at the port, at which rate and parity, and stays with it. A machine: bytes and `now` in; bytes
to send, lines to set and what was found out.

A search goes through settings of the line, the likeliest first. At each, every protocol's framer hears the same bytes.
What comes tells at once that a rate is right (a telegram, even a damaged one; text) or, when two bursts made no sense,
that it is wrong. All of it takes less than a minute with the slowest meters (one telegram in ten seconds).
"""

from typing import NamedTuple

from drivers.meter.checks import seven_bits
from drivers.meter.cipher import Keys
from drivers.meter.dlms import Dlms
from drivers.meter.iec62056 import Iec62056
from drivers.meter.records import Bad, Found, Framer, SendBytes, SetLine
from drivers.meter.sml import Sml
from drivers.meter.telegrams import Telegrams
from drivers.meter.tic import Tic

Action = SendBytes | SetLine

AUTO = "auto"
# What `meter.protocol` may say (design 3.1; hub/app/config.py checks it). Linky's TIC has no word: `auto` finds it.
PROTOCOLS = (AUTO, "p1", "iec62056-21", "sml", "dlms")

_BURST_S = 0.35  # so long a silence ends a burst
_LONG_BURST_S = 4.0  # what says nothing readable for so long never will
_BAD_BURSTS = 2  # the first may have begun before we listened
_PROMISING_S = 25.0  # how long a setting is kept that looks right and has not said a whole telegram
_LOST_S = 60.0  # what spoke, and says nothing readable for so long, is searched anew
_SAMPLE_BYTES = 256
_MARKS = (b"\x1b" * 4, b"\xe6\xe7\x00", b"\x7e\xa0", b"\x7e\xa1", b"\x06\x01\x00", b"\xdb\x08")


class Setting(NamedTuple):
    """One setting of the line. `asks`: the hub has to ask there (IEC 62056-21), `wakes`: and to wake the meter first.
    `for_s`: how long it is listened to."""

    line: SetLine
    asks: bool = False
    for_s: float = 10.5
    wakes: bool = False


_P1_FAST, _SLOW = Setting(SetLine(115200)), Setting(SetLine(9600))
_MBUS, _HAN = Setting(SetLine(2400, "E")), Setting(SetLine(2400))
_TIC = Setting(SetLine(1200), for_s=3.5)
_ASK = Setting(SetLine(300), asks=True, for_s=5.0)
_ASK_FAST = Setting(SetLine(9600), asks=True, for_s=5.0)
_REST = tuple(Setting(SetLine(rate), for_s=5.0) for rate in (19200, 4800, 38400, 57600))

SETTINGS: dict[str, tuple[Setting, ...]] = {
    AUTO: (_P1_FAST, _SLOW, _ASK, _MBUS, _HAN, _TIC, _ASK._replace(for_s=12.0, wakes=True), _ASK_FAST, *_REST),
    "p1": (_P1_FAST._replace(for_s=25.0), _SLOW._replace(for_s=25.0)),
    "iec62056-21": (_ASK._replace(for_s=14.0), _SLOW, _ASK_FAST, _HAN),
    "sml": (_SLOW, _P1_FAST, *_REST),
    "dlms": (_MBUS, _HAN, _P1_FAST, _SLOW),
}


class Listener:
    """One port. `first`: the setting that was found last time. `address`: of an IEC 62056-21 meter, or ""."""

    def __init__(
        self,
        protocol: str,
        now: float,
        *,
        keys: Keys | None = None,
        first: Setting | None = None,
        address: str = "",
    ) -> None:
        self._protocol = protocol
        self._keys = keys
        self._address = address
        self._settings = SETTINGS[protocol]
        if protocol == AUTO and first is not None:
            self._settings = (first._replace(for_s=12.0), *(item for item in self._settings if item[:2] != first[:2]))
        self._place = 0
        self.spoken: str | None = None  # the protocol that was found, and
        self.setting = self._settings[0]  # the setting that it was found at
        self._actions: list[Action] = []
        self._framers: list[Framer] = []
        self._dialogue: Iec62056 | None = None
        self._readable_at = now
        self._is_promising = False
        self._begin(now)

    # The line

    def _begin(self, now: float) -> None:
        """Listen at the setting whose turn it is."""
        self.setting = self._settings[self._place]
        self.line = self.setting.line
        self._framers = self._all_framers()
        self._dialogue = None
        if self.setting.asks:
            self._dialogue = Iec62056(now, address=self._address, baudrate=self.line.baudrate, wakes=self.setting.wakes)
            self._framers = [framer for framer in self._framers if not isinstance(framer, Telegrams)]
        self._until = now + self.setting.for_s
        self._is_promising = False
        self._bad_bursts = 0
        self._burst_began_at = self._heard_at = -1.0
        self._sample = b""

    def _all_framers(self) -> list[Framer]:
        if self._protocol == "sml":
            return [Sml()]
        if self._protocol == "iec62056-21":
            return [Telegrams()]
        if self._protocol == "dlms":
            return [Dlms(self._keys)]
        found: list[Framer] = [Telegrams(), Dlms(self._keys)]
        return found if self._protocol == "p1" else [*found, Sml(), Tic()]

    def _next_setting(self, now: float) -> None:
        self._place = (self._place + 1) % len(self._settings)
        before = self.line
        self._begin(now)
        if self.line != before:
            self._actions.append(self.line)

    # Bytes

    def receive(self, data: bytes, now: float) -> list[Found]:
        """Bytes from the line; what they completed."""
        if not data:
            return []
        if self._heard_at < 0 or now - self._heard_at > _BURST_S:
            self._burst_ended()
            self._burst_began_at = now
        self._heard_at = now
        self._sample = (self._sample + data)[-_SAMPLE_BYTES:]
        found: list[Found] = []
        if self._dialogue is not None:
            found += self._took(self._dialogue.receive(data, now), None, now)
            self._obey_dialogue()
        for framer in self._framers:
            found += self._took(framer.receive(data, now), framer, now)
        return found

    def _took(self, items: list[Found], framer: Framer | None, now: float) -> list[Found]:
        """What one framer, or the dialogue, found; the first that makes sense of the bytes is the one that stays."""
        if self.spoken is not None and framer not in self._framers and framer is not None:
            return []
        for item in items:
            if isinstance(item, Bad):
                self._is_promising = self._is_promising or isinstance(framer, Telegrams) or framer is None
                continue
            self._readable_at = now
            if self.spoken is None:
                must_ask = framer is None and self._dialogue is not None and self._dialogue.was_asked
                self._framers = [] if must_ask else [framer or Telegrams()]
                self._dialogue = self._dialogue if must_ask else None
            self.spoken = item.protocol
        return items

    def _obey_dialogue(self) -> None:
        if self._dialogue is not None:
            for action in self._dialogue.take_actions():
                if isinstance(action, SetLine):
                    self.line = action
                self._actions.append(action)

    # Time

    def handle_timer(self, now: float) -> list[Found]:
        """Do what is due; what silence completed."""
        found: list[Found] = []
        if self._dialogue is not None:
            found += self._took(self._dialogue.handle_timer(now), None, now)
            self._obey_dialogue()
        for framer in self._framers:
            timer = framer.get_timer()
            if timer is not None and now >= timer:
                found += self._took(framer.handle_timer(now), framer, now)
        if self.spoken is not None:
            if now - self._readable_at > _LOST_S:
                self.spoken = None
                self._place = self._settings.index(self.setting)
                self._begin(now)
            return found
        if self._heard_at >= 0 and now - self._heard_at > _BURST_S:
            self._burst_ended()
            self._heard_at = -1.0
        is_in_burst = self._heard_at >= 0
        if is_in_burst and now - self._burst_began_at > _LONG_BURST_S and not (self._is_text() or self._has_marks()):
            self._bad_bursts, is_in_burst = _BAD_BURSTS, False
        is_over = now >= self._until + (_PROMISING_S if self._is_promising else 0.0)
        if self._is_wrong() or (is_over and (not is_in_burst or now >= self._until + _PROMISING_S)):
            self._next_setting(now)
        return found

    def _is_wrong(self) -> bool:
        return self._bad_bursts >= _BAD_BURSTS and not self._is_promising and self._dialogue is None

    def _burst_ended(self) -> None:
        if len(self._sample) >= 8:
            if self._is_text():
                self._is_promising = True
            elif not self._has_marks():
                self._bad_bursts += 1
        self._sample = b""

    def _is_text(self) -> bool:
        text = seven_bits(self._sample)
        return sum(32 <= byte < 127 or byte in b"\r\n\t" for byte in text) >= 0.97 * len(text)

    def _has_marks(self) -> bool:
        """Whether there is something of a binary telegram in it, which a wrong parity, too, may leave in its place."""
        return any(mark in self._sample for mark in _MARKS)

    def get_timer(self) -> float:
        """When `handle_timer` is to be called."""
        times = [framer.get_timer() for framer in self._framers]
        if self._dialogue is not None:
            times.append(self._dialogue.get_timer())
        if self.spoken is None:
            times.append(self._until + (_PROMISING_S if self._is_promising else 0.0))
            if self._heard_at >= 0:
                times = [time for time in times if time is None or time > self._heard_at]
                times.append(self._heard_at + _BURST_S + 0.01)
        else:
            times.append(self._readable_at + _LOST_S + 0.01)
        return min(time for time in times if time is not None)

    def rates(self) -> str:
        """The line's rate, for people; two of a meter that is asked at one and answers at another."""
        return str(self.line.baudrate) if self._dialogue is None else self._dialogue.rates()

    def take_actions(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
