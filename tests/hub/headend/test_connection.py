"""The control point's connection, against a whole peer over TLS."""

from pathlib import Path

from deploy.pki import DevelopmentAuthority
from hub.headend.connection import BrokerConnection
from tests.harness.scripted_broker import Script, ScriptedBroker, connack_3
from tests.harness.waiting import wait_for


def test_orders_to_many_hubs_do_not_wait_for_the_brokers_answers_one_handful_at_a_time(tmp_path: Path) -> None:
    """Fifty thousand orders, each to one hub, over a line of 30 ms: with twenty under way over a minute."""
    authority = DevelopmentAuthority(tmp_path)
    authority.issue("broker", hosts=["localhost"])
    authority.issue("headend")
    broker = ScriptedBroker(authority, Script(connack_3(), delay_s=0.5))
    connection = BrokerConnection(
        "localhost", broker.port, authority.ca_file, tmp_path / "headend.pem", tmp_path / "headend.key", "control"
    )
    try:
        connection.start([])
        for number in range(300):
            connection.send(f"meters/MTR-{number}/commands", b"limit")
        wait_for("all of them", lambda: len(broker.publishes("/commands")) == 300)
        assert 60 < broker.unanswered[0] <= 100
    finally:
        connection.stop()
        broker.close()
