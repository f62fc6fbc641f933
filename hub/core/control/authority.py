"""Authority: whether a command may be obeyed (promise P5). A machine: bytes and the time in, a verdict out.

The checks, in the order of design 3.3: size and form; known kid; signature; audience; role; expiry; not from the
future; already answered; counter (where counters were lost: issued since). The first that fails gives the receipt's
reason. Nothing here does anything.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from hub.wire.keys.operators import Operator, Operators
from hub.wire.uplink.command import ROLES, BadCommand, Command, parse_command
from hub.wire.uplink.envelope import BadEnvelope, verify_sign1

MAX_AHEAD_S = 300.0  # design 3.3: how far a control point's clock may be ahead of ours


@dataclass(frozen=True, slots=True)
class Refused:
    """Not obeyed. `reason` is one of REASONS; `cti` where it could be read; `is_authentic` when the signature held."""

    reason: str
    text: str
    digest: bytes
    cti: bytes | None = None
    is_authentic: bool = False


@dataclass(frozen=True, slots=True)
class AnsweredBefore:
    """This cti has been answered: its receipt is sent again, nothing is done twice."""

    command: Command
    digest: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """May be obeyed, once. Its counter is used up the moment this is durable."""

    command: Command
    operator: Operator
    digest: bytes


Verdict = Refused | AnsweredBefore | Accepted

REASONS = (
    "malformed", "unknown-kid", "bad-signature", "wrong-audience", "wrong-role", "operator-expired", "no-clock",
    "expired", "not-yet-valid", "from-the-future", "replayed",
)  # fmt: skip


class Authority:
    """Judges commands for one hub.

    `last_ctr(kid)`: the last counter accepted from an operator, or None. `is_answered(cti)`: whether a receipt exists.
    Both come from what is durable, never from memory alone.
    """

    def __init__(
        self,
        hub_id: str,
        groups: tuple[str, ...],
        operators: Operators,
        last_ctr: Callable[[str], int | None],
        is_answered: Callable[[bytes], bool],
    ) -> None:
        self._audiences = {hub_id, "all", *(f"group:{group}" for group in groups)}
        self.operators = operators
        self._last_ctr = last_ctr
        self._is_answered = is_answered
        # UTC epoch seconds: what was issued earlier may have been obeyed by this hub before it forgot its counters.
        self.not_before = float("-inf")

    def judge(self, message: bytes, t: float | None) -> Verdict:
        """Judge one message. `t`: UTC epoch seconds, or None while there is no trustworthy clock."""
        digest = hashlib.sha256(message).digest()
        try:
            command = parse_command(message)
        except BadCommand as error:
            return Refused("malformed", str(error), digest, error.cti)

        def refused(reason: str, text: str, authentic: bool = True) -> Refused:
            return Refused(reason, text, digest, command.cti, authentic)

        operator = self.operators.get(command.kid)
        if operator is None:
            return refused("unknown-kid", f"no operator is known as {command.kid}", False)
        try:
            verify_sign1(message, lambda _kid: operator.public_key)
        except BadEnvelope as error:
            return refused("bad-signature", str(error), False)
        if command.aud not in self._audiences:
            return refused("wrong-audience", f"it is for {command.aud}")
        if ROLES[command.op] not in operator.roles:
            return refused("wrong-role", f"{command.op} needs the role {ROLES[command.op]}")
        late = self._check_time(command, operator, t)
        if late is not None:
            return refused(*late)
        if self._is_answered(command.cti):
            return AnsweredBefore(command, digest)
        if command.iat < self.not_before:
            text = "this hub lost its memory of counters, so it obeys only what is issued after {:.0f}: send it anew"
            return refused("replayed", text.format(self.not_before))
        last = self._last_ctr(command.kid)
        if last is not None and command.ctr <= last:
            return refused("replayed", f"ctr {command.ctr} is not greater than {last}")
        return Accepted(command, operator, digest)

    @staticmethod
    def _check_time(command: Command, operator: Operator, t: float | None) -> tuple[str, str] | None:
        if t is None:
            return "no-clock", "this hub has no trustworthy clock yet"
        if operator.not_after is not None and t > operator.not_after:
            return "operator-expired", f"{operator.name} may not command any more"
        if t >= command.exp:
            return "expired", f"it ended {t - command.exp:.0f} s ago"
        if command.nbf is not None and t < command.nbf:
            return "not-yet-valid", f"it begins in {command.nbf - t:.0f} s"
        if command.iat > t + MAX_AHEAD_S:
            return "from-the-future", f"it was issued {command.iat - t:.0f} s ahead of this hub's clock"
        return None
