"""A device's token at the station: a chip that is plugged in, a TPM, or softhsm2 where there is none."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from deploy.provision.tpm import endure_power_cuts
from drivers.pkcs11_token import HardwareKey, generate, let_go, load_key, read_public_key
from hub.wire.keys.pkcs11 import HardwareError, Pkcs11Uri, make_uri

KEY_NAME = "hub"  # of the key of manufacture; renewed ones have other names (hub/services/identity/renewal.py)
TOKEN_LABEL = "meterhub"
PIN_FILE = "/etc/meterhub/pin"
DEVICE_TOKEN = "/var/lib/meterhub/token"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


def openssl_conf(module: Path, provider: Path | None = None) -> str:
    """An openssl.cnf by which OpenSSL finds keys of this PKCS#11 module. `provider`: the provider's file, where it is
    not among OpenSSL's own modules. The default provider does everything but what only the token can.

    `early`: OpenSSL 3.0 remembers whose ECDSA it found, and forgets that when another provider brings one. What brings
    its own as late as its first signature is the next to be remembered: from then on the token would have to verify
    brokers, which not every token can (tpm2-pkcs11 cannot).
    """
    where = f"module = {provider}\n" if provider else ""
    return (
        "# The device key is held in hardware: see deploy/provision/README.md of meterhub.\n"
        "openssl_conf = init\n[init]\nproviders = providers\n[providers]\n"
        "default = default_provider\npkcs11 = pkcs11_provider\n"
        f"[default_provider]\nactivate = 1\n[pkcs11_provider]\n{where}pkcs11-module-path = {module}\n"
        "pkcs11-module-load-behavior = early\nactivate = 1\n"
    )


class Fitted(NamedTuple):
    """A device's key at the station, and how its own system will know it: the URI for hub.key, and what goes into
    `/etc/meterhub/environment`."""

    key: HardwareKey
    uri: Pkcs11Uri
    environment: str


class Jig(Protocol):
    """Where a device is plugged in while it is being provisioned."""

    module: Path  # on the device

    def device(self, data: Path, pin: str) -> AbstractContextManager[Fitted]:
        """The device whose files are being made in `data` (what becomes /var/lib/meterhub), its key made if need be."""


class PluggedIn:
    """A real token, already initialised by its maker: `module`, `label` and PIN as the operator says."""

    def __init__(self, module: Path, label: str, device_module: Path | None = None) -> None:
        self.module = device_module or module
        self._module = module
        self._label = label

    @contextmanager
    def device(self, data: Path, pin: str) -> Iterator[Fitted]:
        here = make_uri(_path(self._label), {"module-path": str(self._module), "pin-value": pin})
        try:
            yield Fitted(_key(here), _uri(self._label, self.module), "")
        finally:
            let_go(str(self._module))


class SoftHsm:
    """softhsm2 in the device's own data folder. No protection against whoever reads the flash: for boards without a
    chip, whose data partition is encrypted, and for tests."""

    def __init__(self, module: Path = SOFTHSM, device_module: Path = SOFTHSM) -> None:
        self.module = device_module
        self._module = module

    @contextmanager
    def device(self, data: Path, pin: str) -> Iterator[Fitted]:
        tokens = _token_folder(data)
        conf = data / ".softhsm2.conf"
        conf.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(conf)
        try:
            yield _fitted(tokens, self._module, self.module, pin, "SOFTHSM2_CONF=/etc/meterhub/softhsm2.conf\n")
        finally:
            let_go(str(self._module))
            conf.unlink(missing_ok=True)


class Tpm:
    """A TPM 2.0 through tpm2-pkcs11: the key is wrapped by the device's own TPM, and lies so in its data folder.

    `tcti` is how the station reaches the TPM of the device that is plugged in (tpm2-tss: `device:/dev/tpmrm0`,
    `swtpm:path=FILE`), `device_tcti` how the device itself does. No resource manager is needed here.
    """

    def __init__(self, module: Path, tcti: str, device_module: Path | None, device_tcti: str) -> None:
        self.module = device_module or module
        self._module = module
        self._tcti = tcti
        self._device_tcti = device_tcti

    @contextmanager
    def device(self, data: Path, pin: str) -> Iterator[Fitted]:
        tokens = _token_folder(data)
        os.environ |= {"TPM2_PKCS11_STORE": str(tokens), "TPM2_PKCS11_TCTI": self._tcti}
        environment = f"TPM2_PKCS11_STORE={DEVICE_TOKEN}\nTPM2_PKCS11_TCTI={self._device_tcti}\n"
        endure_power_cuts(self._tcti)
        try:
            yield _fitted(tokens, self._module, self.module, pin, environment)
        finally:
            let_go(str(self._module))


def _token_folder(data: Path) -> Path:
    folder = data / "token"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _fitted(tokens: Path, module: Path, device_module: Path, pin: str, environment: str) -> Fitted:
    """A token of our own making, and the key in it. One that a power cut has left half made is begun anew: it has not
    left the station, and what was certified of it stands in the journal."""
    here = make_uri(_path(TOKEN_LABEL), {"module-path": str(module), "pin-value": pin})
    for is_last in (False, True):
        try:
            _initialise(str(module), pin)
            return Fitted(_key(here), _uri(TOKEN_LABEL, device_module), environment)
        except (HardwareError, ValueError):
            if is_last:
                raise
            let_go(str(module))
            shutil.rmtree(tokens)
            _token_folder(tokens.parent)
    raise AssertionError


def _path(label: str) -> dict[str, bytes]:
    return {"token": label.encode(), "object": KEY_NAME.encode(), "type": b"private"}


def _uri(label: str, module: Path) -> Pkcs11Uri:
    return make_uri(_path(label), {"module-path": str(module), "pin-source": PIN_FILE})


def _key(uri: Pkcs11Uri) -> HardwareKey:
    """The device's key: what an earlier attempt made, else a new one."""
    try:
        return load_key(uri, read_public_key(uri))
    except HardwareError:
        return generate(uri)


def _initialise(module: str, pin: str) -> None:
    """Give an empty store a token; one that an attempt left without its user's PIN is begun anew."""
    import PyKCS11 as P

    from drivers.pkcs11_token import library_of

    try:
        _initialise_with(P, library_of(module), pin)
    except P.PyKCS11Error as error:
        raise HardwareError(f"{module}: {error}") from None


def _initialise_with(P: Any, library: Any, pin: str) -> None:  # noqa: N803
    slots = library.getSlotList(tokenPresent=True)
    flags = {slot: library.getTokenInfo(slot).flags for slot in slots}
    if any(flag & P.CKF_TOKEN_INITIALIZED and flag & P.CKF_USER_PIN_INITIALIZED for flag in flags.values()):
        return
    library.initToken(slots[0], pin, TOKEN_LABEL.ljust(32))  # C_InitToken wants it padded, and some modules insist
    slot = next(s for s in library.getSlotList(tokenPresent=True) if library.getTokenInfo(s).label.strip("\0 "))
    session = library.openSession(slot, P.CKF_SERIAL_SESSION | P.CKF_RW_SESSION)
    session.login(pin, P.CKU_SO)
    session.initPin(pin)
    session.logout()
    session.closeSession()
