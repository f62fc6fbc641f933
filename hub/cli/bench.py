"""`meterhub bench`: how fast this machine serves, beside the limit it sets."""

import argparse
from pathlib import Path

from hub.cli.common import FINE, Subparsers, add_verb, format_bytes, print_json, print_table


def register(subparsers: Subparsers) -> None:
    bench = subparsers.add_parser("bench", help="measure this machine", description="Measure this machine.")
    actions = bench.add_subparsers(title="benchmarks", metavar="WHAT", required=True)
    parser = add_verb(actions, "gateway", gateway, "QoS 1 publishes over UDP, each durable before its PUBACK")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20, 100], help="(default: 1 20 100)")
    parser.add_argument("--seconds", type=float, default=5.0, help="per number of clients (default: %(default)s)")
    parser.add_argument("--payload", choices=("number", "plain", "samples"), default="samples", help="(default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="where the database goes (default: the temporary directory)")


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
