"""`meterhub trace`: the frames on either side of the hub as they come and go, decoded. Ctrl-C ends it."""

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from hub.cli.common import FINE, Subparsers, add_verb, ask_daemon, print_json_line, say
from hub.cli.words import pairs, words

_EVERY_S = 0.2
_ARROWS = {"in": "->", "out": "<-"}


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "trace", trace, "live frames on either side, decoded; --json: one object a line")
    parser.add_argument("--side", choices=("han", "uplink"), help="only this side")
    parser.add_argument("--client", help="only this adapter's, by its ClientId or address")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many frames")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long")


def trace(arguments: argparse.Namespace) -> int:
    ends_at = float("inf") if arguments.seconds is None else time.monotonic() + arguments.seconds
    left = float("inf") if arguments.count is None else arguments.count
    after = ask_daemon(arguments, "trace", after=-1)["next"]
    while left > 0 and time.monotonic() < ends_at:
        answer = ask_daemon(arguments, "trace", after=after)
        after = answer["next"]
        if answer["missed"]:
            _print(arguments, {"missed": answer["missed"]}, f"... {answer['missed']} frames went by unseen")
        for frame in answer["frames"]:
            if left > 0 and _is_wanted(arguments, frame):
                left -= 1
                frame["text"] = decode(frame)
                _print(arguments, frame, _line(frame))
        if len(answer["frames"]) == 0:
            time.sleep(_EVERY_S)
    return FINE


def _is_wanted(arguments: argparse.Namespace, frame: dict[str, Any]) -> bool:
    if arguments.side not in (None, frame["side"]):
        return False
    return arguments.client is None or arguments.client in (frame["client"], frame["where"])


def _print(arguments: argparse.Namespace, row: dict[str, Any], line: str) -> None:
    if arguments.json:
        print_json_line(row)
    else:
        say(line, flush=True)


def _line(frame: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(frame["t_ms"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    who = frame["client"] or frame["where"]
    return f"{at} {frame['side']:6} {_ARROWS[frame['way']]} {who:24} {frame['text']}"


def decode(frame: dict[str, Any]) -> str:
    """What a frame says, in one line; its bytes where it says nothing that we know."""
    data = bytes.fromhex(frame["data"])
    try:
        text = _han(data) if frame["side"] == "han" else _uplink(frame["where"], data)
    except Exception as error:  # whatever is on the line is shown, not judged
        text = f"{type(error).__name__}: {error}: {data[:32].hex()}"
    return text if frame["size"] == len(data) else f"{text} (cut off, {frame['size']} bytes)"


def _han(data: bytes) -> str:
    from hub.wire.mqttsn.messages import Malformed
    from hub.wire.mqttsn.messages import decode as decode_1_2
    from hub.wire.mqttsn.v2.messages import decode2

    try:
        return _message(decode_1_2(data))
    except Malformed as error:
        try:
            return f"MQTT-SN 2.0 {_message(decode2(data))}"
        except Exception:
            return f"malformed ({error}): {data[:32].hex()}"


def _message(message: Any) -> str:
    """A message of MQTT-SN by its fields, in their order; one inside another (Forward) likewise."""
    names = getattr(type(message), "__slots__", None)
    if not names:
        return words(message)
    return f"{type(message).__name__}({', '.join(_message(getattr(message, name)) for name in names)})"


def _uplink(topic: str, data: bytes) -> str:
    from hub.wire.uplink.cbor import decode_own
    from hub.wire.uplink.envelope import split_sign1

    kind = topic.rpartition("/")[2]
    if kind == "state" or "/han/" in topic:
        return data.decode("utf-8", "replace")
    if kind == "heartbeat":
        return words(decode_own(data))
    protected, _, payload, _ = split_sign1(data)
    return f"{_header(protected)} {_content(kind, payload)}"


def _header(protected: dict[Any, Any]) -> str:
    from hub.wire.uplink.envelope import PLACE

    placed = protected.get(PLACE)
    if isinstance(placed, list) and len(placed) == 4:
        return f"{placed[2]} {placed[3]} of epoch {placed[1]}:"
    return f"command of {bytes(protected.get(4, b'')).decode('utf-8', 'replace')}:"


def _content(kind: str, payload: bytes) -> str:
    from hub.wire.uplink.cbor import decode as decode_strictly
    from hub.wire.uplink.cbor import decode_own
    from hub.wire.uplink.pack import decode_pack

    if kind in ("readings", "answers"):
        readings = decode_pack(payload)
        return f"{len(readings)} readings of {len({(r.client_id, r.quantity) for r in readings})} series"
    if kind == "commands":  # anybody's
        claims = decode_strictly(payload)
        return f"{claims.get('op')} {words(claims.get('args'))}"
    claims = decode_own(payload)
    if kind == "receipts":
        return " ".join(filter(None, (claims.get("status"), claims.get("reason"), words(claims.get("detail")))))
    return ", ".join(f"{key}={value}" for key, value in pairs(claims).items() if key != "t")
