"""What the daemon answers on its admin socket: status, adapters, queue, readings, events (design 3.4)."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from drivers.board import BoardFacts
from drivers.clock import monotonic
from drivers.process import rss_bytes
from drivers.radio import Radio
from hub.core.gateway import session as states
from hub.core.gateway.session import Session
from hub.services.admin.asked import Asked
from hub.services.admin.server import Handler
from hub.wire.uplink.reading import Reading, format_decimal, unit_of
from hub.wire.version import VERSION
from store import factory_reset

if TYPE_CHECKING:
    from hub.wire.admin import (
        AdapterRow,
        BoardFigures,
        ClientAnswer,
        ConditionRow,
        ConfigAnswer,
        EventRow,
        FlashFigures,
        HanFigures,
        HistoryRow,
        LimitsAnswer,
        MeterAnswer,
        MoveAnswer,
        OperatorsAnswer,
        PermitAnswer,
        QueueAnswer,
        RadioAnswer,
        RadioDevice,
        ReadingRow,
        ReloadAnswer,
        ResetAnswer,
        StatusAnswer,
        TraceAnswer,
    )

MAX_ROWS = 100_000
# What changes the hub or hands out its keys, and is therefore not for everybody who may read.
CHANGES = frozenset(
    {
        "adapters.forget",
        "radio.permit",
        "radio.backup",
        "radio.restore",
        "radio.remove",
        "radio.rotate_key",
        "radio.channel",
        "factory_reset",
        "reload",
        "operators.recover",
    }
)


def reading_row(reading: Reading) -> "ReadingRow":
    """A reading for people and JSON: exact value as text of a number, its unit, quality flags."""
    return {
        "client": reading.client_id,
        "quantity": reading.quantity,
        "t_ms": reading.t_ms,
        "value": format_decimal(reading.mantissa, reading.exponent),
        "unit": unit_of(reading.quantity),
        "flags": reading.flags,
    }


def _board(board: BoardFacts) -> "BoardFigures":
    return {"image": board.image, "slot": board.slot, "rollback_index": board.rollback_index, "data": board.data}


class Queries:
    """Answers questions about a running hub."""

    def __init__(self, hub: Asked) -> None:
        self._hub = hub

    def handlers(self) -> dict[str, Handler]:
        """The questions by name."""
        return {
            "status": self.status,
            "adapters": self.adapters,
            "queue": self.queue,
            "readings": self.readings,
            "events": self.events,
            "limits": self.limits,
            "history": self.history,
            "meter": self.meter,
            "adapters.forget": self.adapters_forget,
            "radio.permit": self.radio_permit,
            "trace": self.trace,
            "radio.scan": lambda _request: self._radio().scan(),
            "radio.map": lambda _request: self._radio().draw(),
            "radio.backup": lambda _request: self._radio().back_up(),
            "radio.restore": lambda request: self._radio().restore(request.get("backup")),
            "radio.rotate_key": lambda _request: self._radio().rotate_key(),
            "radio.channel": self.radio_channel,
            "radio.remove": lambda request: self._radio().remove(str(request.get("ieee"))),
            "factory_reset": self.factory_reset,
            "reload": self.reload,
            "operators": self.operators,
            "operators.recover": self.operators_recover,
            "config": self.config,
        }

    async def status(self, _request: dict[str, Any]) -> "StatusAnswer":
        hub = self._hub
        store = hub.store.status()
        radio = hub.radio()
        return {
            "hub": hub.hub_id,
            "version": VERSION,
            "epoch": hub.store.epoch,
            "boot": hub.store.boot,
            "uptime_s": round(monotonic() - hub.started_at, 1),
            "uplink": hub.uplink.status(),
            "queue": await asyncio.wrap_future(hub.store.queue_status()),
            "store": store,
            "radio": _no_radio(hub.radio_state()) if radio is None else radio.status(),
            "han": self._han(),
            "limit": hub.control.status(),
            "meter": {"state": "off"} if hub.meter is None else hub.meter.status(),
            "update": hub.updates.status(),
            "board": None if hub.board is None else _board(hub.board),
            "flash": cast("FlashFigures", hub.flash()._asdict()),
            "process": {"rss_bytes": rss_bytes(), "clock_trusted": hub.clock.is_trusted()},
            "conditions": cast("list[ConditionRow]", [asdict(condition) for condition in hub.health.conditions()]),
        }

    async def meter(self, _request: dict[str, Any]) -> "MeterAnswer":
        """What the meter's port says, registers and all."""
        meter = self._hub.meter
        return {"state": "off"} if meter is None else meter.details()

    def _han(self) -> "HanFigures":
        bridge = self._hub.home
        sessions = bridge.gateway.sessions()
        return {
            "clients": sum(session.state in states.PRESENT for session in sessions),
            "asleep": sum(session.state == states.ASLEEP for session in sessions),
            "lost": sum(session.state == states.LOST for session in sessions),
            "known": len(sessions),
            "links": bridge.link_status(),
            "counters": bridge.gateway.counters,
            "internal_errors": bridge.internal_errors,
        }

    async def adapters(self, _request: dict[str, Any]) -> "list[AdapterRow]":
        now = monotonic()
        radio = self._hub.radio()
        on_air = {} if radio is None else radio.status().get("devices", {})
        rows = [_adapter_row(session, now, on_air) for session in self._hub.home.gateway.sessions()]
        return rows if radio is None else rows + radio.appliances()

    async def adapters_forget(self, request: dict[str, Any]) -> "ClientAnswer":
        """Free a ClientId, and the radio address it is bound to, for the device that replaces this one."""
        client_id = str(request.get("client"))
        if not self._hub.home.forget(client_id):
            raise ValueError(
                f"no adapter {client_id!r}: `meterhub adapters` lists them (zb-... are no MQTT-SN clients)"
            )
        return {"client": client_id}

    async def queue(self, _request: dict[str, Any]) -> "QueueAnswer":
        return await asyncio.wrap_future(self._hub.store.queue_status())

    async def readings(self, request: dict[str, Any]) -> "list[ReadingRow]":
        found = await asyncio.wrap_future(
            self._hub.store.readings(
                client=request.get("client"),
                quantity=request.get("quantity"),
                from_ms=request.get("from_ms"),
                to_ms=request.get("to_ms"),
                limit=_rows(request, 1000),
                newest_first=bool(request.get("newest_first", False)),
            )
        )
        return [reading_row(reading) for reading in found]

    async def events(self, request: dict[str, Any]) -> "list[EventRow]":
        found = await asyncio.wrap_future(self._hub.store.events(_rows(request, 100)))
        return cast("list[EventRow]", found)

    async def limits(self, _request: dict[str, Any]) -> "LimitsAnswer":
        """What holds the household, what waits, and what each appliance is told."""
        controller = self._hub.control.controller
        now = monotonic()
        return {
            **self._hub.control.status(),
            "limits": [
                {"cti": limit.cti.hex(), "operator": limit.kid, "state": limit.state, "watts": limit.watts,
                 "direction": limit.direction,
                 "criticality": limit.criticality, "start": limit.starts_at, "end": limit.ends_at, "told": limit.told}
                for limit in controller.limits
            ],
            "orders": [
                {"cti": order.cti.hex(), "operator": order.kid, "client": order.client_id, "order": order.text,
                 "end": order.ends_at}
                for order in controller.orders.values()
            ],
            "household": controller.household.report(now),
            "appliances": [appliance.row(now) for appliance in controller.household.appliances.values()],
            "operators": [
                {"kid": operator.kid, "name": operator.name, "roles": sorted(operator.roles)}
                for operator in controller.authority.operators.values()
            ],
        }  # fmt: skip

    async def history(self, _request: dict[str, Any]) -> "list[HistoryRow]":
        """The last day, a row a minute: what waited, what the household drew and was held to."""
        return [cast("HistoryRow", point._asdict()) for point in self._hub.history()]

    async def trace(self, request: dict[str, Any]) -> "TraceAnswer":
        return self._hub.trace.look(_whole(request, "after", -1))

    def _radio(self) -> Radio:
        radio = self._hub.radio()
        if radio is None:
            raise ValueError("this hub has no radio: the configuration has no [radio] table, or it is still starting")
        return radio

    async def radio_channel(self, request: dict[str, Any]) -> "MoveAnswer":
        """Move the network to another channel: `to` (none: the quietest), `in_s`."""
        to, in_s = request.get("to"), request.get("in_s", 0)
        if (to is not None and type(to) is not int) or type(in_s) is not int or not 0 <= in_s <= 7 * 86400:
            raise ValueError("to is a channel, in_s is 0 to 604800 seconds")
        return await self._radio().move(to, in_s)

    async def radio_permit(self, request: dict[str, Any]) -> "PermitAnswer":
        """Let devices join for a while: the engineer at the meter does this, never a householder."""
        duration_s = _whole(request, "duration_s", 60)
        if not 1 <= duration_s <= 254:
            raise ValueError("duration: expected 1 to 254 seconds")
        await self._radio().permit(duration_s, request.get("ieee"), request.get("install_code"))
        return {"duration_s": duration_s}

    async def config(self, _request: dict[str, Any]) -> "ConfigAnswer":
        """Which settings are not the file's any more, since a command set them."""
        return {"changed": self._hub.changes()}

    async def reload(self, _request: dict[str, Any]) -> "ReloadAnswer":
        """Read the operators' file again. A mistake in it is the asker's: ConfigError is a ValueError."""
        return self._hub.reload()

    async def operators(self, _request: dict[str, Any]) -> "OperatorsAnswer":
        """Who may command; `admins`: who may bring another list now."""
        controller = self._hub.control.controller
        operators, t = controller.authority.operators, controller.utc(monotonic())
        return {
            "operators": [
                {"kid": operator.kid, "name": operator.name, "roles": sorted(operator.roles),
                 "not_after": operator.not_after, "priority": operator.priority, "lpc": operator.lpc}
                for operator in operators.values()
            ],
            "threshold": operators.threshold,
            "admins": sorted(kid for kid, operator in operators.items() if operator.may("admin", t or 0.0)),
            "trial_until": controller.trial.until,
        }  # fmt: skip

    async def operators_recover(self, request: dict[str, Any]) -> "ReloadAnswer":
        """A list that the manufacturer signed. BadRecovery is a ValueError: the asker's."""
        try:
            message = bytes.fromhex(str(request.get("message")))
        except ValueError:
            raise ValueError("message: expected hexadecimal digits") from None
        return {"operators": await self._hub.control.recover(message)}

    async def factory_reset(self, _request: dict[str, Any]) -> "ResetAnswer":
        """Forget the home: an engineer hands the hub on to another one."""
        try:
            factory_reset.ask(self._hub.data_dir)
        except OSError as error:
            raise ValueError(f"{error.filename}: {error.strerror or error}") from None
        asyncio.get_running_loop().call_later(0.2, self._hub.start_anew)  # the answer goes out first
        return {"forgets": "at the next start"}


