"""Debian packages: resolved once into a lock (names, versions, SHA-256), then fetched exactly.

The mirror is the one this machine's apt uses; the lock names none. A lock is made anew with `build.py --lock`.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from deploy.image.board import PACKAGES, Architecture, Board
from deploy.image.shell import BuildError, run

HERE = Path(__file__).parent
LOCKS = HERE / "locks"
_MAIN, _SECURITY = ("trixie", "bookworm"), ("trixie-security", "bookworm-security")  # on the same mirrors
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Package:
    """One line of a lock. section: "root", "boot" (initramfs), "kernel"; bytes: its size."""

    section: str
    name: str
    version: str
    architecture: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


def seeds(board: Board) -> dict[str, list[str]]:
    """What is asked for by name, by section."""
    document = tomllib.loads(PACKAGES.read_text("utf-8"))
    more = document["more"].get(board.architecture.name, [])
    return {"root": [*document["root"], *more], "boot": document["boot"], "kernel": [board.kernel["package"]]}


def token_seeds() -> dict[str, list[str]]:
    """What is asked for by name for tokens, by kind; "every" is every kind's."""
    seeds: dict[str, list[str]] = tomllib.loads(PACKAGES.read_text("utf-8"))["token"]
    return seeds


def left_out(board: Board) -> set[str]:
    """Packages that are dependencies by name but are not in the board's image."""
    asked = {name for kind in board.token for name in token_seeds()[kind]}
    return set(tomllib.loads(PACKAGES.read_text("utf-8"))["leave_out"]) - asked


def lock_path(board: Board) -> Path:
    """The lock of a board: its kernel decides, so one per architecture and kernel."""
    return LOCKS / f"debian-{board.architecture.name}-{board.kernel['package']}.lock"


def token_lock_path(architecture: Architecture) -> Path:
    """The lock of what tokens need, with the kind of token as its sections."""
    return LOCKS / f"debian-{architecture.name}-token.lock"


def packages_of(board: Board) -> list[Package]:
    """Every locked package of a board; what its tokens need is of the section "root"."""
    packages = read_lock(lock_path(board))
    if board.token:
        kinds = {"every", *board.token}
        rows = [package for package in read_lock(token_lock_path(board.architecture)) if package.section in kinds]
        packages += dict.fromkeys(replace(package, section="root") for package in rows)
    return packages


class Apt:
    """apt with a state of its own, for an architecture this machine need not have; nothing gets installed."""

    def __init__(self, architecture: Architecture, folder: Path, suites: tuple[str, ...] = ()) -> None:
        self._folder = folder = folder.absolute()
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        self.suites = suites or architecture.suites
        (folder / "list.sources").write_text(_sources(self.suites))
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
        # On the same mirrors as this machine's own Debian, whichever that is.
        kind = _SECURITY if suite.endswith("-security") else _MAIN
        known.setdefault(suite, next((known[name] for name in kind if name in known), ""))
        if not known.get(suite):
            raise BuildError(f"this machine's apt has no suite {suite} (component main); add it to its sources")
        text += (
            f"Types: deb deb-src\nURIs: {known[suite]}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n\n"
        )
    return text


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _apt(board: Board, cache: Path, without: Iterable[str] = ()) -> Apt:
    suites = tuple(suite for suite in board.architecture.suites if suite not in set(without))
    return Apt(board.architecture, cache / f"apt-{board.architecture.name}", suites)


def write_lock(board: Board, cache: Path, today: date, without: Iterable[str] = ()) -> Path:
    """Resolve a board's packages anew, fetch them, and write the lock. without: suites whose index this machine's
    mirror does not have whole for this architecture; the lock says so, and each build from it."""
    apt, lines = _apt(board, cache, without), []
    for section, names in seeds(board).items():
        found = apt.resolve(names)
        if section != "root":  # the rest of these is there already, or only wanted by installation scripts
            found = [row for row in found if row[0] in names or row[0].startswith("linux-image-")]
        lines += _locked(apt, section, found, cache)
    return _write(lock_path(board), lines, apt.suites, without, today)


def write_token_lock(board: Board, cache: Path, today: date, without: Iterable[str] = ()) -> Path:
    """Resolve anew what the tokens of a board's architecture need beyond every root, and write that lock."""
    apt, lines = _apt(board, cache, without), []
    root = seeds(board)["root"]
    there = set(apt.resolve(root))
    kinds = token_seeds()
    for kind, names in kinds.items():
        common = [] if kind == "every" else kinds["every"]
        found = [row for row in apt.resolve([*root, *common, *names]) if row not in there]
        if kind == "every":
            there |= set(found)
        lines += _locked(apt, kind, found, cache)
    return _write(token_lock_path(board.architecture), lines, apt.suites, without, today)


