"""Questions that a stopped hub's database answers as well as a running hub does."""

import argparse
from collections.abc import Callable
from typing import Any

from hub.admin.client import NoDaemon
from hub.cli.common import ask_daemon, config_of


def ask_or_open(arguments: argparse.Namespace, what: str, query: Callable[[Any], Any], **request: Any) -> Any:
    """Ask the running hub; where none runs, open its database and query that. Raises NoDaemon when neither is there."""
    try:
        return ask_daemon(arguments, what, **request)
    except NoDaemon as absent:
        from store import StoreError
        from store.offline import OfflineStore

        try:
            with OfflineStore(config_of(arguments).data_dir) as view:
                return query(view)
        except StoreError as error:
            raise NoDaemon(f"{absent}; and its database cannot be read: {error}") from None
