"""A PostgreSQL of one's own: a cluster in a folder, on a free port of the loopback, to be killed and started again."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.child_processes import children_of, has_ended
from deploy.parent import ends_with_us
from deploy.waiting import free_port, wait_for

_PROGRAMS = ("postgres", "initdb", "pg_isready", "createdb")
_ORDINARY = "nobody"  # PostgreSQL is never root's


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres`: Debian keeps a folder a version, off the PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parts[-2]), reverse=True)
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    return next((f for f in folders if all((f / name).exists() for name in _PROGRAMS)), None)


class PostgresCluster:
    """`folder` is made. Where root asks, the cluster is an ordinary user's, who has to be able to get to the folder."""

    def __init__(self, folder: Path) -> None:
        programs = postgres_programs()
        if programs is None:
            raise FileNotFoundError("postgres: not installed (postgresql-15)")
        self._programs, self._folder = programs, folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam(_ORDINARY)
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "meterhub", "-E", "UTF8", "--no-locale")

    @property
    def url(self) -> str:
        """What `database` is in headend.toml."""
        return f"postgresql://meterhub@127.0.0.1:{self.port}/meterhub"

    @property
    def _as_whom(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        user = pwd.getpwnam(_ORDINARY)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self._programs}:/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self._folder)}

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *words], cwd=self._folder, env=self._environment, capture_output=True,
            text=True, check=False, **self._as_whom,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"{program}: {done.stdout}{done.stderr}")

    @property
    def words(self) -> list[str]:
        """The server's command line."""
        return [
            str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}",
        ]  # fmt: skip

    def start(self, begin: Callable[[], None] | None = None) -> "PostgresCluster":
        """A database `meterhub` is there once it returns, in a process group of its own. It ends with this process, or
        as `begin` (the child's `preexec_fn`) sees to."""
        with (self._folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.words, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=begin or ends_with_us(), **self._as_whom,
            )  # fmt: skip
        try:
            wait_for("PostgreSQL to listen", self._is_ready)
            self.make_database("meterhub")
        except BaseException:
            self.kill()
            raise
        return self

    def make_database(self, name: str) -> str:
        """A database of this name, unless it is there; its URL."""
        try:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "meterhub", name)
        except OSError as error:
            if "already exists" not in str(error):
                raise
        return self.url.rpartition("/")[0] + "/" + name

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise OSError("postgres ended: " + (self._folder / "postgres.log").read_text()[-2000:])
        try:
            self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """As a machine that dies: what was committed is there when it starts again."""
        if self.process is None:
            return
        # Each of its backends is a session of its own, and holds the shared memory until it is gone.
        family = [self.process.pid, *children_of(self.process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_for("its backends to be gone", lambda: all(map(has_ended, family)))

    def stop(self) -> None:
        """In good order and at once."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            self.process = None
