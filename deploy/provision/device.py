"""One device's provisioning: key, request, certificate, files, label; each step durable, the next one's ground.

    journal: allocated        EUI-64 and install code are this serial number's, for good
    work/SERIAL/              its files grow here; its PIN and (softhsm2) its token first
    journal: issued           the certificate, before anybody can have it
    devices/SERIAL/           work/SERIAL renamed: whole
    journal: completed

A power cut anywhere leaves a state from which the same call goes on; nothing is issued twice for one key.
"""

import base64
import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from deploy.provision import label
from deploy.provision.authority import DeviceAuthority
from deploy.provision.hardware import DEVICE_TOKEN, Fitted, Jig, openssl_conf
from deploy.provision.journal import StationJournal
from drivers.durable_file import sync_folder
from hub.wire.keys.pkcs11 import to_pem

# Of deploy/systemd/sysusers.d/meterhub.conf: the files are made before there is a system to ask.
HUB_ID, FIELD_ID = 960, 962
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PEM = serialization.Encoding.PEM
ETC, DATA = "etc-meterhub", "meterhub"  # as the data partition has them


class BadSerial(ValueError):
    """Not a serial number that can be a hub's name."""


@dataclass(frozen=True, slots=True)
class Lot:
    """What all devices of a station's folder have in common. `shared`: files of /etc/meterhub, by name."""

    folder: Path
    authority: DeviceAuthority
    journal: StationJournal
    jig: Jig
    shared: dict[str, bytes]
    eui64_first: int
    certificate_days: int
    pin: str | None = None  # of a token that was initialised elsewhere


def check_serial(serial: str) -> str:
    """Raise BadSerial for what cannot be a certificate's CN, an MQTT topic level and a folder's name."""
    if not _SERIAL.fullmatch(serial):
        raise BadSerial(f"{serial!r}: expected 1 to 64 letters, digits, . _ -")
    return serial


def provision(lot: Lot, serial: str) -> bool:
    """Make a device's files complete; False when they were. Raises BadSerial, HardwareError, or OSError."""
    known = lot.journal.devices.get(check_serial(serial), {})
    done = lot.folder / "devices" / serial
    if done.exists():
        if "completed" not in known:
            lot.journal.add("completed", serial=serial)
            return True
        return False
    if "allocated" not in known:
        number = sum("allocated" in device for device in lot.journal.devices.values())
        eui64 = (lot.eui64_first + number).to_bytes(8, "big")
        code = label.install_code()
        lot.journal.add(
            "allocated", serial=serial, eui64=eui64.hex(), install_code=code.hex(), console_code=console_code()
        )
    work = lot.folder / "work" / serial
    (work / ETC).mkdir(parents=True, exist_ok=True)
    (work / DATA).mkdir(mode=0o750, exist_ok=True)
    pin = _pin(lot, work / ETC / "pin")
    with lot.jig.device(work / DATA, pin) as fitted:
        certificate = _certificate(lot, serial, fitted)
        _write_files(lot, serial, work, fitted, certificate)
    _give_to_hub(work)
    _sync_all(work)
    (lot.folder / "devices").mkdir(exist_ok=True)
    work.rename(done)
    sync_folder(done.parent)
    lot.journal.add("completed", serial=serial)
    return True


def _pin(lot: Lot, file: Path) -> str:
    """The token's PIN: of an earlier attempt, if that came so far that it is on disk. A token of softhsm2 whose PIN
    was lost is begun anew; it cannot have left the station."""
    known = file.read_text().strip() if file.exists() else ""
    pin = lot.pin or known or secrets.token_hex(8)
    if pin != known:
        shutil.rmtree(file.parents[1] / DATA / "token", ignore_errors=True)
        file.touch(mode=0o640)
        file.write_text(pin + "\n")
    file.chmod(0o640)
    return pin


def _certificate(lot: Lot, serial: str, fitted: Fitted) -> x509.Certificate:
    """The certificate for the key that is in the device now: the one that was issued for it, else a new one."""
    issued = lot.journal.devices[serial].get("issued")
    if issued is not None:
        certificate = x509.load_pem_x509_certificate(issued["certificate"].encode())
        if certificate.public_key() == fitted.key.public_key():
            return certificate
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, serial)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(fitted.key, hashes.SHA256())
    certificate = lot.authority.certify(request, serial, lot.certificate_days)
    lot.journal.add("issued", serial=serial, certificate=certificate.public_bytes(_PEM).decode())
    return certificate


def _write_files(lot: Lot, serial: str, work: Path, fitted: Fitted, certificate: x509.Certificate) -> None:
    etc = work / ETC
    files = {
        **lot.shared,
        "hub.pem": certificate.public_bytes(_PEM),
        "hub.key": to_pem(fitted.uri),
        "openssl.cnf": openssl_conf(lot.jig.module).encode(),
    }
    if fitted.environment:
        files["environment"] = fitted.environment.encode()
    if "SOFTHSM2_CONF" in fitted.environment:
        files["softhsm2.conf"] = f"directories.tokendir = {DEVICE_TOKEN}\nlog.level = ERROR\n".encode()
    for name, data in files.items():
        (etc / name).parent.mkdir(exist_ok=True)
        (etc / name).write_bytes(data)
        (etc / name).chmod(0o640 if name == "hub.key" else 0o644)
    allocated = lot.journal.devices[serial]["allocated"]
    (etc / "console").write_text(console_hash(allocated["console_code"]))
    (etc / "console").chmod(0o640)
    eui64, code = bytes.fromhex(allocated["eui64"]), bytes.fromhex(allocated["install_code"])
    (work / "label.png").write_bytes(label.png(eui64, code))
    record: dict[str, Any] = {
        "serial": serial,
        "eui64": eui64.hex(),
        "install_code": code.hex(),
        "qr": label.qr_text(eui64, code),
        "console_code": allocated["console_code"],
        "certificate_sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
    (work / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    for private in (work / "record.json", work / "label.png"):
        private.chmod(0o600)  # these codes are for the utility's books


def console_code() -> str:
    """What opens the serial console: 80 random bits, in letters and digits that are not taken for one another."""
    text = base64.b32encode(os.urandom(10)).decode()
    return "-".join(text[at : at + 4] for at in range(0, 16, 4))


def console_hash(code: str) -> str:
    """What the hub keeps of it, as deploy/field/field-shell reads it; scrypt takes 16 MB, and a second on an ARM."""
    n, r, p, salt = 1 << 14, 8, 1, os.urandom(16)
    found = hashlib.scrypt(code.replace("-", "").encode(), salt=salt, n=n, r=r, p=p, maxmem=64 << 20)
    return f"{n}:{r}:{p}:{salt.hex()}:{found.hex()}\n"


def _give_to_hub(work: Path) -> None:
    """Owners as the device's system has them, where this is possible: an image is made from these folders by root."""
    if os.geteuid() != 0:
        return
    for name in ("pin", "hub.key"):
        os.chown(work / ETC / name, 0, HUB_ID)
    os.chown(work / ETC / "console", 0, FIELD_ID)
    for path in [work / DATA, *(work / DATA).rglob("*")]:
        os.chown(path, HUB_ID, HUB_ID)


def _sync_all(work: Path) -> None:
    """Everything that was written there, in one go: a device is twenty small files."""
    descriptor = os.open(work, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs", str(work))
    finally:
        os.close(descriptor)


def discard(lot: Lot, serial: str) -> None:
    """Forget what was half made for a device (its hardware was replaced); what is complete stays."""
    with suppress(FileNotFoundError):
        shutil.rmtree(lot.folder / "work" / check_serial(serial))
