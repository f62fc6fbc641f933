"""A swarm that says when each of its hubs heard a command for all: on SIGUSR1, into `--arrivals FILE`, monotonic
seconds, one a line."""

import signal
import sys
from pathlib import Path

from deploy.fleet.swarm import live, parser_of, swarm_of


def main() -> int:
    parser = parser_of("counted_swarm", __doc__)
    parser.add_argument("--arrivals", type=Path, required=True)
    arguments = parser.parse_args()
    swarm = swarm_of(arguments)
    wanted: list[int] = []

    def write() -> None:
        if wanted:
            wanted.clear()
            fresh = arguments.arrivals.with_suffix(".new")
            fresh.write_text("".join(f"{at}\n" for at in swarm.arrivals))
            fresh.replace(arguments.arrivals)

    signal.signal(signal.SIGUSR1, lambda number, _frame: wanted.append(number))
    swarm.each_round = write
    return live(swarm)


if __name__ == "__main__":
    sys.exit(main())
