"""A release as a manufacturer makes it: its keys in an HSM, no test's doors in it, a hub whose key is in a TPM."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.image.board import load_board
from deploy.image.boot import trust
from deploy.image.bundle import make_bundle
from deploy.image.disk import find_partition
from deploy.image.qemu import HOST_ADDRESS
from deploy.image.shell import run
from deploy.image.signing import Signing, make_test_keys
from deploy.update_index import write_index
from hub.services.admin.bundle import from_text
from tests.harness.tpm import MISSING as NO_TPM
from tests.harness.tpm import NetworkTpm
from tests.harness.waiting import wait_for
from tests.image.conftest import BOARD, ROOT
from tests.image.hsm import URI, make_hsm
from tests.image.judge import is_accepted, rauc_info
from tests.image.site import HUB_ID, Site

pytestmark = pytest.mark.slow
THE_BOARD = load_board(BOARD)


class Release(NamedTuple):
    """A build's folder, and the keys that signed it, as the HSM was given them."""

    out: Path
    keys: Signing


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    folder = tmp_path_factory.mktemp("release")
    keys = make_test_keys(folder / "keys")
    certificates, env = make_hsm(folder / "hsm", keys)
    words = [sys.executable, "deploy/build.py", "--board", BOARD, "--version", "1.0.0", "--out", str(folder / "out")]
    words += ["--keys", str(certificates), "--sign-uri", URI]
    subprocess.run(words, cwd=ROOT, check=True, env={**os.environ, **env})
    return Release(folder / "out", keys)


def test_what_an_hsm_has_signed_is_believed_by_the_board_and_nothing_else_is(release: Release, tmp_path: Path) -> None:
    out = release.out
    manifest = json.loads((out / "manifest.json").read_text())
    assert not manifest["test_keys"] and not manifest["console_root"] and not (out / "keys").exists()
    for row in manifest["files"].values():
        assert hashlib.sha256((out / row["name"]).read_bytes()).hexdigest() == row["sha256"], row["name"]
    fit = out / "kernel.fit"
    assert is_accepted(fit, out / "control.dtb")
    strange = tmp_path / "strange.dtb"
    subprocess.run(["dtc", "-q", "-O", "dtb", "-o", str(strange)], input=b"/dts-v1/; / { };", check=True)
    trust(strange, make_test_keys(tmp_path / "stranger"))
    assert not is_accepted(fit, strange)
    medium, size = (out / "disk.img").read_bytes(), fit.read_bytes()
    for slot in "AB":
        start = find_partition(THE_BOARD.disk["size_mb"], f"kernel-{slot}").start
        assert medium[start : start + len(size)] == size
    update = out / manifest["files"]["update"]["name"]
    shown = ["unsquashfs", "-cat", str(out / "rootfs.img"), "etc/rauc/keyring.pem"]
    keyring = tmp_path / "keyring.pem"
    keyring.write_bytes(subprocess.run(shown, check=True, capture_output=True).stdout)
    believed = rauc_info(THE_BOARD, update, keyring, tmp_path)
    assert believed.returncode == 0 and f'"compatible":"{THE_BOARD.compatible}"' in believed.stdout, believed.stderr
    assert rauc_info(THE_BOARD, update, tmp_path / "stranger/release-ca.pem", tmp_path).returncode != 0


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[NetworkTpm]:
    chip = NetworkTpm(tmp_path / "tpm")
    yield chip
    chip.close()


@pytest.mark.skipif(bool(NO_TPM) or "swtpm" not in THE_BOARD.token, reason=NO_TPM or f"{BOARD} has no TPM")
def test_its_hub_shows_itself_and_signs_with_a_key_that_is_in_a_tpm(
    release: Release, tmp_path: Path, chip: NetworkTpm
) -> None:
    module = f"/usr/lib/{THE_BOARD.architecture.triplet}/pkcs11/libtpm2_pkcs11.so"
    words = ["--tpm", chip.tcti("127.0.0.1"), "--device-tpm", chip.tcti(HOST_ADDRESS), "--device-module", module]
    site = Site(tmp_path / "site", release.out, words)
    try:
        _grow(site.machine.disk)
        site.provision(release.out / "base.tar")
        mark = site.power_on()
        assert site.wait_online(after=0, timeout_s=600)["boot"] == 1
        print(f"\nonline {site.online_after_s:.0f} s after power-on")
        log = (site.folder / "broker/mosquitto.log").read_text(errors="replace")
        assert re.search(rf"u'{HUB_ID}'", log), "the CN of the hub's certificate is its name at mosquitto"
        wait_for("events that the chip has signed", lambda: "events" in site.lanes(), 120)
        _open_the_console(site, mark)
        known = len(site.states())
        site.power_off()
        chip.power_cut()
        site.power_on()
        assert site.wait_online(known, timeout_s=600)["boot"] == 2
        _update_for_little(site, release, tmp_path)
        site.assert_nothing_missing()
    finally:
        site.close()


def _grow(disk: Path) -> None:
    """A medium as real boards have it, with room for a base beside the store."""
    run(["truncate", "-s", "1G", disk])
    run(["sfdisk", "--quiet", "--relocate", "gpt-bak-std", disk])
    run(["sfdisk", "--quiet", "-N", "5", disk], stdin=b",+\n")


def _update_for_little(site: Site, release: Release, folder: Path) -> None:
    """The first update of its life: the factory has given the hub what it differs from."""
    bundle = make_bundle(
        THE_BOARD, release.out / "kernel.fit", release.out / "rootfs.img", "1.0.1", release.keys, 1_790_000_000,
        folder, folder / "next.raucb",
    )  # fmt: skip
    write_index(bundle)
    cti = site.command_update(bundle, "1.0.1")
    site.wait_story(cti, "accepted", "applied", "completed", timeout_s=900)
    print(f"the first update: {site.updates.sent_bytes} bytes for a bundle of {bundle.stat().st_size}")
    assert site.updates.sent_bytes < bundle.stat().st_size / 20


def _open_the_console(site: Site, mark: int) -> None:
    """The code of the station's record opens the command line; there is no other way in."""
    record = json.loads((site.lot.device(HUB_ID) / "record.json").read_text())
    site.console.wait_text("console code: ", mark)
    site.console.send(record["console_code"])
    site.console.wait_text("hub> ", mark)
    site.console.send("status")
    site.console.wait_text(f"hub      {HUB_ID}", mark)
    # The way home over three wires: text, and a checksum that says whether all of it came.
    mark = site.console.mark()
    site.console.send("bundle")
    site.console.wait_text("-----END", mark, timeout_s=300)
    site.console.wait_text("hub> ", mark + site.console.since(mark).index("-----END"))
    name, data = from_text(site.console.since(mark))
    with tarfile.open(fileobj=io.BytesIO(data)) as bundle:
        journal = bundle.extractfile("journal.txt")
        assert name.startswith(f"meterhub-{HUB_ID}-") and journal is not None
        assert b"serving as" in journal.read(), "the field account may read what the hub has said"
    for verb, wanted in (("check-config", "fine; hub"), ("doctor", "in slot A, rollback index 1")):
        mark = site.console.mark()
        site.console.send(verb)
        site.console.wait_text(wanted, mark)
