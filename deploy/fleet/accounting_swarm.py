"""A swarm that gives an account: on SIGUSR1 its hubs measure no more, and what each of them said so far is written.

    python -m deploy.fleet.accounting_swarm --account FILE ... (the rest as deploy.fleet.swarm)

FILE is JSON, a list of SimulatedHub.account, and is written whole or not at all.
"""

import json
import sys
from pathlib import Path

from deploy.fleet.swarm import live, parser_of, swarm_of, write_when_asked


def main() -> int:
    parser = parser_of("accounting_swarm", __doc__)
    parser.add_argument("--account", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    swarm = swarm_of(arguments)

    def account() -> str:
        for session in swarm.sessions:
            session.hub.quieten()
        return json.dumps([session.hub.account() for session in swarm.sessions])

    write_when_asked(swarm, arguments.account, account)
    return live(swarm)


if __name__ == "__main__":
    sys.exit(main())
