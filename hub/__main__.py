"""`python -m hub` is `meterhub`.

The daemon's own line goes without argparse, gettext and locale: it would carry them for years.
"""

import sys

from hub.cli import service


def main() -> int:
    """Run what the command line says; return its exit status."""
    plain = service.plain(sys.argv[1:])
    if plain is not None:
        return service.serve(*plain)
    from hub.cli.main import main as any_verb

    return any_verb()


if __name__ == "__main__":
    sys.exit(main())
