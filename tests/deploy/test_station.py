"""The provisioning station: once for each serial number, whatever ends it in the middle; what it makes is what a hub
runs with."""

import ctypes
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zxingcpp
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from deploy.pki import DevelopmentAuthority
from deploy.provision.journal import StationJournal, entries_of
from deploy.provision.label import crc16, install_code
from deploy.provision.tpm import LOCKOUT, Guard, opened
from hub.wire.keys.pkcs11 import make_uri, to_pem, uri_of
from tests.harness.broker import Broker
from tests.harness.hub import ROOT, Hub
from tests.harness.lot import Lot
from tests.harness.token import MISSING, NO_TPM, PROVIDER
from tests.harness.tpm import NetworkTpm
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def lot(tmp_path: Path) -> Lot:
    lot = Lot(tmp_path / "lot")
    lot.do("init", "--operator", "grid:limit,price", "--operator", "ops:admin,read")
    return lot


def test_a_run_may_be_repeated_and_changes_nothing(lot: Lot) -> None:
    assert "3 devices made" in lot.do("provision", "--first", "MTR-0098", "--count", "3")
    assert sorted(path.name for path in (lot.folder / "devices").iterdir()) == ["MTR-0098", "MTR-0099", "MTR-0100"]
    before, journal = lot.snapshot(), (lot.folder / "journal.jsonl").read_bytes()
    assert "1 devices made, 3 were" in lot.do("provision", "--serial", "MTR-7", "--first", "MTR-0098", "--count", "3")
    after = lot.snapshot()
    assert {name: after[name] for name in before} == before
    assert (lot.folder / "journal.jsonl").read_bytes().startswith(journal)
    records = [json.loads(data) for name, data in after.items() if name.endswith("record.json")]
    for name in ("eui64", "install_code", "certificate_sha256"):
        assert len({record[name] for record in records}) == 4, f"each has its own {name}"
    assert "0 faults" in lot.do("audit")
    private = lot.device("MTR-0098") / "etc-meterhub"
    assert b"PRIVATE KEY" not in b"".join(after.values()), "no key but in its token"
    assert (private / "pin").stat().st_mode & 0o7 == 0 and (private / "hub.key").stat().st_mode & 0o7 == 0


