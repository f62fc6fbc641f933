"""`meterhub trace`: the frames on either side of the hub as they come and go, decoded, or as a file for Wireshark.
Ctrl-C ends it."""

import argparse
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from hub.cli.common import FINE, PROBLEM, Subparsers, add_verb, ask_daemon, complain, print_json_line, say
from hub.cli.decoded import Decoder, Said

_EVERY_S = 0.2
_ARROWS = {"in": "->", "out": "<-"}  # as the hub stands on their right


def register(subparsers: Subparsers) -> None:
    parser = add_verb(subparsers, "trace", trace, "live frames on either side, decoded; --json: one object a line")
    parser.add_argument("--side", choices=("han", "uplink"), help="only this side")
    parser.add_argument("--client", help="only this adapter's, by its ClientId or address")
    parser.add_argument("--way", choices=("in", "out"), help="only what comes in to the hub, or goes out of it")
    parser.add_argument(
        "--protocol", choices=("mqtt-sn", "mqtt", "zcl", "zdo"), action="append", help="only this; may stand again"
    )
    parser.add_argument(
        "--message", metavar="NAME", action="append", help="only messages of this name (PUBLISH); may stand again"
    )
    parser.add_argument("--topic", metavar="FILTER", help="only messages on such topics; + and # as in MQTT")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many frames")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so long")
    parser.add_argument(
        "--pcap", metavar="FILE", type=Path, help="write pcapng for Wireshark instead; - for standard output"
    )


def trace(arguments: argparse.Namespace) -> int:
    with ExitStack() as stack:
        capture = None
        if arguments.pcap is not None:
            try:
                capture = stack.enter_context(_Capture(arguments.pcap))
            except OSError as error:
                complain(f"{arguments.pcap}: {error.strerror or error}; give another file with --pcap")
                return PROBLEM
        try:
            _follow(arguments, capture)
        finally:
            if capture is not None:
                complain(capture.summary())
    return FINE


def _follow(arguments: argparse.Namespace, capture: "_Capture | None") -> None:
    ends_at = float("inf") if arguments.seconds is None else time.monotonic() + arguments.seconds
    left = float("inf") if arguments.count is None else arguments.count
    decoder = Decoder()
    after = ask_daemon(arguments, "trace", after=-1)["next"]
    while left > 0 and time.monotonic() < ends_at:
        answer = ask_daemon(arguments, "trace", after=after)
        after = answer["next"]
        decoder.learn(answer.get("topics", {}))
        if answer["missed"] and capture is None:
            _print(arguments, {"missed": answer["missed"]}, f"... {answer['missed']} frames went by unseen")
        for frame in answer["frames"]:
            said = decoder.decode(frame)
            if left <= 0 or not _is_wanted(arguments, frame, said):
                continue
            left -= 1
            if capture is not None:
                capture.write(frame)
            else:
                row = {**frame, "protocol": said.protocol, "message": said.message, "fields": said.fields}
                _print(arguments, {**row, "text": said.text}, _line(frame, said))
        if len(answer["frames"]) == 0:
            time.sleep(_EVERY_S)


def _is_wanted(arguments: argparse.Namespace, frame: dict[str, Any], said: Said) -> bool:
    from hub.wire.mqttsn.topics import matches

    address = frame["where"].partition(":")[2]
    return (
        arguments.side in (None, frame["side"])
        and arguments.way in (None, frame["way"])
        and arguments.client in (None, frame["client"], frame["where"], address)
        and (not arguments.protocol or said.protocol.lower().partition(" ")[0] in arguments.protocol)
        and (not arguments.message or said.message.lower() in [name.lower() for name in arguments.message])
        and (arguments.topic is None or (said.topic != "" and matches(arguments.topic, said.topic)))
    )  # fmt: skip


def _print(arguments: argparse.Namespace, row: dict[str, Any], line: str) -> None:
    if arguments.json:
        print_json_line(row)
    else:
        say(line, flush=True)


def _line(frame: dict[str, Any], said: Said) -> str:
    at = datetime.fromtimestamp(frame["t_ms"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    who = "broker" if frame["side"] == "uplink" else frame["client"] or frame["where"]
    return f"{at} {who:>19} {_ARROWS[frame['way']]} hub  {said.protocol:7} {said.text}"


class _Capture:
    """A file of frames that grows as they come: `... --pcap - | wireshark -k -i -` shows them live."""

    def __init__(self, path: Path) -> None:
        from hub.wire import capture
        from hub.wire.version import VERSION

        self._blocks = capture
        self._path = path
        self._count = 0
        # It holds what the home says: readable by its owner alone, and never over another file.
        self._file: BinaryIO = sys.stdout.buffer if str(path) == "-" else open(path, "xb", opener=_for_owner)  # noqa: SIM115
        self._put(capture.beginning(f"meterhub {VERSION}"))

    def __enter__(self) -> "_Capture":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdout.buffer:
            self._file.close()

    def write(self, frame: dict[str, Any]) -> None:
        self._count += 1
        data, t_us, to_hub = bytes.fromhex(frame["data"]), frame["t_ms"] * 1000, frame["way"] == "in"
        kind = frame["kind"]
        if kind == "mqtt-sn":
            self._put(self._blocks.mqtt_sn(t_us, frame["where"], data, to_hub=to_hub))
        elif kind == "mqtt":
            self._put(self._blocks.mqtt(t_us, self._count, frame["where"], data, to_hub=to_hub))
        else:
            self._put(self._blocks.zigbee(t_us, frame["aps"], data, to_hub=to_hub))

    def _put(self, block: bytes) -> None:
        self._file.write(block)
        self._file.flush()

    def summary(self) -> str:
        where = "" if str(self._path) == "-" else f" {self._path}"
        return f"{self._count} frames; open them with: wireshark -d {self._blocks.DECODE_AS}{where}"


def _for_owner(path: str, flags: int) -> int:
    import os

    return os.open(path, flags, 0o600)
