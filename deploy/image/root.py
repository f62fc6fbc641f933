"""The root file system: packages unpacked by mmdebstrap (nothing foreign is run), the hub put in, the rest thrown out.

What the packages' installation scripts would have done and is needed is done in `finish`.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from deploy.image.board import BASE, PYTHON, Board
from deploy.image.debs import Package, left_out
from deploy.image.disk import fw_env_config
from deploy.image.elf import missing_libraries
from deploy.image.shell import BuildError, run
from deploy.image.tokens import check_token, put_token, take_aside
from deploy.image.wheels import unpack_wheels

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
SITE = "usr/lib/python3/dist-packages"
_PYTHON = f"usr/lib/python{PYTHON}"
_UNIT_FOLDERS = {
    "meterhub.service.d": "usr/lib/systemd/system/meterhub.service.d",
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
    "dbus": "etc/dbus-1/system.d",
}
_LINKS = {
    "etc/resolv.conf": "/run/systemd/resolve/stub-resolv.conf",
    "etc/mtab": "/proc/self/mounts",
    "etc/os-release": "../usr/lib/os-release",
    "usr/bin/sh": "dash",
    "usr/bin/python3": f"python{PYTHON}",
}


def unpack(board: Board, files: dict[Package, Path], target: Path, work: Path) -> None:
    """Unpack the lock's root packages. mmdebstrap sees them, and no others, as a repository of its own."""
    repository = work / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    repository.mkdir(parents=True)
    stanzas, names = [], []
    for package, path in files.items():
        if package.section == "root":
            os.link(path, repository / path.name)
            fields = run(["dpkg-deb", "-f", path]).strip()
            stanzas.append(f"{fields}\nFilename: ./{path.name}\nSize: {package.size}\nSHA256: {package.sha256}\n")
            names.append(package.name)
    (repository / "Packages").write_text("\n".join(stanzas))
    mode = "root" if os.getuid() == 0 else "unshare"
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--mode={mode}",
            f"--architectures={board.architecture.name}",
            "--format=directory",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            f"--include={','.join(names)}",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--skip=check/empty",
            BASE,
            str(target),
            f"deb [trusted=yes] copy://{repository.absolute()} ./",
        ]
    )
    shutil.rmtree(repository)


def finish(
    board: Board, root: Path, files: dict[Package, Path], wheels: list[Path], *, version: str, epoch_s: int
) -> None:
    """Make the unpacked packages a system: users, units, the hub, and nothing superfluous."""
    _take_cffi(board, root)
    aside = take_aside(board, root / SITE, root.parent / "aside")
    _remove_packages(root, [path for package, path in files.items() if package.name in left_out(board)])
    trim = tomllib.loads((HERE / "trim.toml").read_text("utf-8"))
    _put_hub(root, wheels)
    put_token(board, root, aside, root / SITE)
    _remove(root / SITE, trim["packages"])
    _remove(root / _PYTHON, trim["python"])
    shutil.copytree(HERE / "files", root, symlinks=True, dirs_exist_ok=True)
    (root / "usr/bin/meterhub").chmod(0o755)
    _remove(root, trim["root"])
    _put_shell_pages(root)
    _write_settings(board, root, version, epoch_s)
    _make_users(root)
    run(["sh", REPOSITORY / "deploy/field/install.sh", root])
    _set_units(root, board.console_tty, trim["masked"])
    _make_places(root)
    _strip(root, f"{board.architecture.cross}strip")
    _compile(board, root)
    _check(root)
    check_token(board, root)


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _take_cffi(board: Board, root: Path) -> None:
    """Of Debian's python3-cffi-backend only the one library counts; cryptography looks for it by this name."""
    found = list((root / "usr/lib/python3/dist-packages").glob("_cffi_backend*.so"))
    if found and board.architecture.name == "armhf":
        found[0].rename(root / "usr/lib" / "_cffi_backend.keep")


def _remove_packages(root: Path, packages: list[Path]) -> None:
    for package in packages:
        for line in run(["dpkg-deb", "-c", package]).splitlines():
            name = line.split(None, 5)[5].split(" -> ")[0].removeprefix("./")
            path = root / name
            if name and not name.endswith("/") and (path.is_symlink() or path.is_file()):
                path.unlink()


def _put_hub(root: Path, wheels: list[Path]) -> None:
    site = root / SITE
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    unpack_wheels(wheels, site)
    kept = root / "usr/lib/_cffi_backend.keep"
    if kept.exists():
        kept.rename(site / "_cffi_backend.so")
    for name in ("hub", "drivers", "store"):
        shutil.copytree(REPOSITORY / name, site / name, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    _put_units(root)


def _put_shell_pages(root: Path) -> None:
    """Tab completion and the man page of `meterhub`; after the trimming, which takes everybody else's."""
    for name, target in (
        ("meterhub.bash", "usr/share/bash-completion/completions/meterhub"),
        ("meterhub.1", "usr/share/man/man1/meterhub.1"),
    ):
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "deploy/shell" / name, root / target)


