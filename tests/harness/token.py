"""A token of softhsm2 in a folder: a key that nobody can copy, for hubs that run as processes of their own."""

import os
import shutil
import subprocess
from pathlib import Path

from deploy.provision.hardware import openssl_conf

ROOT = Path(__file__).resolve().parents[2]
PIN = "648219"
LABEL = "meterhub"


def _find(name: str, *folders: Path) -> Path | None:
    return next((found for folder in folders if folder.is_dir() for found in sorted(folder.rglob(name))), None)


_LIB = Path("/usr/lib")
MODULE = _find("libsofthsm2.so", _LIB / "softhsm", *sorted(_LIB.glob("*-linux-gnu*/softhsm")))
# The system's, or what deploy/setup.sh put there (Debian 12 has it in backports alone).
PROVIDER = _find("pkcs11.so", ROOT / ".cache" / "pkcs11-provider", *sorted(_LIB.glob("*-linux-gnu*/ossl-modules")))
MISSING = (
    "" if MODULE and PROVIDER and shutil.which("softhsm2-util") else
    "softhsm2 or OpenSSL's pkcs11-provider is not here: deploy/setup.sh test brings both where apt has backports"
)  # fmt: skip


class Token:
    """`uri(name)`: a key's name; `env`: what a process needs to find module and provider."""

    def __init__(self, folder: Path) -> None:
        assert MODULE and PROVIDER
        self.folder = folder
        (folder / "tokens").mkdir(parents=True)
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        (folder / "pin").write_text(f"{PIN}\n")
        (folder / "openssl.cnf").write_text(openssl_conf(MODULE, PROVIDER))
        self.env = {
            "SOFTHSM2_CONF": str(folder / "softhsm2.conf"),
            "OPENSSL_CONF": str(folder / "openssl.cnf"),
        }
        words = ["--init-token", "--free", "--label", LABEL, "--so-pin", "0000", "--pin", PIN]
        # Not with OPENSSL_CONF: the provider would open the module inside the module.
        environment = {**os.environ, "SOFTHSM2_CONF": self.env["SOFTHSM2_CONF"]}
        subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, env=environment)

    def uri(self, name: str) -> str:
        return f"pkcs11:token={LABEL};object={name};type=private?module-path={MODULE}&pin-source={self.folder / 'pin'}"
