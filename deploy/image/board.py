"""A board is data: one TOML file in boards/, and a row per architecture here."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.image.shell import BuildError

BOARDS = Path(__file__).parent / "boards"
PACKAGES = Path(__file__).parent / "packages.toml"


@dataclass(frozen=True)
class Architecture:
    """What follows from the instruction set. `wheels`: pip's platform tags; `suites`: where the packages come from;
    `compression`: of the root, as mksquashfs has it: lz4 unpacks fastest, and fits where code is small."""

    name: str
    fit: str
    cross: str
    compiler_package: str
    triplet: str
    wheels: tuple[str, ...]
    suites: tuple[str, ...]
    kernel_image: str
    emulator: str
    compression: tuple[str, ...]


# The Debian that the boards have, and its Python: docs/next-debian.md. From Debian 13 on armhf's time has 64 bits.
BASE, PYTHON = "trixie", "3.13"
_SUITES = (BASE, f"{BASE}-updates", f"{BASE}-security")

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="armhf",
            fit="arm",
            cross="arm-linux-gnueabihf-",
            compiler_package="gcc-arm-linux-gnueabihf",
            triplet="arm-linux-gnueabihf",
            wheels=(
                "manylinux_2_17_armv7l",
                "manylinux2014_armv7l",
                "manylinux_2_31_armv7l",
                "manylinux_2_36_armv7l",
                "manylinux_2_39_armv7l",
            ),
            suites=_SUITES,
            kernel_image="vmlinuz",
            emulator="qemu-arm-static",
            compression=("lz4", "-Xhc"),
        ),
        Architecture(
            name="arm64",
            fit="arm64",
            cross="aarch64-linux-gnu-",
            compiler_package="gcc-aarch64-linux-gnu",
            triplet="aarch64-linux-gnu",
            wheels=(
                "manylinux_2_17_aarch64",
                "manylinux2014_aarch64",
                "manylinux_2_28_aarch64",
                "manylinux_2_34_aarch64",
            ),
            suites=_SUITES,
            kernel_image="vmlinuz",
            emulator="qemu-aarch64-static",
            compression=("zstd", "-Xcompression-level", "15"),
        ),
    )
}


@dataclass(frozen=True)
class Board:
    """One board, as its TOML file says; see deploy/README.md ("Another board"). token: by what it can hold its key in
    hardware, names of packages.toml's [token]; none: its key is a file."""

    name: str
    architecture: Architecture
    description: str
    kernel: dict[str, Any]
    uboot: dict[str, Any]
    disk: dict[str, Any]
    data: dict[str, Any]
    radio: str
    console_tty: str
    qemu: dict[str, Any] | None
    token: tuple[str, ...] = ()

    @property
    def compatible(self) -> str:
        """What an update must be made for, in RAUC's words."""
        return f"meterhub-{self.name}"


_TABLES = {
    "kernel": {"package", "dtb", "load_address", "fdt_address", "modules"},
    "uboot": {"defconfig", "fragments", "images", "make", "env"},
    "disk": {"device", "card", "size_mb"},
    "data": {"cipher", "key_bytes", "secret"},
    "hub": {"radio"},
    "console": {"tty"},
    "qemu": None,
    "token": None,
}


def board_names() -> list[str]:
    """Every board there is a file for."""
    return sorted(path.stem for path in BOARDS.glob("*.toml"))


def load_board(name: str, boards: Path = BOARDS) -> Board:
    """Read boards/NAME.toml. Raises BuildError: file, key, what is expected."""
    path = boards / f"{name}.toml"
    if not path.is_file():
        raise BuildError(f"--board {name}: expected one of {', '.join(board_names())}")
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{path}: not TOML: {error}") from None
    _check(path, document)
    return Board(
        name=name,
        architecture=ARCHITECTURES[document["architecture"]],
        description=document["description"],
        kernel=document["kernel"],
        uboot=document["uboot"],
        disk=document["disk"],
        data=document["data"],
        radio=document["hub"]["radio"],
        console_tty=document["console"]["tty"],
        qemu=document.get("qemu"),
        token=tuple(document.get("token", {}).get("modules", ())),
    )


def _check(path: Path, document: dict[str, Any]) -> None:
    for name in document:
        if name not in {"architecture", "description", *_TABLES}:
            raise BuildError(f"{path}: {name}: unknown; expected architecture, description, {', '.join(_TABLES)}")
    if "token" in document:
        _check_token(path, document["token"])
    if document.get("architecture") not in ARCHITECTURES:
        raise BuildError(f"{path}: architecture: expected one of {', '.join(ARCHITECTURES)}")
    if not isinstance(document.get("description"), str):
        raise BuildError(f"{path}: description: expected a line of text")
    for table, keys in _TABLES.items():
        if keys is None:
            continue
        found = document.get(table)
        if not isinstance(found, dict) or set(found) != keys:
            raise BuildError(f"{path}: [{table}]: expected exactly the keys {', '.join(sorted(keys))}")


def _check_token(path: Path, table: object) -> None:
    known = sorted(set(tomllib.loads(PACKAGES.read_text("utf-8"))["token"]) - {"every"})
    modules = table.get("modules") if isinstance(table, dict) and set(table) == {"modules"} else None
    if not isinstance(modules, list) or not modules or not all(module in known for module in modules):
        raise BuildError(f"{path}: [token]: expected modules = [...] of {', '.join(known)}; without a token no table")