# The initramfs has done what these would wait for (deploy/image/initramfs/init): the hub starts with the system.
_EARLIER = {
    "meterhub.service": (
        "After=local-fs.target systemd-tmpfiles-setup.service meterhub-first-boot.service\n",
        "DefaultDependencies=no\nAfter=systemd-journald.socket\nConflicts=shutdown.target\nBefore=shutdown.target\n",
    ),
    "meterhub-first-boot.service": ("Before=meterhub.service ssh.service\n", "Before=ssh.service\n"),
}


def _put_units(root: Path) -> None:
    """deploy/systemd's units and what belongs to them, each where its README says."""
    source, units = REPOSITORY / "deploy/systemd", root / "usr/lib/systemd/system"
    for unit in sorted(source.iterdir()):
        if unit.suffix in (".service", ".timer", ".socket", ".path"):
            text = unit.read_text("utf-8")
            before, after = _EARLIER.get(unit.name, ("", ""))
            if before not in text:
                raise BuildError(f"{unit}: expected the line {before!r}; see _EARLIER in {__file__}")
            (units / unit.name).write_text(text.replace(before, after) if before else text)
    for folder, target in _UNIT_FOLDERS.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        for file in sorted((source / folder).iterdir()):
            shutil.copy(file, root / target / file.name)
    (root / "usr/lib/meterhub").mkdir(exist_ok=True)
    for name in ("first-boot", "raise-index"):
        shutil.copy(source / name, root / "usr/lib/meterhub" / name)
        (root / "usr/lib/meterhub" / name).chmod(0o755)


def _write_settings(board: Board, root: Path, version: str, epoch_s: int) -> None:
    disk = board.disk["device"]
    (root / "etc/rauc").mkdir(exist_ok=True)
    (root / "etc/rauc/system.conf").write_text(system_conf(board))
    (root / "etc/fw_env.config").write_text(fw_env_config(f"/dev/{disk}"))
    (root / "usr/lib/os-release").write_text(
        f'NAME=meterhub\nID=meterhub\nID_LIKE=debian\nPRETTY_NAME="meterhub {version} ({board.name})"\n'
        f"IMAGE_ID={board.compatible}\nIMAGE_VERSION={version}\nVERSION_ID={version}\n"
    )
    (root / "etc/hostname").write_text("meterhub\n")
    (root / "etc/fstab").write_text("# Everything is mounted by the initramfs (deploy/image/initramfs/init).\n")
    (root / "etc/machine-id").write_text("uninitialized\n")
    epoch = root / "usr/lib/clock-epoch"
    epoch.touch()
    os.utime(epoch, (epoch_s, epoch_s))
    for link, target in _LINKS.items():
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(target)


def system_conf(board: Board, *, checks_crl: bool = False) -> str:
    """RAUC's view of the board: two pairs of slots, U-Boot's environment, whose updates are believed. checks_crl: the
    keyring has a list of certificates taken back; RAUC wants one, then."""
    disk = f"/dev/{board.disk['device']}"
    text = f"""[system]
compatible={board.compatible}
bootloader=uboot
bundle-formats=verity
mountprefix=/run/rauc
statusfile=/data/rauc/status
boot-attempts=3
boot-attempts-primary=3

[keyring]
path=/etc/rauc/keyring.pem
# The hub's clock may be wrong, and a bundle must install after its signer's certificate has ended.
use-bundle-signing-time=true
check-purpose=codesign
check-crl={str(checks_crl).lower()}
"""
    for number, slot in enumerate("AB"):
        text += f"""
[slot.kernel.{number}]
device={disk}p{number + 1}
type=raw
parent=rootfs.{number}

[slot.rootfs.{number}]
device={disk}p{number + 3}
type=raw
bootname={slot}
"""
    return text


def _make_users(root: Path) -> None:
    masters = root / "usr/share/base-passwd"
    passwd = (masters / "passwd.master").read_text().replace(":*:", ":x:").replace("/bin/bash", "/bin/sh")
    (root / "etc/passwd").write_text(passwd)
    (root / "etc/group").write_text((masters / "group.master").read_text().replace(":*:", ":x:"))
    (root / "etc/shadow").write_text("".join(f"{line.split(':')[0]}:*:1::::::\n" for line in passwd.splitlines()))
    (root / "etc/gshadow").write_text("")
    for file in (root / "usr/lib/sysusers.d").glob("*.conf"):
        # "u!": an account that is locked for good (systemd 257). Every one is here; Debian 12's systemd-sysusers, which
        # may be what builds, knows only "u".
        file.write_text(re.sub(r"^u!", "u ", file.read_text(), flags=re.MULTILINE))
    run(["systemd-sysusers", f"--root={root}"])
    for name in ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock"):
        (root / name).unlink(missing_ok=True)
    # systemd-sysusers stamps the day of the build into shadow.
    shadow = root / "etc/shadow"
    lines = [line.split(":") for line in shadow.read_text().splitlines()]
    shadow.write_text("".join(":".join([fields[0], fields[1], "1", *fields[3:]]) + "\n" for fields in lines))
    shutil.rmtree(masters)


