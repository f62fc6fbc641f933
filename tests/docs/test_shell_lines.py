"""Shell lines of the documents that are neither `meterhub` nor `make` nor `python -m` are run, or have a reason.

What those three take is looked at in test_pages.py.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.broker import MOSQUITTO
from tests.harness.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_OTHERS = ("meterhub", "make", "python", "python3")
# Lines that no test of this file runs: page, how it begins, and the reason.
NOT_HERE: dict[tuple[str, str], str] = {("docs/factory.md", "dd if=BUILD/"): "it writes to a board's eMMC"}
# Pages that another test types from beginning to end.
ELSEWHERE = {"docs/field-engineer.md": "tests/acceptance/test_field_story.py"}
# Run below, in the order of the page.
RUN = {
    "docs/integrator.md": [
        "install -d /etc/mosquitto/meterhub",
        "install -m 644 deploy/broker/mosquitto.conf deploy/broker/acl /etc/mosquitto/meterhub/",
        "mosquitto -c /etc/mosquitto/meterhub/mosquitto.conf",
    ]
}


def shell_lines(text: str) -> list[str]:
    """What is typed in a page's blocks: indented by four, or fenced as sh or console; continued lines are one."""
    text = re.sub(r"```(?!sh\b|console\b|bash\b).*?```", "", text, flags=re.DOTALL)  # drawings, TOML, output
    found: list[str] = []
    blocks = r"(?:(?<=\n\n)|\A)((?: {4}\S[^\n]*\n)+)|```(sh|console|bash)\n(.*?)```"
    for indented, fence, fenced in re.findall(blocks, text, re.DOTALL):
        lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", indented or fenced).splitlines() if line.strip()]
        if fence == "console":  # what is typed has a prompt before it, the rest is what came
            lines = [line for line in lines if line.startswith("$ ")]
        found += [line.removeprefix("$ ") for line in lines]
    return found


def is_of_others(line: str) -> bool:
    words = shlex.split(line, comments=True)
    return not words or os.path.basename(words[0]) in _OTHERS


def test_every_shell_line_is_run_or_has_a_reason() -> None:
    loose = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        if name in ELSEWHERE:
            assert (ROOT / ELSEWHERE[name]).exists()
            continue
        for line in shell_lines(page.read_text("utf-8")):
            has_reason = any(name == where and line.startswith(how) for where, how in NOT_HERE)
            if not is_of_others(line) and line not in RUN.get(name, ()) and not has_reason:
                loose.append(f"{name}: {line}")
    assert not loose, "\n".join(loose)


def test_what_is_run_stands_there() -> None:
    for name, lines in RUN.items():
        there = [line for line in shell_lines((ROOT / name).read_text("utf-8")) if not is_of_others(line)]
        assert there == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Say:\n\n    one --two\n    three\n\nand\n", ["one --two", "three"]),
        ("```sh\n$ one \\\n  two\n```\n", ["one  two"]),
        ("```console\n$ one\nwhat's said\n$ two\n```\n", ["one", "two"]),
        ("```\n    a drawing\n```\n\n```toml\na = 1\n```\n", []),
        ("- a list\n    that goes on\n", []),
    ],
)
def test_lines_are_found(text: str, lines: list[str]) -> None:
    assert shell_lines(text) == lines


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not here")
def test_the_broker_of_the_integrators_page_starts(tmp_path: Path) -> None:
    """Line by line; /etc and the port are others here, and the certificates are those of the page's own trial."""
    etc, port = tmp_path / "etc", free_port()
    made = subprocess.run(
        [sys.executable, "-m", "deploy.pki", str(tmp_path / "pki"), "--hub", "MTR-0001"], cwd=ROOT, capture_output=True
    )
    assert made.returncode == 0, made.stderr
    install, copy, start = [line.replace("/etc/mosquitto", str(etc)) for line in RUN["docs/integrator.md"]]
    for line in (install, copy):
        subprocess.run(line, shell=True, cwd=ROOT, check=True)
    folder = etc / "meterhub"
    for name in ("ca.pem", "broker.pem", "broker.key"):
        shutil.copy(tmp_path / "pki" / name, folder)
    conf = folder / "mosquitto.conf"
    text = conf.read_text().replace("/etc/mosquitto", str(etc)).replace("8883", str(port))
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/")
    conf.write_text(text + ("user root\n" if os.geteuid() == 0 and "\nuser " not in text else ""))
    command = [str(MOSQUITTO), *shlex.split(start)[1:]]
    broker = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:

        def listens() -> bool:
            assert broker.poll() is None, broker.communicate()[0]
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0

        wait_for("mosquitto to listen", listens)
    finally:
        broker.kill()
        broker.communicate()
