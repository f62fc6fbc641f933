#!/usr/bin/env python3
"""The provisioning station of a production lot: an authority, operators, and devices one after the other.

    python deploy/provision/station.py init FOLDER --passphrase-file FILE --operator grid:limit,price ...
    python deploy/provision/station.py provision FOLDER --passphrase-file FILE --serial MTR-0001 MTR-0007
    python deploy/provision/station.py provision FOLDER --passphrase-file FILE --first MTR-0001 --count 1000
    python deploy/provision/station.py recover FOLDER --passphrase-file FILE --serial MTR-0001 --operators FILE ...
    python deploy/provision/station.py audit FOLDER

Every call may be repeated: what is done stays as it is. See deploy/provision/README.md.
"""

import argparse
import hashlib
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # started as a file, from anywhere
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.provision.authority import DeviceAuthority, NoAuthority, RecoverySigner, create, is_signed
from deploy.provision.device import BadSerial, Lot, check_serial, provision
from deploy.provision.hardware import SOFTHSM, Jig, PluggedIn, SoftHsm, Tpm
from deploy.provision.journal import Broken, StationJournal, entries_of, head_of
from drivers.durable_file import replace_file
from hub.app.config import ConfigError, load_config
from hub.wire.keys.operators import BadOperators, operator_entry, parse_operators, refusal_of_list
from hub.wire.keys.pkcs11 import BadUri, HardwareError
from hub.wire.keys.recovery import MAX_BY, RecoveryMessage, armour, seal_recovery

# Debian's, wherever its architecture has it.
TPM2_PKCS11 = next(Path("/usr/lib").glob("*-linux-gnu*/pkcs11/libtpm2_pkcs11.so"), Path("libtpm2_pkcs11.so"))
FILES = {
    "uplink.ca_file": "/etc/meterhub/ca.pem",
    "uplink.cert_file": "/etc/meterhub/hub.pem",
    "uplink.key_file": "/etc/meterhub/hub.key",
}
DEFAULT_TOML = """\
# /etc/meterhub/hub.toml of every device of this lot; see the README of meterhub.
[radio]
path = "/dev/ttyS1"

[uplink]
host = "mqtt.utility.example"
ca_file = "/etc/meterhub/ca.pem"
cert_file = "/etc/meterhub/hub.pem"
key_file = "/etc/meterhub/hub.key"
"""


