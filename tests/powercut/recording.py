"""What a process did to the files of one folder, in order, as the kernel saw it: strace of the real code and library.

Only what changes files is kept: writes, sizes, names, syncs, and the lines the workload said meanwhile. A write counts
from the moment it is begun, a sync from the moment it has returned: in between a power cut may find either.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "pwritev,pwritev2,writev,sync_file_range,truncate,creat,link,linkat"
)
# What the model does not know must not pass for nothing.
_UNKNOWN = {"pwritev", "pwritev2", "writev", "sync_file_range", "truncate", "creat", "link", "linkat"}
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")


class Op(NamedTuple):
    """One thing that happened. kind: write, size, create, name, drop, sync, syncdir, said."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""
    target: str = ""
    said: Any = None


def record(folder: Path, lives: int, steps: int) -> list[Op]:
    """Run the workload for so many lives in `folder`/data; everything that its processes did there."""
    strace = shutil.which("strace")
    if strace is None:
        raise RuntimeError("the power-cut tests record with strace: apt-get install strace")
    data, said, log = folder / "data", folder / "said", folder / "strace.log"
    script = "; ".join(
        f"{sys.executable} -m tests.powercut.workload {data} {said} {life} {steps} || exit 1"
        for life in range(1, lives + 1)
    )
    command = [strace, "-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000", "-e", f"trace={_CALLS}", "-o", str(log)]
    done = subprocess.run([*command, "sh", "-c", script], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the workload failed: {done.stderr}")
    with log.open(encoding="ascii") as lines:
        return list(_ops(lines, data, said))


def _ops(lines: Iterator[str], data: Path, said: Path) -> Iterator[Op]:
    begun: dict[tuple[str, str], str] = {}
    for line in lines:
        if match := _LINE.match(line):
            _, call, arguments, result = match.groups()
            if int(result) >= 0:
                yield from _decode(call, arguments, data, said)
        elif match := _BEGUN.match(line):
            pid, call, arguments = match.groups()
            begun[pid, call] = arguments
            if call in ("write", "pwrite64", "fallocate", "ftruncate"):
                yield from _decode(call, arguments, data, said)
        elif match := _RESUMED.match(line):
            pid, call, rest, result = match.groups()
            arguments = begun.pop((pid, call), "") + rest
            if call not in ("write", "pwrite64", "fallocate", "ftruncate") and int(result) >= 0:
                yield from _decode(call, arguments, data, said)


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _decode(call: str, arguments: str, data: Path, said: Path) -> Iterator[Op]:
    """One call that succeeded, as far as it is about `data` (or a word of the workload)."""
    fd = _FD.match(arguments)
    path = Path(_text(fd[2]).decode()) if fd else None
    if call in ("openat", "mkdir") or call.startswith(("rename", "unlink")):
        yield from _decode_name(
            call, [Path(_text(name).decode()) for name in _STRING.findall(arguments)], arguments, data
        )
    elif path == said:
        yield Op("said", "", said=json.loads(_text(_STRING.findall(arguments)[0])))
    elif path == data and call in ("fsync", "fdatasync"):
        yield Op("syncdir", "")
    elif path is not None and path.parent == data:
        yield _decode_file(call, path.name, arguments)


def _decode_file(call: str, name: str, arguments: str) -> Op:
    if call in ("fsync", "fdatasync"):
        return Op("sync", name)
    if call == "ftruncate":
        return Op("size", name, int(arguments.rpartition(", ")[2]))
    if call == "fallocate":
        offset, length = (int(part) for part in arguments.split(", ")[2:4])
        return Op("grow", name, offset + length)
    content = _text(_STRING.findall(arguments)[0])
    if call == "pwrite64":
        return Op("write", name, int(arguments.rpartition(", ")[2]), content)
    if call == "write":
        return Op("append", name, 0, content)
    raise RuntimeError(f"the model of the disk does not know {call}")


def _decode_name(call: str, paths: list[Path], arguments: str, data: Path) -> Iterator[Op]:
    if paths[0].parent != data:
        return
    if call == "openat":
        if "O_TRUNC" in arguments:
            yield Op("create", paths[0].name, 1)
        elif "O_CREAT" in arguments:
            yield Op("create", paths[0].name, 0)
    elif call.startswith("rename"):
        yield Op("name", paths[0].name, target=paths[1].name)
    elif call.startswith("unlink"):
        yield Op("drop", paths[0].name)


__all__ = ["Op", "record"]
assert not _UNKNOWN - set(_CALLS.split(","))
