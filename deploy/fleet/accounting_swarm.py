"""A swarm that gives an account: on SIGUSR1 its hubs measure no more, and what each of them said so far is written.

    python -m deploy.fleet.accounting_swarm --account FILE ... (the rest as deploy.fleet.swarm)

FILE is JSON, a list of SimulatedHub.account, and is written whole or not at all.
"""

import json
import signal
import sys
from pathlib import Path

from deploy.fleet.swarm import live, parser_of, swarm_of


def main() -> int:
    parser = parser_of("accounting_swarm", __doc__)
    parser.add_argument("--account", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    swarm = swarm_of(arguments)
    asked: list[int] = []

    def answer() -> None:
        if asked:
            asked.clear()
            for session in swarm.sessions:
                session.hub.quieten()
            fresh = arguments.account.with_suffix(".new")
            fresh.write_text(json.dumps([session.hub.account() for session in swarm.sessions]))
            fresh.replace(arguments.account)

    signal.signal(signal.SIGUSR1, lambda number, _frame: asked.append(number))
    swarm.each_round = answer
    return live(swarm)


if __name__ == "__main__":
    sys.exit(main())
