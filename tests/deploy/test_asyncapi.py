"""deploy/asyncapi.yaml says what the code does, and the official parser accepts it."""

import shutil
import subprocess
from pathlib import Path

import cbor2
import pytest
import yaml

from deploy import asyncapi
from hub.wire.uplink.args import ARGS, check_args
from hub.wire.uplink.command import ROLES, parse_command
from tests.harness.npm import install

HERE = Path(__file__).parent / "asyncapi"
INSTALLED = Path(__file__).parents[2] / ".cache" / "asyncapi"


def test_the_document_is_the_one_that_the_code_writes() -> None:
    assert asyncapi.FILE.read_text() == asyncapi.render(), "type: python -m deploy.asyncapi"


def test_every_operation_has_an_example_that_a_hub_would_take() -> None:
    assert list(asyncapi.ARGUMENTS) == list(ARGS) == list(ROLES)
    for op in ARGS:
        command = parse_command(asyncapi.command(op))
        assert command.op == op and check_args(op, command.args) == command.args


def test_examples_are_real_messages() -> None:
    components = yaml.safe_load(asyncapi.FILE.read_text())["components"]["messages"]
    shown = [example for message in components.values() for example in message.get("examples", ())]
    sealed = [example for example in shown if "summary" in example]
    assert len(sealed) >= len(ARGS) + 4
    for example in sealed:
        raw = bytes.fromhex(example["summary"].rpartition(" ")[2])
        assert cbor2.loads(raw).tag == 18 and asyncapi.opened(raw) == example["payload"]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the official parser needs it")
def test_the_official_parser_accepts_it(tmp_path: Path) -> None:
    install(HERE / "package.json", INSTALLED)
    done = _validate(asyncapi.FILE)
    assert done.returncode == 0 and done.stdout.startswith("valid 3.0.0"), done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(asyncapi.render().replace("action: send", "action: shout", 1))
    assert _validate(broken).returncode == 1


def _validate(file: Path) -> "subprocess.CompletedProcess[str]":
    command = ["node", str(HERE / "validate.js"), str(INSTALLED), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
