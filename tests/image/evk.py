"""NXP's i.MX6UL EVK as QEMU has it: the SoC's SD hosts, UARTs, Ethernet and watchdog; but no U-Boot runs there.

So QEMU's memory is filled as U-Boot would leave it: kernel, initramfs and device tree out of the built FIT, as they
are, at the board's addresses, the command line in the tree, and the SoC's watchdog running (`_START_CODE` does it, and
starts the kernel). QEMU's model has no fuses: the data partition is plain, and the hub says so.

Since 6.3 Linux resets an i.MX UART that received four times without its wake bit, and QEMU 7.2 of Debian 12 never sets
that bit: console and radio would go deaf after a few characters. QEMU 10 sets it, so this board runs in the one of
`deploy/setup.sh image`, or in the system's where that is new enough.
The kernel's clock is a timer that is set anew each time it ends, and what QEMU is late by is lost to it: while a card
is copied it goes at half its speed, and the kernel feeds the SoC's watchdog too late. `-icount` keeps it right there;
a hub's start takes half as much CPU again with it, and needs none.
"""

import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.image.qemu import Machine

_FETCHED = Path(__file__).resolve().parents[2] / ".cache/qemu/usr/bin/qemu-system-arm"
_OLDEST = 10  # the oldest tried whose UARTs Linux believes
_PARTS = ("kernel", "ramdisk", "fdt")  # in the order of deploy/image/hub.its
_START, _WATCHDOG_CONTROL = 0x80000000, 0x020BC000
# As U-Boot's imx_watchdog.c writes it: 128 s, enabled, external reset, stopped in debug, stop and wait states.
_WATCHDOG_RUNS = 0xFF3F
_START_CODE = (
    0xE59F0018,  # ldr r0, [pc, #24]: the watchdog's control register
    0xE59F1018,  # ldr r1, [pc, #24]: what is written there
    0xE1C010B0,  # strh r1, [r0]
    0xE3A00000,  # mov r0, #0
    0xE3E01000,  # mvn r1, #0: the machine is what the device tree says
    0xE59F200C,  # ldr r2, [pc, #12]: the device tree
    0xE59FF00C,  # ldr pc, [pc, #12]: the kernel
    0,
)


def find_qemu() -> str | None:
    """The program that this board runs in; None where there is none that is new enough."""
    for program in (str(_FETCHED), shutil.which("qemu-system-arm")):
        if program and Path(program).exists():
            said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"version (\d+)", said)
            if version and int(version[1]) >= _OLDEST:
                return program
    return None


@dataclass(frozen=True)
class Evk(Machine):
    """The board without its U-Boot; chosen: what U-Boot would have chosen, in the kernel's words;
    qemu: `find_qemu`'s."""

    qemu: str = "qemu-system-arm"
    chosen: str = "rauc.slot=A"

    def make(self) -> None:
        """Also takes the FIT apart, and makes what U-Boot would do."""
        super().make()
        for number, name in enumerate(_PARTS):
            words = ["dumpimage", "-T", "flat_dt", "-p", str(number), "-o", str(self.run / name)]
            subprocess.run([*words, str(self.build / "kernel.fit")], check=True, capture_output=True)
        kernel, fdt = (int(self.board.kernel[key], 16) for key in ("load_address", "fdt_address"))
        words = [*_START_CODE, _WATCHDOG_CONTROL, _WATCHDOG_RUNS, fdt, kernel]
        (self.run / "start").write_bytes(struct.pack(f"<{len(words)}I", *words))

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
        """QEMU's command line; disk and network on the second SD host and Ethernet, a card on the first SD host."""
        assert meter is None and ssh_port is None and udp_port is None, "this model has no further doors"
        words = [self.qemu, "-machine", "mcimx6ul-evk", "-m", "512", "-display", "none", "-monitor", "none"]
        words += ["-chardev", f"{console},id=console", "-serial", "chardev:console"]
        if radio is not None:
            host, _, port = radio.rpartition(":")
            words += ["-chardev", f"socket,id=radio,host={host},port={port},reconnect=1", "-serial", "chardev:radio"]
        words += ["-drive", f"if=sd,index=1,format=raw,file={self.disk},cache=writeback"]
        if self.card is not None:
            words += ["-drive", f"if=sd,index=0,format=raw,file={self.card},cache=writeback", "-icount", "shift=auto"]
        return [*words, "-nic", "hubport,hubid=0", "-nic", f"user,ipv6={'on' if ipv6 else 'off'}", *self._memory()]

    def _memory(self) -> list[str]:
        """QEMU's options that fill the memory. The command line is put into the tree on the way."""
        env, kernel = self.board.uboot["env"], self.board.kernel
        at = int(env["fit_addr"], 16)
        command_line = f"{env['console']} {self.chosen} {env['bootargs_more']}"
        tree = self.run / "fdt"
        subprocess.run(["fdtput", "-t", "s", str(tree), "/chosen", "bootargs", command_line], check=True)
        for name, value in (("start", at), ("end", at + (self.run / "ramdisk").stat().st_size)):
            words = ["fdtput", "-t", "x", str(tree), "/chosen", f"linux,initrd-{name}", f"{value:x}"]
            subprocess.run(words, check=True)
        words = []
        for name, address in (
            ("kernel", kernel["load_address"]),
            ("fdt", kernel["fdt_address"]),
            ("ramdisk", env["fit_addr"]),
        ):
            words += ["-device", f"loader,file={self.run / name},addr={address},force-raw=on"]
        return [*words, "-device", f"loader,file={self.run / 'start'},addr={_START:#x},force-raw=on,cpu-num=0"]
