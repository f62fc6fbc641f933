"""An i.MX6UL on the factory's bench, as its serial port shows it: fuses that only ever go from 0 to 1, their locks, the
registers that follow them at a reset, the ROM's verdict of what lies on the medium, U-Boot's own words for all that.

The verdict is `deploy.image.hab.rom`'s; the words are those of U-Boot 2023.01 (cmd/fuse.c, arch/arm/mach-imx/hab.c).
"""

import contextlib
import re
import select
import socket
import threading
from dataclasses import dataclass, field

from deploy.image.hab.rom import judge

_LOCKS = {(3, word): 1 << 14 for word in range(8)} | {(8, word): 1 << 15 for word in range(8)}
_CLOSED = 0x2


@dataclass
class Chip:
    """Fuses by bank and word. stuck: words that take nothing; blows_left: after so many power goes."""

    number: int
    fuses: dict[tuple[int, int], int] = field(default_factory=dict)
    stuck: set[tuple[int, int]] = field(default_factory=set)
    blows_left: int | None = None

    def __post_init__(self) -> None:
        self.fuses[(0, 1)], self.fuses[(0, 2)] = self.number & 0xFFFFFFFF, self.number >> 32
        self.shadow = dict(self.fuses)

    def blow(self, place: tuple[int, int], value: int) -> bool:
        """Whether the power stayed."""
        if self.blows_left is not None:
            self.blows_left -= 1
            if self.blows_left < 0:
                return False
        is_locked = self.shadow.get((0, 0), 0) & _LOCKS.get(place, 0)
        if not is_locked and place not in self.stuck:
            self.fuses[place] = self.fuses.get(place, 0) | value
        return True

    @property
    def is_closed(self) -> bool:
        return bool(self.shadow.get((0, 6), 0) & _CLOSED)

    @property
    def srk_hash(self) -> list[int]:
        return [self.shadow.get((3, word), 0) for word in range(8)]

    def reset(self) -> None:
        self.shadow = dict(self.fuses)


class BenchBoard:
    """One board and its serial port (`port`, for pyserial). medium: SPL and U-Boot as they were written to it."""

    def __init__(self, chip: Chip, medium: list[bytes]) -> None:
        self.chip, self.medium = chip, medium
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._switch = "usb"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def switch(self, to: str) -> None:
        """`usb`: an open U-Boot is loaded and waits; `medium`: it starts from there as soon as somebody listens."""
        self._switch = to

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                with line, contextlib.suppress(OSError):
                    self.chip.reset()
                    if self._switch == "medium":
                        while not self._is_gone(line):  # nothing of the slots starts: it begins anew
                            line.sendall(self._start().encode())
                    elif not self.chip.is_closed:  # closed, the ROM takes nothing unsigned over USB either
                        self._prompt(line)

    def _is_gone(self, line: socket.socket) -> bool:
        return bool(select.select([line], [], [], 0.1)[0]) and not line.recv(64)

    def _prompt(self, line: socket.socket) -> None:
        said = b""
        while data := line.recv(256):
            said += data
            while b"\r" in said:
                command, _, said = said.partition(b"\r")
                answer = self._answer(command.decode())
                if answer is None:
                    return
                line.sendall(command + b"\r\n" + answer.replace("\n", "\r\n").encode() + b"=> ")

    def _answer(self, command: str) -> str | None:
        """U-Boot's; None where the power went."""
        if found := re.fullmatch(r"fuse (read|sense) (\d+) (\d+) (\d+)", command):
            bank, word, count = (int(number) for number in found.groups()[1:])
            return self._words("Reading" if found[1] == "read" else "Sensing", bank, word, count)
        if found := re.fullmatch(r"fuse prog -y (\d+) (\d+) (0x[0-9a-f]+)", command):
            bank, word, value = (int(number, 0) for number in found.groups())
            said = f"Programming bank {bank} word 0x{word:08x} to 0x{value:08x}...\n"
            return said if self.chip.blow((bank, word), value) else None
        return f"Unknown command '{command.split()[0]}' - try 'help'\n" if command else ""

    def _words(self, does: str, bank: int, word: int, count: int) -> str:
        source = self.chip.fuses if does == "Sensing" else self.chip.shadow
        said = f"{does} bank {bank}:\n"
        for number in range(count):
            if number % 4 == 0:
                said += f"\nWord 0x{word + number:08x}:"
            said += f" {source.get((bank, word + number), 0):08x}"
        return said + "\n"

    def _start(self) -> str:
        """What the console shows of a start from the medium, up to what U-Boot says of the ROM's notes."""
        events = [event for image in self.medium for event in judge(image, self.chip.srk_hash)]
        if events and self.chip.is_closed:
            return ""
        words = "secure boot enabled" if self.chip.is_closed else "secure boot disabled"
        state = "0xcc, HAB State: 0x99" if self.chip.is_closed else "0xf0, HAB State: 0x66"
        said = "\nU-Boot SPL 2023.01\nTrying to boot from MMC1\n"
        said += "" if self.chip.is_closed else "hab fuse not enabled\n"
        said += "\nAuthenticate image from DDR location 0x877fffc0...\n\n\nU-Boot 2023.01\n\nMMC:   FSL_SDHC: 0\n"
        said += f"\n{words.capitalize()}\n\nHAB Configuration: {state}\n"
        if not events:
            said += "No HAB Events Found!\n\n"
        for number, _ in enumerate(events, 1):
            said += f"\n--------- HAB Event {number} -----------------\nevent data:\n\n\tSTS = HAB_FAILURE (0x33)\n"
        return (said + self._words("Reading", 0, 1, 2) + "slot A\n").replace("\n", "\r\n")
