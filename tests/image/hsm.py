"""An HSM for the release's keys, played by softhsm2: the same keys as in files, and a folder of their certificates."""

import os
import shutil
import subprocess
from pathlib import Path

from deploy.image.signing import Signing

LABEL, PIN = "meterhub", "1234"
URI = f"pkcs11:token={LABEL}"


def make_hsm(folder: Path, files: Signing) -> tuple[Path, dict[str, str]]:
    """Import `files`' keys into a new token. `(folder for --keys, environment for whoever signs)`."""
    env = import_keys(folder, files.folder, ["boot", "release"])
    certificates = folder / "certificates"
    certificates.mkdir()
    for name in ("release.pem", "release-ca.pem", "release-ca.crl"):
        shutil.copy(files.folder / name, certificates / name)
    return certificates, env


def import_keys(folder: Path, keys: Path, names: list[str]) -> dict[str, str]:
    """A new token with NAME.key of each; the environment for whoever signs."""
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    env = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "METERHUB_PIN": PIN}
    _softhsm(env, "--init-token", "--free", "--label", LABEL, "--so-pin", PIN)
    for number, name in enumerate(names, 1):
        key = ["--import", str(keys / f"{name}.key"), "--label", name, "--id", f"0{number}"]
        _softhsm(env, *key, "--token", LABEL)
    return env


def _softhsm(env: dict[str, str], *words: str) -> None:
    command = ["softhsm2-util", "--pin", PIN, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})
