"""bellows' classes of protocol versions, by which each radio is spoken to, and what is put on top of them."""

from collections.abc import Callable
from typing import Any

import bellows.ezsp


def extend_protocols(extended: Callable[[int, Any], Any]) -> None:
    """Have each version spoken by `extended(version, its class)`. Once is enough, however often it is asked for."""
    versions = bellows.ezsp.EZSP._BY_VERSION
    for version, handler in versions.items():
        if not any(base.__module__ == extended.__module__ for base in handler.__mro__):
            versions[version] = extended(version, handler)
