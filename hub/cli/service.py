"""Being the hub: what `meterhub run` does, and its usual line read without argparse."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if os.environ.get("OPENSSL_CONF"):  # a key in hardware: said before anything below loads OpenSSL
    from drivers.openssl_at_exit import leave_modules_alone

    leave_modules_alone()

from drivers import lazy_imports
from hub.app.config import ConfigError, default_path, load_config
from hub.wire.printable import one_line

_USAGE = 2


class _OneLine(logging.Formatter):
    """What a stranger sends may end up in a message: it makes no line of its own, and moves no cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join("  " + one_line(line) for line in super().formatException(ei).splitlines())


def plain(words: Sequence[str]) -> tuple[Path, bool] | None:
    """`(configuration, verbose)` of `run [--config FILE] [--verbose]`; None: not that, argparse knows what to say."""
    if not words or words[0] != "run":
        return None
    config, verbose, rest = default_path(), False, iter(words[1:])
    for word in rest:
        if word == "--verbose":
            verbose = True
        elif word == "--config":
            file = next(rest, "-")
            if file.startswith("-"):
                return None
            config = Path(file)
        else:
            return None
    return config, verbose


def serve(config: Path, verbose: bool) -> int:
    """Be the hub until SIGTERM or SIGINT; the exit status, after one line when the configuration is wrong."""
    # The journal adds time and unit; a line says who speaks and what.
    level = logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for ours in ("hub", "drivers", "store"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        settings = load_config(config)
        with lazy_imports.imports():
            from hub.app.daemon import run_daemon  # a wrong configuration is told without its libraries

        os.umask(0o077)  # whoever starts the hub: what it writes is its own
        return run_daemon(settings)
    except ConfigError as error:
        print(f"meterhub: {one_line(str(error))}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return 130
