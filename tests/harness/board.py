"""A board with two slots around a hub: what systemd's path units, RAUC and the boot loader do, on folders.

The helper is the real one, as its unit starts it; bundles are made and checked by the real rauc. `boot` does what
U-Boot does with BOOT_ORDER and BOOT_x_LEFT.
"""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.pki import DevelopmentAuthority
from tests.harness.hub import ROOT, Hub

COMPATIBLE = "meterhub-test"


class Board:
    """`version`: what runs in slot A at first. `hub` is given once it exists, and started and stopped from then on."""

    def __init__(self, folder: Path, version: str = "1.0.0") -> None:
        self.folder = folder
        self.slots_dir = folder / "run"
        self.slots_dir.mkdir(parents=True)
        self.hub: Hub | None = None
        self.boots: list[str] = []
        self.requests = 0
        self.image_bytes = 600_000
        self.authority = DevelopmentAuthority(folder / "signing", "bundle signing")
        shutil.copy(self.authority.ca_file, folder / "keyring.pem")
        for slot in "AB":
            (folder / slot).mkdir()
            (folder / slot / "os-release").write_text(f'IMAGE_ID={COMPATIBLE}\nIMAGE_VERSION="{version}"\n')
        self.write(compatible=COMPATIBLE, booted="A", order=["A", "B"], left={"A": 3, "B": 0})
        rauc = folder / "rauc"
        emulator = ROOT / "tests/emulators/rauc.py"
        rauc.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(emulator), str(folder)])} "$@"\n')
        rauc.chmod(0o755)
        self._new_boot()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    # The document that tests/emulators/rauc.py reads, too

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "board.json").read_text())
        return document

    def write(self, **values: Any) -> None:
        file = self.folder / "board.json"
        before = self.read() if file.exists() else {}
        fresh = file.with_suffix(".test")
        fresh.write_text(json.dumps(before | values))
        fresh.replace(file)

    def bundle(self, version: str, *, compatible: str = COMPATIBLE, signer: DevelopmentAuthority | None = None) -> Path:
        """A bundle, signed by this board's authority or another; its image begins with the version."""
        content = self.folder / f"content-{version}-{compatible}"
        content.mkdir(exist_ok=True)
        # What all versions have in common, and what is this one's own.
        (content / "rootfs.img").write_bytes(
            version.encode() + os.urandom(100_000) + random.Random(1).randbytes(self.image_bytes)
        )
        (content / "manifest.raucm").write_text(
            f"[update]\ncompatible={compatible}\nversion={version}\n[bundle]\nformat=plain\n"
            "[image.rootfs]\nfilename=rootfs.img\n"
        )
        file = self.folder / f"{len(list(self.folder.glob('*.raucb')))}-{version}.raucb"
        authority = signer or self.authority
        certificate, key = authority.issue("bundles", purposes=[ExtendedKeyUsageOID.EMAIL_PROTECTION])
        command = ["rauc", f"--cert={certificate}", f"--key={key}", f"--keyring={authority.ca_file}", "bundle"]
        subprocess.run([*command, str(content), str(file)], check=True, capture_output=True)
        return file

    # Life

    def start(self, hub: Hub) -> "Board":
        """Power on: the hub is started, and what its units would do is done from now on."""
        self.hub = hub
        hub.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(60)

    def _run(self) -> None:
        while not self._ends.is_set():
            if (self.slots_dir / "request.json").exists():
                self.help()
            if (self.slots_dir / "reboot").exists():
                self.boot()
            time.sleep(0.02)

    def help(self) -> None:
        """What meterhub-slots.service does."""
        assert self.hub is not None
        self.requests += 1
        words = ["--folder", self.slots_dir, "--bundle", self.hub.data_dir / "update/bundle.raucb"]
        words += ["--rauc", self.folder / "rauc", "--boot-id", self.folder / "boot_id"]
        words += ["--root", self.folder / self.read()["booted"]]
        words += ["--os-release", self.folder / self.read()["booted"] / "os-release"]
        command = [sys.executable, "-m", "hub", "slots-helper", *map(str, words)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=120)

    def boot(self) -> None:
        """Shut down and start anew, in the slot that the boot loader would take. An image that holds the word
        `broken` does not bring a hub up, and the board starts over."""
        assert self.hub is not None
        self.hub.stop()
        while True:
            self._choose()
            if b"broken" not in self._image():
                break
        self.hub.start(wait=False)

    def _choose(self) -> None:
        values = self.read()
        left = values["left"]
        slot = next(name for name in [*values["order"], "A", "B"] if left[name] > 0)
        left[slot] -= 1
        self.write(booted=slot, left=left)
        self._new_boot()
        self.boots.append(slot)

    def _image(self) -> bytes:
        file = self.folder / self.read()["booted"] / "image"
        return file.read_bytes()[:64] if file.exists() else b""

    def _new_boot(self) -> None:
        for file in self.slots_dir.iterdir():  # a tmpfs
            file.unlink()
        (self.folder / "boot_id").write_text(os.urandom(16).hex() + "\n")
        # As deploy/image/initramfs/init leaves it.
        slot = self.read()["booted"]
        version = (self.folder / slot / "os-release").read_text().partition('IMAGE_VERSION="')[2].split('"')[0]
        (self.slots_dir / "board").write_text(f"slot={slot}\nimage={version}\nindex=1\ndata=partition\ndata_why=\n")
