"""`meterhub headend send`: sign a command, send it, and wait for the hub's receipt."""

import argparse
import json
import os
import queue
import time
from pathlib import Path
from typing import Any

from hub.cli.common import FINE, PROBLEM, USAGE, complain
from hub.cli.headend_watch import add_broker
from hub.cli.words import pairs
from hub.wire.printable import why
from hub.wire.uplink.args import ARGS, check_args
from hub.wire.uplink.command import ROLES

_BYTES = {"cti"}
# A hash of digits alone, or version 1.10, is no number.
_TEXTS = ("url", "han", "sha256", "version")
_DONE = {"accepted": 1, "applied": 2, "partial": 2, "final": 3}


def register(actions: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        "send", help="sign a command and send it", description=_send.__doc__
    )
    parser.set_defaults(verb=_send)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _operations()
    parser.add_argument("op", help="the operation; they are listed below with their arguments")
    parser.add_argument(
        "args", nargs="*", metavar="NAME=VALUE", help="its arguments; VALUE is JSON, else a text; @FILE is its content"
    )
    add_broker(parser, "--cert-key")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="the operator's private key (PEM)")
    parser.add_argument("--kid", required=True, help="the operator's key id")
    parser.add_argument("--to", required=True, help="a hub's name, group:NAME or all")
    parser.add_argument("--valid-s", type=float, default=300, help="how long it may be obeyed (default: %(default)s)")
    parser.add_argument("--ctr", type=int, help="its counter, above the last one (default: the time in milliseconds)")
    parser.add_argument(
        "--wait", nargs="?", const="applied", choices=["accepted", "applied", "final"],
        help="wait for the receipt; `final` waits for the end of what was asked for (default: applied)",
    )  # fmt: skip
    parser.add_argument("--hub-cert", type=Path, nargs="+", default=[], metavar="FILE", help="to verify receipts with")
    parser.add_argument("--timeout-s", type=float, default=60, help="how long to wait (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="add command and receipts to an archive for `audit`")
    return parser


def _send(arguments: argparse.Namespace) -> int:
    """Sign a command as an operator and publish it. With --wait: exit status 0 when the hub did it, 1 when not."""
    from hub.headend.archive import save
    from hub.headend.command_signer import topic_for
    from hub.headend.connection import BrokerConnection
    from hub.headend.inbox import Inbox

    if arguments.op not in ROLES:
        complain(f"headend send: {arguments.op}: not one of {', '.join(ROLES)}")
        return USAGE
    if arguments.wait and not arguments.hub_cert:
        complain("headend send: --wait needs --hub-cert, to know a genuine receipt")
        return USAGE
    try:
        args = check_args(arguments.op, _read_args(arguments.args))
    except (OSError, ValueError) as error:
        complain(f"headend send: {arguments.op}: {why(error)}")
        return USAGE
    try:
        cti, message = _sign(arguments, args)
        connection = BrokerConnection(
            arguments.host, arguments.port, arguments.ca, arguments.cert, arguments.tls_key, ""
        )
        connection.start(["meters/+/receipts", "meters/+/answers"])
        topic = topic_for(arguments.to)
        connection.publish(topic, message, arguments.timeout_s)
    except (OSError, ValueError) as error:
        complain(f"headend send: {why(error)}")
        return PROBLEM
    if arguments.save is not None:
        save(arguments.save, topic, message)
    _say(arguments, {"sent": arguments.op, "to": arguments.to, "cti": cti.hex()})
    status = FINE
    if arguments.wait:
        status = _await(arguments, connection, Inbox(arguments.hub_cert, from_start=False), cti)
    connection.stop()
    return status


def _operations() -> str:
    """Each operation, the role it needs, and what its arguments have to be: the hub's own rules, asked."""
    lines = ["operations and their arguments:"]
    for op, role in ROLES.items():
        lines.append(f"  {op}  (role {role})")
        for name, rule in ARGS[op].items():
            lines.append(f"      {name}: {rule.expected}{'' if rule.is_required else ' (optional)'}")
    return "\n".join(lines)


def load_operator_key(file: Path) -> Any:
    """An operator's private key as a signer. Raises OSError, or ValueError for what is no such key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from hub.wire.uplink.envelope import FileSigner

    key = load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise ValueError(f"{file}: expected a P-256 or Ed25519 key")
    return FileSigner(key, b"")


def _read_args(words: list[str]) -> dict[str, Any]:
    args: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word}: expected NAME=VALUE")
        if text.startswith("@"):
            args[name] = Path(text[1:]).read_text()
            continue
        try:
            value = text if name in _TEXTS else json.loads(text)
        except ValueError:
            value = text
        args[name] = bytes.fromhex(text) if name in _BYTES else value
    return args


def _sign(arguments: argparse.Namespace, args: dict[str, Any]) -> tuple[bytes, bytes]:
    from hub.wire.uplink.command import CTI_BYTES, Command, sign_command

    signer = load_operator_key(arguments.key)
    now = time.time()
    cti = os.urandom(CTI_BYTES)
    command = Command(
        kid=arguments.kid, aud=arguments.to, exp=int(now + arguments.valid_s), nbf=None, iat=int(now), cti=cti,
        ctr=int(now * 1000) if arguments.ctr is None else arguments.ctr, op=arguments.op, args=args,
    )  # fmt: skip
    return cti, sign_command(signer, command)


def _await(arguments: argparse.Namespace, connection: Any, inbox: Any, cti: bytes) -> int:
    """Print the receipts of a command until every hub we can verify has said as much as was asked for."""
    from hub.headend.archive import save
    from hub.wire.uplink.receipt import FINAL

    wanted = _DONE[arguments.wait]
    waiting = set(inbox.hubs) if arguments.to == "all" or arguments.to.startswith("group:") else {arguments.to}
    status, deadline = FINE, time.monotonic() + arguments.timeout_s
    while waiting and time.monotonic() < deadline:
        try:
            topic, payload = connection.messages.get(timeout=0.2)
        except queue.Empty:
            continue
        received = inbox.receive(topic, payload)
        if received.fault:
            if "no key is known" not in received.fault:
                complain(f"headend send: {topic}: {received.fault}")
            continue
        if arguments.save is not None and received.is_new:
            save(arguments.save, topic, payload)
        if received.kind != "receipts" or received.fields.get("re") != cti:
            continue
        said = received.fields["status"]
        _say(arguments, {"hub": received.hub, **{k: received.fields[k] for k in ("status", "reason", "detail")}})
        if said in FINAL or _DONE.get(said, 0) >= wanted:
            waiting.discard(received.hub)
            if said in ("refused", "failed", "partial"):
                status = PROBLEM
    for hub in sorted(waiting):
        complain(f"headend send: {hub}: no receipt within {arguments.timeout_s:g} s")
        status = PROBLEM
    return status


def _say(arguments: argparse.Namespace, row: dict[str, Any]) -> None:
    if arguments.json:
        print(json.dumps(row, default=repr), flush=True)
    else:
        told = pairs({key: value for key, value in row.items() if value not in ("", {})})
        print("  ".join(f"{key}={value}" for key, value in told.items()), flush=True)
