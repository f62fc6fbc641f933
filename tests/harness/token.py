"""Tokens of softhsm2 and of a TPM: keys that nobody can copy, for hubs that run as processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from deploy.provision.hardware import openssl_conf
from deploy.provision.station import TPM2_PKCS11
from tests.harness.tpm import MISSING as NO_SWTPM
from tests.harness.tpm import NetworkTpm

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

NO_TPM = MISSING or NO_SWTPM or ("" if TPM2_PKCS11.exists() else "tpm2-pkcs11 is not here")


class Token(Protocol):
    """`uri(name)`: a key's name; `env`: what a process needs to find module and provider; `rest()`: between two
    processes, what the one that has ended left loaded is gone, as a resource manager would have it."""

    folder: Path
    env: dict[str, str]

    def uri(self, name: str) -> str: ...
    def rest(self) -> None: ...


class SoftToken:
    """A token of softhsm2, without keys."""

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

    def rest(self) -> None:
        """Nothing stays loaded in a file."""


# As the station has it: the chip's token with its first key.
_STATION = """
import sys
from pathlib import Path
from deploy.provision.hardware import Tpm
module, tcti, folder, pin = sys.argv[1:]
with Tpm(Path(module), tcti, None, tcti).device(Path(folder), pin): pass
"""


class TpmToken:
    """A token of tpm2-pkcs11, its keys wrapped by a TPM; it begins with the key that the station makes."""

    def __init__(self, folder: Path, chip: NetworkTpm) -> None:
        assert PROVIDER and not NO_TPM, NO_TPM
        self.folder = folder
        self._chip = chip
        folder.mkdir(parents=True)
        (folder / "pin").write_text(f"{PIN}\n")
        (folder / "openssl.cnf").write_text(openssl_conf(TPM2_PKCS11, PROVIDER))
        tcti = chip.tcti("127.0.0.1")
        self.env = {
            "TPM2_PKCS11_STORE": str(folder / "token"),
            "TPM2_PKCS11_TCTI": tcti,
            "OPENSSL_CONF": str(folder / "openssl.cnf"),
        }
        words = [sys.executable, "-c", _STATION, str(TPM2_PKCS11), tcti, str(folder), PIN]
        subprocess.run(words, check=True, cwd=ROOT)

    def uri(self, name: str) -> str:
        where = f"module-path={TPM2_PKCS11}&pin-source={self.folder / 'pin'}"
        return f"pkcs11:token={LABEL};object={name};type=private?{where}"

    def rest(self) -> None:
        self._chip.power_cut()
