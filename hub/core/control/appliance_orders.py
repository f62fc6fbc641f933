"""Orders to a single appliance, `switch` and `set`: what is held, for how long, and who asked."""

from dataclasses import dataclass
from typing import Any

from hub.core.order import Order
from hub.wire.uplink.cbor import decode_own, encode

MAX_ORDERS, MAX_ORDERS_EACH = 256, 64


@dataclass(frozen=True, slots=True)
class ApplianceOrder:
    """One appliance is held to something. `starts_at`, `ends_at`: UTC epoch seconds; `slot`, `text` as in an Order."""

    cti: bytes
    kid: str
    digest: bytes
    client_id: str
    slot: str
    text: str
    starts_at: float
    ends_at: float
    is_applied: bool = False

    def encode(self) -> bytes:
        """As the store keeps it."""
        return encode(
            [
                self.kid, self.digest, self.client_id, self.slot, self.text, self.starts_at, self.ends_at,
                self.is_applied,
            ]
        )  # fmt: skip

    def order(self, until: float) -> Order:
        return Order(self.slot, self.text, until)


def decode_appliance_order(cti: bytes, value: bytes) -> ApplianceOrder:
    """Read what `encode` wrote. Raises ValueError."""
    fields: Any = decode_own(value)
    if not isinstance(fields, list) or len(fields) != 8:
        raise ValueError("not an order to an appliance")
    return ApplianceOrder(cti, *fields)


def switch_text(on: bool) -> str:
    return "on" if on else "off"


def set_text(quantity: str, value: float) -> str:
    """`set QUANTITY VALUE`; adapters read plain decimals, never an exponent."""
    return f"set {quantity} {value:.6f}".rstrip("0").rstrip(".") if value % 1 else f"set {quantity} {value:.0f}"
