"""What the process knows of itself."""

import ctypes
import gc
import os
import resource
from pathlib import Path


def rss_bytes() -> int:
    """This process's resident memory now, bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):  # a hardened unit may hide /proc: the peak is then the best answer
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu_s(pid: int) -> float:
    """CPU time that a process has used so far, user and system, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_M_ARENA_MAX = -8  # mallopt(3)


def share_one_arena() -> None:
    """Let all threads allocate from one arena: the few that we have do not compete, and each arena costs memory."""
    _call_libc("mallopt", _M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return what start-up needed and nobody needs any more: parsed sources, certificates, migration tools."""
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    _call_libc("malloc_trim", 0)


def _call_libc(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:  # musl has neither
        function(*arguments)
