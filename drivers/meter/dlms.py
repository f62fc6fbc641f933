"""DLMS/COSEM pushes: over HDLC (the Nordic countries, Austria), over M-Bus (Austria, Switzerland), or enciphered P1 as
it is (Luxembourg, Austria). Bytes and `now` in, read-outs out; no I/O, no clock.

Sources: IEC 62056-46 (HDLC frame format type 3, segmentation), EN 13757-2 and -3 (M-Bus long frames; CI 0x00 to 0x1F:
transport layer, bit 4 the last segment), IEC 62056-5-3 (application layer; 9.3.8: general block transfer, which
Landis+Gyr's meters use).
"""

from drivers.meter.checks import crc16_x25
from drivers.meter.cipher import Ciphered, Keys, decrypt, is_title, read_header
from drivers.meter.cosem import DATA_NOTIFICATION, MalformedCosem, read_notification
from drivers.meter.records import CRC, Bad, Found, Readout, Unreadable
from drivers.meter.telegrams import Telegrams

MAX_BYTES = 9_000
_MAX_SEGMENTS = 64
_LOST_S = 3.0
_FLAG = 0x7E
_SEGMENTED = 0x08
_BLOCK, _LAST_BLOCK = 0xE0, 0x80  # general-block-transfer
_BLOCK_HEAD_BYTES = 6


