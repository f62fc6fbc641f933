# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's control socket: one JSON request per line, one JSON answer per line.

A request names what to do: {"do": "reset"}. The answer has "ok": true, or false and "error". A device is named by its
"ieee", "name" or "client_id" in "device". See `VERBS` for all of them; each says in its docstring what it takes.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from . import home
from .bench import Bench
from .ezsp import ash
from .ezsp.device import Device
from .ezsp.player import Player
from .ezsp.plug import Plug
from .line import Line

Request = dict[str, Any]
LINE_LIMIT: Final = 1 << 20


class Control:
    """Carries out requests on a bench and its line."""

    def __init__(self, bench: Bench, line: Line) -> None:
        self._bench, self._line = bench, line

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the control socket."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the other side went away, or sent more than a line may hold
        finally:
            writer.close()

    async def answer(self, line: bytes) -> Request:
        """The answer to one line; whatever is wrong with it becomes its "error"."""
        try:
            request = json.loads(line)
            verb = VERBS[request["do"]]
            result = await verb(self, request)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
        return {"ok": True} | (result or {})

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _device(self, request: Request) -> Device:
        wanted = str(request["device"])
        for device in self._bench.ncp.air.devices.values():
            names = (device.ieee[::-1].hex(), device.name, getattr(device, "client_id", None))
            if wanted in names or wanted.replace(":", "").lower() == names[0]:
                return device
        raise KeyError(f"no device {wanted!r}")

    async def reset(self, request: Request) -> Request | None:
        """The NCP restarts by itself. "code": the reason in its RSTACK (3, a watchdog, if not given)."""
        self._bench.ncp.reset(self._now(), request.get("code", ash.RESET_WATCHDOG))
        self._bench.changed()
        return None

    async def power_cycle(self, _request: Request) -> Request | None:
        """The NCP loses its supply for a moment and says nothing."""
        self._bench.ncp.power_cycle(self._now())
        self._bench.changed()
        return None

    async def mute(self, request: Request) -> Request | None:
        """The NCP falls silent. "layer": "ash" (all of it, the default) or "ezsp" (it still acknowledges frames)."""
        layer = request.get("layer", "ash")
        if layer not in ("ash", "ezsp"):
            raise ValueError("layer is ash or ezsp")
        self._bench.ncp.muted = layer
        return None

    async def unmute(self, _request: Request) -> Request | None:
        """It speaks again."""
        self._bench.ncp.muted = ""
        self._bench.changed()
        return None

    async def refuse(self, request: Request) -> Request | None:
        """It answers and sends nothing. "status": how it refuses ("" ends it); "swallow": it never says what became."""
        self._bench.ncp.stack.refusing = request.get("status", "MAX_MESSAGE_LIMIT_REACHED")
        self._bench.ncp.stack.swallows = bool(request.get("swallow"))
        return None

    async def unplug(self, _request: Request) -> Request | None:
        """The stick is pulled out: the line is gone, and so is the NCP's supply."""
        await self._line.unplug()
        self._bench.ncp.power_cycle(self._now())
        self._bench.changed()
        return None

    async def plug(self, request: Request) -> Request | None:
        """It is back. "elsewhere": true gives it another terminal than it had, under the same link."""
        others = [os.openpty() for _ in range(3)] if request.get("elsewhere") else []
        await self._line.plug()
        for pair in others:
            for descriptor in pair:
                os.close(descriptor)
        return {"where": self._line.where}

    async def line(self, request: Request) -> Request | None:
        """Mistreat whole frames, each way. "lose", "double": the chance of each; "delay_s": how late they come;
        "corrupt": the chance of each byte; "xoff": true holds the line. What is not named is as it should."""
        bench = self._bench
        bench.lose, bench.double = float(request.get("lose", 0)), float(request.get("double", 0))
        bench.delay_s, bench.corrupt = float(request.get("delay_s", 0)), float(request.get("corrupt", 0))
        if "xoff" in request:
            bench.hold(bool(request["xoff"]))
        return None

    async def corrupt(self, request: Request) -> Request | None:
        """Damage bytes on the line. "rate": the chance of each, 0 to 1."""
        self._bench.corrupt = float(request["rate"])
        return None

    async def lose(self, request: Request) -> Request | None:
        """Lose frames on the air. "rate": the chance of each, 0 to 1; with "device" only that one's."""
        place = self._device(request) if "device" in request else self._bench.ncp.air
        place.loss = float(request["rate"])
        return None

    async def noise(self, request: Request) -> Request | None:
        """Somebody else is loud. "channel": where; "rssi": how loud, dBm."""
        self._bench.ncp.air.noise[int(request["channel"])] = int(request["rssi"])
        return None

    async def jam(self, request: Request) -> Request | None:
        """Somebody else is loud on the network's own channel. "rssi": how loud, dBm; from -60 on frames are lost."""
        air = self._bench.ncp.air
        air.noise[air.channel] = int(request["rssi"])
        return None

    async def conflict(self, request: Request) -> Request | None:
        """Two devices have one address. "device", "other"."""
        other = self._device({"device": request["other"]})
        self._bench.ncp.air.conflict(self._device(request), other, self._now())
        self._bench.changed()
        return None

    async def pan_conflict(self, request: Request) -> Request | None:
        """Another network has our PAN id, and ours takes another. "pan_id": which."""
        self._bench.ncp.stack.change_pan(int(request["pan_id"]))
        self._bench.changed()
        return None

    async def replay(self, request: Request) -> Request | None:
        """Somebody recorded what a device said last, and says it again. "sealed": true: with the network's key, as a
        device that was taken could; what is inside is the same."""
        self._bench.ncp.air.replay(self._device(request), resealed=bool(request.get("sealed")))
        self._bench.changed()
        return None

    async def count_back(self, request: Request) -> Request | None:
        """A device lost its frame counter, as after a broken flash. "counter": where it begins again (0)."""
        self._device(request).counter = int(request.get("counter", 0))
        return None

    async def announce(self, request: Request) -> Request | None:
        """A device says again that it is there, as after a power cut. "times": how often (1)."""
        device = self._device(request)
        for _ in range(int(request.get("times", 1))):
            device.announce()
        self._bench.ncp.air.speak(device, self._now())
        self._bench.changed()
        return None

    async def join(self, request: Request) -> Request | None:
        """A device looks for an open network, now or as soon as there is one; it forgets the one it was on."""
        self._bench.ncp.air.join(self._device(request), self._now())
        self._bench.changed()
        return None

    async def rejoin(self, request: Request) -> Request | None:
        """A device comes back under a new short address. "same": true keeps the address."""
        new = not request.get("same", False)
        self._bench.ncp.air.rejoin(self._device(request), self._now(), new_nwk=new)
        self._bench.changed()
        return None

    async def leave(self, request: Request) -> Request | None:
        """A device leaves the network and says so."""
        self._bench.ncp.air.leave(self._device(request), self._now())
        self._bench.changed()
        return None

    async def forget(self, request: Request) -> Request | None:
        """A device forgets its bindings, its groups and what it was told to report, and says nothing of it."""
        device = self._device(request)
        device.groups.clear()
        device.bindings.clear()
        device.forget_reporting()
        return None

    async def set(self, request: Request) -> Request | None:
        """Change a device: "powered", "in_range", "lqi", "rssi", "delay_s", "poll_s", "hears_broadcasts"."""
        device = self._device(request)
        for name in ("powered", "in_range", "lqi", "rssi", "delay_s", "poll_s", "hears_broadcasts"):
            if name in request:
                setattr(device, name, request[name])
        return None

    async def switch(self, request: Request) -> Request | None:
        """Press the button of a plug. "on": true or false."""
        plug = self._device(request)
        if not isinstance(plug, Plug):
            raise ValueError("only a plug has a button")
        self._bench.ncp.air.press(plug, bool(request["on"]), self._now())
        self._bench.changed()
        return None

    async def zone(self, request: Request) -> Request | None:
        """An IAS zone says so. "status": its bits; "enrol": true asks to be enrolled first."""
        device = self._device(request)
        if not isinstance(device, Player):
            raise ValueError("only a zcl device has zones")
        if request.get("enrol"):
            device.request_enrolment()
        if "status" in request:
            device.raise_zone(int(request["status"]))
        self._bench.ncp.air.speak(device, self._now())
        self._bench.changed()
        return None

    async def attribute(self, request: Request) -> Request | None:
        """An attribute of a zcl device gets another value. "endpoint", "cluster", "attribute", "value"."""
        device = self._device(request)
        if not isinstance(device, Player):
            raise ValueError("only a zcl device has attributes to set")
        device.set(int(request["endpoint"]), int(request["cluster"]), int(request["attribute"]), request["value"])
        return None

    async def add(self, request: Request) -> Request | None:
        """Bring another device. "entry": as in the home's file."""
        device = home.build(request["entry"], self._now())
        self._bench.ncp.air.devices[device.ieee] = device
        if device.wants_join:
            self._bench.ncp.air.join(device, self._now())
        self._bench.changed()
        return None

    async def devices(self, _request: Request) -> Request | None:
        """All devices, with what each adapter published and got acknowledged."""
        now = self._now()
        return {"devices": [device.describe(now) for device in self._bench.ncp.air.devices.values()]}

    async def counters(self, _request: Request) -> Request | None:
        """Bytes, frames and commands so far, and whether the network is up and open."""
        ncp, now = self._bench.ncp, self._now()
        until = ncp.stack.permit_until
        return {
            "line": dict(self._bench.line_bytes),
            "ash": dict(ncp.ash.counters),
            "ezsp": dict(ncp.counters),
            "air": dict(ncp.air.counters),
            "network_up": ncp.air.network_id is not None,
            "permit_s": None if until is None else round(min(until - now, 1e9), 1),
            "where": self._line.where,
        }


Verb = Callable[[Control, Request], Awaitable[Request | None]]
VERBS: Final[dict[str, Verb]] = {
    "reset": Control.reset,
    "power-cycle": Control.power_cycle,
    "mute": Control.mute,
    "unmute": Control.unmute,
    "refuse": Control.refuse,
    "unplug": Control.unplug,
    "plug": Control.plug,
    "line": Control.line,
    "corrupt": Control.corrupt,
    "lose": Control.lose,
    "noise": Control.noise,
    "jam": Control.jam,
    "conflict": Control.conflict,
    "pan-conflict": Control.pan_conflict,
    "replay": Control.replay,
    "count-back": Control.count_back,
    "announce": Control.announce,
    "join": Control.join,
    "rejoin": Control.rejoin,
    "leave": Control.leave,
    "forget": Control.forget,
    "set": Control.set,
    "switch": Control.switch,
    "zone": Control.zone,
    "attribute": Control.attribute,
    "add": Control.add,
    "devices": Control.devices,
    "counters": Control.counters,
}
