"""Authority: whether a command may be obeyed (promise P5). A machine: bytes and the time in, a verdict out.

The checks, in the order of design 3.3: size and form; known kid; signature; the claims' form; already answered;
audience; role; expiry; not from the future; counter (where counters were lost: issued since). The first that fails
gives the receipt's reason. Nothing of a message is looked at before its signature holds but the name of the key (and,
where a refusal is answered at all, which command it names: `CommandRefused.named_cti`); nothing here does anything.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from hub.wire.keys.operators import Operator, Operators
from hub.wire.printable import quoted
from hub.wire.uplink.command import ROLES, BadCommand, Command, kid_text, read_claims, split_command
from hub.wire.uplink.envelope import BadEnvelope, Sign1, verify

_MAX_KNOWN = 256
MAX_AHEAD_S = 300.0  # design 3.3: how far a control point's clock may be ahead of ours


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """Not obeyed. `reason` is one of REASONS; `kid`: whose signature held, "" for nobody's, and then `cti` where it
    could be read."""

    reason: str
    text: str
    digest: bytes
    cti: bytes | None = None
    kid: str = ""
    unverified: Sign1 | None = None  # what nobody known signed: its cti is read only if it is to be answered at all

    def named_cti(self) -> bytes | None:
        """The command that a receipt names."""
        if self.cti is None and self.unverified is not None:
            try:
                return read_claims(self.unverified).cti
            except BadCommand as error:
                return error.cti
        return self.cti


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message in the name of an operator that is known. Whether it is its own is not known yet."""

    sign1: Sign1
    kid: str
    digest: bytes


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


Verdict = CommandRefused | AnsweredBefore | Accepted

REASONS = (
    "malformed", "unknown-kid", "bad-signature", "wrong-audience", "wrong-role", "operator-expired", "no-clock",
    "expired", "not-yet-valid", "from-the-future", "replayed", "poison",
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
        self._hub_id = hub_id
        self.use_groups(groups)
        self.operators = operators
        self._last_ctr = last_ctr
        self._is_answered = is_answered
        # UTC epoch seconds: what was issued earlier may have been obeyed by this hub before it forgot its counters.
        self.not_before = float("-inf")
        # SHA-256 of messages whose signature was verified, the oldest first, and what was wrong with it ("": nothing):
        # who repeats one by the thousand is not to cost a verification each time. They are judged anew all the same.
        self._known: dict[bytes, str] = {}

    def use(self, operators: Operators) -> None:
        """Other operators from now on."""
        self.operators = operators
        self._known.clear()

    def _remember(self, digest: bytes, wrong: str) -> None:
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = wrong

    def use_groups(self, groups: tuple[str, ...]) -> None:
        """Other fleet groups from now on."""
        self._audiences = {self._hub_id, "all", *(f"group:{group}" for group in groups)}

    def open(self, message: bytes) -> Claimed | CommandRefused:
        """In whose name it comes: size, form and key. Cheap, and what fails here need not be waited for."""
        digest = hashlib.sha256(message).digest()
        try:
            sign1 = split_command(message)
            kid = kid_text(sign1.header)
        except ValueError as error:
            return CommandRefused("malformed", str(error), digest)
        if kid not in self.operators:
            return self._unknown(kid, digest, sign1)
        return Claimed(sign1, kid, digest)

    @staticmethod
    def _unknown(kid: str, digest: bytes, sign1: Sign1) -> CommandRefused:
        return CommandRefused("unknown-kid", f"no operator is known as {quoted(kid)}", digest, unverified=sign1)

    def judge(self, message: bytes, t: float | None) -> Verdict:
        """Judge one message. `t`: UTC epoch seconds, or None while there is no trustworthy clock."""
        opened = self.open(message)
        if isinstance(opened, CommandRefused):
            return opened
        sign1, kid, digest = opened.sign1, opened.kid, opened.digest
        operator = self.operators[kid]
        known = self._known.get(digest)
        if known is None:
            try:
                verify(sign1, operator.public_key)
                known = ""
            except BadEnvelope as error:
                known = str(error)
            self._remember(digest, known)
        if known:
            return CommandRefused("bad-signature", known, digest, unverified=sign1)
        try:
            command = read_claims(sign1)
        except BadCommand as error:
            return CommandRefused("malformed", str(error), digest, error.cti, kid)
        if self._is_answered(command.cti):
            return AnsweredBefore(command, digest)
        refusal = self._refusal(command, operator, t)
        if refusal is not None:
            return CommandRefused(*refusal, digest, command.cti, kid)
        return Accepted(command, operator, digest)

    def _refusal(self, command: Command, operator: Operator, t: float | None) -> tuple[str, str] | None:
        """The reason and text of the first claim that does not hold."""
        if command.aud not in self._audiences:
            return "wrong-audience", f"it is for {quoted(command.aud)}"
        if ROLES[command.op] not in operator.roles:
            return "wrong-role", f"{command.op} needs the role {ROLES[command.op]}"
        late = self._check_time(command, operator, t)
        if late is not None:
            return late
        if command.iat < self.not_before:
            text = "this hub lost its memory of counters, so it obeys only what is issued after {:.0f}: send it anew"
            return "replayed", text.format(self.not_before)
        last = self._last_ctr(command.kid)
        if last is not None and command.ctr <= last:
            return "replayed", f"ctr {command.ctr} is not greater than {last}"
        return None

    @staticmethod
    def _check_time(command: Command, operator: Operator, t: float | None) -> tuple[str, str] | None:
        if t is None:
            return "no-clock", "this hub has no trustworthy clock yet"
        if operator.not_after is not None and t > operator.not_after:
            return "operator-expired", f"{quoted(operator.name)} may not command any more"
        if t >= command.exp:
            return "expired", f"it ended {t - command.exp:.0f} s ago"
        if command.nbf is not None and t < command.nbf:
            return "not-yet-valid", f"it begins in {command.nbf - t:.0f} s"
        if command.iat > t + MAX_AHEAD_S:
            return "from-the-future", f"it was issued {command.iat - t:.0f} s ahead of this hub's clock"
        return None
