"""The loop of the port on a pty, at the line's own pace: what it opens, keeps, says and gives back."""

import asyncio
import contextlib
import fcntl
import os
import random
import socket
import stat
import subprocess
import sys
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.meter.cipher import Keys
from drivers.meter.port import MeterPort
from hub.core.health import Health
from tests.drivers.meter.test_binary import BASE, PUSHED, REGISTERS
from tests.drivers.meter.test_telegrams import CASES, d0, p1
from tests.emulators.meter import Meter, crc_arc, even, p1_telegram
from tests.emulators.meter_telegrams import KEY, enciphered, hdlc, mbus, notification, sml_file, tic
from tests.harness.witness import came, went

WAIT_S = 60.0
OLD_P1 = p1("0-0:96.1.1(12345678)", "1-0:1.8.1(00001.234*kWh)", "1-0:1.7.0(0000.36*kW)", check="")


class Line:
    """A pty whose far end says something again and again, in pieces, at a pace near the line's."""

    def __init__(self, link: Path, *telegrams: bytes, every_s: float = 0.25) -> None:
        self.link = link
        self._master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self._master, False)
        link.symlink_to(os.ttyname(self.slave))
        self.telegrams = list(telegrams)
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)
        self._thread.start()

    def _speak(self) -> None:
        count = 0
        while not self._stopping.wait(self._every_s):
            if not self.telegrams:
                continue
            telegram = self.telegrams[count % len(self.telegrams)]
            count += 1
            for at in range(0, len(telegram), 96):
                with contextlib.suppress(BlockingIOError):
                    os.write(self._master, telegram[at : at + 96])
                self._stopping.wait(0.008)  # 96 characters at 115200 baud

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.link.unlink(missing_ok=True)
        os.close(self.slave)
        os.close(self._master)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition; whoever runs this sets the bound."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if is_so():
            ready.set()
        else:
            loop.call_later(0.02, look)

    look()
    await ready.wait()


