"""What sleeps until somebody asks it for a name. In processes of their own: here everything is imported already."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str, *, path: str = "") -> str:
    """What a fresh interpreter prints; its last line on standard error when it fails."""
    begin = f"import sys; sys.path.insert(0, {path!r})\n" if path else "import sys\n"
    words = [sys.executable, "-c", begin + code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SLEEPS = "sleeps = lambda name: '__getattr__' in vars(sys.modules[name])\n"


def test_the_daemon_and_the_radio_stack_wake_nothing() -> None:
    code = SLEEPS + (
        "from drivers import lazy_imports as lean\n"
        "with lean.imports():\n    import hub.app.daemon\n"
        "import drivers.zigbee\n"
        "print(sorted(name for name in lean.POSTPONED if name in sys.modules and not sleeps(name)))\n"
        "print(sorted(lean.POSTPONED & sys.modules.keys()) == sorted(lean.POSTPONED - {'tempfile', 'zipfile'}))"
    )
    assert run(code) == "[]\nTrue", "and each of them is one that somebody would have imported"


def test_a_name_wakes_a_module_and_a_second_import_does_not() -> None:
    code = SLEEPS + (
        "from drivers import lazy_imports as lean\n"
        "with lean.imports():\n    import statistics\n"
        "import statistics\nprint(sleeps('statistics'), 'fractions' in sys.modules)\n"
        "from statistics import median\nprint(median([1, 5, 2]), sleeps('statistics'), 'fractions' in sys.modules)\n"
        "try:\n    statistics.nonsense\nexcept AttributeError as error:\n    print(error)"
    )
    assert run(code).splitlines() == [
        "True False", "2 False True", "module 'statistics' has no attribute 'nonsense'",
    ]  # fmt: skip


def test_what_is_not_there_is_not_found() -> None:
    code = (
        "from drivers import lazy_imports as lean\nlean.POSTPONED |= {'no_such_module'}\n"
        "with lean.imports():\n    try:\n        import no_such_module\n    except ModuleNotFoundError as error:\n"
        "        print(error)"
    )
    assert run(code) == "No module named 'no_such_module'"


def test_bellows_knows_its_version_and_metadata_is_whole_afterwards() -> None:
    code = (
        "import drivers.zigbee, bellows.zigbee.application as bellows\n"
        "seen = 'importlib.metadata' in sys.modules\n"
        "from importlib import metadata\n"
        "print(seen, bellows.LIB_VERSION == metadata.version('bellows'), len(metadata.requires('bellows')) > 0)"
    )
    assert run(code) == "False True True"


def test_a_version_that_no_folder_tells_is_asked_of_the_real_metadata(tmp_path: Path) -> None:
    (tmp_path / "odd.egg-info").mkdir()
    (tmp_path / "odd.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 3.4\n")
    code = (
        "from drivers import lazy_imports as lean\n"
        "with lean.imports():\n    import importlib.metadata\n    print(importlib.metadata.version('odd'))"
    )
    assert run(code, path=str(tmp_path)) == "3.4"


def test_a_radio_behind_telnet_is_still_to_be_had() -> None:
    code = (
        "from drivers import zigbee\nfrom drivers.zigbee.settings import zigpy_config\n"
        "from hub.app.config import RadioConfig\nfrom serialx.common import get_uri_handler\n"
        "zigpy_config(RadioConfig('rfc2217://radio:2217'), None)\n"
        "print(get_uri_handler('rfc2217://radio:2217').sync_cls.__name__)"
    )
    assert run(code) == "RFC2217Serial"


def test_a_cluster_that_sleeps_is_whole_when_it_is_asked_for() -> None:
    code = (
        "import drivers.zigbee\nfrom zigpy.zcl.clusters.closures import DoorLock\nfrom zigpy.zcl import Cluster\n"
        "print(DoorLock.cluster_id, Cluster._registry[DoorLock.cluster_id] is DoorLock)"
    )
    assert run(code) == "257 True"


def test_what_stands_in_for_a_module_leaves_it_asleep_and_its_work_is_the_real_ones() -> None:
    code = SLEEPS + (
        "import typing\nfrom drivers import lazy_imports as lean\n"
        "with lean.imports():\n    import drivers.zigbee\n    from email.utils import parseaddr\n"
        "    from typing_extensions import Buffer, Self\n"
        "print(Self is typing.Self, sleeps('typing_extensions'), sleeps('email.utils'))\n"
        "print(parseaddr('a <b@c.example>'), sleeps('email.utils'))\n"
        "import typing_extensions\nprint(typing_extensions.deprecated.__module__, sleeps('typing_extensions'))"
    )
    assert run(code).splitlines() == ["True True True", "('a', 'b@c.example') False", "typing_extensions False"]


def test_an_install_code_is_still_checked() -> None:
    code = SLEEPS + (
        "import drivers.zigbee\nfrom zigpy.util import convert_install_code\n"
        "print(sleeps('crccheck.crc'))\n"
        "code = bytes.fromhex('83FED3407A939723A5C639B26916D505C3B5')\n"
        "print(convert_install_code(code) is not None, sleeps('crccheck.crc'))\n"
        "try:\n    convert_install_code(code[:-1] + b'x')\nexcept ValueError as error:\n    print(error)"
    )
    first, second, third = run(code).splitlines()
    assert (first, second) == ("True", "True False") and "CRC" in third


def test_keys_of_openssh_sleep_and_are_whole_when_one_comes() -> None:
    code = SLEEPS + (
        "from drivers import lazy_imports as lean\n"
        "with lean.imports():\n    from cryptography.hazmat.primitives import serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ed25519\n"
        "name = 'cryptography.hazmat.primitives.serialization.ssh'\n"
        "print(sleeps(name))\n"
        "public = ed25519.Ed25519PrivateKey.generate().public_key()\n"
        "line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)\n"
        "print(serialization.load_ssh_public_key(line) == public, sleeps(name))"
    )
    assert run(code).splitlines() == ["True", "True False"]


def test_what_attrs_and_zigpy_bring_for_others_sleeps() -> None:
    names = ("attr.converters", "attr.filters", "attr.validators", "zigpy.ota.manager")
    code = SLEEPS + f"import drivers.zigbee\nprint(*[sleeps(name) for name in {names!r}])"
    assert run(code) == "True True True True"
