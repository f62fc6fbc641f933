"""Local recovery: whether a list of operators that a field engineer brings is put in force (design 3.3).

Signed by the manufacturer's key, for this hub by name, newer than the last one that was accepted, not older than a
week by the trusted clock, and of use: an admin in it is valid for 30 days more. It is in force at once and not on
trial: the list before it is one that nobody could command with.
"""

from dataclasses import dataclass

from hub.core.control.authority import MAX_AHEAD_S
from hub.wire.keys.operators import BadOperators, Operators, parse_operators, refusal_of_list
from hub.wire.keys.recovery import BadRecovery, open_recovery
from hub.wire.printable import quoted
from hub.wire.uplink.envelope import PublicKey

MAX_AGE_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """To be put in force. `iat`: what the next one has to be newer than."""

    operators: Operators
    text: str
    by: str
    iat: int


class OperatorRecovery:
    """`key`: the manufacturer's; None: this hub was provisioned without. `last_iat`: of the last one accepted."""

    def __init__(self, hub_id: str, key: PublicKey | None) -> None:
        self._hub_id = hub_id
        self._key = key
        self.last_iat = 0

    def judge(self, message: bytes, t: float | None) -> Recovered:
        """Judge one. `t`: UTC epoch seconds, None without a trustworthy clock. Raises BadRecovery."""
        if self._key is None:
            raise BadRecovery("no-key", "control.recovery_key_file is not there: nobody's signature could hold")
        found = open_recovery(message, self._key)
        if found.hub != self._hub_id:
            raise BadRecovery("wrong-audience", f"it is for {quoted(found.hub)}, this is {self._hub_id}")
        if t is None:
            raise BadRecovery("no-clock", "this hub has no trustworthy clock yet")
        if found.iat > t + MAX_AHEAD_S:
            raise BadRecovery("from-the-future", f"it was signed {found.iat - t:.0f} s ahead of this hub's clock")
        if found.iat < t - MAX_AGE_S:
            raise BadRecovery("expired", f"it was signed {(t - found.iat) / 86400:.0f} days ago; 7 are allowed")
        if found.iat <= self.last_iat:
            raise BadRecovery("replayed", "it is not newer than the last one that was accepted")
        try:
            operators = parse_operators(found.operators)
        except BadOperators as error:
            raise BadRecovery("bad-args", f"operators: {error}") from None
        if refusal := refusal_of_list(operators, t):
            raise BadRecovery("locked-out", refusal)
        return Recovered(operators, found.operators, found.by, found.iat)
