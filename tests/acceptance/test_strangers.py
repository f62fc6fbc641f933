"""Strangers at a whole hub: in the home, on its socket, and in what its engineers read."""

import grp
import json
import os
import pwd
import socket
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.hub import ROOT, Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for

NASTY = "a\x1b]52;c;ZXZpbA==\x07b\r\n2026-01-01T00:00:00Z  uplink.up \x1b[2J\u202e\x9b31m\u2028end"


def connect(client_id: str, duration_s: int = 65535) -> bytes:
    body = struct.pack(">BBBH", 0x04, 0x04, 1, duration_s) + client_id.encode()
    return bytes((len(body) + 1,)) + body


def test_one_host_with_five_thousand_names(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub().start()
    bad = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bad.bind(("127.0.0.9", 0))
    for number in range(5000):
        one = bad if number % 5 else socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if one is not bad:
            one.bind(("127.0.0.9", 0))
        one.sendto(connect(f"x{number}"), ("127.0.0.1", hub.udp_port))
        if one is not bad:
            one.close()
    wait_for(
        "the flood to be read", lambda: "adapters-crowded" in hub.conditions() or hub.status()["han"]["known"] > 200
    )
    honest = UdpAdapter(hub.udp_port, "honest")
    assert honest.connect_again() == 0 and honest.publish(1, b"5") == 0
    events = [row["event"] for row in hub.ask("events", limit=10_000)]
    assert events.count("adapter.joined") <= 40
    hub.kill()
    hub.start()
    after = UdpAdapter(hub.udp_port, "later")
    assert after.connect_again() == 0 and after.publish(1, b"5") == 0
    assert hub.status()["han"]["known"] <= 260
    bad.close()
    honest.close()
    after.close()


def test_no_text_of_an_adapter_reaches_a_terminal_as_it_is(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub().start()
    adapter = UdpAdapter(hub.udp_port, "plug-1")
    assert adapter.connect() == 0
    assert adapter.publish(0x21, NASTY.encode()) == 0
    about = json.dumps({"class": "water-heater", "name": NASTY, "sheddable": True}, ensure_ascii=False)
    adapter.publish(0x20, about.encode()[:240])
    adapter.send(0x0C, b"\x62\x00\x00\x00\x01" + NASTY.encode())
    wait_for("the alarm", lambda: any(row["event"] == "adapter.alarm" for row in hub.ask("events")))
    tracing = subprocess.Popen(
        [sys.executable, "-m", "hub", "trace", "--seconds", "4", "--config", str(hub.config)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for("the trace to look", lambda: adapter.publish(0x21, NASTY.encode()) is not None)
    outputs = {
        verb: hub.cli(*verb.split())
        for verb in ("events", "events --json", "adapters", "limits", "readings", "readings --format csv", "status",
                     "doctor", "queue", "uplink", "limits --json")
    }  # fmt: skip
    for verb, done in outputs.items():
        assert done.returncode in (0, 1), (verb, done.stderr)
        assert_printable(done.stdout + done.stderr, verb)
    assert_printable(tracing.communicate(timeout=30)[0], "trace")
    assert r"\x1b]52" in outputs["events"].stdout and len(outputs["events"].stdout.splitlines()) < 12
    assert not any(line.startswith("2026-01-01") for line in outputs["events"].stdout.splitlines()), "a forged line"
    assert_printable(hub.log_file.read_text(), "the log")
    adapter.close()


def assert_printable(text: str, where: str) -> None:
    odd = {letter for letter in text if not letter.isprintable() and letter != "\n"}
    assert not odd, (where, odd)


def test_a_bundle_holds_no_secret_of_the_configuration(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse battery\n")
    hub = make_hub(uplink__username="meter-login", uplink__password_file=str(password)).start()
    text = hub.config.read_text()
    hub.config.write_text(
        text.replace("[uplink]\n", '[uplink]\nest_url = "https://user:pa55word@est.example/.well-known/est"\n')
    )
    out = tmp_path / "bundle.tar.gz"
    done = hub.cli("bundle", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with tarfile.open(out) as tar:
        members = {entry.name: tar.extractfile(entry).read().decode() for entry in tar}  # type: ignore[union-attr]
    whole = "\n".join(members.values())
    for secret in ("correct horse battery", "pa55word", "meter-login", "PRIVATE KEY"):
        assert secret not in whole, secret
    shown = members["hub.toml"]
    assert 'host = "localhost"' in shown and '"username": (left out)' in shown and "est.example/.well-known" in shown


def test_a_pin_leaks_from_nowhere(tmp_path: Path) -> None:
    from hub.cli.redacted import blackened, redacted, secrets_of

    text = (
        '[uplink]\nhost = "h"\nkey_file = "pkcs11:token=hub;object=key?module-path=/m.so&pin-value=s3cr3t-pin"\n'
        'token_of_tomorrow = "t0m0rrow"\n[something.new]\na = 1\n[control]\nheartbeat_s = 60\n'
    )
    shown = redacted(text)
    assert "s3cr3t" not in shown and "t0m0rrow" not in shown and "heartbeat_s = 60" in shown
    assert "s3cr3t" not in blackened('{"error": "pkcs11:token=hub?pin-value=s3cr3t-pin: no"}', secrets_of(text))
    for broken in ("not toml = = s3cr3t", "s3cr3t = " + "9" * 5000, "s3cr3t = " + "[" * 5000):
        assert redacted(broken).startswith("# not TOML") and "s3cr3t" not in redacted(broken)
        assert secrets_of(broken) == []
    no_host = '[uplink]\nest_url = "https://hub:s3cr3t@[/est"\n'
    assert "s3cr3t" not in redacted(no_host) and secrets_of(no_host) == ["s3cr3t"]


def test_what_it_writes_is_its_own_whoever_starts_it(make_hub: Callable[..., Hub]) -> None:
    hub = make_hub()
    before = os.umask(0o022)
    try:
        hub.start()
    finally:
        os.umask(before)
    adapter = UdpAdapter(hub.udp_port, "plug-1")
    assert adapter.connect() == 0 and adapter.publish(1, b"5") == 0
    assert hub.stop() == 0
    found = [hub.data_dir, *hub.data_dir.rglob("*")]
    assert len(found) > 2
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & 0o077, (path, oct(mode))


def ask_as(hub: Hub, uid: int, gid: int, groups: list[int], what: str) -> str:
    """What a process of that account is answered."""
    program = (
        "import os, socket, sys\n"
        f"os.setgroups({groups}); os.setgid({gid}); os.setuid({uid})\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        f"    s.connect({str(hub.run_dir / 'admin.sock')!r})\n"
        "except PermissionError:\n"
        "    sys.exit('no way in')\n"
        f's.sendall(b\'{{"ask": "{what}"}}\\n\')\n'
        "print(s.makefile().readline())\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="asking as other accounts takes root")
def test_reading_is_for_the_hubs_group_and_changing_for_the_field_engineers(make_hub: Callable[..., Hub]) -> None:
    nobody, field, own = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("games").gr_gid, os.getegid()
    other = grp.getgrnam("users").gr_gid
    hub = make_hub(hub__admin_group="games").start()
    hub.run_dir.chmod(0o755)
    for what in ("adapters.forget", "radio.permit", "radio.backup", "radio.restore", "factory_reset"):
        assert "is for root and members of the group games" in ask_as(hub, nobody, own, [], what), what
    assert '"answer"' in ask_as(hub, nobody, own, [], "queue"), "members of the hub's own group read"
    assert '"answer"' in ask_as(hub, nobody, other, [own], "queue")
    assert '"answer"' in ask_as(hub, nobody, other, [field], "reload"), "members of the field group change"
    assert '"answer"' in ask_as(hub, nobody, field, [], "reload")
    assert "no way in" in ask_as(hub, nobody, other, [], "queue")
