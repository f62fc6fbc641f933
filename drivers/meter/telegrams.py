"""Telegrams of text that a meter pushes: P1 (DSMR 2 to 5, ESMR 5 and their kin all over Europe) and the read-outs that
some IEC 62056-21 meters send unasked (mode D). Bytes and `now` in, read-outs out; no I/O, no clock.

Sources: DSMR 5.0.2 P1 companion standard, section 6 (`/IDENT CR LF CR LF lines ! CRC CR LF`); IEC 62056-21, sections
6.3.2, 6.3.3 and 6.5 (`/IDENT CR LF [STX] lines ! CR LF [ETX BCC]`).

Where a telegram begins and ends is not certain: `/` and `!` may stand in a text, and one that broke off may be followed
by a whole one. So a checksum decides: each `/` that could begin a telegram is tried against each `!` and four digits
that could end it. A telegram without any checksum counts as one only when each of its lines looks like one, and its
reader (plausibility.py) trusts it no further than that.
"""

import re

from drivers.meter.checks import bcc, crc16_arc, is_seven_bits, parity_of, seven_bits
from drivers.meter.lines import read_lines
from drivers.meter.records import CRC, NONE, PARITY, Bad, Found, Readout

MAX_BYTES = 33_000  # the longest telegram (Hungary's texts are 2 KiB, a profile of a month may be 30) and its frame
_MAX_STARTS = 24
_TRIES_PER_BYTE = 16  # how many bytes of checksum may be computed for one that came: work stays linear, whatever comes
_SILENCE_S = 0.7  # a character takes 33 ms at 300 baud
_LOST_S = 3.0

_START = re.compile(rb"/(?=[A-Za-z0-9]{3})")
_LINED_START = re.compile(rb"(?:\A|(?<=[\r\n\x00]))/(?=[A-Za-z0-9]{3})")
_CHECK = re.compile(rb"[0-9A-Fa-f]{4}|[0-9A-Fa-f]{1,3}(?=[\r\n])")  # some meters leave out the zeros before it
_CHECK_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,3}\Z|[\r\n]{0,3}\x03?\Z")
_LINE_START = (b"\n", b"\r", b"\x00", b"")
_AFTER_END = re.compile(rb"[\r\n]{0,4}\x03.|[\r\n]{1,4}/[A-Za-z0-9]{3}", re.DOTALL)
_BLOCK_END = re.compile(rb"![\r\n]{0,2}\x03")
_ETX = 0x03


