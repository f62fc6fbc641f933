"""A swarm that says when each of its hubs heard a command for all: on SIGUSR1, into `--arrivals FILE`, monotonic
seconds, one a line."""

import sys
from pathlib import Path

from deploy.fleet.swarm import live, parser_of, swarm_of, write_when_asked


def main() -> int:
    parser = parser_of("counted_swarm", __doc__)
    parser.add_argument("--arrivals", type=Path, required=True)
    arguments = parser.parse_args()
    swarm = swarm_of(arguments)
    write_when_asked(swarm, arguments.arrivals, lambda: "".join(f"{at}\n" for at in swarm.arrivals))
    return live(swarm)


if __name__ == "__main__":
    sys.exit(main())