class Usage(Exception):
    """The operator asked for what cannot be; one line says what and what to do."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="station.py", description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, verb: object, summary: str, *, secret: bool = True) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=summary, description=summary)
        made.add_argument("folder", type=Path, help="the lot's folder: keep it where nobody else reads")
        if secret:
            made.add_argument("--passphrase-file", type=Path, required=True, help="of the authority's key")
        made.set_defaults(verb=verb)
        return made

    made = add("init", init, "make a lot: authority, operators, what its devices have in common")
    made.add_argument("--name", default="meterhub manufacture", help="of the authority (default: %(default)s)")
    made.add_argument("--ca-uri", help="make the authority's key inside the token that this pkcs11: URI names")
    made.add_argument("--uplink-ca", type=Path, help="who certifies the utility's broker (default: this authority)")
    made.add_argument("--hub-toml", type=Path, help="of every device (default: one to be edited)")
    made.add_argument("--eui64", default="fffe000000000000", help="the first device's EUI-64 (default: %(default)s)")
    made.add_argument("--certificate-days", type=int, default=7300, help="(default: %(default)s)")
    made.add_argument("--operator", action="append", default=[], metavar="KID:ROLE,ROLE", help="may be repeated")
    made.add_argument("--ssh-ca", type=Path, help="public key that signs field engineers' certificates")
    made.add_argument("--ntp", action="append", default=[], metavar="HOST", help="whose clock its hubs believe")
    made.add_argument("--nts-ca", type=Path, metavar="FILE", help="who certifies these servers: NTS, and nothing else")
    made = add("provision", run, "make devices' keys, certificates, files and labels")
    made.add_argument("--serial", nargs="+", default=[], metavar="SERIAL", dest="serials")
    made.add_argument("--first", metavar="SERIAL", help="a serial number that ends in digits, to count from")
    made.add_argument("--count", type=int, default=1)
    made.add_argument("--module", type=Path, help="PKCS#11 module of the device that is plugged in (default: softhsm2)")
    made.add_argument("--device-module", type=Path, help="where the device's own system has it (default: as here)")
    made.add_argument("--tpm", metavar="TCTI", help="the device's TPM, by tpm2-tss's name: device:/dev/tpmrm0")
    made.add_argument("--device-tpm", metavar="TCTI", default="device:/dev/tpmrm0", help="(default: %(default)s)")
    made.add_argument("--token", default="meterhub", help="the token's label (default: %(default)s)")
    made.add_argument("--pin-file", type=Path, help="of the token that is plugged in")
    made = add("recover", recover, "sign a new list of operators for a hub that nobody can command any more")
    made.add_argument("--serial", required=True, help="of the hub: another one refuses it")
    made.add_argument("--operators", type=Path, required=True, help="operators.toml, with an admin who is there")
    made.add_argument("--by", required=True, help="who asked for it: it is in the event that the utility gets")
    made.add_argument("--out", type=Path, required=True, help="for the engineer: text to be piped or pasted")
    add("audit", audit, "is the journal whole, and is every device as it says?", secret=False)
    return parser.parse_args(argv)


def _passphrase(arguments: argparse.Namespace) -> bytes:
    found: bytes = arguments.passphrase_file.read_bytes().strip()
    if len(found) < 8:
        raise Usage(f"{arguments.passphrase_file}: expected at least eight characters")
    return found


def init(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    if not re.fullmatch("[0-9a-fA-F]{16}", arguments.eui64):
        raise Usage(f"--eui64: expected 16 hexadecimal digits, found {arguments.eui64!r}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("operators", "shared"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    create(folder, arguments.name, _passphrase(arguments), arguments.ca_uri)
    shared = folder / "shared"
    _once(shared / "ca.pem", (arguments.uplink_ca or folder / "ca.pem").read_bytes())
    _once(shared / "manufacturer.pem", (folder / "ca.pem").read_bytes())
    _once(shared / "hub.toml", arguments.hub_toml.read_bytes() if arguments.hub_toml else DEFAULT_TOML.encode())
    if arguments.ssh_ca is not None:
        _once(shared / "ssh_ca.pub", arguments.ssh_ca.read_bytes())
    if arguments.ntp:
        _time_servers(shared / "ntp", arguments.ntp, arguments.nts_ca)
    _check_toml(shared / "hub.toml")
    entries = [_operator(folder / "operators", word) for word in arguments.operator]
    _once(shared / "operators.toml", "\n".join(entries).encode())
    policy = f'eui64_first = "{arguments.eui64.lower()}"\ncertificate_days = {arguments.certificate_days}\n'
    _once(folder / "policy.toml", policy.encode())
    print(f"{folder}: ready; look at shared/hub.toml, then: station.py provision")
    return 0


def _time_servers(folder: Path, hosts: list[str], nts_ca: Path | None) -> None:
    """chrony's lines for each server; with an authority's certificates, each authenticated (NTS, RFC 8915)."""
    folder.mkdir(exist_ok=True)
    text, option = "", ""
    if nts_ca is not None:
        _once(folder / "nts-ca.pem", nts_ca.read_bytes())
        text, option = "ntstrustedcerts /etc/meterhub/ntp/nts-ca.pem\n", " nts"
    elif len(hosts) == 1:
        print("warning: one time server, and no NTS: whoever plays it sets the clocks; name two or more")
    _once(folder / "utility.conf", (text + "".join(f"server {host} iburst{option}\n" for host in hosts)).encode())


def _once(path: Path, data: bytes) -> None:
    """What a lot has begun with stays: devices that differ within a lot would be found out too late."""
    if not path.exists():
        replace_file(path, data, 0o644)


def _check_toml(path: Path) -> None:
    config = load_config(path)
    for key, expected in FILES.items():
        found = getattr(config.uplink, key.partition(".")[2])
        if str(found) != expected:
            raise Usage(f"{path}: {key}: expected {expected!r}, where the station puts it")


def _operator(folder: Path, word: str) -> str:
    kid, _, roles = word.partition(":")
    key_file = folder / f"{check_serial(kid)}.key"
    if key_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        replace_file(key_file, key.private_bytes(serialization.Encoding.PEM, form, none))
    return operator_entry(kid, key.public_key(), roles.split(","), kid)


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    serials = list(_serials(arguments))
    if not serials:
        raise Usage("which devices? name them with --serial, or with --first and --count")
    policy = tomllib.loads((folder / "policy.toml").read_text())
    shared = _shared(folder / "shared")
    _check_toml(folder / "shared" / "hub.toml")
    authority = DeviceAuthority(folder, _passphrase(arguments))
    journal = StationJournal(folder / "journal.jsonl")
    pin = arguments.pin_file.read_text().strip() if arguments.pin_file else None
    lot = Lot(
        folder, authority, journal, _jig(arguments), shared, int(policy["eui64_first"], 16),
        policy["certificate_days"], pin,
    )  # fmt: skip
    made = 0
    try:
        for serial in serials:
            made += provision(lot, serial)
    finally:
        replace_file(folder / "journal.sig", _signed_head(authority, journal.head()), 0o644)
        journal.close()
    print(f"{folder}: {made} devices made, {len(serials) - made} were complete already")
    return 0


def recover(arguments: argparse.Namespace) -> int:
    """The hub takes it once, within seven days, and tells the utility. It is in the lot's journal."""
    folder: Path = arguments.folder
    text = arguments.operators.read_text()
    if refusal := refusal_of_list(parse_operators(text), time.time()):
        raise Usage(f"{arguments.operators}: {refusal}")
    if not (folder / "devices" / check_serial(arguments.serial)).is_dir():
        raise Usage(f"{arguments.serial}: not of this lot")
    if not 0 < len(arguments.by) <= MAX_BY:
        raise Usage(f"--by: expected up to {MAX_BY} characters")
    authority = DeviceAuthority(folder, _passphrase(arguments))
    message = RecoveryMessage(arguments.serial, int(time.time()), arguments.by, text)
    sealed = seal_recovery(RecoverySigner(authority), message)
    journal = StationJournal(folder / "journal.jsonl")
    digest = hashlib.sha256(sealed).hexdigest()
    journal.add("recovery", serial=arguments.serial, by=arguments.by, sha256=digest)
    replace_file(folder / "journal.sig", _signed_head(authority, journal.head()), 0o644)
    journal.close()
    arguments.out.write_text(armour(sealed))
    print(f"{arguments.out}: for {arguments.serial}, for seven days: meterhub operators recover")
    return 0


