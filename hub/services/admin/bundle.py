"""The support bundle: what an engineer takes home from a hub, in one file, and reads there with the same verbs.

A gzipped tar of JSON files. It holds no reading, no watt that anybody drew, no key and no secret (promise P6): what a
thief of the bundle learns is that there is a hub and how it is. What packs and unpacks it is imported when needed, for
every verb knows of bundles.
"""

import base64
import hashlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMAT = 1
_MAX_BYTES = 64 * 1024 * 1024  # of one member: a bundle is small, and a crafted one must not fill the laptop
_SUFFIX = ".json"

# What says, or lets one work out, what the home draws or does. Wherever it stands, it is left out.
# `nominal_w` of an appliance is the most that it was seen to draw. A meter's number says whose home it is.
CONSUMPTION = frozenset(
    {"power_w", "nominal_w", "household_w", "base_w", "restricted", "share_w", "kept_waiting_s", "value", "mantissa",
     "last_registers", "first_registers", "peaks", "old_number", "new_number", "meter_number",
     # What an appliance, or whoever commands, is called by people.
     "name"}
)  # fmt: skip


class BadBundle(Exception):
    """The file is no bundle of ours; one line for the engineer."""


def without_consumption(value: Any) -> Any:
    """The same without everything that CONSUMPTION names."""
    if isinstance(value, dict):
        # An alarm is in the appliance's own words.
        left_out = CONSUMPTION | ({"text"} if value.get("event") == "adapter.alarm" else set())
        return {key: without_consumption(item) for key, item in value.items() if key not in left_out}
    if isinstance(value, list | tuple):
        return [without_consumption(item) for item in value]
    return value


def make_bundle(parts: dict[str, Any], text: dict[str, str], blacken: Callable[[str], str]) -> bytes:
    """A bundle: `parts` as JSON, `text` as it is, each of them through `blacken`, which takes secrets out."""
    import gzip
    import tarfile

    texts = {name + _SUFFIX: json.dumps(without_consumption(part), indent=1) for name, part in parts.items()} | text
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in texts.items():
            data = blacken(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def write_bundle(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone may read. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def as_text(name: str, data: bytes) -> str:
    """A bundle for a line that carries text alone: base64 between two marks, length and SHA-256 in the second."""
    lines = base64.encodebytes(data).decode("ascii")
    digest = hashlib.sha256(data).hexdigest()
    return f"{_BEGIN} {name}-----\n{lines}{_END} {len(data)} bytes, SHA-256 {digest}-----\n"


def from_text(text: str) -> tuple[str, bytes]:
    """`(name, bundle)` out of a recording of a terminal: whatever stands before and behind, however its lines end.
    Raises BadBundle, also for what was damaged on its way."""
    found = _IN_TEXT.search(text)
    if found is None:
        raise BadBundle(f"no bundle in this text: expected a line {_BEGIN} ...")
    name, body, size, digest = found.groups()
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except ValueError:
        raise BadBundle(f"{name}: it was damaged on its way: not base64") from None
    if len(data) != int(size) or hashlib.sha256(data).hexdigest() != digest:
        raise BadBundle(f"{name}: it was damaged on its way: {len(data)} of {size} bytes, another SHA-256")
    return name, data


_BEGIN, _END = "-----BEGIN METERHUB BUNDLE", "-----END METERHUB BUNDLE"
_IN_TEXT = re.compile(
    _BEGIN + r" ([\w.:-]{1,120})-----\s*\n(.*?)" + _END + r" (\d{1,12}) bytes, SHA-256 ([0-9a-f]{64})-----", re.DOTALL
)


def read_bundle(path: Path) -> dict[str, Any]:
    """The JSON parts of a bundle, by name. Raises BadBundle; nothing of it is ever unpacked to disk."""
    import tarfile

    parts: dict[str, Any] = {}
    try:
        data = path.read_bytes()
        if _BEGIN.encode() in data:  # as a serial console brought it
            data = from_text(data.decode("ascii", "replace"))[1]
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            for entry in tar:
                if not entry.isfile() or not entry.name.endswith(_SUFFIX):
                    continue
                if entry.size > _MAX_BYTES:
                    raise BadBundle(f"{path}: {entry.name} is larger than any bundle of ours")
                member = tar.extractfile(entry)
                assert member is not None  # it is a file
                parts[entry.name.removesuffix(_SUFFIX)] = json.load(member)
    except OSError as error:
        raise BadBundle(f"{path}: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise BadBundle(f"{path}: not a support bundle: {error}") from None
    if parts.get("manifest", {}).get("format") != FORMAT:
        raise BadBundle(f"{path}: not a support bundle of format {FORMAT}")
    return parts
