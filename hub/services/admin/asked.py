"""What the admin socket's answers are made of: narrow views of the parts that run, so that none of them is imported."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from drivers.board import BoardFacts
from drivers.clock import Clock
from drivers.flash import FlashWear
from drivers.radio import Radio
from hub.core.control.controller import Controller
from hub.core.day_history import DayHistory
from hub.core.gateway.gateway import Gateway
from hub.core.health import Health
from store import Store

if TYPE_CHECKING:
    from hub.wire.admin import (
        ControlFigures,
        MeterAnswer,
        MeterFigures,
        ReloadAnswer,
        TraceAnswer,
        UpdateFigures,
        UplinkAnswer,
    )


class UplinkPart(Protocol):
    """The uplink's loop."""

    def status(self) -> "UplinkAnswer": ...


class UpdatePart(Protocol):
    """The updates' loop."""

    def status(self) -> "UpdateFigures": ...


class Meter(Protocol):
    """The meter's port."""

    def status(self) -> "MeterFigures": ...

    def details(self) -> "MeterAnswer": ...


class Home(Protocol):
    """The home's loop."""

    gateway: Gateway
    internal_errors: int

    def link_status(self) -> dict[str, Any]: ...

    def forget(self, client_id: str) -> bool: ...


class Control(Protocol):
    """The control service."""

    controller: Controller

    def status(self) -> "ControlFigures": ...

    async def recover(self, message: bytes) -> list[str]: ...


class Trace(Protocol):
    """The last frames on either side."""

    def look(self, after: int) -> "TraceAnswer": ...


@dataclass(frozen=True, slots=True)
class Asked:
    """The running hub. `radio()`: None until its libraries are imported; `radio_state`: what it is until then."""

    hub_id: str
    data_dir: Path
    started_at: float
    store: Store
    health: Health
    clock: Clock
    home: Home
    control: Control
    uplink: UplinkPart
    updates: UpdatePart
    board: BoardFacts | None
    trace: Trace
    radio: Callable[[], Radio | None]
    radio_state: Callable[[], str]
    meter: Meter | None
    start_anew: Callable[[], None]
    reload: Callable[[], "ReloadAnswer"]
    flash: Callable[[], FlashWear]
    history: Callable[[], DayHistory]
    changes: Callable[[], dict[str, Any]]  # settings that commands have set
