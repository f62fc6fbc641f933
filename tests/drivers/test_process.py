"""What a process gives back, and that it works on afterwards."""

import subprocess
import sys

from drivers.process import untouched_code

_PROGRAM = """
import re, sqlite3, ssl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from drivers.process import let_go_of_code

def file_kb():
    return int(re.search(r"RssFile:\\s+(\\d+)", open("/proc/self/status").read())[1])

def work():
    key = ec.generate_private_key(ec.SECP256R1())
    key.public_key().verify(key.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))
    ssl.create_default_context()
    return sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0]

assert work() == 42
before = file_kb()
for _ in range(3):
    assert let_go_of_code() > 4 << 20
after = file_kb()
assert work() == 42
print(before, after)
"""


def test_code_that_was_let_go_of_is_mapped_again_as_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    before_kb, after_kb = map(int, done.stdout.split())
    assert after_kb < before_kb / 2


def _mapping(start: int, rights: str, path: str, anonymous_kb: int) -> str:
    """As smaps has it, without the lines between."""
    place = f"{start:x}000-{start + 1:x}000 {rights} 00000000 fe:00 77".ljust(73)
    return (
        f"{place}{path}\nRss: 4 kB\nAnonymous: {anonymous_kb} kB\n"
        if path
        else (f"{start:x}000-{start + 1:x}000 {rights} 00000000 00:00 0 \nRss: 0 kB\nAnonymous: {anonymous_kb} kB\n")
    )


def test_what_was_written_to_is_kept_whatever_follows_it() -> None:
    lib = "/usr/lib/lib.so"
    described = "".join((
        _mapping(0x10, "r--p", lib, 0), _mapping(0x11, "r-xp", lib, 0),
        _mapping(0x12, "r--p", lib, 4),  # relocated, then made read-only: its pages exist nowhere else
        _mapping(0x13, "rw-p", "", 0), _mapping(0x14, "r--p", "/usr/lib/locale/C", 0),
        _mapping(0x15, "r-xp", "[vdso]", 0), _mapping(0x16, "r--p", "", 0), _mapping(0x17, "r-xp", "", 0),
    ))  # fmt: skip
    assert untouched_code(described) == [(0x10000, 0x11000), (0x11000, 0x12000)]
