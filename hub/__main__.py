"""`python -m hub` is `meterhub`."""

import sys

from hub.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
