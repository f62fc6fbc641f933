"""`make fleet ENGINE=...`, its story, short: over nats-server's cluster and over RabbitMQ. Of `make brokers`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.broker_nodes import RABBITMQ, nats_program
from tests.harness.folders import folder_until_exit
from tests.harness.memory import scratch

ROOT = Path(__file__).resolve().parents[2]
_PATH = "/usr/bin:/bin:/usr/sbin"


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "brokers"), [("nats", 3), ("rabbitmq", 2)])
def test_a_node_is_killed_and_nothing_is_lost(engine: str, brokers: int) -> None:
    assert nats_program() and RABBITMQ.exists() and shutil.which("haproxy", path=_PATH), "deploy/setup.sh brokers fleet"
    folder = folder_until_exit("mh-engine-", scratch())
    folder.chmod(0o711)  # root's PostgreSQL runs as somebody else
    words = [
        sys.executable,
        "-m",
        f"deploy.headend.fleet_{engine}",
        "--hubs",
        "12",
        "--brokers",
        str(brokers),
        "--once",
    ]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "TMPDIR": str(folder), "PATH": _PATH},
                          capture_output=True, text=True, timeout=500, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("13 of 13 hubs kept it to its end") == 2, "before and after the node's death"
    for name in ("missing", "given up by hubs", "not believed"):
        assert f"  {name:30} 0\n" in done.stdout
    taken = re.search(r"packs taken by worker-1 (\d+), worker-2 (\d+)\n", done.stdout)
    assert taken and min(map(int, taken.groups())) > 0, "each its own hubs', as neither broker divides"
    assert not list(folder.iterdir())
