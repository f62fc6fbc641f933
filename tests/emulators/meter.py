"""Meters on a pty, written from the standards and from nothing of ours: a P1 port that pushes (DSMR 5), and an optical
port of IEC 62056-21 that answers in mode C. On a pty no rate can be heard; what the hub set is read from the terminal.
"""

import os
import select
import termios
import threading
import time
import tty
from pathlib import Path

_SPEEDS = {termios.B300: 300, termios.B9600: 9600, termios.B115200: 115200}


def crc_arc(data: bytes) -> int:
    """CRC-16/ARC with a table of four bits (another way than the hub's)."""
    table = [0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
             0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400]  # fmt: skip
    crc = 0
    for byte in data:
        crc = crc >> 4 ^ table[(crc ^ byte) & 15]
        crc = crc >> 4 ^ table[(crc ^ byte >> 4) & 15]
    return crc


def p1_telegram(
    import_w: int, export_w: int = 0, *, energy_wh: tuple[int, int] = (123456, 654321), number: str = "4530303031"
) -> bytes:
    """What a single-phase DSMR 5 meter says."""
    lines = [
        "/EMU5\\2METER0001", "", "1-3:0.2.8(50)", "0-0:1.0.0(261126094500W)", f"0-0:96.1.1({number})",
        f"1-0:1.8.1({energy_wh[0] / 1000:010.3f}*kWh)", f"1-0:1.8.2({energy_wh[1] / 1000:010.3f}*kWh)",
        "1-0:2.8.1(000000.000*kWh)", "1-0:2.8.2(000001.500*kWh)", "0-0:96.14.0(0002)",
        f"1-0:1.7.0({import_w / 1000:06.3f}*kW)", f"1-0:2.7.0({export_w / 1000:06.3f}*kW)",
        "1-0:99.97.0(1)(0-0:96.7.19)(000101000001W)(2147483647*s)", "1-0:32.7.0(230.1*V)", "1-0:31.7.0(002*A)",
        "0-1:24.1.0(003)", "0-1:24.2.1(261126094500W)(00012.345*m3)",
    ]  # fmt: skip
    body = "\r\n".join(lines).encode() + b"\r\n!"
    return body + f"{crc_arc(body):04X}\r\n".encode()


def readout(power_w: int) -> bytes:
    """A data message of IEC 62056-21, in seven bits with even parity, BCC included."""
    lines = ["F.F(00)", "0.0.0(00012345)", "1.8.0(0012345.678*kWh)", "1.8.1(0012000.000*kWh)", "1.8.2(0000345.678*kWh)",
             "1.8.0*01(0012000.000*kWh)", "2.8.0(0000000.000*kWh)", f"16.7.0({power_w / 1000:+07.3f}*kW)",
             "32.7.0(229.8*V)", "31.7.0(4.35*A)", "!"]  # fmt: skip
    body = "\r\n".join(lines).encode() + b"\r\n\x03"
    check = 0
    for byte in body:
        check ^= byte
    return even(b"\x02" + body + bytes([check]))


def even(data: bytes) -> bytes:
    return bytes(byte | (bin(byte).count("1") % 2) << 7 for byte in data)


class Meter:
    """A meter behind the path `link`. `power_w`: what the household draws; changes count at once."""

    def __init__(self, link: Path, protocol: str, *, power_w: int = 500, every_s: float = 0.2) -> None:
        self.link = link
        self.protocol = protocol
        self.power_w = power_w
        self.every_s = every_s
        self.energy_wh = (123456, 654321)  # a P1 meter's two tariffs
        self.number = "4530303031"  # its own, in hexadecimal
        self.heard: list[tuple[bytes, int]] = []  # what the hub said, and the rate its port then had
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> "Meter":
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))
        self._stopping.clear()
        self._thread = threading.Thread(target=self._push if self.protocol == "p1" else self._answer, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """The cable is pulled out."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self.link.unlink(missing_ok=True)
            os.close(self._slave)
            os.close(self._master)

    def _push(self) -> None:
        while not self._stopping.wait(self.every_s):
            _, writable, _ = select.select([], [self._master], [], 0)
            if writable:
                watts = max(0, self.power_w), max(0, -self.power_w)
                os.write(self._master, p1_telegram(*watts, energy_wh=self.energy_wh, number=self.number))

    def _answer(self) -> None:
        while not self._stopping.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            said = os.read(self._master, 256)
            self.heard.append((said, self.rate()))
            if said == even(b"/?!\r\n"):
                os.write(self._master, even(b"/EMU5METER0002\r\n"))
            elif said == even(b"\x06050\r\n"):
                deadline = time.monotonic() + 5
                while self.rate() != 9600 and time.monotonic() < deadline:
                    time.sleep(0.005)
                message = readout(self.power_w)
                os.write(self._master, message[:40])
                time.sleep(0.02)
                os.write(self._master, message[40:])

    def rate(self) -> int:
        """What the hub has set the line to."""
        return _SPEEDS.get(termios.tcgetattr(self._slave)[5], 0)
