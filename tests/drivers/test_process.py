"""What a process gives back, and that it works on afterwards."""

import subprocess
import sys

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
