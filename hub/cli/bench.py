"""`meterhub bench`: how fast this machine serves, beside the limit it sets."""

import argparse
from pathlib import Path

from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, complain, format_bytes, print_json, print_table
from hub.wire.printable import why


def register(subparsers: Subparsers) -> None:
    bench = subparsers.add_parser("bench", help="measure this machine", description="Measure this machine.")
    actions = bench.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    parser = add_verb(actions, "gateway", gateway, "QoS 1 publishes over UDP, each durable before its PUBACK")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20, 100], help="(default: 1 20 100)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per number of clients (default: %(default)s)")
    parser.add_argument(
        "--payload", choices=("number", "plain", "samples"), default="samples", help="(default: %(default)s)"
    )
    parser.add_argument("--directory", type=Path, help="where the database goes (default: the temporary directory)")
    parser = add_verb(actions, "limit", limit, "from a control point's command to the order on the home network")
    parser.add_argument("--commands", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--adapters", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--readings-per-s", type=float, default=10.0, help="of the whole home (default: %(default)s)")
    parser.add_argument(
        "--backlog", type=int, default=0, help="readings that are sent meanwhile (default: %(default)s)"
    )
    parser.add_argument("--commands-per-s", type=float, default=200.0, help="at most (default: %(default)s)")
    parser = add_verb(actions, "forward", forward, "raw forwards that arrive at a mosquitto of its own")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20, 100], help="(default: 1 20 100)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per number of clients (default: %(default)s)")
    parser = add_verb(actions, "uplink", uplink, "a backlog of readings through TLS to a mosquitto of its own")
    parser.add_argument("--readings", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument(
        "--per-commit", type=int, default=10, help="readings in a row of the log (default: %(default)s)"
    )
    parser.add_argument("--directory", type=Path, help="where the database goes (default: the temporary directory)")


def uplink(arguments: argparse.Namespace) -> int:
    from hub.bench.peer import NoBroker
    from hub.bench.uplink import BenchFailed, bench_uplink

    try:
        row = bench_uplink(arguments.readings, arguments.per_commit, arguments.directory)
    except (NoBroker, BenchFailed) as error:
        complain(str(error))
        return PROBLEM
    if arguments.json:
        print_json(row)
    else:
        print_table(("figure", "value"), list(row.items()))
    return FINE


def forward(arguments: argparse.Namespace) -> int:
    from hub.bench.forward import bench_forward
    from hub.bench.peer import NoBroker

    try:
        rows = bench_forward(arguments.clients, arguments.seconds)
    except (NoBroker, TimeoutError) as error:
        complain(f"bench forward: {why(error)}")
        return PROBLEM
    if arguments.json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    return FINE


def gateway(arguments: argparse.Namespace) -> int:
    from hub.bench.gateway import PAYLOADS, bench_gateway

    rows = bench_gateway(arguments.clients, arguments.seconds, PAYLOADS[arguments.payload], arguments.directory)
    if arguments.json:
        print_json(rows)
    else:
        headers = [name for name in rows[0] if name != "rss_bytes"]
        print_table(
            [*headers, "rss"], [[*(row[name] for name in headers), format_bytes(row["rss_bytes"])] for row in rows]
        )
    return FINE


def limit(arguments: argparse.Namespace) -> int:
    from hub.bench.limit import bench_limit
    from hub.bench.peer import NoBroker
    from hub.bench.uplink import BenchFailed

    try:
        figures = bench_limit(
            arguments.commands, arguments.adapters, arguments.readings_per_s,
            arguments.backlog, arguments.commands_per_s,
        )  # fmt: skip
    except (NoBroker, TimeoutError, BenchFailed) as error:
        complain(f"bench limit: {why(error)}")
        return PROBLEM
    if arguments.json:
        print_json(figures)
    else:
        print_table(list(figures), [list(figures.values())])
    return FINE
