"""Field access: a real sshd lets in who shows a certificate, and gives them the `meterhub` command line alone."""

import getpass
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.pki import DevelopmentAuthority
from deploy.provision.device import console_code, console_hash
from hub.services.admin.bundle import from_text
from tests.harness.hub import ROOT, Hub
from tests.harness.waiting import DEFAULT_TIMEOUT_S, free_port, wait_for

FIELD = ROOT / "deploy" / "field"
SHELL = [sys.executable, "-IS", str(FIELD / "field-shell")]
_UNPACKED = ROOT / ".cache" / "openssh"
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or shutil.which(
    "sshd", path=str(_UNPACKED / "usr/sbin")
)
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="no sshd here: deploy/setup.sh test unpacks one where apt is"
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("MTR-1", file_name="hub")
    hub = Hub(tmp_path / "hub", authority, 1)  # nobody listens there: what matters is the admin socket
    hub.start()
    yield hub
    hub.kill()


@pytest.fixture
def environment(tmp_path: Path, hub: Hub) -> dict[str, str]:
    command = tmp_path / "meterhub"
    command.write_text(f'#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m hub "$@"\n')
    command.chmod(0o755)
    return {"METERHUB_COMMAND": str(command), "METERHUB_CONFIG": str(hub.config), "PATH": "/usr/bin:/bin"}


class Sshd:
    """The image's configuration on a free port of the loopback; whoever runs the tests is the engineer."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        for name in ("host_ed25519", "ssh_ca", "engineer"):
            self.keygen("-N", "", "-C", name, "-f", str(folder / name))
        (folder / "ssh_revoked").touch()
        text = (FIELD / "sshd_config").read_text()
        group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()
        for old, new in {
            "Port 22": f"Port {self.port}\nListenAddress 127.0.0.1\nPidFile none",
            "/etc/meterhub/ssh/": f"{folder}/",
            "/etc/meterhub/": f"{folder}/",
            "AllowGroups meterhub-field": f"AllowGroups {group}",
            "ForceCommand /usr/lib/meterhub/field-shell": f"ForceCommand {' '.join(SHELL)}",
            # root runs the tests on many machines; the image's sshd lets it in in no way.
            "PermitRootLogin no": "PermitRootLogin yes",
        }.items():
            assert old in text, f"{old} is not in sshd_config any more"
            text = text.replace(old, new)
        pairs = " ".join(f"{name}={value}" for name, value in environment.items())
        (folder / "sshd_config").write_text(f"{text}\nStrictModes no\nSetEnv {pairs}\n")
        libraries = {"LD_LIBRARY_PATH": ":".join(map(str, _UNPACKED.glob("lib/*-linux-gnu*")))}
        assert SSHD is not None
        with (folder / "log").open("wb") as log:
            command = [*self._as_sshd(), SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
            self._process = subprocess.Popen(command, stderr=log, env={**os.environ, **libraries})
        wait_for("sshd to listen", self._listens)

    def _as_sshd(self) -> list[str]:
        """root's sshd wants a user `sshd` and a folder; it gets both in a view of the file system that it alone has."""
        if os.geteuid() != 0:
            return []
        passwd = self.folder / "passwd"
        passwd.write_text(Path("/etc/passwd").read_text() + "sshd:x:59999:65534::/run/sshd:/usr/sbin/nologin\n")
        script = f"mount --bind {passwd} /etc/passwd && mount -t tmpfs none /run && mkdir -m 755 /run/sshd"
        return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh"]

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log()
        return "Server listening" in self.log()

    def keygen(self, *words: str) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", *words], check=True, capture_output=True)

    def certify(self, *words: str, name: str = "engineer") -> None:
        """Sign the engineer's key, as the utility's SSH authority would for a day's work."""
        file = self.folder / f"{name}.pub"
        subprocess.run(
            ["ssh-keygen", "-q", "-s", str(self.folder / "ssh_ca"), "-I", "engineer-7", *words, str(file)], check=True,
            capture_output=True,
        )  # fmt: skip

    def ssh(self, *words: str, options: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._command(words, options), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def _command(self, words: Sequence[str], options: tuple[str, ...] = ()) -> list[str]:
        base = ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.folder / "engineer"), "-o", "BatchMode=yes",
                "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/known", "-o",
                "IdentitiesOnly=yes", *options]  # fmt: skip
        return [*base, f"{self.user}@127.0.0.1", *words]

    def output(self, *words: str) -> bytes:
        """What a command that went well wrote, octet for octet."""
        return subprocess.run(self._command(words), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True).stdout

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.fixture
def sshd(tmp_path: Path, environment: dict[str, str]) -> Iterator[Sshd]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    sshd = Sshd(folder, environment)
    yield sshd
    sshd.stop()


