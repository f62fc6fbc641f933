"""Keeps out of memory what libraries import beside what a hub uses of them.

While `imports()` lasts, the modules of POSTPONED are found where they are, but their code does not run before somebody
asks them for a name (PEP 562). Nothing of the libraries is changed, and nothing is missing if a later version needs
such a module early: it only costs the memory again. importlib's own LazyLoader would not do: a second import of the
same module, or a look through sys.modules, wakes what it has put to sleep.

What a running hub does without is guarded by tests/acceptance/test_diet.py; what each is worth: deploy/README.md.
"""

import importlib
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

POSTPONED = frozenset(
    {
        "zigpy.ota.providers",  # aiohttp and jsonschema: firmware of devices, from the Internet
        "zigpy.appdb_schemas",  # importlib.resources: for a new database, or an old one
        "tempfile",  # and what that brings to it
        "zipfile",
        # Clusters of which drivers/zigbee/measures.py takes nothing: that a device has one is known by its number.
        "zigpy.zcl.clusters.closures",
        "zigpy.zcl.clusters.hvac",
        "zigpy.zcl.clusters.lighting",
        "zigpy.zcl.clusters.lightlink",
        "zigpy.zcl.clusters.manufacturer_specific",
        "zigpy.zcl.clusters.measurement",
        "zigpy.zcl.clusters.protocol",
        "zigpy.zcl.clusters.security",
        "zigpy.zcl.clusters.wwah",
        "serialx.platforms.serial_rfc2217",  # a serial port over Telnet: drivers/zigbee/settings.py wakes it
        "statistics",  # bellows' energy scan
        "urllib.request",  # http.client, email: paho's proxies for WebSockets
        "tokenize",  # inspect's and traceback's source code
        "locale",  # half a megabyte of names: what a child process prints
        "uuid",  # paho's names for clients that have none
        "typing_extensions",  # serialx: names of types, which typing has
        "email.utils",  # cryptography: one function, for e-mail addresses in certificates
        "crccheck.crc",  # zigpy: one of a hundred classes, for install codes
        "attr.converters",
        "attr.filters",
        "attr.validators",  # what nobody's class here asks for
        "attrs.converters",
        "attrs.filters",
        "attrs.validators",
        "cryptography.hazmat.primitives.serialization.ssh",  # keys of OpenSSH, and the ciphers of those
        "zigpy.ota.manager",  # firmware of devices: hub.wire.zigbee.ota does that here
    }
)
Stand = Callable[[str, Callable[[str], Any]], Any]  # name, who wakes the module for a name -> what will do, or None


class _TypedDict(dict[str, Any]):
    """A dictionary at run time, as any TypedDict is; typing's own takes no `extra_items` (PEP 728) yet."""

    def __init_subclass__(cls, **_what_a_type_checker_reads: Any) -> None:
        pass


def _of_typing(name: str, _wake: Callable[[str], Any]) -> Any:
    """What serialx and cryptography write types with. Nothing else: typing has names that can do less than
    their namesakes here (a TypeVar with a default, before 3.13), so who asks for those gets the real ones."""
    if name in ("LiteralString", "NotRequired", "Self", "Unpack", "dataclass_transform"):
        return getattr(typing, name)
    return {"Buffer": object, "TypedDict": _TypedDict}.get(name)  # before 3.12 typing has no type of buffers


def _once_called(only: str) -> Stand:
    """For a module of which one function or class is used, and seldom: it wakes when that is called."""
    return lambda name, wake: (lambda *arguments: wake(name)(*arguments)) if name == only else None


def _all_once_called(name: str, wake: Callable[[str], Any]) -> Any:
    """For a module whose names are handed on and not used."""
    return lambda *arguments, **named: wake(name)(*arguments, **named)


# Modules of POSTPONED that are asked for names while the libraries are imported, and what may be given instead.
STAND_INS: dict[str, Stand] = {
    "cryptography.hazmat.primitives.serialization.ssh": _all_once_called,
    "zigpy.ota.manager": _once_called("update_firmware"),
    "typing_extensions": _of_typing, "email.utils": _once_called("parseaddr"), "crccheck.crc": _once_called("CrcX25"),
}  # fmt: skip
_METADATA = "importlib.metadata"


# importlib.abc, which has the types of these, brings importlib.resources and all that is behind it.
class _Postponing:
    """Finds the modules of POSTPONED where they are, and defers their code."""

    def __init__(self) -> None:
        self._has_stood_in = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _METADATA and not self._has_stood_in:  # asked again, it is for the real one
            self._has_stood_in = True
            loader: Any = _VersionOnly()
            return ModuleSpec(fullname, loader)
        if fullname not in POSTPONED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            later: Any = _Later(spec.loader)
            spec.loader = later
        return spec


class _Later:
    """Loads as `loader` does, once somebody asks the module for a name."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # what else a loader can be asked: the source for a traceback
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        lock, state = threading.RLock(), ["asleep"]

        def ask(name: str) -> Any:
            stand_in = STAND_INS.get(module.__name__)
            if stand_in is not None and state[0] == "asleep":
                if name.startswith("__"):  # "from" asks every module whether it is a package
                    raise AttributeError(name)
                if (found := stand_in(name, wake)) is not None:
                    return found
            return wake(name)

        def wake(name: str) -> Any:
            with lock:
                if state[0] == "asleep":
                    state[0] = "waking"  # what its own code asks meanwhile is there, or is not
                    with imports():
                        self._loader.exec_module(module)
                    del module.__getattr__
            try:
                return module.__dict__[name]
            except KeyError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None

        module.__getattr__ = ask  # type: ignore[method-assign]


class _VersionOnly:
    """Makes an importlib.metadata that answers the one question bellows asks while it is imported: its own version.
    The real one reads it with zipfile, csv and the parser of e-mails."""

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module will do."""

    def exec_module(self, module: ModuleType) -> None:
        module.version = _version  # type: ignore[attr-defined]


def _version(name: str) -> str:
    """A distribution's version, as the folder of its metadata is called (PyPA: recording installed projects)."""
    for place in sys.path:
        for folder in Path(place).glob(f"{name.replace('-', '_')}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").partition("-")[2]
    _forget_metadata()
    return str(importlib.import_module(_METADATA).version(name))


def _forget_metadata() -> None:
    """Whoever asks after us gets the real one."""
    module = sys.modules.get(_METADATA)
    if module is not None and getattr(module, "version", None) is _version:
        del sys.modules[_METADATA]
        if getattr(importlib, "metadata", None) is module:
            del importlib.metadata


@contextmanager
def imports() -> Iterator[None]:
    """What is imported inside leaves the modules of POSTPONED for later."""
    finder = _Postponing()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _forget_metadata()
