"""The README tells the truth: what it names is there, what it types is accepted."""

import re
import shlex
from pathlib import Path

import pytest

from hub.app.config import load_config
from hub.cli.main import VERBS, build_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"`(?:\.venv/bin/)?meterhub ([^`]+)`", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_meterhub_command_is_accepted(command: str) -> None:
    words = shlex.split(command)
    assert words[0] in VERBS
    build_parser([words[0]]).parse_args(words)  # SystemExit when it is wrong usage


def test_every_make_target_is_there_and_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE))
    assert named <= targets
    assert {"run", "test", "check", "soak", "bench"} <= named


def test_every_file_it_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README + (ROOT / "CONTRIBUTING.md").read_text()):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:hub|drivers|store|tests|deploy)/[A-Za-z0-9_/.]*)`", README):
        assert (ROOT / name).exists(), name


def test_its_configuration_is_a_good_one(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert found is not None
    file = tmp_path / "hub.toml"
    file.write_text(found.group(1))
    assert load_config(file).uplink.hosts == (("localhost", 8883),)
