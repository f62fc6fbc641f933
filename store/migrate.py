"""Creates a database in a process of its own: `python -m store.migrate PATH`.

sqlite-utils and what it imports cost 11 MB that stay with the process; a hub that is started for the first time would
carry them until it is started again.
"""

import os
import subprocess
import sys
from pathlib import Path

_TIMEOUT_S = 120.0  # a first start on slow flash; a later one never comes here


def create_in_child(path: Path) -> bool:
    """Create the schema at `path` in a child process; False when that could not be done, with nothing left there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "store.migrate", str(path)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        done = None
    if done is not None and done.returncode == 0:
        return True
    for leftover in (path, Path(f"{path}-wal")):
        leftover.unlink(missing_ok=True)
    return False


def main() -> None:
    from store.database import Database

    database = Database(Path(sys.argv[1]), wal_bytes=1 << 20, max_pages=1 << 20)
    try:
        database.migrate()
    finally:
        database.close()


if __name__ == "__main__":
    main()
