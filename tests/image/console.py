"""A board's serial console over a UNIX socket: everything it says is kept; a root shell can be asked."""

import re
import socket
import threading
import time
from pathlib import Path

from tests.harness.waiting import wait_for

_PROMPT = "# "


class Console:
    """Listens before QEMU starts and never stops reading: a full socket would stop the board."""

    def __init__(self, path: Path, log: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.path = path
        self._log = log
        self._text = ""
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._count = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            while True:
                try:
                    chunk = connection.recv(65536)
                except OSError:
                    break
                if not chunk:
                    break
                with self._lock:
                    self._text += chunk.decode(errors="replace")
                with self._log.open("ab") as log:
                    log.write(chunk)

    def mark(self) -> int:
        """A place in what is said, to look from later."""
        with self._lock:
            return len(self._text)

    def since(self, mark: int = 0) -> str:
        """What was said since a place."""
        with self._lock:
            return self._text[mark:].replace("\r", "")

    def wait_text(self, text: str, mark: int = 0, timeout_s: float = 120) -> None:
        """Wait until it is said."""
        wait_for(f"the console to say {text!r}", lambda: text in self.since(mark), timeout_s)

    def ask(self, command: str, timeout_s: float = 240) -> str:
        """Run a command in the root shell; return what it printed. AssertionError when its exit status is not 0."""
        assert self._connection is not None
        self._count += 1
        begin, end = f"begin-{self._count}", f"end-{self._count}"
        mark = self.mark()
        # The quotes keep the echo of the line from looking like its output.
        self._connection.sendall(f"echo 'be''gin-{self._count}'; {command}; echo 'en''d-{self._count}' $?\n".encode())
        pattern = re.compile(rf"{begin}\n(.*?){end} (\d+)\n", re.DOTALL)
        wait_for(f"an answer to {command!r}", lambda: pattern.search(self.since(mark)) is not None, timeout_s)
        found = pattern.search(self.since(mark))
        assert found is not None
        assert found[2] == "0", f"{command}: exit status {found[2]}: {found[1]}"
        return found[1].strip()

    def send(self, line: str) -> None:
        """Type a line and wait for nothing."""
        assert self._connection is not None
        self._connection.sendall(line.encode() + b"\n")

    def log_in(self, mark: int = 0, timeout_s: float = 180) -> None:
        """Wait for the shell of an image built with --console-root."""
        wait_for("a login on the console", lambda: "automatic login" in self.since(mark), timeout_s)
        wait_for("a shell on the console", lambda: self._has_prompt(mark), timeout_s, 2)

    def _has_prompt(self, mark: int) -> bool:
        """What the kernel says meanwhile may stand behind the prompt: then another one is asked for."""
        if self.since(mark).rstrip("\n").endswith(_PROMPT):
            return True
        self.send("")
        return False

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
        time.sleep(0)
