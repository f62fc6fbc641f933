"""Which shared libraries a program needs: read from the file itself, so that it works for any architecture."""

import struct
from pathlib import Path

_DYNAMIC, _LOAD, _INTERPRETER = 2, 1, 3
_NEEDED, _STRTAB, _RUNPATH, _RPATH = 1, 5, 29, 15


def read_dynamic(path: Path) -> tuple[str | None, list[str], list[str]] | None:
    """`(interpreter, needed libraries, search path)` of an ELF file; None when it is none."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF" or data[5] != 1:
        return None
    wide = data[4] == 2
    header, entry = (("<QQQ", 0x20), "<IIQQQQQQ") if wide else (("<III", 0x1C), "<IIIIIIII")
    (offset,) = struct.unpack_from("<Q" if wide else "<I", data, header[1])
    size, count = struct.unpack_from("<HH", data, 0x36 if wide else 0x2A)
    segments = []
    for number in range(count):
        fields = struct.unpack_from(entry, data, offset + number * size)
        kind, at, address, length = (
            (fields[0], fields[2], fields[3], fields[5]) if wide else (fields[0], fields[1], fields[2], fields[4])
        )
        segments.append((kind, at, address, length))
    interpreter = next((_text(data, at) for kind, at, _, _ in segments if kind == _INTERPRETER), None)
    dynamic = next(((at, length) for kind, at, _, length in segments if kind == _DYNAMIC), None)
    if dynamic is None:
        return interpreter, [], []
    pair = "<qQ" if wide else "<iI"
    step = struct.calcsize(pair)
    tags = [struct.unpack_from(pair, data, at) for at in range(dynamic[0], dynamic[0] + dynamic[1], step)]
    address = next((value for tag, value in tags if tag == _STRTAB), None)
    if address is None:
        return interpreter, [], []
    strings = next(
        at + address - start
        for kind, at, start, length in segments
        if kind == _LOAD and start <= address < start + length
    )
    needed = [_text(data, strings + value) for tag, value in tags if tag == _NEEDED]
    paths = [_text(data, strings + value) for tag, value in tags if tag in (_RUNPATH, _RPATH)]
    return interpreter, needed, [part for path in paths for part in path.split(":")]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def library_folders(root: Path) -> list[Path]:
    """Where the dynamic linker looks."""
    folders = [root / "usr/lib", root / "usr/lib/systemd", *sorted((root / "usr/lib").glob("*-linux-gnu*"))]
    return [folder for folder in folders if folder.is_dir()]


def needed_libraries(program: Path, root: Path) -> dict[str, Path]:
    """A program's interpreter and libraries, theirs included: name in an initramfs -> file in the root.
    Raises KeyError for one that is not there."""
    folders = library_folders(root)
    found: dict[str, Path] = {}
    waiting = [program]
    while waiting:
        dynamic = read_dynamic(waiting.pop())
        if dynamic is None:
            continue
        interpreter, needed, _ = dynamic
        if interpreter is not None:
            found[interpreter.lstrip("/")] = (root / ("usr" + interpreter)).resolve()
        for name in needed:
            file = next((folder / name for folder in folders if (folder / name).exists()), None)
            if file is None:
                raise KeyError(name)
            if f"lib/{name}" not in found and file.name not in {Path(key).name for key in found}:
                found[f"lib/{name}"] = file.resolve()
                waiting.append(file.resolve())
    return found


def missing_libraries(root: Path) -> dict[str, set[str]]:
    """Libraries that some file of the root needs and that are not there: name -> who needs it."""
    there = {file.name for file in root.rglob("*.so*")}
    missing: dict[str, set[str]] = {}
    for file in root.rglob("*"):
        if file.is_symlink() or not file.is_file():
            continue
        with file.open("rb") as opened:
            if opened.read(4) != b"\x7fELF":
                continue
        dynamic = read_dynamic(file)
        for name in dynamic[1] if dynamic else []:
            if name not in there:
                missing.setdefault(name, set()).add(str(file.relative_to(root)))
    return missing
