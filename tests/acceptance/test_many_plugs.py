"""An operator switches a home's plugs on, all in a moment: by the group that they are in, and each has its receipt. Off
is refused, for a limit as for a switch: a plug cannot come back by itself (promise P4)."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from drivers.zigbee.switching import FILE
from tests.harness.control_point import ControlPoint
from tests.harness.hub import Hub
from tests.harness.operator import Operator, cti_of, write_operators
from tests.harness.radio import Radio
from tests.harness.waiting import wait_for

GROUP = 0x4D48
PLUGS = [
    {"kind": "plug", "ieee": f"000d6f00000001{n:02x}", "name": f"p{n}", "appliance": "plain", "groups": [GROUP]}
    for n in range(8)
]
CLIENTS = [f"zb-{row['ieee']}" for row in PLUGS]


def test_all_plugs_are_switched_on(make_hub: Callable[..., Hub], control_point: ControlPoint, tmp_path: Path) -> None:
    operator = Operator("grid")
    file = write_operators(tmp_path / "operators.toml", operator)
    with contextlib.closing(Radio(PLUGS).start()) as radio:
        hub = make_hub(radio__path=str(radio.path), control__operators_file=str(file)).start()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_for("all plugs", lambda: sum("state" in row["quantities"] for row in _plugs(hub)) == len(PLUGS))
        assert "group" not in hub.status()["radio"]
        hub.stop()
        places = [f"{row['ieee']}:1" for row in PLUGS]
        kept = {"group": GROUP, "wanted": places, "may": dict.fromkeys(places, True), "retired": {}}
        kept |= {name: [] for name in ("clear", "refused", "foreign")}
        (hub.data_dir / FILE).write_text(json.dumps({"group": kept}))
        hub.start()
        hub.wait_uplink()
        wait_for("the radio again", lambda: hub.status()["radio"]["state"] == "up")
        wait_for("all plugs again", lambda: sum("state" in row["quantities"] for row in _plugs(hub)) == len(PLUGS))
        wait_for("their power", lambda: {row["client"] for row in hub.ask("limits")["appliances"]} >= set(CLIENTS))
        for row in PLUGS:
            radio.do("switch", device=row["name"], on=False)
        commands = [operator.command("switch", {"client": client, "on": True}) for client in CLIENTS]
        for command in commands:
            control_point.send(command)
        for command, row in zip(commands, PLUGS, strict=True):
            cti = cti_of(command)
            wait_for("its end", lambda cti=cti: control_point.receipts(cti)[-1:] not in ([], ["accepted"]))
            assert control_point.receipts(cti) == ["accepted", "completed"]
            assert radio.device(row["name"])["on"]
        group = hub.status()["radio"]["group"]
        assert group["members"] == CLIENTS and group["unconfirmed"] == 0
        print(group["frames"])
        line = next(line for line in hub.cli("radio", "info").stdout.splitlines() if line.startswith("group"))
        assert line.split(maxsplit=1)[1].startswith(f"0x4D48, 8 members: {CLIENTS[0]}, ")


def _plugs(hub: Hub) -> list[dict[str, object]]:
    return [row for row in hub.ask("adapters") if row["client"] in CLIENTS]
