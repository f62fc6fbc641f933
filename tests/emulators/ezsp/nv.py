# SPDX-License-Identifier: GPL-3.0-or-later
"""What an NCP keeps through power cuts: identity, network, keys, counters, tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

Save = Callable[[dict[str, Any]], None]

COUNTER_BLOCK: Final = 4096  # the frame counter is stored ahead of use, so that a power cut never repeats one
NO_EUI: Final = b"\xff" * 8


@dataclass
class Network:
    """A network the NCP is part of; field names follow EmberNetworkParameters (UG100 §5)."""

    extended_pan_id: bytes
    pan_id: int
    tx_power: int
    channel: int
    join_method: int
    manager: int
    update_id: int
    channels: int


@dataclass
class Keys:
    """The security material set by setInitialSecurityState."""

    bitmask: int
    link_key: bytes
    network_key: bytes
    key_sequence: int


@dataclass
class NonVolatile:
    """The NCP's flash. `save` is called with a JSON-ready dict whenever something changed."""

    eui: bytes
    restored_eui: bytes = NO_EUI
    network: Network | None = None
    keys: Keys | None = None
    frame_counter: int = 0
    aps_counter: int = 0
    link_keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    children: dict[int, tuple[bytes, int, int]] = field(default_factory=dict)
    tokens: dict[str, bytes] = field(default_factory=dict)
    mfg: dict[int, bytes] = field(default_factory=dict)
    save: Save | None = field(default=None, repr=False, compare=False)

    @property
    def own_eui(self) -> bytes:
        """The address in use: the restored one if there is one."""
        return self.eui if self.restored_eui == NO_EUI else self.restored_eui

    def changed(self) -> None:
        if self.save is not None:
            self.save(self.to_dict())

    def factory_reset(self) -> None:
        """Forget the network, its keys and its devices; the identity stays."""
        self.network = self.keys = None
        self.frame_counter = self.aps_counter = 0
        self.link_keys.clear()
        self.children.clear()
        self.tokens.clear()
        self.changed()

    def to_dict(self) -> dict[str, Any]:
        """All of it with bytes as hexadecimal text."""
        save, self.save = self.save, None
        try:
            plain = asdict(self)
        finally:
            self.save = save
        del plain["save"]
        hexed: dict[str, Any] = _hex(plain)
        return hexed

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> NonVolatile:
        """The reverse of `to_dict`. Raises KeyError or ValueError when it was not made by it."""
        network, keys = saved["network"], saved["keys"]
        return cls(
            eui=bytes.fromhex(saved["eui"]),
            restored_eui=bytes.fromhex(saved["restored_eui"]),
            network=None if network is None else Network(**_unhex(network, "extended_pan_id")),
            keys=None if keys is None else Keys(**_unhex(keys, "link_key", "network_key")),
            frame_counter=saved["frame_counter"],
            aps_counter=saved["aps_counter"],
            link_keys={int(i): (bytes.fromhex(e), bytes.fromhex(k)) for i, (e, k) in saved["link_keys"].items()},
            children={int(i): (bytes.fromhex(e), n, t) for i, (e, n, t) in saved["children"].items()},
            tokens={name: bytes.fromhex(value) for name, value in saved["tokens"].items()},
            mfg={int(name): bytes.fromhex(value) for name, value in saved["mfg"].items()},
        )


def _hex(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _hex(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hex(item) for item in value]
    return value


def _unhex(saved: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: bytes.fromhex(value) if key in names else value for key, value in saved.items()}


def dumps(saved: dict[str, Any]) -> str:
    """The text of a state file."""
    return json.dumps(saved, indent=1, sort_keys=True) + "\n"
