"""`trust` and `trust.confirm`: other operators, on trial until one of their own admins says that the list works."""

import hashlib
from collections.abc import Mapping
from typing import Any

from hub.core.control.authority import Accepted
from hub.core.control.operations.base import CommandedOperation, Desk, Unable
from hub.core.control.records import Journal
from hub.wire.keys.operators import BadOperators, Operators, parse_operators, refusal_of_list
from hub.wire.uplink.command import kid_text
from hub.wire.uplink.envelope import BadEnvelope, split_sign1, verify

_MAX_APPROVAL_BYTES = 1024


class Trust(CommandedOperation):
    """The list in force says how many admins have to sign: the sender, and `approvals`."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        text: str = args["operators"]
        try:
            self._operators: Operators = parse_operators(text)
        except BadOperators as error:
            raise Unable("bad-args", f"operators: {error}") from None
        if refusal := refusal_of_list(self._operators, self.t()):
            raise Unable("locked-out", refusal)
        signed = {self.kid} | {self._approver(approval, text) for approval in args.get("approvals", ())}
        threshold = desk.authority.operators.threshold
        if len(signed) < threshold:
            raise Unable("threshold", f"{threshold} admins have to sign, {len(signed)} did")

    def _approver(self, approval: bytes, text: str) -> str:
        """The admin who signed the list's SHA-256. Raises Unable."""
        try:
            message = split_sign1(approval, _MAX_APPROVAL_BYTES)
            kid = kid_text(message.header)
            operator = self.desk.authority.operators.get(kid)
            if operator is None or not operator.may("admin", self.t()):
                raise Unable("threshold", "an approval is of nobody who is an admin now")
            verify(message, operator.public_key)
        except (BadEnvelope, ValueError) as error:
            raise Unable("threshold", f"an approval does not hold: {error}") from None
        if message.payload != hashlib.sha256(text.encode()).digest():
            raise Unable("threshold", "an approval is of another list")
        return kid

    def journal(self) -> Journal:
        journal = Journal()
        self.desk.trial.journal_begin(journal, self.args["operators"], self.t())
        self.complete(
            journal, {"operators": sorted(self._operators), "trial_until": round(self.desk.trial.end(self.t()))}
        )
        journal.events.append(("operators.changed", {"operators": sorted(self._operators), "by": self.kid}))
        return journal

    def apply(self, now: float) -> None:
        self.desk.trial.begin(self.args["operators"], self.t())
        self.desk.use_operators(self._operators, now)


class ConfirmTrust(CommandedOperation):
    """An admin of the list that is on trial has shown that it can be commanded with it."""

    def __init__(self, desk: Desk, verdict: Accepted, args: Mapping[str, Any], now: float) -> None:
        super().__init__(desk, verdict, args, now)
        if not desk.trial.is_on:
            raise Unable("no-trial", "no list of operators is on trial")

    def journal(self) -> Journal:
        journal = Journal()
        self.desk.trial.journal_end(journal)
        self.complete(journal)
        return journal

    def apply(self, now: float) -> None:
        self.desk.trial.end_it()
