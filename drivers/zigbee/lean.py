"""Keeps out of memory what zigpy imports only to fetch device firmware from the Internet, which a hub never does.

`zigpy.ota.providers` imports aiohttp and jsonschema: 15 MB of a hub's 48. While `imports()` lasts, that module is found
with importlib's LazyLoader: it exists, and its code runs the moment anything touches it. Nothing of zigpy is changed,
and nothing is missing if a later version needs it early: it only costs the memory again.
"""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

POSTPONED = frozenset({"zigpy.ota.providers"})


class _Postponing(MetaPathFinder):
    """Finds the modules of POSTPONED where they are, and defers their code."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in POSTPONED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def imports() -> Iterator[None]:
    """What is imported inside leaves the modules of POSTPONED for later."""
    finder = _Postponing()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
