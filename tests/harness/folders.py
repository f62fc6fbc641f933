"""Folders that are gone when the process that asked for them ends, whatever it forgot to tidy."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.harness.memory import scratch

# A Unix socket's path has room for 107 bytes, and pytest's own folders are long.
SHORT = Path("/tmp")
_OF_THE_RUN = "METERHUB_TESTS_FOLDER"


def folder_until_exit(prefix: str, place: Path | None = SHORT) -> Path:
    """A new folder under `place` (None: the usual temporary directory)."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def run_folder() -> Path:
    """One folder, in memory where there is some, for this process and all that it starts."""
    if _OF_THE_RUN not in os.environ:
        os.environ[_OF_THE_RUN] = str(folder_until_exit("meterhub-tests-", scratch()))
    return Path(os.environ[_OF_THE_RUN])
