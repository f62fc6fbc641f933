"""A built board in QEMU: `python -m deploy.image.qemu BUILD` shows its serial console here.

The disk is a copy in RUN, kept from run to run; the fuses are a file beside it: 32 random bytes that only this "board"
has. Its network is QEMU's user network: the hub reaches this machine's loopback as 10.0.2.2, and knows of nothing else.
"""

import argparse
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.image.board import Board, load_board
from deploy.image.shell import BuildError, run

HOST_ADDRESS = "10.0.2.2"  # the loopback of this machine, as the board sees it
_FLASH_BYTES = 64 << 20


@dataclass(frozen=True)
class Machine:
    """One board's parts. run: folder of what it keeps when switched off (disk, fuses); card: a medium in its slot."""

    board: Board
    build: Path
    run: Path
    card: Path | None = None

    @property
    def disk(self) -> Path:
        return self.run / "disk.img"

    def make(self) -> None:
        """A board fresh from the factory, unless it is there already."""
        self.run.mkdir(parents=True, exist_ok=True)
        if not self.disk.exists():
            run(["cp", "--sparse=always", self.build / "disk.img", self.disk])
        fuses = self.run / "fuses.img"
        if not fuses.exists():
            with fuses.open("wb") as file:
                file.write(secrets.token_bytes(32))
                file.truncate(_FLASH_BYTES)

    def command(
        self,
        console: str,
        radio: str | None = None,
        meter: str | None = None,
        ssh_port: int | None = None,
        udp_port: int | None = None,
        *,
        ipv6: bool = False,
    ) -> list[str]:
        """QEMU's command line. console: a -chardev's description without its id; radio, meter: HOST:PORT where one
        listens; ssh_port, udp_port: of this machine's loopback, where the board's sshd and its MQTT-SN are found;
        ipv6: the board has it, too, and this machine's ::1 is fec0::2 to it."""
        qemu = self.board.qemu
        if qemu is None:
            raise BuildError(f"{self.board.name} is not emulated")
        words = [
            qemu["program"], "-machine", qemu["machine"], "-cpu", qemu["cpu"], "-smp", str(qemu["smp"]),
            "-m", str(qemu["memory_mb"]), "-display", "none", "-monitor", "none",
            "-chardev", f"{console},id=console", "-serial", "chardev:console",
            "-drive", f"if=none,id=disk,format=raw,file={self.disk},cache=writeback",
        ]  # fmt: skip
        words += [*qemu["disk"], *qemu.get("watchdog", [])]
        if self.card is not None:
            words += ["-drive", f"if=none,id=card,format=raw,file={self.card},cache=writeback", *qemu["card"]]
        doors = "" if ssh_port is None else f",hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
        doors += "" if udp_port is None else f",hostfwd=udp:127.0.0.1:{udp_port}-:1884"
        words += [
            "-netdev",
            f"user,id=uplink,ipv4=on,ipv6={'on' if ipv6 else 'off'}{doors}",
            "-device",
            f"{qemu['network']},netdev=uplink,romfile=",
        ]
        words += ["-device", "virtio-rng-pci"]
        if radio is not None:
            words += ["-chardev", f"socket,id=radio,{_address(radio)}", *qemu["radio"]]
        if meter is not None:
            words += ["-chardev", f"socket,id=meter,{_address(meter)}", *qemu["meter"]]
        words += ["-drive", f"if=pflash,unit=1,format=raw,readonly=on,file={self.run / 'fuses.img'}"]
        return [*words, "-bios", str(self.build / "u-boot.bin"), "-dtb", str(self.build / "control.dtb")]


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    return f"host={host},port={port},reconnect=1"


def machine_of(build: Path, run_folder: Path, card: Path | None = None) -> Machine:
    """The machine for what deploy/build.py left in `build`."""
    try:
        compatible = json.loads((build / "manifest.json").read_text())["compatible"]
    except OSError as error:
        raise BuildError(f"{build}: {error.strerror}; expected a folder made by deploy/build.py") from None
    return Machine(load_board(compatible.removeprefix("meterhub-")), build.absolute(), run_folder.absolute(), card)


def main() -> int:
    """Runs QEMU in place of this program; exit status 1 with what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image.qemu", description="Run a built board in QEMU.")
    parser.add_argument("build", type=Path, help="folder made by deploy/build.py")
    parser.add_argument("--run", type=Path, help="folder for its disk and fuses (default: BUILD/run)")
    parser.add_argument("--radio", metavar="HOST:PORT", help="where an emulated radio listens (tests.emulators.serve)")
    parser.add_argument("--card", type=Path, help="an image in the board's card slot (field/README.md, Recovery)")
    arguments = parser.parse_args()
    try:
        machine = machine_of(arguments.build, arguments.run or arguments.build / "run", arguments.card)
        machine.make()
        command = machine.command("stdio,signal=off", arguments.radio)
    except BuildError as error:
        print(f"qemu: {error}", file=sys.stderr)
        return 1
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
