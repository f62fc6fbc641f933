"""What the process knows of itself."""

import ctypes
import gc
import os
import re
import resource
import sys
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
    sys.path_importer_cache.clear()  # what lies in each folder of libraries; whoever still imports looks again
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    trim_heap()


def trim_heap() -> None:
    """Return what malloc holds and nobody uses."""
    _call_libc("malloc_trim", 0)


_MADV_DONTNEED = 4  # madvise(2)
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)")


def let_go_of_code() -> int:
    """Unmap the pages of programs and libraries that nothing has written to; how many bytes they span.

    Starting touches most of them once, and the kernel maps sixteen for each that is touched. They stay in its cache:
    what runs on is mapped again as it is needed (a fault each, no reading), and the rest counts for nobody.
    """
    try:
        described = Path("/proc/self/smaps").read_text()
    except OSError:  # a hardened unit may hide it
        return 0
    let_go = 0
    for start, end in untouched_code(described):
        _call_libc("madvise", ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
        let_go += end - start
    return let_go


def untouched_code(described: str) -> list[tuple[int, int]]:
    """The read-only mappings (start, end) of programs and libraries that have no page of their own (proc(5), smaps)."""
    mappings: list[tuple[int, int, str, str, bool]] = []
    for line in described.splitlines():
        if mapping := _MAPPING.fullmatch(line):
            start, end, rights, path = mapping.groups()
            mappings.append((int(start, 16), int(end, 16), rights, path, False))
        elif line.startswith("Anonymous:") and line.split()[1] == "0" and mappings:
            mappings[-1] = (*mappings[-1][:4], True)
    # Only what is a program: such a file stays mapped where it is for as long as the process lives.
    programs = {path for _, _, rights, path, _ in mappings if rights == "r-xp" and path.startswith("/")}
    return [
        (start, end)
        for start, end, rights, path, is_untouched in mappings
        if path in programs and is_untouched and rights in ("r-xp", "r--p")
    ]


def _call_libc(name: str, *arguments: int | ctypes.c_void_p | ctypes.c_size_t) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:  # musl has neither mallopt nor malloc_trim
        function(*arguments)
