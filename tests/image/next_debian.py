"""A board of one Debian becomes one of the next, by an update: `python -m tests.image.next_debian OLD NEW`.

OLD and NEW are builds with `--console-root`, of the same board and keys, NEW of a higher version (docs/next-debian.md).
The board is provisioned and started from OLD, lives a little, is updated over its uplink, and has to be the same hub.
"""

import argparse
import json
import tempfile
from pathlib import Path

from tests.harness.waiting import wait_for
from tests.image.site import Site
from tests.image.steps import assert_goes_on, bring_up


def _system(site: Site) -> str:
    return site.console.ask("cat /etc/debian_version; ls /usr/bin/python3.*; uname -r").replace("\n", ", ")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.image.next_debian", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args()
    version = json.loads((arguments.new / "manifest.json").read_text())["version"]
    with tempfile.TemporaryDirectory(prefix="next-") as folder:
        site = Site(Path(folder), arguments.old)
        try:
            bring_up(site)
            before, epoch = _system(site), site.states()[-1]["epoch"]
            network, known = site.status()["radio"]["pan_id"], len(site.states())
            key = site.console.ask("sha256sum /etc/meterhub/hub.key")
            mark = site.console.mark()
            cti = site.command_update(next((arguments.new / "update").glob("*.raucb")), version)
            site.wait_story(cti, "accepted", "applied", "completed", timeout_s=1200)
            site.console.log_in(mark)
            after = _system(site)
            assert before != after
            state = site.wait_online(known)
            assert state["epoch"] == epoch, "the store is the one of before"
            assert site.console.ask("sha256sum /etc/meterhub/hub.key") == key
            assert_goes_on(site)
            assert site.status()["radio"]["pan_id"] == network
            wait_for("the slot to be good", lambda: site.environment()["BOOT_B_LEFT"] == "3", 300, 2)
            print(f"before: {before}\nafter:  {after}\nstate:  {state}\nindex:  {site.environment().get('HUB_INDEX')}")
        finally:
            site.close()


if __name__ == "__main__":
    main()
