"""The house: imports go downward only (design, part 4). Each banned import comes with its reason."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# room (a path prefix) -> (banned module prefix, reason). The first component decides for whole packages.
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
RULES: list[tuple[str, tuple[str, ...], str]] = [
    ("hub/metering", _NO_IO, "the ground floor has no I/O and no clock: a codec that waits cannot be fuzzed"),
    ("hub/contract", _NO_IO, "integrators import hub/contract on its own, on any system"),
    ("hub/mqttsn", _NO_IO, "machines get bytes and `now`; a clock or a socket in them ends virtual time"),
    ("hub/control", _NO_IO, "control is proved on a virtual clock; a real one in it would end that"),
    (
        "hub/control",
        ("drivers", "store", "hub.uplink", "hub.bridge", "hub.governor", "hub.daemon", "hub.config"),
        "floor 1 is below floor 2",
    ),
    ("hub/governor.py", ("hub.uplink", "hub.daemon", "paho"), "control gets messages, it knows no session"),
    ("hub/uplink/policy.py", _NO_IO, "100,000 hubs are simulated with it"),
    ("hub/uplink/window.py", _NO_IO, "a machine"),
    ("hub/uplink/drain.py", _NO_IO, "a machine"),
    ("hub/uplink/reasons.py", _NO_IO, "a table"),
    ("hub/uplink/traffic.py", _NO_IO, "it is given what the socket carried, and the time"),
    ("hub/metering", ("hub.mqttsn", "hub.contract", "drivers", "store", "hub.uplink"), "the ground floor knows nobody"),
    ("hub/contract", ("hub.mqttsn", "drivers", "store", "hub.uplink", "hub.daemon"), "shared with the head-end"),
    (
        "hub/mqttsn",
        ("drivers", "store", "hub.uplink", "hub.bridge", "hub.daemon", "hub.config"),
        "floor 1 is below floor 2",
    ),
    ("drivers", ("store",), "drivers and store never meet: a radio must not know a database"),
    ("drivers", ("hub.bridge", "hub.uplink", "hub.daemon", "hub.cli", "hub.admin"), "drivers are below the loops"),
    ("drivers", ("paho",), "the uplink alone talks MQTT"),
    ("store", ("drivers",), "drivers and store never meet"),
    (
        "store",
        ("hub.bridge", "hub.uplink", "hub.daemon", "hub.cli", "hub.admin", "asyncio"),
        "the store is below the loops",
    ),
    (
        "hub/uplink",
        ("hub.bridge", "hub.mqttsn", "hub.control", "hub.governor", "hub.daemon"),
        "the two loops meet in the store and nowhere else",
    ),
    ("hub/update/machine.py", _NO_IO, "an update's life is proved on a virtual clock"),
    ("hub/update", ("hub.bridge", "hub.mqttsn", "hub.governor", "hub.daemon", "paho"), "no session, no home"),
    (
        "hub/update/helper.py",
        ("hub", "drivers", "store", "asyncio", "cryptography", "cbor2"),
        "it has the rights: it is small, and works on a hub whose packages are damaged",
    ),
    ("hub/bridge.py", ("hub.uplink", "paho", "hub.daemon"), "the two loops meet in the store and nowhere else"),
    ("hub/cli", ("zigpy", "bellows"), "a CLI verb must not cost 35 MB"),
    ("tests/emulators/ezsp", ("zigpy", "bellows", "serialx"), "a peer built from its host's library proves nothing"),
    ("hub", ("tests", "deploy"), "the product does not need its tests"),
]
# Only drivers/zigbee may know the radio stack's types.
_RADIO_STACK = ("zigpy", "bellows", "serialx")
# What the boards get, as `mip` installs it; all of it runs on MicroPython.
_BOARD = ROOT / "deploy/adapter/package.json"
# Modules and names that CPython has and MicroPython has not would only be missed on the board.
_MICROPYTHON_HAS = {"json", "machine", "random", "select", "socket", "struct", "sys", "time"}
_MICROPYTHON_LACKS = {
    ("struct", "Struct"), ("struct", "error"), ("time", "monotonic"), ("time", "perf_counter"),
    ("random", "Random"), ("random", "SystemRandom"), ("json", "JSONDecodeError"),
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function; names under TYPE_CHECKING do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def files_below(prefix: str) -> list[Path]:
    place = ROOT / prefix
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def is_in(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize(("room", "banned", "reason"), RULES, ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_downward_only(room: str, banned: tuple[str, ...], reason: str) -> None:
    files = files_below(room)
    assert files, f"{room} is not there: the rule guards nothing"
    broken = [
        f"{path.relative_to(ROOT)} imports {module}: {reason}"
        for path in files
        for module in imports_of(path)
        if any(is_in(module, prefix) for prefix in banned)
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
    assert {ROOT / "hub/mqttsn" / f"{name}.py" for name in ("codec", "wire", "client", "exchange")} < files
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