def _set_units(root: Path, console_tty: str, masked: Iterable[str]) -> None:
    for folder in (root / "etc/systemd/system").glob("*.wants"):
        shutil.rmtree(folder)
    for link in (root / "etc/systemd/system").iterdir():
        if link.is_symlink():
            link.unlink()
    run(["systemctl", f"--root={root}", "preset-all", "--preset-mode=full"])
    for unit in masked:
        path = root / "etc/systemd/system" / unit
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    console = root / "etc/systemd/system/multi-user.target.wants" / f"meterhub-console@{console_tty}.service"
    console.symlink_to("/usr/lib/systemd/system/meterhub-console@.service")
    default = root / "etc/systemd/system/default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/usr/lib/systemd/system/multi-user.target")


def _make_places(root: Path) -> None:
    """Mount points; everything else below /var is made at start on a tmpfs. No file raises privileges."""
    for name in ("data", "var", "etc/meterhub", "proc", "sys", "dev", "run", "tmp", "root", "boot"):
        (root / name).mkdir(exist_ok=True)
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        mode = path.stat().st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o755)


def _strip(root: Path, program: str) -> None:
    """Wheels bring symbols that only a debugger would read."""
    for library in (root / SITE).rglob("*.so"):
        run([program, "--strip-unneeded", library])


_OURS = ("hub", "drivers", "store")


def _python_of(board: Board, root: Path) -> list[str]:
    """The words that start a Python of the image's version: bytecode is that version's alone. This machine's where it
    has one; else the image's own, in an emulator: the same bytes, some minutes later."""
    own = ["-c", f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, PYTHON.split('.')))})"]
    for name in (sys.executable, shutil.which(f"python{PYTHON}")):
        if name is not None and subprocess.run([name, *own], capture_output=True).returncode == 0:
            return [name]
    if shutil.which(board.architecture.emulator) is None:
        raise BuildError(
            f"no python{PYTHON} here: please type: sudo apt-get install python{PYTHON}, or qemu-user-static"
        )
    return [board.architecture.emulator, "-L", str(root), str(root / f"usr/bin/python{PYTHON}")]


def _compile(board: Board, root: Path) -> None:
    """Bytecode beforehand: a read-only root cannot keep any. Not checked against the source, and without the columns
    that a traceback would underline. Of others' modules the bytecode is all: their versions are locked."""
    words = [*_python_of(board, root), "-I", "-X", "no_debug_ranges", "-m", "compileall", "-q", "-f", "-s", root]
    words += ["--invalidation-mode", "unchecked-hash"]
    for folder in (root / _PYTHON, *(path for path in (root / SITE).iterdir() if path.name not in _OURS)):
        if folder.is_dir() or folder.suffix == ".py":
            run([*words, "-b", folder])
            for source in [folder] if folder.is_file() else sorted(folder.rglob("*.py")):
                source.unlink()
    run([*words, *(root / SITE / name for name in _OURS)])


def _check(root: Path) -> None:
    missing = missing_libraries(root)
    if missing:
        text = "; ".join(f"{name} (for {', '.join(sorted(who)[:2])})" for name, who in sorted(missing.items()))
        raise BuildError(f"libraries are missing from the root: {text}")
    tag = f"cpython-{PYTHON.replace('.', '')}"
    strange = [path.name for path in (root / SITE).rglob("*.cpython-*.so") if tag not in path.name]
    if strange:  # it would not be loaded, and what it speeds up would be slow without a word
        raise BuildError(f"not for Python {PYTHON}: {', '.join(sorted(strange)[:5])}")
    known = {line.split(":")[0] for name in ("passwd", "group") for line in (root / "etc" / name).open()}
    for unit in sorted((root / "usr/lib/systemd/system").glob("*.service")):
        for line in re.findall(r"^(?:User|Group|SupplementaryGroups)=(.+)$", unit.read_text("utf-8"), re.MULTILINE):
            for name in line.split():
                if name not in known and "%" not in name:
                    raise BuildError(f"{unit.name}: there is no user or group {name}; see usr/lib/sysusers.d")