class Hub:
    """What is at the port's other side."""

    def __init__(self, path: object, protocol: str = "auto", **how: Any) -> None:
        self.health = Health()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.readings: list[tuple[str, str, str, int]] = []
        self.powers: list[float] = []
        self.port = MeterPort(
            str(path),
            protocol,
            self.health,
            lambda event, fields: self.events.append((event, fields)),
            reading=lambda *reading: self.readings.append(reading),
            power=self.powers.append,
            **how,
        )

    def values(self) -> dict[str, str]:
        return {quantity: text for client, quantity, text, _ in self.readings if client == "meter"}

    def codes(self) -> set[str]:
        return {condition.code for condition in self.health.conditions()}

    def run(self, is_so: Callable[[], bool], then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run the port until something is so; fails after a minute."""

        async def live() -> None:
            task = asyncio.create_task(self.port.run())
            try:
                async with asyncio.timeout(WAIT_S):
                    await until(is_so)
                    if then is not None:
                        await then()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        asyncio.run(live())


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(*telegrams: bytes, **how: Any) -> Line:
        made.append(Line(tmp_path / f"tty{len(made)}", *telegrams, **how))
        return made[-1]

    yield make
    for line in made:
        line.stop()


SPEAKERS = {
    "p1": (p1_telegram(500), "p1", "power", "500"),
    "p1, seven bits, no CRC": (even(OLD_P1), "p1", "energy", "1234"),
    "sml": (sml_file(REGISTERS), "sml", "power", "-420"),
    "hdlc": (hdlc(notification(PUSHED)), "dlms", "power", "1122"),
    "mbus, enciphered": (mbus(enciphered(notification(PUSHED), 7)), "dlms", "power", "1122"),
    "p1, enciphered": (enciphered(p1_telegram(500), 7), "p1", "power", "500"),
    "tic": (even(tic(BASE)), "tic", "energy", "7191269"),
}


@pytest.mark.parametrize("name", SPEAKERS)
def test_what_speaks_is_found_and_read(name: str, lines: Callable[..., Line]) -> None:
    telegram, protocol, quantity, value = SPEAKERS[name]
    hub = Hub(lines(telegram, every_s=0.8).link, keys=Keys(KEY))
    hub.run(lambda: quantity in hub.values())
    assert hub.values()[quantity] == value
    assert hub.events[0][0] == "meter.up" and hub.events[0][1]["protocol"] == protocol
    assert hub.codes() == set()


def test_every_telegram_on_a_line_of_its_own_between_noise_and_cuts(lines: Callable[..., Line]) -> None:
    """All of them at once, each found by itself. A pty has no rate and no parity: those, and damage of every kind, are
    played on the emulated line (test_listening)."""
    chance = random.Random(5)
    hubs = []
    for case in CASES:
        noise, cut = chance.randbytes(40).replace(b"/", b""), case.data[: len(case.data) // 2]
        hubs.append(Hub(lines(case.data, noise, case.data, cut, case.data, every_s=1.0).link))

    def are_right() -> bool:
        return all(set(case.values) <= set(hub.values()) for case, hub in zip(CASES, hubs, strict=True))

    async def live() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hub.port.run()) for hub in hubs]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await until(are_right)
            for task in tasks:
                task.cancel()

    asyncio.run(live())
    assert {case.name: hub.values() for case, hub in zip(CASES, hubs, strict=True)} == {
        case.name: case.values for case in CASES
    }


def test_a_read_out_is_asked_for(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "tty", "iec62056-21", power_w=-420).start()
    hub = Hub(meter.link, "iec62056-21")
    hub.run(lambda: "power" in hub.values())
    meter.stop()
    assert hub.values()["power"] == "-420" and hub.port.status()["protocol"] == "iec62056-21"
    assert hub.port.status()["line"] == "300/9600 7E1"


def test_what_was_found_and_known_is_remembered_and_only_the_hub_may_read_it(
    lines: Callable[..., Line], tmp_path: Path
) -> None:
    file = tmp_path / "meter.json"
    line = lines(p1_telegram(500))
    hub = Hub(line.link, remember=file)
    hub.run(lambda: hub.port.details()["number"] != "" and file.exists())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    line.telegrams[:] = [p1_telegram(500, energy_wh=(0, 77)).replace(b"4530303031", b"4530303099")]
    body = line.telegrams[0].partition(b"!")[0] + b"!"
    line.telegrams[:] = [body + f"{crc_arc(body):04X}\r\n".encode()]
    again = Hub(line.link, remember=file)
    again.run(lambda: any(event == "meter.replaced" for event, _ in again.events))
    fields = next(fields for event, fields in again.events if event == "meter.replaced")
    assert fields["old_number"] == "E0001" and fields["last_registers"]["energy"] == "777777"
    assert fields["first_registers"]["energy"] == "77"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"line": 5}', '{"line": null, "registers": {"energy": "x"}}', "\xff"]
)
def test_a_memory_that_does_not_read_is_none(content: str, lines: Callable[..., Line], tmp_path: Path) -> None:
    file = tmp_path / "meter.json"
    file.write_text(content)
    hub = Hub(lines(p1_telegram(500)).link, remember=file)
    hub.run(lambda: "power" in hub.values())


def test_the_port_is_ours_alone(lines: Callable[..., Line]) -> None:
    line = lines(p1_telegram(500))
    with open(line.link, "rb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hub = Hub(line.link)
        hub.run(lambda: "meter-missing" in hub.codes())
        assert "lock" in hub.health.conditions()[0].text
    hub.run(lambda: "power" in hub.values())
    assert "meter-missing" not in hub.codes(), "it goes by itself"


@pytest.mark.condition("meter-missing")
def test_a_cable_pulled_out_and_put_back(tmp_path: Path) -> None:
    meter = Meter(tmp_path / "tty", "p1").start()
    hub = Hub(meter.link)

    async def pull_and_put_back() -> None:
        await asyncio.to_thread(meter.stop)
        await until(lambda: came("meter-missing", hub.codes()))
        await asyncio.to_thread(meter.start)
        await until(lambda: went("meter-missing", hub.codes()) and hub.port.status()["state"] == "up")

    hub.run(lambda: hub.port.status()["state"] == "up", pull_and_put_back)
    meter.stop()
    assert [event for event, _ in hub.events] == ["meter.up", "meter.lost", "meter.up"]


def test_what_cannot_be_read_is_a_condition_with_its_reason(lines: Callable[..., Line]) -> None:
    hub = Hub(lines(enciphered(p1_telegram(500), 7)).link, patience_s=1.0)
    hub.run(lambda: "meter-unreadable" in hub.codes() and hub.port.status()["state"] == "unreadable")
    [condition] = hub.health.conditions()
    assert "DLMS, encrypted, no key" in condition.text and "meter.key_file" in condition.remedy
    assert hub.readings == []


@pytest.mark.condition("meter-unreadable")
def test_what_is_whole_and_means_nothing_to_a_hub_is_said(lines: Callable[..., Line]) -> None:
    """A heat meter on the port: none of its codes is electricity's, though they look alike."""
    heat = d0("6.8(0029.055*MWh)6.26(01589.28*m3)F(0)9.20(64030874)6.6(0017.2*kW)")
    line = lines(heat, every_s=0.3)
    hub = Hub(line.link, patience_s=1.0)

    async def exchange() -> None:
        assert "no register in them that is known" in hub.health.conditions()[0].text
        line.telegrams[:] = [d0("0.0.0(1)", "1.8.0(0000.5*kWh)")]
        await until(lambda: went("meter-unreadable", hub.codes()))

    hub.run(lambda: came("meter-unreadable", hub.codes()), exchange)
    assert set(hub.values().values()) == {"500"}


@pytest.mark.condition("meter-unreadable")
def test_a_meter_that_encrypts_with_another_key_and_then_with_ours(lines: Callable[..., Line]) -> None:
    line = lines(enciphered(p1_telegram(500), 7, key=bytes(16)), every_s=0.5)
    hub = Hub(line.link, patience_s=1.0, keys=Keys(KEY))

    async def change_key() -> None:
        line.telegrams[:] = [enciphered(p1_telegram(500), counter) for counter in range(8, 200)]
        await until(lambda: went("meter-unreadable", hub.codes()))

    hub.run(lambda: came("meter-unreadable", hub.codes()), change_key)


@pytest.mark.condition("meter-garbled")
def test_many_bad_telegrams_are_a_condition_that_goes_by_itself(lines: Callable[..., Line]) -> None:
    good = p1_telegram(500)
    bad = good.replace(b"00.500", b"09.500")
    line = lines(good, good, bad, every_s=0.03)
    hub = Hub(line.link, "p1")

    async def mend() -> None:
        line.telegrams[:] = [good]
        await until(lambda: went("meter-garbled", hub.codes()))

    hub.run(lambda: came("meter-garbled", hub.codes()), mend)
    assert set(hub.powers) == {500.0}


@pytest.mark.condition("meter-silent")
def test_a_silent_meter_is_told(lines: Callable[..., Line]) -> None:
    line = lines(p1_telegram(500))
    hub = Hub(line.link, patience_s=1.0)

    async def fall_silent() -> None:
        line.telegrams.clear()
        await until(lambda: came("meter-silent", hub.codes()))
        line.telegrams[:] = [p1_telegram(500)]
        await until(lambda: went("meter-silent", hub.codes()))

    hub.run(lambda: "power" in hub.values(), fall_silent)
    assert ("meter.lost", {"reason": "silent"}) in hub.events


def test_a_socket_that_falls_silent_is_opened_again() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    calls: list[socket.socket] = []
    stopping = threading.Event()

    def speak(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(p1_telegram(500))
                stopping.wait(0.2)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                calls.append(connection)
                if len(calls) > 1:  # the first is a line whose far end died without a word
                    threading.Thread(target=speak, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    hub = Hub(f"socket://127.0.0.1:{server.getsockname()[1]}", patience_s=0.5)
    hub.run(lambda: "power" in hub.values())
    stopping.set()
    server.close()
    for connection in calls:
        connection.close()
    assert len(calls) >= 2 and hub.values()["power"] == "500"


def test_a_program_without_a_meter_does_not_load_what_a_meter_needs() -> None:
    code = "import sys, hub.app.config; print([m for m in sys.modules if m.startswith(('drivers.meter', 'serial'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
