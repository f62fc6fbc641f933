"""Kernels and updates signed with keys in files, and with keys that never leave a token."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.image.board import load_board
from deploy.image.boot import make_fit, trust
from deploy.image.bundle import make_bundle
from deploy.image.signing import Signing, given_keys, make_test_keys, revoke
from tests.image.hsm import URI, make_hsm
from tests.image.judge import is_accepted, rauc_info, uboot_judges

_NEEDED = {"mkimage": "u-boot-tools", "rauc": "rauc", "dtc": "device-tree-compiler",
           "softhsm2-util": "softhsm2", "mksquashfs": "squashfs-tools"}  # fmt: skip
_MISSING = sorted({package for tool, package in _NEEDED.items() if shutil.which(tool) is None})
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
    certificates, env = make_hsm(tmp_path / "hsm", files)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    return given_keys(certificates, URI)


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


@pytest.mark.skipif(not uboot_judges(), reason="no U-Boot was built here: make image")
def test_a_kernel_is_accepted_as_it_was_signed_and_not_otherwise(files: Signing, tmp_path: Path) -> None:
    fit, control = _fit(tmp_path / "ours", files)
    assert is_accepted(fit, control)
    _, strangers = _fit(tmp_path / "theirs", make_test_keys(tmp_path / "stranger"))
    assert not is_accepted(fit, strangers), "signed with another key"
    raw = bytearray(fit.read_bytes())
    raw[raw.index(b"KKKK") + 100] ^= 1
    fit.write_bytes(raw)
    assert not is_accepted(fit, control), "one bit of the kernel is another"


def test_a_token_signs_the_same_as_a_file(files: Signing, token: Signing, tmp_path: Path) -> None:
    by_file, _ = _fit(tmp_path / "file", files)
    by_token, control = _fit(tmp_path / "token", token)
    assert not uboot_judges() or is_accepted(by_token, control)
    assert by_file.read_bytes() == by_token.read_bytes(), "and the same bytes"
    (tmp_path / "rootfs.img").write_bytes(os.urandom(50_000))
    for signing, name in ((files, "file"), (token, "token")):
        make_bundle(
            BOARD, by_file, tmp_path / "rootfs.img", "1.0.0", signing, EPOCH_S, tmp_path, tmp_path / f"{name}.raucb"
        )
        done = rauc_info(BOARD, tmp_path / f"{name}.raucb", signing.ca_file, tmp_path)
        assert done.returncode == 0 and '"compatible":"meterhub-qemu-virt-armhf"' in done.stdout, done.stderr


def test_a_release_key_that_was_taken_back_signs_nothing_whenever_it_says_that_it_did(tmp_path: Path) -> None:
    ours = make_test_keys(tmp_path / "keys")
    (tmp_path / "kernel").write_bytes(b"K" * 9000)
    (tmp_path / "rootfs.img").write_bytes(os.urandom(50_000))
    bundle = tmp_path / "stolen.raucb"
    make_bundle(BOARD, tmp_path / "kernel", tmp_path / "rootfs.img", "1.0.0", ours, EPOCH_S, tmp_path, bundle)
    keyring = tmp_path / "keyring.pem"
    keyring.write_bytes(ours.keyring)
    assert b"BEGIN X509 CRL" in ours.keyring
    assert rauc_info(BOARD, bundle, keyring, tmp_path).returncode == 0, "a list that names nobody takes nothing back"
    revoke(ours.folder, [ours.folder / "release.pem"])
    keyring.write_bytes(ours.keyring)
    refused = rauc_info(BOARD, bundle, keyring, tmp_path)
    assert refused.returncode != 0 and "revoked" in refused.stderr, refused.stderr
    revoke(ours.folder, [])
    assert ours.keyring == keyring.read_bytes() or b"BEGIN X509 CRL" in ours.keyring
    keyring.write_bytes(ours.keyring)
    assert rauc_info(BOARD, bundle, keyring, tmp_path).returncode != 0, "what is taken back stays so"
