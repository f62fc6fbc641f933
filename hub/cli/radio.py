"""`meterhub radio`: the Zigbee radio."""

import argparse

from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, ask_daemon, print_json, print_table


def register(subparsers: Subparsers) -> None:
    radio = subparsers.add_parser("radio", help="the Zigbee radio", description="the Zigbee radio")
    actions = radio.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_verb(actions, "info", info, "the radio's state and network")
    parser = add_verb(actions, "permit", permit, "let devices join for a while")
    parser.add_argument("--seconds", type=int, default=60, help="1 to 254 (default: %(default)s)")
    parser.add_argument("--ieee", help="only this device, by its 16 hex digits; with --install-code")
    parser.add_argument("--install-code", help="what its label says, in hex digits, CRC included")


def info(arguments: argparse.Namespace) -> int:
    radio = ask_daemon(arguments, "status")["radio"]
    if arguments.json:
        print_json(radio)
    else:
        for key, value in radio.items():
            if key != "devices":
                print(f"{key:12} {value if value is not None else '-'}")
        rows = [[ieee, *device.values()] for ieee, device in radio.get("devices", {}).items()]
        if rows:
            print_table(["ieee", *next(iter(radio["devices"].values()))], rows)
    return FINE if radio["state"] in ("up", "off") else PROBLEM


def permit(arguments: argparse.Namespace) -> int:
    named = {"ieee": arguments.ieee, "install_code": arguments.install_code}
    only = {name: text for name, text in named.items() if text}
    answer = ask_daemon(arguments, "radio.permit", duration_s=arguments.seconds, **only)
    if arguments.json:
        print_json(answer)
    else:
        print(f"{arguments.ieee or 'devices'} may join for {answer['duration_s']} s")
    return FINE