def _whole(request: dict[str, Any], name: str, default: int) -> int:
    """A whole number of a request. Raises ValueError."""
    value = request.get(name, default)
    if type(value) is not int or abs(value) >= 1 << 62:
        raise ValueError(f"{name}: expected a whole number")
    return value


def _rows(request: dict[str, Any], default: int) -> int:
    return max(0, min(_whole(request, "limit", default), MAX_ROWS))


def _no_radio(state: str) -> "RadioAnswer":
    return {"state": state, "channel": None, "pan_id": None, "ieee": None, "resets": 0}


def _adapter_row(session: Session, now: float, on_air: "dict[str, RadioDevice]") -> "AdapterRow":
    """`on_air`: how well the radio hears each device, by IEEE address."""
    stats = session.stats
    heard = on_air.get(str(session.peer[1])) if session.peer[0] == "zigbee" else None
    return {
        "client": session.client_id,
        "link": session.peer[0],
        "address": ":".join(part.hex() if isinstance(part, bytes) else str(part) for part in session.peer[1:]),
        "state": session.state,
        "last_seen_s": round(now - session.last_heard, 1),
        "duration_s": session.duration_s,
        "queued": len(session.queue) + (session.inflight is not None),
        "subscriptions": sorted(session.subscriptions),
        "frames_in": stats.frames_in,
        "frames_out": stats.frames_out,
        "accepted": stats.accepted,
        "repeats": stats.repeats,
        "retransmissions": stats.retransmissions,
        "lost": stats.lost,
        "refused": dict(stats.refused),
        "lqi": None if heard is None else heard["lqi"],
        "rssi_dbm": None if heard is None else heard["rssi_dbm"],
    }
