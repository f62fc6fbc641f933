"""The support bundle: what an engineer takes home from a hub, in one file, and reads there with the same verbs.

A gzipped tar of JSON files. It holds no reading, no watt that anybody drew, no key and no secret (promise P6): what a
thief of the bundle learns is that there is a hub and how it is. What packs and unpacks it is imported when needed, for
every verb knows of bundles.
"""

import io
import json
import os
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
     "last_registers", "first_registers", "peaks", "old_number", "new_number", "meter_number"}
)  # fmt: skip


class BadBundle(Exception):
    """The file is no bundle of ours; one line for the engineer."""


def without_consumption(value: Any) -> Any:
    """The same without everything that CONSUMPTION names."""
    if isinstance(value, dict):
        return {key: without_consumption(item) for key, item in value.items() if key not in CONSUMPTION}
    if isinstance(value, list | tuple):
        return [without_consumption(item) for item in value]
    return value


def write_bundle(path: Path, parts: dict[str, Any], text: dict[str, str], blacken: Callable[[str], str]) -> None:
    """Write a bundle, readable by its owner alone: `parts` as JSON, `text` as it is, each of them through `blacken`,
    which takes secrets out. Raises OSError."""
    import gzip
    import tarfile

    texts = {name + _SUFFIX: json.dumps(without_consumption(part), indent=1) for name, part in parts.items()} | text
    members = {name: blacken(content).encode() for name, content in texts.items()}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        open(descriptor, "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="") as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            tar.addfile(entry, io.BytesIO(data))


def read_bundle(path: Path) -> dict[str, Any]:
    """The JSON parts of a bundle, by name. Raises BadBundle; nothing of it is ever unpacked to disk."""
    import tarfile

    parts: dict[str, Any] = {}
    try:
        with tarfile.open(path, mode="r:gz") as tar:
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
