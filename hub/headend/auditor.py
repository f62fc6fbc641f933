"""The audit: are all numbers there, is the chain of receipts whole, which commands lack a final receipt? No I/O."""

from dataclasses import dataclass, field

from hub.headend.inbox import Inbox
from hub.headend.ledger import Lane
from hub.wire.uplink.command import BadCommand, Command, parse_command
from hub.wire.uplink.receipt import FINAL, Receipt, broken_links, decode_receipt


@dataclass(slots=True)
class Audit:
    """What an audit found. `missing`: inclusive ranges of numbers by lane; `broken`: indices by hub at which a chain of
    receipts does not fit; `open_commands`: commands that were taken and have no final receipt yet; `silent_commands`:
    commands that nobody answered at all."""

    messages: int = 0
    faults: list[str] = field(default_factory=list)
    missing: dict[Lane, list[tuple[int, int]]] = field(default_factory=dict)
    broken: dict[str, list[int]] = field(default_factory=dict)
    open_commands: list[tuple[str, bytes, str]] = field(default_factory=list)  # (hub, cti, last status)
    silent_commands: list[Command] = field(default_factory=list)
    first_receipts: dict[str, int] = field(default_factory=dict)  # index of the first that is there, by hub
    receipts: int = 0
    readings: int = 0

    @property
    def is_sound(self) -> bool:
        """Nothing is missing, altered or out of the chain. A command may still be under way."""
        return not self.faults and not self.missing and not self.broken


class Auditor:
    """Feed it every message of an archive, then ask for the finding."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._finding = Audit()
        self._chains: dict[str, dict[int, tuple[Receipt, bytes]]] = {}
        self._commands: dict[bytes, Command] = {}

    def take(self, topic: str, payload: bytes) -> None:
        """One message, in the order in which it was heard."""
        self._finding.messages += 1
        if topic.endswith("/commands"):
            try:
                command = parse_command(payload)
            except BadCommand:
                return  # not ours to judge: the hub answers it
            self._commands[command.cti] = command
            return
        received = self._inbox.receive(topic, payload)
        if received.fault:
            self._finding.faults.append(f"{topic}: {received.fault}")
        elif received.is_new and received.kind == "receipts" and received.envelope is not None:
            receipt = decode_receipt(received.envelope.payload)
            self._chains.setdefault(received.hub, {})[receipt.i] = (receipt, payload)
            self._finding.receipts += 1
        elif received.is_new and received.kind == "readings":
            self._finding.readings += len(received.readings)

    def conclude(self) -> Audit:
        """What was found."""
        finding = self._finding
        finding.missing = self._inbox.missing()
        answered: set[bytes] = set()
        for hub, chain in self._chains.items():
            ordered = [chain[i] for i in sorted(chain)]
            finding.first_receipts[hub] = min(chain)
            if broken := broken_links(ordered):
                finding.broken[hub] = broken
            last: dict[bytes, str] = {}
            for receipt, _ in ordered:
                if receipt.re is not None:
                    last[receipt.re] = receipt.status
            answered |= set(last)
            finding.open_commands += [(hub, cti, status) for cti, status in last.items() if status not in FINAL]
        finding.silent_commands = [
            command for cti, command in self._commands.items() if cti not in answered and command.op != "heartbeat"
        ]
        return finding
