"""P8: `store.daily_write_mb` reaches the store: when the day's budget runs low, the hub says so and adapters wait."""

from collections.abc import Callable

import pytest

from tests.harness.hub import Hub
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for


def test_the_daily_write_budget_of_the_configuration_is_kept_and_survives_a_restart(
    make_hub: Callable[..., Hub],
) -> None:
    hub = make_hub(store__daily_write_mb=1).start()
    if hub.status()["store"]["written_source"] != "proc":
        pytest.skip("this kernel does not count the bytes that a process writes")
    assert not hub.status()["store"]["stretched"], "a new day's budget is whole"
    adapter = UdpAdapter(hub.udp_port, "boiler")
    assert adapter.connect() == 0
    for value in range(400):
        assert adapter.publish(0x0001, str(value).encode()) == 0
        if hub.status()["store"]["stretched"]:
            break
    status = hub.status()["store"]
    assert status["stretched"] and 0 < status["window_s"] <= 5
    assert "store.wear" in [event["event"] for event in hub.ask("events")]
    assert hub.stop() == 0
    hub.start()
    assert hub.status()["store"]["stretched"], "a restart is no new day"
    wait_for("the condition", lambda: "store-wear" in hub.conditions())
