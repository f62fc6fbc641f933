"""A hub's clocks, moved through a preloaded library (clockshift.c). The machine's own are left alone."""

import struct
import subprocess
from pathlib import Path


class Clock:
    """For a process that has `env`: `step` sets its wall clock, `pass_time` lets time pass."""

    def __init__(self, place: Path) -> None:
        self._library = place / "clockshift.so"
        source = Path(__file__).with_name("clockshift.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"], check=True)
        self._file = place / "clockshift"
        self._step_ns = self._passed_ns = 0
        self._say()

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCKSHIFT": str(self._file)}

    def step(self, offset_ns: int) -> None:
        """Set the wall clock to the machine's plus this."""
        self._step_ns = offset_ns
        self._say()

    def pass_time(self, seconds: float) -> None:
        """So much time passes; who sleeps notices when it next wakes."""
        self._passed_ns += int(seconds * 1e9)
        self._say()

    def _say(self) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=qq", self._step_ns, self._passed_ns))
