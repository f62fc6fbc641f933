"""Questions that a stopped hub's database, or a support bundle, answers as well as a running hub does."""

import argparse
from collections.abc import Callable
from typing import Any

from hub.cli.common import ask_daemon, config_of
from hub.services.admin.client import NoDaemon

# A year of readings, by time alone, on a small board.
_SEARCH_S = 300.0


def ask_or_open(arguments: argparse.Namespace, what: str, query: Callable[[Any], Any], **request: Any) -> Any:
    """Ask the running hub; where none runs, open its database and query that; with --bundle, ask the bundle.

    Raises NoDaemon when there is neither, BadBundle for a file that is none.
    """
    if arguments.bundle is not None:
        return from_bundle(arguments, what)
    try:
        return ask_daemon(arguments, what, timeout_s=_SEARCH_S, **request)
    except NoDaemon as absent:
        from store import StoreError
        from store.offline import OfflineStore

        try:
            with OfflineStore(config_of(arguments).data_dir) as view:
                return query(view)
        except StoreError as error:
            raise NoDaemon(f"{absent}; and its database cannot be read: {error}") from None


def ask_or_read(arguments: argparse.Namespace, what: str) -> Any:
    """Ask the running hub, or with --bundle the bundle. Raises NoDaemon, Refused, BadBundle."""
    return ask_daemon(arguments, what) if arguments.bundle is None else from_bundle(arguments, what)


def from_bundle(arguments: argparse.Namespace, what: str) -> Any:
    """One part of a support bundle. Raises BadBundle, also for what no bundle holds."""
    from hub.services.admin.bundle import BadBundle, read_bundle

    parts = read_bundle(arguments.bundle)
    if what not in parts:
        there = ", ".join(sorted(parts))
        raise BadBundle(f"{arguments.bundle}: no {what} in it, for it holds no consumption data; it has {there}")
    return parts[what]
