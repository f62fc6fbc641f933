"""The house (design, part 4; docs/architecture.md): floors are folders, an allow-list, no circle.

A room is a folder. What a room may import is written in ALLOWED; what is not there fails. Imports count wherever they
stand: at the top, inside a function, under TYPE_CHECKING. Circles count between files as between rooms.
"""

import ast
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folders that belong to one room although they have folders of their own.
_ROOMS_OF_MANY_FOLDERS = ("drivers/zigbee", "drivers/meter", "store", "hub/core/gateway", "hub/core/control")
_CORE = ("hub/core", "hub/wire", "hub/wire/mqttsn", "hub/wire/mqttsn/v2", "hub/wire/uplink")
_WIRE = ("hub/wire", "hub/wire/mqttsn", "hub/wire/mqttsn/v2", "hub/wire/uplink", "hub/wire/keys", "hub/wire/zigbee")
_MACHINES = (
    "hub/core",
    "hub/core/gateway",
    "hub/core/control",
    "hub/core/uplink",
    "hub/core/update",
)
_BELOW_SERVICES = (*_WIRE, *_MACHINES, "drivers", "store")
_SERVICES = tuple(f"hub/services/{name}" for name in ("home", "control", "uplink", "update", "identity", "admin"))

# room -> the rooms whose files it may import. Its own files always.
ALLOWED: dict[str, tuple[str, ...]] = {
    # 1: formats only; importable alone
    "hub": ("hub/cli",),  # __main__ is the way in, and nothing else lies here
    "hub/wire": (),
    "hub/wire/mqttsn": ("hub/wire/uplink",),
    "hub/wire/mqttsn/v2": ("hub/wire/mqttsn",),
    "hub/wire/uplink": ("hub/wire",),
    "hub/wire/keys": ("hub/wire", "hub/wire/uplink"),
    "hub/wire/zigbee": (),
    # 2: machines without I/O
    "hub/core": ("hub/wire", "hub/wire/uplink"),
    "hub/core/adapter": ("hub/wire/mqttsn",),
    "hub/core/gateway": _CORE,
    "hub/core/control": (*_CORE, "hub/wire/keys"),
    "hub/core/uplink": ("hub/core", "hub/wire", "hub/wire/uplink"),
    "hub/core/update": ("hub/core", "hub/wire/uplink"),
    # 3: files, the radio, the line; drivers and store never meet
    "drivers": ("hub/wire", "hub/wire/keys", "hub/wire/uplink", "hub/core", "hub/core/uplink"),
    "drivers/meter": ("drivers", "hub/wire", "hub/wire/uplink", "hub/core"),
    "drivers/zigbee": ("drivers", "hub/wire", "hub/wire/uplink", "hub/wire/zigbee", "hub/core"),
    "store": ("hub/wire", "hub/wire/uplink", "hub/core", "hub/core/control"),
    # 4: loops; they meet in the store and nowhere else
    **dict.fromkeys(_SERVICES, _BELOW_SERVICES),
    # 5: the only place that constructs
    "hub/app": (*_BELOW_SERVICES, "drivers/zigbee", "drivers/meter", *_SERVICES),
    # 6: people
    "hub/headend": _WIRE,
    "hub/bench": (*_BELOW_SERVICES, *_SERVICES, "hub/app", "hub/headend"),
    "hub/cli": (*_BELOW_SERVICES, *_SERVICES, "hub/app", "hub/headend", "hub/bench"),
}

# Of core, the store takes what is recorded, how long to wait before trying again, and nothing else.
_RECORDS = ("hub.core.records", "hub.core.control.records", "hub.core.backoff")

