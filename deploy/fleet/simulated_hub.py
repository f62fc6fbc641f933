"""A hub of the real contract without a home behind it: signed packs, heartbeats, receipts, limits that it keeps. A
machine: bytes and `now` in, messages out; deploy/fleet/swarm.py has the sockets."""

import hashlib
import json
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hub.wire.keys.operators import Operators
from hub.wire.uplink import event as events
from hub.wire.uplink import pack
from hub.wire.uplink import receipt as receipts
from hub.wire.uplink.cbor import encode
from hub.wire.uplink.command import BadCommand, Command, read_claims, split_command
from hub.wire.uplink.envelope import ANSWERS_CTI, BadEnvelope, Signer, seal, split_sign1, verify
from hub.wire.uplink.reading import Reading
from hub.wire.version import VERSION

_MAX_KEPT = 5_000
_READINGS = "readings"


class HubMessage(NamedTuple):
    """To be published at QoS 1."""

    topic: str
    payload: bytes
    is_retained: bool = False


class _Limit(NamedTuple):
    command: Command
    digest: bytes
    limit_w: float
    ends_s: float


class SimulatedHub:
    """`t` is UTC epoch seconds everywhere. `interval_s`: between readings; `pack_s`: how long they wait for a pack."""

    def __init__(
        self, hub: str, signer: Signer, operators: Operators, t: float, *, interval_s: float = 10.0,
        pack_s: float = 60.0, heartbeat_s: float = 60.0,
    ) -> None:  # fmt: skip
        self.hub = hub
        self._signer, self._operators = signer, operators
        self._epoch = int(t)
        self._interval_s, self._pack_s, self._heartbeat_s = interval_s, pack_s, heartbeat_s
        draw = random.Random(hub)
        self._usual_w = draw.uniform(200.0, 1500.0)
        self._energy_mwh = draw.randrange(10**9, 10**10)
        self._next: dict[str, int] = {}
        self._kept: dict[str, dict[int, bytes]] = {lane: {} for lane in (_READINGS, "events", "receipts")}
        self._booked: dict[str, int] = {}
        self._waiting: list[Reading] = []
        self._answers: dict[bytes, bytes] = {}  # cti -> the receipt that was given last
        self._ctr: dict[str, int] = {}
        self._limits: dict[bytes, _Limit] = {}
        self._prev, self._i = receipts.FIRST_PREV, 0
        self.groups: list[str] = []
        # What it answers where it is asked how it is: rows of code, severity, text, as in `status` (design 3.4).
        self.conditions: Sequence[dict[str, str]] = ()
        self._readings_sealed = 0
        # Hubs that start together do not speak together.
        offset_s = draw.random()
        self._reads_at = t + offset_s * interval_s
        self._packs_at = t + offset_s * pack_s
        self._beats_at = t + offset_s * heartbeat_s
        self._last_s = t

    @property
    def deadline(self) -> float:
        """When `due` has something to do next."""
        ends = [limit.ends_s for limit in self._limits.values()]
        return min(self._reads_at, self._packs_at, self._beats_at, *ends)

    def filters(self) -> list[str]:
        """What it listens to."""
        return [
            f"meters/{self.hub}/commands",
            *(f"meters/group/{g}/commands" for g in self.groups),
            "meters/all/commands",
        ]

    def state(self, word: str, t: float) -> HubMessage:
        """Retained; "offline" is the will."""
        said = {"state": word, "epoch": self._epoch, "boot": 1, "version": VERSION, "kid": self._signer.kid.hex(),
                "t": int(t * 1000)}  # fmt: skip
        return HubMessage(f"meters/{self.hub}/state", json.dumps(said).encode(), True)

    def started(self, t: float) -> list[HubMessage]:
        """The first words of a session."""
        return [self.state("online", t), self._event("uplink.up", {"host": "simulated", "protocol": "3.1.1"}, t)]

    def tell(self, event: str, fields: dict[str, Any], t: float) -> HubMessage:
        """Something has happened: an event of hub/wire/uplink/event.py."""
        return self._event(event, fields, t)

    def renewed(self, signer: Signer, certificate: bytes, not_after: str, t: float) -> list[HubMessage]:
        """A new key in place of the present one, said by both (design 3.3). `certificate`: DER."""
        fields = {"not_after": not_after, "x5c": [certificate]}
        said = [self._event("certificate.renewed", fields, t)]
        self._signer = signer
        return [*said, self._event("certificate.renewed", fields, t)]

    def due(self, t: float) -> list[HubMessage]:
        """What has to be said by now."""
        found = []
        for limit in [limit for limit in self._limits.values() if limit.ends_s <= t]:
            del self._limits[limit.command.cti]
            found.append(self._receipt(limit.command, limit.digest, "completed", t, {"kept": True}))
        if t >= self._reads_at:
            self._read(t)
            self._reads_at += max(1, math.ceil((t - self._reads_at) / self._interval_s)) * self._interval_s
        if t >= self._packs_at:
            self._packs_at += max(1, math.ceil((t - self._packs_at) / self._pack_s)) * self._pack_s
            if self._waiting:
                found.append(self._seal(_READINGS, pack.CONTENT_TYPE, pack.encode_pack(self._waiting)))
                self._readings_sealed += len(self._waiting)
                self._waiting.clear()
        if t >= self._beats_at:
            self._beats_at = t + self._heartbeat_s
            beat = {"t": int(t * 1000), "epoch": self._epoch, "n": {lane: n + 1 for lane, n in self._next.items()},
                    "b": dict(self._booked)}  # fmt: skip
            found.append(HubMessage(f"meters/{self.hub}/heartbeat", encode(beat)))
        return found

    def quieten(self) -> None:
        """It measures no more; it answers, and its heart beats."""
        self._reads_at = self._packs_at = math.inf

    def account(self) -> dict[str, Any]:
        """What it knows that it said, to hold a book against: how many numbers of each lane, how many readings are in
        its packs, and the last word on each command (hex of its cti)."""
        last = {cti: receipts.decode_receipt(split_sign1(said).payload) for cti, said in self._answers.items()}
        return {"hub": self.hub, "epoch": self._epoch, "numbers": dict(self._next), "readings": self._readings_sealed,
                "answers": {cti.hex(): its.status for cti, its in last.items()}}  # fmt: skip

    def power_w(self, t: float) -> float:
        """What the household draws: more in the evening, never more than it may."""
        hour = t / 3600 % 24
        wanted = self._usual_w * (1.2 + math.cos((hour - 19) / 24 * 2 * math.pi)) + 400 * self._chance("noise", t)
        if self._chance("kettle", t) < 0.1:
            wanted += 2000
        return min([wanted, *(limit.limit_w for limit in self._limits.values())])

    def _chance(self, what: str, t: float) -> float:
        """From 0 to 1, the same whenever it is asked; a generator of its own would be 2.5 kB a hub."""
        return zlib.crc32(f"{self.hub} {what} {t}".encode()) / 2**32

    def _read(self, t: float) -> None:
        power_w = self.power_w(t)
        self._energy_mwh += int(power_w * (t - self._last_s) / 3.6)
        self._last_s = t
        t_ms = int(t * 1000)
        self._waiting += [
            Reading("meter", "power", t_ms, int(power_w), 0),
            Reading("meter", "energy", t_ms, self._energy_mwh // 1000, 0),
        ]

    def take(self, topic: str, payload: bytes, t: float) -> list[HubMessage]:
        """A command, or what claims to be one; strangers get no answer."""
        try:
            message = split_command(payload)
            operator = self._operators.get((message.kid or b"").decode("ascii", "replace"))
            if operator is None:
                return []
            verify(message, operator.public_key)
            command = read_claims(message)
        except (BadCommand, BadEnvelope):
            return []
        if command.cti in self._answers:
            return [HubMessage(f"meters/{self.hub}/receipts", self._answers[command.cti])]
        digest = hashlib.sha256(payload).digest()
        reason = self._refusal(command, topic, t)
        if reason:
            return [self._receipt(command, digest, "refused", t, reason=reason)]
        self._ctr[command.kid] = command.ctr
        return list(self._obey(command, digest, t))

    def _refusal(self, command: Command, topic: str, t: float) -> str:
        if command.aud not in (self.hub, "all", *(f"group:{name}" for name in self.groups)):
            return "audience"
        if command.exp < t:
            return "expired"
        return "replayed" if command.ctr <= self._ctr.get(command.kid, -1) else ""

    def _obey(self, command: Command, digest: bytes, t: float) -> Iterator[HubMessage]:
        op, args = command.op, command.args
        if op == "limit":
            self._limits[command.cti] = _Limit(command, digest, float(args["watts"]), t + float(args["duration"]))
            yield self._receipt(command, digest, "accepted", t)
            yield self._receipt(command, digest, "applied", t, {"watts": args["watts"]})
        elif op == "limit.cancel":
            for limit in list(self._limits.values()):
                if args.get("cti", limit.command.cti) == limit.command.cti:
                    del self._limits[limit.command.cti]
                    yield self._receipt(limit.command, limit.digest, "cancelled", t)
            yield self._receipt(command, digest, "completed", t)
        elif op == "resend":
            yield from self._send_again(command, digest, t)
        elif op == "booked":
            for lane, (epoch, number) in args.items():
                if epoch == self._epoch and lane in self._kept:
                    self._booked[lane] = number
                    for n in [n for n in self._kept[lane] if n <= number]:
                        del self._kept[lane][n]
        elif op != "heartbeat":
            if op == "config":
                self.groups = list(args.get("set", {}).get("hub.groups", self.groups))
            elif op == "diagnose":
                status = {"hub": self.hub, "version": VERSION, "conditions": list(self.conditions)}
                answer = json.dumps({"status": status}).encode()
                yield self._seal("answers", "application/json", answer, {ANSWERS_CTI: command.cti})
            yield self._receipt(command, digest, "completed", t)

    def _send_again(self, command: Command, digest: bytes, t: float) -> Iterator[HubMessage]:
        args = command.args
        kept = self._kept.get(args["lane"], {}) if args["epoch"] == self._epoch else {}
        found = [number for number in kept if args["from"] <= number <= args["to"]]
        for number in found:
            yield HubMessage(f"meters/{self.hub}/{args['lane']}", kept[number])
        if found:
            yield self._receipt(command, digest, "completed", t)
        else:
            yield self._receipt(command, digest, "failed", t, reason="not-kept")

    def _event(self, event: str, fields: dict[str, Any], t: float) -> HubMessage:
        return self._seal("events", events.CONTENT_TYPE, events.encode_event(int(t * 1000), event, fields))

    def _receipt(
        self, command: Command, digest: bytes, status: str, t: float, detail: dict[str, Any] | None = None, *,
        reason: str = "",
    ) -> HubMessage:  # fmt: skip
        self._i += 1
        said = receipts.Receipt(
            self.hub, int(t), command.cti, digest, status, reason, detail or {}, self._prev, self._i
        )
        message = self._seal("receipts", receipts.CONTENT_TYPE, receipts.encode_receipt(said))
        self._prev = receipts.chain_hash(message.payload)
        self._answers[command.cti] = message.payload
        if len(self._answers) > _MAX_KEPT:
            del self._answers[next(iter(self._answers))]
        return message

    def _seal(
        self, lane: str, content_type: int | str, payload: bytes, extra: dict[Any, Any] | None = None
    ) -> HubMessage:
        number = self._next[lane] = self._next.get(lane, 0) + 1
        message = seal(self._signer, self.hub, self._epoch, lane, number, content_type, payload, extra)
        kept = self._kept.setdefault(lane, {})
        kept[number] = message
        if len(kept) > _MAX_KEPT:
            del kept[next(iter(kept))]
        return HubMessage(f"meters/{self.hub}/{lane}", message)