@needs_sshd
def test_a_certificate_opens_the_command_line_and_nothing_else(sshd: Sshd, hub: Hub, tmp_path: Path) -> None:
    assert sshd.ssh("meterhub status").returncode == 255, "a key alone is no certificate"
    sshd.certify("-n", sshd.user, "-V", "+1d")
    done = sshd.ssh("meterhub", "queue", "--json")
    assert done.returncode == 0 and '"readings"' in done.stdout, done.stderr + sshd.log()
    assert "ID engineer-7 " in sshd.log(), "the journal says whose it was"
    trace = tmp_path / "trace"
    for words in (
        ["sh"], ["id"], [f"meterhub queue; touch {trace}"], [f"meterhub queue && touch {trace}"], [f"$(touch {trace})"],
        [f"meterhub queue | tee {trace}"], ["meterhub run"], ["meterhub slots-helper"], ["meterhub headend keygen x"],
        ["meterhub status --config /etc/passwd"], ["meterhub status --conf=/etc/passwd"], ["'"],
    ):  # fmt: skip
        done = sshd.ssh(*words)
        assert done.returncode != 0 and "uid=" not in done.stdout, (words, done.stdout)
    assert not trace.exists()
    forward = sshd.ssh(
        "meterhub status", options=("-o", "ExitOnForwardFailure=yes", "-R", f"{free_port()}:localhost:1")
    )
    assert forward.returncode == 255 and "remote port forwarding failed" in forward.stderr
    assert sshd.ssh("-s", "sftp").returncode != 0
    assert sshd.ssh("-N", "-W", "127.0.0.1:1").returncode != 0


