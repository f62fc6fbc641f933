"""A file is the old one or the new one, and says so to whoever may read it."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.durable_file import replace_file
from tests.harness.failing_disk import FailingDisk


def test_a_file_is_replaced_whole_with_the_rights_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "a"
    before = os.umask(0o077)
    try:
        replace_file(file, b"one", 0o644)
        assert file.stat().st_mode & 0o777 == 0o644
        replace_file(file, b"two")
    finally:
        os.umask(before)
    assert file.read_bytes() == b"two" and file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_leaves_the_old_one(tmp_path: Path, error: int) -> None:
    """Also where only the sync fails: what was not durable is not given the name."""
    home = tmp_path / "home"
    home.mkdir()
    file = home / "a"
    replace_file(file, b"one")
    disk = FailingDisk(tmp_path, home)
    disk.fail(error)
    code = "import sys, pathlib; from drivers import durable_file as d; d.replace_file(pathlib.Path(sys.argv[1]), b'2')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], env={**os.environ, **disk.env}, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1 and "OSError" in done.stderr
    assert file.read_bytes() == b"one"


def test_a_disk_that_takes_a_part_of_each_write_gets_the_rest(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    disk = FailingDisk(tmp_path, home)
    disk.shorten(7)
    code = "import sys, pathlib as p, drivers.durable_file as d; d.replace_file(p.Path(sys.argv[1]), b'x' * 99)"
    subprocess.run([sys.executable, "-c", code, str(home / "a")], env={**os.environ, **disk.env}, check=True)
    assert (home / "a").read_bytes() == b"x" * 99
