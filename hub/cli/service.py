"""Being the hub: what `meterhub run` does, and its usual line read without argparse."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if os.environ.get("OPENSSL_CONF"):  # a key in hardware: said before anything below loads OpenSSL
    from drivers.openssl_at_exit import leave_modules_alone

    leave_modules_alone()

from drivers import lazy_imports
from hub.app.config import ConfigError, default_path, load_config

_USAGE = 2


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
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    for ours in ("hub", "drivers", "store"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        settings = load_config(config)
        with lazy_imports.imports():
            from hub.app.daemon import run_daemon  # a wrong configuration is told without its libraries

        os.umask(0o077)  # whoever starts the hub: what it writes is its own
        return run_daemon(settings)
    except ConfigError as error:
        print(f"meterhub: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        return 130