def test_runs_that_are_killed_are_gone_on_from(lot: Lot) -> None:
    chance, kills, words = random.Random(7), 0, ("--first", "MTR-0001", "--count", "8")
    journal = lot.folder / "journal.jsonl"

    def lines() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    while True:
        process = subprocess.Popen(lot.command("provision", *words), stdout=subprocess.DEVNULL)
        enough = lines() + chance.randint(1, 5)  # a device takes three, and dies anywhere between them
        wait_for("its work", lambda p=process, n=enough: p.poll() is not None or lines() >= n, period_s=0.0005)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        time.sleep(chance.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 3
    assert "8 were complete" in lot.do("provision", *words)
    assert "8 devices, 0 faults" in lot.do("audit")
    entries, _ = entries_of((lot.folder / "journal.jsonl").read_bytes())
    issued = [entry for entry in entries if entry["what"] == "issued"]
    allocated = [entry["serial"] for entry in entries if entry["what"] == "allocated"]
    assert len(allocated) == len(set(allocated)) == 8
    certificates = [x509.load_pem_x509_certificate(entry["certificate"].encode()) for entry in issued]
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    keys = {certificate.public_key().public_bytes(*form) for certificate in certificates}
    assert len(keys) == len(issued), "no key was certified twice"
    assert not list((lot.folder / "work").iterdir())


@pytest.mark.parametrize("cut", ["{", '{"n":1', "\x00\x00\x00\x00"])
def test_a_line_that_the_power_cut_in_half_is_left_out(tmp_path: Path, cut: str) -> None:
    journal = StationJournal(tmp_path / "journal")
    journal.add("allocated", serial="A")
    journal.close()
    with (tmp_path / "journal").open("a") as file:
        file.write(cut)
    journal = StationJournal(tmp_path / "journal")
    journal.add("completed", serial="A")
    journal.close()
    entries, _ = entries_of((tmp_path / "journal").read_bytes())
    assert [entry["what"] for entry in entries] == ["allocated", "completed"]


@pytest.mark.parametrize("what", ["altered", "removed", "swapped", "shortened", "certificate", "re-chained"])
def test_an_audit_sees_what_was_changed_afterwards(lot: Lot, what: str) -> None:
    lot.do("provision", "--serial", "MTR-1", "MTR-2")
    file = lot.folder / "journal.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    if what == "altered":
        lines[0] = lines[0].replace('"MTR-1"', '"MTR-9"')
    elif what == "removed":
        del lines[2]
    elif what == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif what == "shortened":
        lines.pop()
    elif what == "certificate":
        stranger, _ = DevelopmentAuthority(lot.folder / "stranger").issue("MTR-1")
        shutil.copy(stranger, lot.device("MTR-1") / "etc-meterhub/hub.pem")
    else:
        file.write_bytes(b"")
        forged = StationJournal(file)  # a whole chain, by somebody who has not the authority's key
        for line in lines:
            entry = json.loads(line)
            fields = {key: entry[key] for key in entry if key not in ("n", "t", "what", "prev")}
            forged.add(entry["what"], **fields, by="somebody else")
        forged.close()
        lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines))
    done = lot.call("audit")
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["provision", "--serial", "MTR/1"], "'MTR/1'"),
        (["provision", "--first", "MTR-x"], "ends in digits"),
        (["provision"], "which devices?"),
        (["provision", "--module", "/none.so", "--serial", "MTR-1"], "--pin-file"),
        (["init", "--eui64", "12"], "--eui64"),
        (["init", "--operator", "x:dance"], "expected a list out of"),
    ],
)
def test_a_mistake_is_one_clear_line(lot: Lot, words: list[str], complaint: str) -> None:
    done = lot.call(*words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and complaint in done.stderr, done.stderr


def test_a_wrong_passphrase_and_a_wrong_hub_toml_are_told(lot: Lot) -> None:
    lot.passphrase.write_text("something else\n")
    assert "not with this passphrase" in lot.call("provision", "--serial", "MTR-1").stderr
    lot.passphrase.write_text("correct horse\n")
    toml = lot.folder / "shared" / "hub.toml"
    toml.write_text(toml.read_text().replace("/etc/meterhub/hub.key", "/tmp/hub.key"))
    done = lot.call("provision", "--serial", "MTR-1")
    assert done.returncode == 2 and "uplink.key_file" in done.stderr
    assert not (lot.folder / "devices").exists()


def test_an_install_code_ends_in_its_crc() -> None:
    # The Zigbee specification's own example (Base Device Behavior, section 10.1.1).
    code = bytes.fromhex("83fed3407a939723a5c639b26916d505")
    assert crc16(code).to_bytes(2, "little").hex() == "c3b5"
    made = install_code()
    assert len(made) == 18 and crc16(made[:16]).to_bytes(2, "little") == made[16:] and made != install_code()


def pixels_of(png: bytes) -> memoryview:
    """A PNG of one bit a pixel, as segno writes it (filters None and Up); grey bytes of it."""
    at, data, width, height = 8, b"", 0, 0
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", png, at + 8)
            assert (depth, colour) == (1, 0)
        elif kind == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += 12 + size
    raw, row = zlib.decompress(data), (width + 7) // 8 + 1
    grey, line = bytearray(), bytes(row - 1)
    for y in range(height):
        method, now = raw[y * row], raw[y * row + 1 : (y + 1) * row]
        assert method in (0, 2), "another filter"
        line = now if method == 0 else bytes((a + b) & 0xFF for a, b in zip(now, line, strict=True))
        grey += bytes(255 if line[x // 8] >> (7 - x % 8) & 1 else 0 for x in range(width))
    return memoryview(bytes(grey)).cast("B", shape=[height, width])


def test_the_label_says_what_the_record_says(lot: Lot) -> None:
    lot.do("provision", "--serial", "MTR-1")
    record = json.loads((lot.device("MTR-1") / "record.json").read_text())
    read = zxingcpp.read_barcodes(pixels_of((lot.device("MTR-1") / "label.png").read_bytes()))
    assert [found.text for found in read] == [record["qr"]]
    assert record["qr"] == f"Z:{record['eui64'].upper()}$I:{record['install_code'].upper()}"


class Fitted:
    """A device's files as they are, but for the places: /etc/meterhub and /var/lib/meterhub are its folders."""

    def __init__(self, lot: Lot, serial: str, folder: Path) -> None:
        self.device = device = lot.device(serial)
        self.etc = etc = device / "etc-meterhub"
        authority = DevelopmentAuthority(folder / "pki")
        authority.issue("broker", hosts=["localhost"])
        with authority.ca_file.open("ab") as file:  # the broker knows the manufacturer's devices
            file.write((lot.folder / "ca.pem").read_bytes())
        uri = uri_of(etc / "hub.key")
        assert uri is not None and uri.query["pin-source"] == "/etc/meterhub/pin"
        (etc / "hub.key").write_bytes(to_pem(make_uri(uri.path, {**uri.query, "pin-source": str(etc / "pin")})))
        conf = (etc / "openssl.cnf").read_text().replace("[pkcs11_provider]", f"[pkcs11_provider]\nmodule = {PROVIDER}")
        (device / "openssl.cnf").write_text(conf)
        self.broker = Broker(folder / "broker", authority).start()
        self.hub = Hub(
            folder / "hub", authority, self.broker.port, hub__data_dir=str(device / "meterhub"),
            uplink__cert_file=str(etc / "hub.pem"), uplink__key_file=str(etc / "hub.key"),
            control__operators_file=str(etc / "operators.toml"),
        )  # fmt: skip
        self.hub.env["OPENSSL_CONF"] = str(device / "openssl.cnf")
        for line in (etc / "environment").read_text().splitlines():
            name, _, value = line.partition("=")
            value = value.replace("/etc/meterhub", str(device)).replace("/var/lib/meterhub", str(device / "meterhub"))
            self.hub.env[name] = value
        softhsm = etc / "softhsm2.conf"
        if softhsm.exists():
            text = softhsm.read_text().replace("/var/lib/meterhub", str(device / "meterhub"))
            (device / "softhsm2.conf").write_text(text)

    def use_key(self) -> None:
        """A check of its configuration tries the key."""
        words = [sys.executable, "-m", "hub", "check-config", str(self.hub.config)]
        done = subprocess.run(words, cwd=ROOT, env={**os.environ, **self.hub.env}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(self) -> None:
        try:
            self.hub.start()
            self.hub.wait_uplink()
            assert self.hub.status()["hub"] == "MTR-0001"
            operators = {row["kid"]: row["roles"] for row in self.hub.ask("limits")["operators"]}
            assert operators == {"grid": ["limit", "price"], "ops": ["admin", "read"]}
            assert self.hub.stop() == 0
        finally:
            self.hub.kill()
            self.broker.stop()


def test_a_hub_runs_with_what_the_station_made(tmp_path: Path, lot: Lot) -> None:
    lot.do("provision", "--serial", "MTR-0001")
    Fitted(lot, "MTR-0001", tmp_path).run()


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[NetworkTpm]:
    if NO_TPM:
        pytest.skip(NO_TPM)
    chip = NetworkTpm(tmp_path / "chip")
    yield chip
    chip.close()


def _into(chip: NetworkTpm, *words: str) -> tuple[str, ...]:
    tcti = chip.tcti("127.0.0.1")
    return ("provision", "--tpm", tcti, "--device-tpm", tcti, *words)


def test_a_tpm_holds_the_key_that_signs_both(tmp_path: Path, lot: Lot, chip: NetworkTpm) -> None:
    words = _into(chip, "--serial", "MTR-0001")
    assert "1 devices made" in lot.do(*words) and "1 were complete" in lot.do(*words)
    assert "0 faults" in lot.do("audit")
    Fitted(lot, "MTR-0001", tmp_path).run()


def test_power_cuts_do_not_lock_a_tpm(tmp_path: Path, lot: Lot, chip: NetworkTpm) -> None:
    lot.do(*_into(chip, "--serial", "MTR-0001"))
    hub = Fitted(lot, "MTR-0001", tmp_path)
    for _ in range(5):  # swtpm as it is made locks at the third, and forgives one in 1000 s
        hub.use_key()
        chip.power_cut()
    hub.run()


def test_a_tpm_that_somebody_else_has_a_hand_on_is_told_in_a_line(lot: Lot, chip: NetworkTpm) -> None:
    tcti = chip.tcti("127.0.0.1")
    with opened(tcti) as tpm:
        word = ctypes.create_string_buffer(b"\x05\x00owner")  # TPM2B_AUTH: a size, as the machine has it, and bytes
        tpm.call("Esys_HierarchyChangeAuth", LOCKOUT, 0x0FF, 0xFFF, 0xFFF, word)
    done = lot.call(*_into(chip, "--serial", "MTR-0001"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "3 power cuts" in done.stderr and "--max-tries=1000 --recovery-time=10" in done.stderr


def test_a_tpm_that_is_set_already_is_left_as_it_is(lot: Lot, chip: NetworkTpm) -> None:
    with opened(chip.tcti("127.0.0.1")) as tpm:
        tpm.set_guard(2000, 0, 77)
    lot.do(*_into(chip, "--serial", "MTR-0001"))
    with opened(chip.tcti("127.0.0.1")) as tpm:
        assert tpm.guard() == Guard(2000, 0, 77, has_password=False)


def test_a_tpm_that_is_not_there_is_told(lot: Lot) -> None:
    done = lot.call("provision", "--tpm", "device:/dev/none", "--serial", "MTR-0001")
    assert done.returncode == 1 and "station: device:/dev/none: " in done.stderr, done.stderr


@pytest.mark.slow
def test_a_thousand_devices_in_one_run(lot: Lot) -> None:
    began_at = time.monotonic()
    assert "1000 devices made" in lot.do("provision", "--first", "MTR-000001", "--count", "1000")
    print(f"1,000 devices in {time.monotonic() - began_at:.0f} s")
    assert "1000 devices, 0 faults" in lot.do("audit")