class Telegrams:
    """The framer of text. A read-out's protocol is "iec62056-21" where it has a BCC or its codes say so, else "p1"."""

    protocol = "p1"

    def __init__(self) -> None:
        self._raw = bytearray()
        self._text = bytearray()  # the same in seven bits
        self._looked_at = 0  # ends before here were tried
        self._unchecked_end: int | None = None  # a `!` on a line of its own
        self._has_start = False
        self._credit = 0
        self._heard_at = 0.0
        self._open_end = False  # there is a `!` whose checksum may still come
        self._has_crc: set[str] = set()  # meters (their ident lines) that were heard with a CRC

    def receive(self, data: bytes, now: float) -> list[Found]:
        self._raw += data
        self._text += seven_bits(data)
        self._heard_at = now
        self._credit = min(self._credit + _TRIES_PER_BYTE * len(data), 4 * MAX_BYTES)
        if not self._has_start:
            match = _START.search(self._text)
            if match is None:
                self._drop(max(0, len(self._raw) - 4))  # an ident line may just begin
                return []
            self._drop(match.start())
            self._has_start = True
        return self._frames(is_silent=False)

    def handle_timer(self, now: float) -> list[Found]:
        found: list[Found] = []
        if self._raw and now - self._heard_at >= _SILENCE_S:
            found = self._frames(is_silent=True)
        if self._raw and now - self._heard_at >= _LOST_S:
            found += self._give_up(len(self._raw))
        return found

    def get_timer(self) -> float | None:
        if not self._raw:
            return None
        return self._heard_at + (_SILENCE_S if self._open_end else _LOST_S)

    def _frames(self, *, is_silent: bool) -> list[Found]:
        found: list[Found] = []
        while self._has_start and (outcome := self._next(is_silent)) is not None:
            begin, end, item = outcome
            found += self._lost_before(begin)
            found.append(item)
            self._drop(end)
            self._has_start = _START.search(self._text) is not None
        if len(self._raw) > MAX_BYTES:
            found += self._give_up(len(self._raw) - MAX_BYTES // 2)
        return found

    def _starts(self, mark: int) -> list[int]:
        """Where a telegram that ends at `mark` may begin; looking is paid for, too."""
        if self._credit < mark // 8:
            return []
        self._credit -= mark // 8
        starts = [match.start() for match in _START.finditer(self._text, 0, mark)]
        return starts if len(starts) <= _MAX_STARTS else starts[: _MAX_STARTS // 2] + starts[-_MAX_STARTS // 2 :]

    def _next(self, is_silent: bool) -> tuple[int, int, Found] | None:
        """The next end that makes a telegram, or that is one all the same: (begin, where the rest begins, it)."""
        self._open_end = False
        while (mark := self._text.find(b"!", self._looked_at)) >= 0:
            digits = bytes(self._text[mark + 1 : mark + 5])
            if len(digits) < 4 and not is_silent and _CHECK_BEGUN.match(digits):
                self._open_end = True
                return None  # the rest is on its way
            self._looked_at = mark + 1
            is_lined = bytes(self._text[max(0, mark - 1) : mark]) in (b"\r", b"\n") or self._has_bcc(mark)
            check = _CHECK.match(digits)
            if check is not None:
                for start in reversed(self._starts(mark)):  # the last one is the likeliest, and the cheapest to try
                    if self._is_crc(start, mark, int(check.group(), 16)):
                        return start, mark + 1 + check.end(), self._readout(start, mark, "p1", CRC)
            elif (
                is_lined
                and digits[:1] in (b"\r", b"\n", b"\x03", b"")
                and self._unchecked_end is None
                and self._starts(mark)
            ):
                self._unchecked_end = mark
                if self._is_over(mark):
                    break
        else:
            self._looked_at = len(self._text)
        if self._unchecked_end is None:
            return None
        if not is_silent and not self._is_over(self._unchecked_end):
            self._open_end = True  # it may stand in a text, and the CRC come later
            return None
        return self._unchecked(self._starts(self._unchecked_end), self._unchecked_end, is_silent)

    def _has_bcc(self, mark: int) -> bool:
        """Whether a block check behind this `!` vouches for what stands before it: then it may end a line of data, as
        heat meters and some of Kamstrup's have it."""
        end = _BLOCK_END.match(self._text, mark)
        begin = -1 if end is None else self._text.rfind(b"\x02", 0, mark)
        if end is None or begin < 0 or end.end() >= len(self._text) or self._credit < mark - begin:
            return False
        self._credit -= mark - begin
        return bcc(bytes(self._text[begin + 1 : end.end()])) == self._text[end.end()]

    def _is_over(self, mark: int) -> bool:
        """Whether what follows a `!` on a line of its own shows that the telegram ends there."""
        return _AFTER_END.match(self._text, mark + 1) is not None

    def _is_crc(self, start: int, mark: int, check: int) -> bool:
        body = bytes(self._raw[start : mark + 1])
        if self._credit < len(body):
            return False
        self._credit -= len(body)
        # One try, not two: each would be right by chance once in 65,536 damaged telegrams.
        if is_seven_bits(body):
            return parity_of(body) == "even" and crc16_arc(seven_bits(body)) == check
        return crc16_arc(body) == check

    def _unchecked(self, starts: list[int], mark: int, is_silent: bool) -> tuple[int, int, Found] | None:
        """A `!` on a line of its own: ETX and BCC behind it, or the end. None: that is not known yet."""
        text, end = self._text, mark + 1
        while end < len(text) and end <= mark + 2 and text[end] in b"\r\n":
            end += 1
        start = ([start for start in starts if bytes(text[max(0, start - 1) : start]) in _LINE_START] or starts)[-1]
        if end < len(text) and text[end] == _ETX:
            if end + 1 >= len(text):
                return (start, end + 1, self._bad("its BCC is missing", start, end + 1)) if is_silent else None
            begin = text.rfind(b"\x02", start, mark)
            if begin < 0 or bcc(bytes(text[begin + 1 : end + 1])) != text[end + 1]:
                return start, end + 2, self._bad("the BCC is wrong", start, end + 2)
            return start, end + 2, self._readout(start, mark, "iec62056-21", CRC)
        if re.search(rb"[\r\n]\x02", text[start:mark]):
            return start, end, self._bad("it broke off before its BCC", start, end)
        return start, end, self._readout(start, mark, "p1", NONE)

    def _readout(self, start: int, mark: int, protocol: str, check: str) -> Found:
        raw = bytes(self._raw[start : mark + 1])
        whole = self._text[start + 1 : mark].decode("ascii", "replace").replace("\r", "\n")
        ident, _, body = whole.partition("\n")
        ident = "".join(character for character in ident if " " <= character <= "~").strip()[:64]
        lines = read_lines(body.lstrip("\n").removeprefix("\x02"))
        parity = parity_of(raw)
        if check == CRC:
            if protocol == "p1":
                if len(self._has_crc) < 8:
                    self._has_crc.add(ident)
            elif parity == "broken":
                return Bad("the parity is wrong", raw)
            return Readout(protocol, ident, CRC, lines.registers, lines.texts, raw)
        if parity == "broken":
            return Bad("the parity is wrong", raw)
        if ident in self._has_crc:
            return Bad("its CRC is missing", raw)
        if not lines.is_whole or not lines.registers:
            return Bad("it is garbled, and has no checksum", raw)
        is_p1 = re.search(r"(?m)^\d-\d:\d+\.\d+\.\d+\(", body) is not None
        check = PARITY if parity == "even" else NONE
        return Readout("p1" if is_p1 else "iec62056-21", ident, check, lines.registers, lines.texts, raw)

    def _bad(self, reason: str, start: int, end: int) -> Bad:
        return Bad(reason, bytes(self._raw[start:end]))

    def _lost_before(self, end: int) -> list[Found]:
        """What began before the telegram that was found, and was none."""
        starts = [match.start() for match in _LINED_START.finditer(self._text, 0, end)][:_MAX_STARTS]
        return [
            self._bad("the CRC is wrong, or it broke off", start, stop)
            for start, stop in zip(starts, [*starts, end][1:], strict=True)
        ]

    def _give_up(self, length: int) -> list[Found]:
        found = self._lost_before(length)
        self._drop(length)
        self._has_start = _START.search(self._text) is not None
        return found

    def _drop(self, length: int) -> None:
        del self._raw[:length], self._text[:length]
        self._looked_at = max(0, self._looked_at - length)
        if self._unchecked_end is not None:
            self._unchecked_end = self._unchecked_end - length if self._unchecked_end >= length else None
        self._has_start = self._has_start and bool(self._raw)