def files_of(bundle: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        return set(archive.getnames())


@needs_sshd
def test_a_support_bundle_comes_home_over_ssh(sshd: Sshd) -> None:
    sshd.certify("-n", sshd.user, "-V", "+1d")
    assert {"manifest.json", "doctor.json"} <= files_of(sshd.output("bundle"))


@needs_sshd
@pytest.mark.parametrize("wrong", ["expired", "another name", "another authority", "taken back"])
def test_a_certificate_that_does_not_count(sshd: Sshd, wrong: str) -> None:
    name = "somebody" if wrong == "another name" else sshd.user
    sshd.certify("-n", name, "-V", "-2d:-1d" if wrong == "expired" else "+1d")
    if wrong == "another authority":
        sshd.keygen("-N", "", "-f", str(sshd.folder / "utility"))
        shutil.copy(sshd.folder / "utility.pub", sshd.folder / "ssh_ca.pub")  # sshd reads it for each login
    if wrong == "taken back":
        assert sshd.ssh("meterhub queue").returncode == 0
        subprocess.run(
            ["ssh-keygen", "-q", "-k", "-f", str(sshd.folder / "ssh_revoked"), str(sshd.folder / "engineer-cert.pub")],
            check=True,
        )
    assert sshd.ssh("meterhub queue").returncode == 255


class Console:
    """A terminal with the console's program at it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execve(SHELL[0], [*SHELL, "--console"], environment)
        self.seen = ""

    def read_until(self, text: str, *, again: str = "") -> None:
        """Wait for a text; `again` is typed once a second until it comes."""
        deadline = time.monotonic() + DEFAULT_TIMEOUT_S
        while text not in self.seen:
            assert time.monotonic() < deadline, f"waited in vain for {text!r}; seen: {self.seen}"
            if not select.select([self._fd], [], [], 1.0)[0]:
                os.write(self._fd, again.encode())
                continue
            try:
                data = os.read(self._fd, 4096)
            except OSError:  # the other side has ended
                data = b""
            assert data, f"ended; seen: {self.seen}"
            self.seen += data.decode(errors="replace")

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self._fd, text.encode())

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def test_the_console_wants_the_hubs_own_code(tmp_path: Path, environment: dict[str, str]) -> None:
    code = console_code()
    (tmp_path / "console").write_text(console_hash(code))
    environment |= {"METERHUB_CONSOLE": str(tmp_path / "console"), "METERHUB_CONSOLE_WRONG_S": "0.1", "TERM": "dumb"}
    console = Console(environment)
    console.read_until("console code: ")
    console.type("AAAA-BBBB-CCCC-DDDD\n")
    console.read_until("no")
    assert "AAAA" not in console.seen and console.wait() == 1
    console = Console(environment)
    console.read_until("console code: ")
    console.type(code.lower().replace("-", "") + "\n")
    console.read_until("hub> ")
    console.type("queue\n")
    console.read_until("receipts")
    console.read_until("hub> ")
    # Nothing can be written where the field shell is: a bundle is lines of text, and says itself whether it is whole.
    console.type("bundle\n")
    console.read_until("-----END")
    console.read_until("hub> ")
    name, data = from_text(console.seen)
    assert name.startswith("meterhub-MTR-1-") and "manifest.json" in files_of(data)
    console.type("sh -c id\n")
    console.read_until("not for field engineers")
    console.read_until("hub> ")
    console.type("\x03")
    # Between its prompt and its read(2) Python takes note of a Ctrl-C and goes on waiting; a person presses it again.
    console.read_until("hub> ", again="\x03")
    console.type("exit\n")
    assert console.wait() == 0
    (tmp_path / "console").write_text("nonsense")
    console = Console(environment)
    console.read_until("console code: ")
    console.type(code + "\n")
    assert console.wait() == 1, "a damaged file opens nothing"


_KEPT_FROM_ENGINEERS = "hub.key"
_WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
# What an engineer types, verb by verb, and the exit statuses that a hub in good order without a broker may give.
_TYPED = {
    "status": (0, 1), "adapters": (0,), "queue": (0,), "uplink": (0, 1), "radio info": (0, 1), "limits": (0,),
    "operators list": (1,), "events": (0,), "readings": (0,), "meter": (2,), "trace --seconds 1": (0,), "doctor": (1,),
    "bundle": (0,), "bundle --text": (0,), "top --rounds 1": (0,), "check-config": (0,), "config show": (0,),
    "factory-reset": (1, 2),
}  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="an account that may not read the hub's key: making one takes root")
@pytest.mark.parametrize("line", _TYPED)
def test_each_verb_works_for_an_account_that_may_not_read_the_key(
    hub: Hub, environment: dict[str, str], tmp_path: Path, line: str
) -> None:
    """Without capabilities root overrules no permission: what is another's is closed, as for `field`."""
    key = tmp_path / "pki" / _KEPT_FROM_ENGINEERS
    os.chown(key, 960, 960)
    key.chmod(0o640)
    hub.data_dir.chmod(0o700)
    os.chown(hub.data_dir, 960, 960)
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([*_WITHOUT_CAPABILITIES, "cat", str(key)], check=True, capture_output=True)
    done = subprocess.run(
        [*_WITHOUT_CAPABILITIES, *SHELL, "-c", line],
        capture_output=True, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    assert done.returncode in _TYPED[line], said
    assert "ermission" not in said and "Traceback" not in said and "Read-only" not in said, said


def test_every_verb_at_the_door_is_tried() -> None:
    offered = re.search(r"^VERBS = \((.*?)\)", (FIELD / "field-shell").read_text(), re.MULTILINE | re.DOTALL)
    assert offered
    assert set(re.findall(r'"([a-z-]+)"', offered[1])) == {line.split()[0] for line in _TYPED}


def test_the_admin_socket_is_the_groups_and_nobody_elses(hub: Hub) -> None:
    assert (hub.run_dir / "admin.sock").stat().st_mode & 0o777 == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a socket to a group that one is not in takes root")
def test_the_admin_socket_is_given_to_the_configured_group(tmp_path: Path) -> None:
    import grp

    authority = DevelopmentAuthority(tmp_path / "pki")
    authority.issue("MTR-1", file_name="hub")
    hub = Hub(tmp_path / "hub", authority, 1, hub__admin_group="games").start()
    try:
        assert (hub.run_dir / "admin.sock").stat().st_gid == grp.getgrnam("games").gr_gid
    finally:
        hub.kill()


def test_it_goes_into_a_root_file_system(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/shadow").write_text("root:*:1::::::\nfield:!*:1::::::\n")
    subprocess.run([str(FIELD / "install.sh"), str(tmp_path)], check=True)
    assert (tmp_path / "etc/shadow").read_text() == "root:*:1::::::\nfield:*:1::::::\n"
    assert os.access(tmp_path / "usr/lib/meterhub/field-shell", os.X_OK)
