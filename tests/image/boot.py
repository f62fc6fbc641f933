"""Where the time between power-on and the utility's first sight of a hub goes: `python -m tests.image.boot BUILD`.

BUILD is a folder made with `deploy/build.py --console-root`. Each phase in seconds by the wall and in seconds of QEMU's
CPU: on a machine that others use, too, the second is what two builds are compared by. Guest times are told by the
kernel and by systemd, and laid over the samples of QEMU's CPU by what the guest's clock says at the end.
"""

import argparse
import os
import re
import tempfile
import threading
import time
from pathlib import Path

from tests.image.site import Site

_SAMPLE_S = 0.02
_MARKS = {
    "systemd": "systemctl show -p UserspaceTimestampMonotonic --value",
    "hub's process": "systemctl show -p ExecMainStartTimestampMonotonic --value meterhub",
}


class Meter:
    """Samples of (wall, QEMU's CPU), from power-on on, seconds."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.rows: list[tuple[float, float]] = [(0.0, 0.0)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.rows.append((time.monotonic() - self._site.powered_at, self._site.qemu_cpu_s()))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def cpu_at(self, wall_s: float) -> float:
        return next((cpu for wall, cpu in self.rows if wall >= wall_s), self.rows[-1][1])


def phases(site: Site, known: int) -> list[tuple[str, float, float]]:
    """One boot, from power-on to online: [(phase, wall seconds at its end, QEMU's CPU seconds at its end)]."""
    mark = site.power_on()
    meter = Meter(site)
    site.console.wait_text("Starting kernel", mark, 240)
    ends = {"U-Boot": time.monotonic() - site.powered_at}
    site.wait_online(known)
    meter.stop()
    site.console.log_in(mark)
    before = time.monotonic()
    up_s = float(site.console.ask("cat /proc/uptime").split()[0])
    began = (before + time.monotonic()) / 2 - site.powered_at - up_s
    for line in re.findall(r"\[ *([\d.]+)\] hub: (.+)", site.console.ask("dmesg | grep 'hub: ' || true")):
        ends[f"initramfs: {line[1]}"] = began + float(line[0])
    for name, question in _MARKS.items():
        ends[name] = began + int(site.console.ask(question)) / 1e6
    ends["online"] = site.online_after_s
    return [(name, wall, meter.cpu_at(wall)) for name, wall in sorted(ends.items(), key=lambda row: row[1])]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.image.boot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path, help="folder made by deploy/build.py --console-root")
    parser.add_argument(
        "--boots", type=int, default=3, help="the first is the board's very first (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boot-") as folder:
        site = Site(Path(folder), arguments.build)
        try:
            site.provision()
            for number in range(1, arguments.boots + 1):
                rows = phases(site, len(site.states()))
                print(
                    f"boot {number}, load {os.getloadavg()[0]:.1f}\n{'until':44} {'wall s':>7} {'CPU s':>7} {'+CPU':>6}"
                )
                last = 0.0
                for name, wall, cpu in rows:
                    print(f"{name:44} {wall:7.1f} {cpu:7.1f} {cpu - last:6.1f}", flush=True)
                    last = cpu
                site.console.ask("sync")
                site.power_off()
        finally:
            site.close()


if __name__ == "__main__":
    main()
