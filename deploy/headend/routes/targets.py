"""What orders and roll-outs have in common: whom they are for, and what they may ask."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploy.headend.config import ApiClient

MAX_VALID_S = 86_400  # of an order


class Target(BaseModel):
    """Whom an order is for: exactly one of these."""

    model_config = ConfigDict(extra="forbid")
    hub: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    group: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    all: Literal[True] | None = None
    where: dict[Literal["state", "version", "group"], str] | None = Field(None, min_length=1)

    def one(self) -> dict[str, Any]:
        said = self.model_dump(exclude_none=True)
        if len(said) != 1:
            raise ValueError("target: exactly one of hub, group, all, where")
        return said


def keeps_groups(client: ApiClient, args: dict[str, Any]) -> None:
    """Who is bound to groups does not say who is in them. Raises ValueError."""
    if not client.reach.is_all and "hub.groups" in args.get("set", {}):
        raise ValueError(f"hub.groups: {client.client_id} is bound to groups, and does not change who is in them")


def with_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"hex"} and isinstance(value["hex"], str):
            return bytes.fromhex(value["hex"])
        return {key: with_bytes(item) for key, item in value.items()}
    return [with_bytes(item) for item in value] if isinstance(value, list) else value
