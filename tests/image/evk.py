"""NXP's i.MX6UL EVK as QEMU has it: the SoC's SD hosts, UARTs, Ethernet and watchdog; but no U-Boot runs there.

So QEMU starts what U-Boot would start: kernel, initramfs and device tree are taken out of the built FIT as they are,
and the command line is U-Boot's. QEMU's model has no fuses: the data partition is plain, and the hub says so.
"""

import subprocess
from dataclasses import dataclass

from deploy.image.qemu import Machine

_PARTS = ("kernel", "ramdisk", "fdt")  # in the order of deploy/image/hub.its


@dataclass(frozen=True)
class Evk(Machine):
    """The board without its U-Boot; chosen: what U-Boot would have chosen, in the kernel's words."""

    chosen: str = "rauc.slot=A"

    def make(self) -> None:
        """Also takes the FIT apart."""
        super().make()
        for number, name in enumerate(_PARTS):
            words = ["dumpimage", "-T", "flat_dt", "-p", str(number), "-o", str(self.run / name)]
            subprocess.run([*words, str(self.build / "kernel.fit")], check=True, capture_output=True)

    def command(self, console: str, radio: str | None = None) -> list[str]:
        """QEMU's command line; disk and network on the second SD host and Ethernet, a card on the first SD host."""
        env = self.board.uboot["env"]
        words = ["qemu-system-arm", "-machine", "mcimx6ul-evk", "-m", "512", "-display", "none", "-monitor", "none"]
        words += ["-chardev", f"{console},id=console", "-serial", "chardev:console"]
        if radio is not None:
            host, _, port = radio.rpartition(":")
            words += ["-chardev", f"socket,id=radio,host={host},port={port},reconnect=1", "-serial", "chardev:radio"]
        words += ["-drive", f"if=sd,index=1,format=raw,file={self.disk},cache=writeback"]
        if self.card is not None:
            words += ["-drive", f"if=sd,index=0,format=raw,file={self.card},cache=writeback"]
        words += ["-nic", "hubport,hubid=0", "-nic", "user,ipv6=off"]
        for option, name in zip(("-kernel", "-initrd", "-dtb"), _PARTS, strict=True):
            words += [option, str(self.run / name)]
        return [*words, "-append", f"{env['console']} {self.chosen} {env['bootargs_more']}"]
