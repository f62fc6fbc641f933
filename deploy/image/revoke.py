"""Take release certificates back: `python -m deploy.image.revoke KEYS CERTIFICATE...`; images built from then on refuse
what they sign."""

import argparse
import sys
from pathlib import Path

from deploy.image.signing import revoke


def main() -> int:
    """Exit status 0, or 1 with what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.revoke", description=__doc__)
    parser.add_argument("keys", type=Path, help="folder with release-ca.pem and release-ca.key")
    parser.add_argument("certificates", type=Path, nargs="*", help="PEM files; none: a list that names nobody more")
    arguments = parser.parse_args()
    try:
        print(revoke(arguments.keys, arguments.certificates))
    except (OSError, ValueError) as error:
        print(f"revoke: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