_NO_IO = (
    "asyncio",
    "socket",
    "threading",
    "subprocess",
    "sqlite3",
    "time",
    "select",
    "serial",
    "paho",
    "zigpy",
    "bellows",
)
# room (a path prefix) -> (banned modules from outside the house, reason)
OUTSIDE: list[tuple[str, tuple[str, ...], str]] = [
    ("hub/wire", _NO_IO, "a format that waits cannot be fuzzed, and integrators import it alone, on any system"),
    ("hub/core/gateway", _NO_IO, "machines get bytes and `now`; a clock or a socket in them ends virtual time"),
    *((room, _NO_IO, "a machine too") for room in ("hub/core/control", "hub/core/uplink", "hub/core/update")),
    (
        "hub/core",
        tuple(name for name in _NO_IO if name != "threading"),
        "health alone is told things by other threads, so it has a lock; else as above",
    ),
    ("store", ("asyncio",), "the store is below the loops"),
    ("drivers", ("paho",), "the uplink alone talks MQTT"),
    *(
        (room, ("http.client", "urllib.request"), "drivers/https.py has the one client whose answers come to an end")
        for room in ("hub", "store", "drivers/zigbee", "drivers/meter")
    ),
    (
        "hub/services/update/helper.py",
        ("hub", "drivers", "store", "asyncio", "cryptography", "cbor2"),
        "it has the rights: it is small, and works on a hub whose packages are damaged",
    ),
    ("hub/services/update", ("paho",), "no session"),
    ("hub/services/home", ("paho",), "the two loops meet in the store and nowhere else"),
    ("hub/services/control", ("paho",), "control gets messages, it knows no session"),
    ("hub/cli", ("zigpy", "bellows"), "a CLI verb must not cost 35 MB"),
    ("tests/emulators/ezsp", ("zigpy", "bellows", "serialx"), "a peer built from its host's library proves nothing"),
    ("hub", ("tests", "deploy"), "the product does not need its tests"),
    (
        "deploy/headend",
        ("hub.app", "hub.cli", "hub.bench", "hub.services", "hub.core", "store", "drivers"),
        "a control point knows the formats and the control point's library; it is no hub",
    ),
    ("drivers", ("tests", "deploy"), "nor does a driver"),
    ("store", ("tests", "deploy"), "nor the store"),
    (
        "deploy",
        ("tests",),
        "what is shipped is whole without them; the demonstration runs its home as a program",
    ),
]
# What a room has all the same of what it does without: these know no hub.
NEVERTHELESS: dict[str, tuple[str, ...]] = {
    "deploy/headend": ("drivers.durable_file", "drivers.https", "drivers.pkcs11_token")
}
# Only drivers/zigbee may know the radio stack's types.
_RADIO_STACK = ("zigpy", "bellows", "serialx")
# What the boards get, as `mip` installs it; all of it runs on MicroPython.
_BOARD = ROOT / "deploy/adapter/package.json"
# Modules and names that CPython has and MicroPython has not would only be missed on the board.
_MICROPYTHON_HAS = {"gc", "json", "machine", "random", "select", "socket", "struct", "sys", "time"}
_MICROPYTHON_LACKS = {
    ("struct", "Struct"), ("struct", "error"), ("time", "monotonic"), ("time", "perf_counter"),
    ("random", "Random"), ("random", "SystemRandom"), ("json", "JSONDecodeError"),
}  # fmt: skip


def modules_of(root: Path) -> dict[str, Path]:
    """Every module of the product by its dotted name, and its file relative to `root`."""
    found = {}
    for top in ("hub", "drivers", "store"):
        for path in sorted((root / top).rglob("*.py")):
            relative = path.relative_to(root)
            parts = relative.with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = relative
    return found


