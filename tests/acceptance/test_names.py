"""P9: a DNS server that does not answer is told by its name, and the hub goes on by itself once one does."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.hub import Hub
from tests.harness.waiting import wait_for


@pytest.mark.slow
def test_a_resolver_that_hangs_is_told_and_waited_for(tmp_path: Path, make_hub: Callable[..., Hub]) -> None:
    library, hangs = tmp_path / "slowname.so", tmp_path / "hangs"
    source = Path(__file__).parents[1] / "harness/slowname.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    hangs.touch()
    hub = make_hub()
    hub.env |= {"LD_PRELOAD": str(library), "SLOWNAME": str(hangs)}
    hub.start()
    wait_for("the condition", lambda: "uplink-dns" in hub.conditions(), timeout_s=120)
    assert "no DNS server answers" in hub.conditions()["uplink-dns"]
    said = hub.cli("doctor").stdout
    assert "no DNS server answers" in said, said
    hangs.unlink()
    wait_for("a session", lambda: hub.status()["uplink"]["state"] == "up", timeout_s=120)
    wait_for("no condition", lambda: "uplink-dns" not in hub.conditions())
