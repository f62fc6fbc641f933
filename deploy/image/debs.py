"""Debian packages: resolved once into a lock (names, versions, SHA-256), then fetched exactly.

The mirror is the one this machine's apt uses; the lock names none. A lock is made anew with `build.py --lock`.
"""

import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.image.board import Architecture, Board
from deploy.image.shell import BuildError, run

HERE = Path(__file__).parent
LOCKS = HERE / "locks"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Package:
    """One line of a lock. section: "root", "boot" (initramfs), "kernel"; octets: its size."""

    section: str
    name: str
    version: str
    architecture: str
    octets: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def seeds(board: Board) -> dict[str, list[str]]:
    """What is asked for by name, by section."""
    document = tomllib.loads((HERE / "packages.toml").read_text("utf-8"))
    more = document["more"].get(board.architecture.name, [])
    return {"root": [*document["root"], *more], "boot": document["boot"], "kernel": [board.kernel["package"]]}


def left_out() -> set[str]:
    """Packages that are dependencies by name but are not in the image."""
    return set(tomllib.loads((HERE / "packages.toml").read_text("utf-8"))["leave_out"])


def lock_path(board: Board) -> Path:
    """The lock of a board: its kernel decides, so one per architecture and kernel."""
    return LOCKS / f"debian-{board.architecture.name}-{board.kernel['package']}.lock"


class Apt:
    """apt with a state of its own, for an architecture this machine need not have; nothing gets installed."""

    def __init__(self, architecture: Architecture, folder: Path, suites: tuple[str, ...] = ()) -> None:
        self._folder = folder = folder.absolute()
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "list.sources").write_text(_sources(suites or architecture.suites))
        settings = {
            "Dir::State": folder,
            "Dir::State::status": folder / "status",
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "list.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture.name,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        lines = [f'{key} "{value}";\n' for key, value in settings.items()]
        (folder / "apt.conf").write_text("".join(lines) + f'APT::Architectures {{"{architecture.name}";}};\n')
        self._env = {"APT_CONFIG": str(folder / "apt.conf")}
        self._updated = False

    def update(self) -> None:
        """Fetch the indices, once."""
        if not self._updated:
            run(["apt-get", "-q", "update"], env=self._env)
            self._updated = True

    def resolve(self, names: Iterable[str]) -> list[tuple[str, str, str]]:
        """`(name, version, architecture)` of what these need, in order of name."""
        self.update()
        said = run(["apt-get", "-qq", "install", "--print-uris", *names], env=self._env)
        found = []
        for line in said.splitlines():
            name, version, architecture = line.split(" ")[1].removesuffix(".deb").split("_")
            found.append((name, version.replace("%3a", ":"), architecture))
        return sorted(found)

    def download(self, packages: Iterable[tuple[str, str]], into: Path) -> None:
        """Fetch `(name, version)` as files. Raises BuildError when one is no longer offered."""
        self.update()
        wanted = [f"{name}={version}" for name, version in packages]
        if not wanted:
            return
        try:
            run(["apt-get", "-q", "download", *wanted], cwd=into, env=self._env)
        except BuildError as error:
            raise BuildError(
                f"a locked package is not offered by this machine's apt: {error}\nlet apt point at a snapshot of the "
                f"lock's date, or make a new lock: deploy/build.py --board BOARD --lock"
            ) from None

    def source(self, name: str, version: str, into: Path) -> None:
        """Fetch a source package's files."""
        self.update()
        run(["apt-get", "-q", "source", "--download-only", f"{name}={version}"], cwd=into, env=self._env)


def _sources(suites: tuple[str, ...]) -> str:
    """deb822 text for these suites, each with the address this machine's apt has for it."""
    template = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    said = run(["apt-get", "indextargets", "--format", template, "Created-By: Packages"])
    known: dict[str, str] = {}
    for line in sorted(set(said.splitlines())):
        uri, release, component = line.split()
        if component == "main":
            known.setdefault(release, uri)
    text = ""
    for suite in suites:
        if suite not in known:
            raise BuildError(f"this machine's apt has no suite {suite} (component main); add it to its sources")
        text += (
            f"Types: deb deb-src\nURIs: {known[suite]}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n\n"
        )
    return text


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(board: Board, cache: Path) -> Path:
    """Resolve a board's packages anew, fetch them, and write the lock."""
    apt = Apt(board.architecture, cache / f"apt-{board.architecture.name}")
    store = _store(cache)
    lines = []
    for section, names in seeds(board).items():
        found = apt.resolve(names)
        if section != "root":  # the rest of these is there already, or only wanted by installation scripts
            found = [row for row in found if row[0] in names or row[0].startswith("linux-image-")]
        apt.download([(name, version) for name, version, _ in found], store)
        for name, version, architecture in found:
            path = store / Package(section, name, version, architecture, 0, "").file_name
            lines.append(f"{section} {name} {version} {architecture} {path.stat().st_size} {sha256_of(path)}\n")
    path = lock_path(board)
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "# section name version architecture octets sha256; made by deploy/build.py --lock\n" + "".join(lines)
    )
    return path


def read_lock(path: Path) -> list[Package]:
    """A lock's packages. Raises BuildError when there is none or a line does not read."""
    if not path.is_file():
        raise BuildError(f"{path} is missing; make it: deploy/build.py --board BOARD --lock")
    packages = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        try:
            section, name, version, architecture, octets, sha256 = line.split()
            packages.append(Package(section, name, version, architecture, int(octets), sha256))
        except ValueError:
            raise BuildError(
                f"{path}:{number}: expected section, name, version, architecture, octets, sha256"
            ) from None
    return packages


def fetch(board: Board, cache: Path) -> dict[Package, Path]:
    """Every package of the board's lock as a file, each compared with its SHA-256. Fetches what is not there yet."""
    packages = read_lock(lock_path(board))
    store = _store(cache)
    files = {package: store / package.file_name for package in packages}
    absent = [package for package, path in files.items() if not path.is_file()]
    if absent:
        apt = Apt(board.architecture, cache / f"apt-{board.architecture.name}")
        apt.download([(package.name, package.version) for package in absent], store)
    for package, path in files.items():
        if sha256_of(path) != package.sha256:
            raise BuildError(f"{path}: its SHA-256 is not the lock's; delete it and build again")
    return files


def _store(cache: Path) -> Path:
    store = cache / "debs"
    store.mkdir(parents=True, exist_ok=True)
    return store