@cache  # the guard's guard asks for the whole tree fifty times, with one file changed
def _import_statements(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of(path: Path, module: str = "") -> set[str]:
    """Every module that a file imports, wherever the import stands. `module`: its own name, for relative imports."""
    found: set[str] = set()
    for node in _import_statements(path.read_text()):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            name = ".".join([*above, *filter(None, [node.module])])
            found.add(name)
            found.update(f"{name}.{alias.name}" for alias in node.names)
    return found


def room_of(path: Path) -> str:
    """The room of a file (relative to the root)."""
    folder = path.parent.as_posix()
    return next((room for room in _ROOMS_OF_MANY_FOLDERS if folder == room or folder.startswith(room + "/")), folder)


def arrows(root: Path) -> dict[str, set[str]]:
    """module -> the modules of the product that it imports. `from package import module` is an arrow to the module."""
    known = modules_of(root)
    drawn = {}
    for module, path in known.items():
        named = imports_of(root / path, module) & known.keys()
        packages = {name for name in named if any(other.startswith(name + ".") for other in named)}
        drawn[module] = named - packages - {module}
    return drawn


def faults_of_floors(root: Path, allowed: Mapping[str, Iterable[str]]) -> list[str]:
    """One line for each import that the allow-list does not have."""
    known = modules_of(root)
    faults = [
        f"{room}/ is on no floor: write down what it may import"
        for room in sorted({room_of(path) for path in known.values()} - set(allowed))
        if any(room_of(path) == room and path.name != "__init__.py" for path in known.values())
    ]
    for module, targets in arrows(root).items():
        room = room_of(known[module])
        for target in sorted(targets):
            other = room_of(known[target])
            if room == other or other in allowed.get(room, ()):
                continue
            if known[target].name == "__init__.py" and other in (parent.as_posix() for parent in known[module].parents):
                continue
            faults.append(f"{known[module]} imports {target}: {room}/ may not import {other}/")
        if room == "store":
            faults += [
                f"{known[module]} imports {target}: of hub/core the store takes records and backoff alone"
                for target in sorted(targets)
                if target.startswith("hub.core") and target not in _RECORDS
            ]
    return faults


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def circles_of(root: Path) -> list[list[str]]:
    """Circles between files, and between rooms."""
    known, drawn = modules_of(root), arrows(root)
    rooms: dict[str, set[str]] = {}
    for module, targets in drawn.items():
        room = room_of(known[module])
        # What a package says of itself in its __init__ is no room's business.
        rooms.setdefault(room, set()).update(
            room_of(known[target]) for target in targets if known[target].name != "__init__.py"
        )
    return circles(drawn) + circles(rooms)


def loose_files(root: Path) -> list[str]:
    """Files that lie in hub/ itself: there is a way in, and else there are rooms."""
    return sorted(path.name for path in (root / "hub").glob("*.py") if path.name not in ("__init__.py", "__main__.py"))


def test_every_import_is_on_the_list() -> None:
    faults = faults_of_floors(ROOT, ALLOWED)
    assert not faults, "\n".join(faults)


def test_no_circle_between_files_or_rooms() -> None:
    assert circles_of(ROOT) == []


def test_nothing_lies_loose_in_hub() -> None:
    assert loose_files(ROOT) == []


def test_the_list_names_rooms_that_are_there() -> None:
    rooms = {room_of(path) for path in modules_of(ROOT).values()}
    assert set(ALLOWED) <= rooms
    assert {other for allowed in ALLOWED.values() for other in allowed} <= rooms


def is_in(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def files_below(prefix: str) -> list[Path]:
    place = ROOT / prefix
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


@pytest.mark.parametrize(
    ("room", "banned", "reason"), OUTSIDE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_a_room_does_without(room: str, banned: tuple[str, ...], reason: str) -> None:
    files = files_below(room)
    assert files, f"{room} is not there: the rule guards nothing"
    broken = [
        f"{path.relative_to(ROOT)} imports {module}: {reason}"
        for path in files
        for module in imports_of(path)
        if any(is_in(module, prefix) for prefix in banned)
        and not any(is_in(module, fine) for fine in NEVERTHELESS.get(room, ()))
    ]
    assert not broken, "\n".join(broken)


def test_only_the_zigbee_driver_knows_the_radio_stack() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}: zigpy types stop at drivers/zigbee"
        for room in ("hub", "drivers", "store")
        for path in files_below(room)
        if not path.is_relative_to(ROOT / "drivers/zigbee")
        for module in imports_of(path)
        if any(is_in(module, prefix) for prefix in _RADIO_STACK)
    ]
    assert not broken, "\n".join(broken)


def board_files() -> set[Path]:
    """The files that package.json names, each from where it says."""
    urls = json.loads(_BOARD.read_text())["urls"]
    return {(_BOARD.parent / source).resolve() for _, source in urls}


def test_what_goes_on_a_board_imports_what_is_there() -> None:
    """MicroPython's own modules, or a file that the same package brings."""
    files = board_files()
    assert {
        ROOT / "hub" / f"{name}.py"
        for name in ("wire/mqttsn/messages", "wire/mqttsn/fields", "core/adapter/client", "core/adapter/exchange")
    } < files
    broken = []
    for path in sorted(files):
        for node in ast.walk(_without_type_checking(path)):
            for module in _modules_of(node, path):
                own = ROOT.joinpath(*module.split("."))
                if module not in _MICROPYTHON_HAS and own.with_suffix(".py") not in files:
                    broken.append(f"{path.relative_to(ROOT)} imports {module}, which is not on the board")
    assert not broken, "\n".join(broken)


def test_what_goes_on_a_board_uses_no_name_that_micropython_lacks() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {module}.{name} is not in MicroPython"
        for path in sorted(board_files())
        for node in ast.walk(_without_type_checking(path))
        for module, name in _names_of(node)
        if (module, name) in _MICROPYTHON_LACKS
    ]
    assert not broken, "\n".join(broken)


def _without_type_checking(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and _is_never(node.test))]
    return tree


def _is_never(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in ast.dump(test) or (isinstance(test, ast.Constant) and not test.value)


def _modules_of(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
        module = ".".join((*above, *filter(None, [node.module])))
        is_package = ROOT.joinpath(*module.split(".")).is_dir()
        return [f"{module}.{alias.name}" for alias in node.names] if is_package else [module]
    return []


def _names_of(node: ast.AST) -> list[tuple[str, str]]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [(node.value.id, node.attr)]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "", alias.name) for alias in node.names]
    return []


def test_sql_stands_in_sql_files() -> None:
    words = ("SELECT ", "INSERT ", "UPDATE ", "DELETE FROM", "CREATE TABLE")
    for path in files_below("store"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.lstrip().startswith(words), (
                    f"{path.name}: SQL belongs in a .sql file: {node.value!r}"
                )