def _shared(folder: Path) -> dict[str, bytes]:
    """What every device gets, by its name below /etc/meterhub."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if not path.name.startswith(".")}


def _jig(arguments: argparse.Namespace) -> Jig:
    if arguments.tpm is not None:
        return Tpm(arguments.module or TPM2_PKCS11, arguments.tpm, arguments.device_module, arguments.device_tpm)
    if arguments.module is None:
        return SoftHsm(SOFTHSM, arguments.device_module or SOFTHSM)
    if arguments.pin_file is None:
        raise Usage("--module: a token that is plugged in needs --pin-file, too")
    return PluggedIn(arguments.module, arguments.token, arguments.device_module)


def _serials(arguments: argparse.Namespace) -> Iterator[str]:
    for serial in arguments.serials:
        yield check_serial(serial)
    if arguments.first is not None:
        match = re.fullmatch(r"(.*?)(\d+)", check_serial(arguments.first))
        if match is None:
            raise Usage(f"--first: expected a serial number that ends in digits, found {arguments.first!r}")
        for number in range(int(match[2]), int(match[2]) + arguments.count):
            yield check_serial(f"{match[1]}{number:0{len(match[2])}}")


def _signed_head(authority: DeviceAuthority, head: bytes) -> bytes:
    return head + authority.sign(head).hex().encode() + b"\n"


def audit(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder
    data = (folder / "journal.jsonl").read_bytes()
    entries, _ = entries_of(data)
    count_text, _, rest = (folder / "journal.sig").read_text().partition(" ")
    signature = bytes.fromhex(rest.split("\n")[1])
    certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    if not is_signed(certificate, signature, head_of(data, int(count_text))):
        raise Broken("the journal is not the one that the authority signed")
    faults = list(_faults(folder, entries, certificate))
    for fault in faults:
        print(fault)
    done = sum(entry["what"] == "completed" for entry in entries)
    print(f"{folder}: {len(entries)} entries, {done} devices, {len(faults)} faults")
    return 1 if faults else 0


def _faults(folder: Path, entries: list[dict[str, str]], authority: x509.Certificate) -> Iterator[str]:
    issued: dict[str, str] = {}
    seen: dict[str, str] = {}
    for entry in entries:
        serial = entry.get("serial", "")
        if entry["what"] == "allocated":
            for name in ("eui64", "install_code"):
                if entry[name] in seen:
                    yield f"{serial}: its {name} is {seen[entry[name]]}'s, too"
                seen[entry[name]] = serial
        elif entry["what"] == "issued":
            issued[serial] = entry["certificate"]
        elif entry["what"] == "completed":
            file = folder / "devices" / serial / "etc-meterhub" / "hub.pem"
            if not file.exists() or file.read_text() != issued.get(serial):
                yield f"{serial}: {file} is not the certificate that was issued last"
                continue
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
            try:
                certificate.verify_directly_issued_by(authority)
            except Exception as error:
                yield f"{serial}: {error}"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 fine, 1 a fault was found, 2 wrong usage."""
    arguments = parse(argv)
    try:
        status: int = arguments.verb(arguments)
        return status
    except (Broken, HardwareError) as error:
        print(f"station: {error}", file=sys.stderr)
        return 1
    except (Usage, NoAuthority, BadSerial, BadUri, BadOperators, ConfigError) as error:
        print(f"station: {error}", file=sys.stderr)
    except OSError as error:
        print(f"station: {error.filename}: {error.strerror or error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
