"""Whether UTC is believed."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.clock import Clock, machine_boot, utc_ms
from hub.wire.version import WRITTEN_MS


def test_a_clock_before_its_floor_is_not_believed(tmp_path: Path) -> None:
    assert Clock("system").is_trusted()
    assert not Clock("system", floor_ms=utc_ms() + 60_000).is_trusted()


def _may_read() -> bool:
    return bool(ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(256)) >= 0)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the system calls' numbers are of x86-64")
def test_in_a_sandbox_that_hides_the_kernels_word_the_mark_counts(tmp_path: Path) -> None:
    """seccomp (as ProtectClock= has it) answers EPERM; here with prctl and the smallest of filters."""
    if not _may_read():
        pytest.skip("reading the kernel's clock is forbidden to this very process")
    program = f"""
import ctypes, struct, sys
from pathlib import Path
from drivers.clock import Clock
# BPF: load the system call's number; adjtimex (159) and clock_adjtime (305, of x86-64) -> EPERM; else allow.
code = [(0x20, 0, 0, 0), (0x15, 1, 0, 159), (0x15, 0, 1, 305), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
bytes = b"".join(struct.pack("HBBI", *row) for row in code)
buffer = ctypes.create_string_buffer(bytes)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter) == 0, ctypes.get_errno()
mark = Path({str(tmp_path / "synchronized")!r})
assert not Clock("ntp", mark=mark).is_trusted()
mark.touch()
assert Clock("ntp", mark=mark).is_trusted()
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Hands:
    """A clock whose hands we move."""

    def __init__(self) -> None:
        self.now_s, self.utc_ms = 1000.0, WRITTEN_MS + 86_400_000

    def clock(self, **options: int) -> Clock:
        return Clock("system", now=lambda: self.now_s, utc=lambda: self.utc_ms, **options)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.utc_ms += int(seconds * 1000)


@pytest.mark.parametrize("years", [10, 70, -1])
def test_a_clock_that_leaps_is_doubted_until_it_has_held_that_for_an_hour(years: int) -> None:
    hands = Hands()
    hands.utc_ms += 3 * 365 * 86_400_000
    clock = hands.clock()
    assert clock.is_trusted()
    hands.utc_ms += years * 365 * 86_400_000
    assert not clock.is_trusted()
    hands.wait(3500)
    assert not clock.is_trusted()
    hands.wait(101)
    assert clock.is_trusted(), "it may have been wrong before"


def test_a_leap_that_is_taken_back_leaves_no_doubt() -> None:
    hands = Hands()
    clock = hands.clock()
    assert clock.is_trusted()
    hands.utc_ms += 3650 * 86_400_000
    assert not clock.is_trusted()
    hands.utc_ms -= 3650 * 86_400_000
    assert clock.is_trusted()


def test_a_clock_far_beyond_the_certificates_end_is_wrong() -> None:
    hands = Hands()
    clock = hands.clock(ceiling_ms=hands.utc_ms + 1000)
    assert clock.is_trusted()
    hands.wait(2)
    assert not clock.is_trusted()


def test_a_boot_of_the_machine_is_known_by_the_kernel_or_by_a_file_on_a_tmpfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine_boot(tmp_path) == machine_boot(tmp_path) != ""
    monkeypatch.setattr("drivers.clock._BOOT_ID", tmp_path / "hidden")  # ProcSubset=pid
    drawn = machine_boot(tmp_path)
    assert drawn and machine_boot(tmp_path) == drawn
    (tmp_path / "machine-boot").unlink()  # the machine started anew
    assert machine_boot(tmp_path) not in ("", drawn)
    assert machine_boot(tmp_path / "no such folder") == ""