class Dlms:
    """The framer. `keys`: a home's, or None."""

    protocol = "dlms"

    def __init__(self, keys: Keys | None = None) -> None:
        self._keys = keys
        self._buffer = bytearray()
        self._segments = bytearray()
        self._segment_count = 0
        self._blocks = bytearray()
        self._block_count = 0
        self._heard_at = 0.0
        self._proved_raw = False
        self._ident = ""

    def receive(self, data: bytes, now: float) -> list[Found]:
        self._buffer += data
        self._heard_at = now
        return self._frames(is_silent=False)

    def handle_timer(self, now: float) -> list[Found]:
        if self.get_timer() is None or now - self._heard_at < _LOST_S:
            return []
        found = self._frames(is_silent=True)
        self._buffer.clear()
        if self._segment_count or self._block_count:
            found.append(Bad("a segment is missing", bytes(self._blocks + self._segments)))
            self._forget_segments()
            self._forget_blocks()
        return found

    def get_timer(self) -> float | None:
        return self._heard_at + _LOST_S if self._buffer or self._segment_count or self._block_count else None

    def _frames(self, *, is_silent: bool) -> list[Found]:
        """Each byte may begin a frame: it is one whose check is right, or the next byte is tried."""
        found: list[Found] = []
        place = 0
        while place < len(self._buffer):
            first = self._buffer[place]
            if first not in (_FLAG, 0x68, 0xDB):
                place += 1
                continue
            length, items = self._frame(place, first)
            if length == 0:
                place += 1
            elif place + length > len(self._buffer):
                if not is_silent and place + length - len(self._buffer) <= MAX_BYTES:
                    break
                place += 1
            else:
                found += items
                place += length
        del self._buffer[:place]
        return found

    def _frame(self, place: int, first: int) -> tuple[int, list[Found]]:
        """(length, what it held); length 0: none begins here; longer than what is there: so many are needed."""
        view = bytes(self._buffer[place : place + MAX_BYTES])
        if first == _FLAG:
            return self._hdlc(view)
        if first == 0x68:
            return self._mbus(view)
        length, ciphered = read_header(view)
        if ciphered is None:
            return (length if len(view) < 5 or is_title(view[2:5]) else 0), []
        if not is_title(ciphered.title):
            return 0, []
        return self._raw(view[:length], length, ciphered)

    # HDLC

    def _hdlc(self, view: bytes) -> tuple[int, list[Found]]:
        if len(view) < 3:
            return 3, []
        if view[1] & 0xF0 != 0xA0:
            return 0, []
        length = (view[1] & 0x07) << 8 | view[2]
        if length < 7:
            return 0, []
        if len(view) < length + 2:
            return length + 2, []
        frame = view[1 : length + 1]
        if view[length + 1] != _FLAG:
            return 0, []
        if crc16_x25(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            return length + 1, [Bad("the frame check is wrong", view[: length + 2])]
        begin = self._information(frame)
        if begin is None:
            return length + 1, []
        return length + 1, self._segment(frame[begin:-2], is_last=not frame[0] & _SEGMENTED, is_first=None)

    @staticmethod
    def _information(frame: bytes) -> int | None:
        """Where the information field begins: behind two addresses, control and header check; None: there is none."""
        place = 2
        for _ in range(2):
            end = place + 4
            while place < min(end, len(frame)) and not frame[place] & 1:
                place += 1
            place += 1
        begin = place + 3
        if begin + 2 >= len(frame) or crc16_x25(frame[: place + 1]) != int.from_bytes(
            frame[place + 1 : begin], "little"
        ):
            return None
        return begin

    # M-Bus

    def _mbus(self, view: bytes) -> tuple[int, list[Found]]:
        if len(view) < 4:
            return (4, []) if view[1:2] == view[2:3] or len(view) < 3 else (0, [])
        size = view[1]
        if view[2] != size or view[3] != 0x68 or size < 5:
            return 0, []
        length = size + 6
        if len(view) < length:
            return length, []
        if view[length - 1] != 0x16:
            return 0, []
        content = view[4 : length - 2]
        if sum(content) & 0xFF != view[length - 2]:
            return length, [Bad("the M-Bus checksum is wrong", view[:length])]
        kind = content[2]
        if kind > 0x1F:
            return length, [Unreadable("dlms", "M-Bus, and not DLMS in it", view[:length])]
        number, is_last = kind & 0x0F, bool(kind & 0x10)
        if number == 0 and self._segment_count:
            self._forget_segments()
        is_only = number == 0 and (is_last or not self._is_cut(content[5:]))
        return length, self._segment(content[5:], is_last=is_last or is_only, is_first=number == 0, number=number)

    @staticmethod
    def _is_cut(content: bytes) -> bool:
        """Some meters never set the last segment's bit: what is whole by its own length needs none."""
        if content[:1] == bytes([DATA_NOTIFICATION]):
            try:
                read_notification(content)
            except MalformedCosem:
                return True
            return False
        length, ciphered = read_header(content)
        return ciphered is None if length else False

    # Application layer

    def _segment(
        self, content: bytes, *, is_last: bool, is_first: bool | None, number: int | None = None
    ) -> list[Found]:
        if number is not None and number != self._segment_count % 16 and not is_first:
            self._forget_segments()
            return [Bad("a segment is missing", content)]
        self._segments += content
        self._segment_count += 1
        if len(self._segments) > MAX_BYTES or self._segment_count > _MAX_SEGMENTS:
            self._forget_segments()
            return [Bad("it is too long", content)]
        if not is_last:
            return []
        whole = bytes(self._segments)
        self._forget_segments()
        if whole[:2] in (b"\xe6\xe7", b"\xe6\xe6"):
            whole = whole[3:]  # LLC
        return self._apdu(whole)

    def _forget_segments(self) -> None:
        self._segments.clear()
        self._segment_count = 0

    def _apdu(self, data: bytes, maker: str = "") -> list[Found]:
        """An application message whose frame's check was right; `maker`: of the meter, where it is known."""
        if data[:1] == bytes([_BLOCK]):
            return self._block(data)
        if data[:1] == b"\xdb":
            length, ciphered = read_header(data)
            if ciphered is None:
                return [Bad("it is malformed", data)] if length else []
            if self._keys is None:
                return [Unreadable("dlms", "DLMS, encrypted, no key", data)]
            plain = decrypt(ciphered, self._keys).plain
            if plain[:1] != bytes([DATA_NOTIFICATION]):
                return [Unreadable("dlms", "DLMS, encrypted, the key does not fit", data)]
            try:
                read_notification(plain)
            except MalformedCosem:
                return [Unreadable("dlms", "DLMS, encrypted, the key does not fit", data)]
            data, maker = plain, ciphered.maker
        if data[:1] != bytes([DATA_NOTIFICATION]):
            return []
        try:
            pushed = read_notification(data, self._ident, maker)
        except MalformedCosem:
            return [Bad("it is malformed", data)]
        if not pushed.registers:
            return [Unreadable("dlms", "DLMS, no register with a code, a scale and a unit", data)]
        self._ident = pushed.ident or self._ident
        return [Readout("dlms", self._ident, CRC, pushed.registers, pushed.texts, data)]

    def _block(self, data: bytes) -> list[Found]:
        """One block of a message: control, number, number acknowledged, length, a piece of it."""
        if len(data) < _BLOCK_HEAD_BYTES + 1:
            return [Bad("it is malformed", data)]
        number, begin = int.from_bytes(data[2:4], "big"), _BLOCK_HEAD_BYTES + 1
        length = data[_BLOCK_HEAD_BYTES]
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[_BLOCK_HEAD_BYTES + 1 : begin], "big")
        if number == 1:
            self._forget_blocks()
        if number != self._block_count + 1 or len(data) != begin + length:
            self._forget_blocks()
            return [Bad("a segment is missing", data)]
        self._blocks += data[begin:]
        self._block_count = number
        if len(self._blocks) > MAX_BYTES or number > _MAX_SEGMENTS:
            self._forget_blocks()
            return [Bad("it is too long", data)]
        if not data[1] & _LAST_BLOCK:
            return []
        whole = bytes(self._blocks)
        self._forget_blocks()
        return [Bad("it is malformed", data)] if whole[:1] == bytes([_BLOCK]) else self._apdu(whole)

    def _forget_blocks(self) -> None:
        self._blocks.clear()
        self._block_count = 0

    def _raw(self, raw: bytes, length: int, ciphered: Ciphered) -> tuple[int, list[Found]]:
        """Enciphered, without a frame around it: its own tag, or the telegram's CRC, has to prove it."""
        if self._keys is None:
            return length, [Unreadable("dlms", "DLMS, encrypted, no key", raw)]
        opened = decrypt(ciphered, self._keys)
        if opened.plain[:1] == b"/":
            return length, self._text(opened.plain, opened.is_proved, raw)
        if opened.plain[:1] == bytes([DATA_NOTIFICATION]) and opened.is_proved:
            self._proved_raw = True
            return length, self._apdu(opened.plain, ciphered.maker)
        if opened.plain[:1] == bytes([DATA_NOTIFICATION]) and ciphered.is_authenticated:
            return length, [Unreadable("dlms", "DLMS, encrypted, no authentication key", raw)]
        if self._proved_raw:
            return length, [Bad("its authentication tag is wrong", raw)]
        return length, [Unreadable("dlms", "DLMS, encrypted, the key does not fit", raw)]

    def _text(self, plain: bytes, is_proved: bool, raw: bytes) -> list[Found]:
        telegrams = Telegrams()
        found = telegrams.receive(plain + b"\r\n", 0.0) + telegrams.handle_timer(1.0)
        readouts = [item for item in found if isinstance(item, Readout)]
        if len(readouts) != 1 or not (is_proved or readouts[0].check == CRC):
            return [Bad("its CRC is wrong", raw)]
        self._proved_raw = True
        return [readouts[0]._replace(protocol="p1", check=CRC)]
