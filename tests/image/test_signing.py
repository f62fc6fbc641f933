"""Kernels and updates signed with keys in files, and with keys that never leave a token."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.image.board import load_board
from deploy.image.boot import make_fit, trust
from deploy.image.bundle import make_bundle
from deploy.image.signing import Signing, given_keys, make_test_keys

_NEEDED = {"mkimage": "u-boot-tools", "rauc": "rauc", "dtc": "device-tree-compiler",
           "softhsm2-util": "softhsm2", "mksquashfs": "squashfs-tools"}  # fmt: skip
_MISSING = sorted({package for tool, package in _NEEDED.items() if shutil.which(tool) is None})
# U-Boot's verdict as a program; deploy/build.py makes it on the way.
_JUDGES = sorted((Path(__file__).resolve().parents[2] / "build/cache/uboot").glob("*/tools/fit_check_sign"))
_ENGINE = list(Path("/usr/lib").glob("*/engines-3/pkcs11.so"))

pytestmark = pytest.mark.skipif(
    bool(_MISSING) or not _ENGINE, reason=f"not here: {', '.join(_MISSING)} libengine-pkcs11-openssl"
)
BOARD = load_board("qemu-virt-armhf")
EPOCH_S = 1_790_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    return make_test_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def token(files: Signing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signing:
    """The same keys in a softhsm2 token; the folder has the certificates alone."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("METERHUB_PIN", "1234")
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    softhsm = ["softhsm2-util", "--pin", "1234"]
    subprocess.run(
        [*softhsm, "--init-token", "--free", "--label", "meterhub", "--so-pin", "1234"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for number, name in enumerate(("boot", "release"), 1):
        key = ["--import", str(files.folder / f"{name}.key"), "--label", name, "--id", f"0{number}"]
        subprocess.run([*softhsm, *key, "--token", "meterhub"], check=True, stdout=subprocess.DEVNULL)
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    for name in ("release.pem", "release-ca.pem"):
        shutil.copy(files.folder / name, certificates / name)
    return given_keys(certificates, "pkcs11:token=meterhub")


def _fit(folder: Path, signing: Signing) -> tuple[Path, Path]:
    """A signed FIT of next to nothing, and a device tree that trusts the key."""
    folder.mkdir(exist_ok=True)
    kernel = folder / "kernel"
    (kernel / "boot").mkdir(parents=True)
    (kernel / "boot/vmlinuz-6.1").write_bytes(b"K" * 9000)
    (folder / "initramfs").write_bytes(b"I" * 5000)
    for name in ("board", "control"):
        tree = f'/dts-v1/; / {{ compatible = "{name}"; }};'.encode()
        subprocess.run(["dtc", "-q", "-O", "dtb", "-o", str(folder / f"{name}.dtb")], input=tree, check=True)
    fit = make_fit(
        BOARD, kernel, folder / "initramfs", folder / "board.dtb", "1.0.0", signing, EPOCH_S, folder / "kernel.fit"
    )
    trust(folder / "control.dtb", signing)
    return fit, folder / "control.dtb"


def _is_accepted(fit: Path, control: Path) -> bool:
    """U-Boot's own code, built as a program."""
    return subprocess.run([str(_JUDGES[-1]), "-f", str(fit), "-k", str(control)], capture_output=True).returncode == 0


@pytest.mark.skipif(not _JUDGES, reason="no U-Boot was built here: make image")
def test_a_kernel_is_accepted_as_it_was_signed_and_not_otherwise(files: Signing, tmp_path: Path) -> None:
    fit, control = _fit(tmp_path / "ours", files)
    assert _is_accepted(fit, control)
    _, strangers = _fit(tmp_path / "theirs", make_test_keys(tmp_path / "stranger"))
    assert not _is_accepted(fit, strangers), "signed with another key"
    octets = bytearray(fit.read_bytes())
    octets[octets.index(b"KKKK") + 100] ^= 1
    fit.write_bytes(octets)
    assert not _is_accepted(fit, control), "one bit of the kernel is another"


def test_a_token_signs_the_same_as_a_file(files: Signing, token: Signing, tmp_path: Path) -> None:
    by_file, _ = _fit(tmp_path / "file", files)
    by_token, control = _fit(tmp_path / "token", token)
    assert not _JUDGES or _is_accepted(by_token, control)
    assert by_file.read_bytes() == by_token.read_bytes(), "and the same octets"
    (tmp_path / "rootfs.img").write_bytes(os.urandom(50_000))
    for signing, name in ((files, "file"), (token, "token")):
        bundle = make_bundle(
            BOARD, by_file, tmp_path / "rootfs.img", "1.0.0", signing, EPOCH_S, tmp_path, tmp_path / f"{name}.raucb"
        )
        # The hub's configuration, with this folder's keyring.
        words = ["rauc", f"--conf={tmp_path / 'rauc.conf'}", "info", "--output-format=json", str(bundle)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0 and '"compatible":"meterhub-qemu-virt-armhf"' in done.stdout, done.stderr