def _locked(apt: Apt, section: str, found: list[tuple[str, str, str]], cache: Path) -> list[str]:
    """A lock's lines for these packages, which are fetched for their hashes."""
    store, lines = _store(cache), []
    apt.download([(name, version) for name, version, _ in found], store)
    for name, version, architecture in found:
        path = store / Package(section, name, version, architecture, 0, "").file_name
        lines.append(f"{section} {name} {version} {architecture} {path.stat().st_size} {sha256_of(path)}\n")
    return lines


def _write(lock: Path, lines: list[str], suites: Iterable[str], without: Iterable[str], today: date) -> Path:
    lock.parent.mkdir(exist_ok=True)
    head = "# section name version architecture bytes sha256; made by deploy/build.py --lock\n"
    head += (
        f"# resolved {today.isoformat()} from {' '.join(suites)}; without: {' '.join(sorted(without)) or 'nothing'}\n"
    )
    lock.write_text(head + "".join(lines))
    return lock


OLD_DAYS = 45  # a relock a month, and two weeks to come to it
_RESOLVED = re.compile(r"^# resolved (\d{4}-\d\d-\d\d) from (.*); without: (.*)$", re.MULTILINE)


def lock_warnings(board: Board, today: date) -> list[str]:
    """What a build should say of its locks: how old they are, and which archive they know nothing of."""
    told = []
    for path in [lock_path(board), *([token_lock_path(board.architecture)] if board.token else [])]:
        found = _RESOLVED.search(path.read_text())
        if found is None:
            told.append(f"{path.name} does not say when it was resolved: deploy/build.py --board {board.name} --lock")
            continue
        days = (today - date.fromisoformat(found[1])).days
        if days > OLD_DAYS:
            told.append(
                f"{path.name} is {days} days old: deploy/build.py --board {board.name} --lock brings the fixes since"
            )
        if found[3] != "nothing":
            told.append(f"{path.name} knows nothing of {found[3]}: fixes since the last point release are missing")
    return told


def changes(before: Iterable[Package], after: Iterable[Package]) -> list[str]:
    """What a new lock brings, a line each, by name: packages that came, went, or have another version. A version with
    "+debNuM" or "~debNuM" is of Debian's stable updates: a fix, of a hole or of a fault."""
    old, new = ({package.name: package.version for package in side} for side in (before, after))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if was is None:
            lines.append(f"{name} is new: {now}")
        elif now is None:
            lines.append(f"{name} {was} is gone")
        else:
            fix = " (a fix)" if re.search(r"[+~]deb\d+u\d+", now) else ""
            lines.append(f"{name} {was} -> {now}{fix}")
    return lines


def read_lock(path: Path) -> list[Package]:
    """A lock's packages. Raises BuildError when there is none or a line does not read."""
    if not path.is_file():
        raise BuildError(f"{path} is missing; make it: deploy/build.py --board BOARD --lock")
    packages = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        try:
            section, name, version, architecture, size, sha256 = line.split()
            packages.append(Package(section, name, version, architecture, int(size), sha256))
        except ValueError:
            raise BuildError(f"{path}:{number}: expected section, name, version, architecture, bytes, sha256") from None
    return packages


def fetch(board: Board, cache: Path, packages: list[Package] | None = None) -> dict[Package, Path]:
    """Every package of the board's lock (or these) as a file, each compared with its SHA-256. Fetches what is not there
    yet."""
    packages = packages_of(board) if packages is None else packages
    store = _store(cache)
    files = {package: store / package.file_name for package in packages}
    absent = [package for package, path in files.items() if not path.is_file()]
    if absent:
        apt = _apt(board, cache, _without(lock_path(board)))
        apt.download([(package.name, package.version) for package in absent], store)
    for package, path in files.items():
        if sha256_of(path) != package.sha256:
            raise BuildError(f"{path}: its SHA-256 is not the lock's; delete it and build again")
    return files


def _without(lock: Path) -> list[str]:
    """The suites that a lock was made without."""
    found = _RESOLVED.search(lock.read_text())
    return [] if found is None or found[3] == "nothing" else found[3].split()


def _store(cache: Path) -> Path:
    store = cache / "debs"
    store.mkdir(parents=True, exist_ok=True)
    return store
