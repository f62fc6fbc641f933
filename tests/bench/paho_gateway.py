"""Raw forwards beside Eclipse Paho's gateway, in C++, over TLS, in the same run and by turns.

`.venv/bin/python -m tests.bench.paho_gateway PATH/TO/MQTT-SNGateway`; how to build it is in docs/figures.md. It hands
on without keeping anything: a session with the broker for each client, and a client's PUBACK is the broker's.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hub.bench.forward import Way, bench_forward
from hub.bench.peer import free_udp_port

FROM_PORT = 31_000
_MOST_CLIENTS = 100
_GATEWAY_TOPIC = 2  # of the bench's topics: the name as the client gave it


class PahoGateway:
    """One process of it, for so many clients at known ports: that is how it is told to use TLS for them."""

    def __init__(self, program: Path, directory: Path, broker_port: int) -> None:
        self.port = free_udp_port()
        place = directory / "paho"
        place.mkdir()
        (place / "clients.conf").write_text(
            "".join(f"bench-{n},127.0.0.1:{FROM_PORT + n},secureConnection\n" for n in range(_MOST_CLIENTS))
        )
        (place / "predefinedTopic.conf").write_text("")
        (place / "gateway.conf").write_text(
            "GatewayID=1\nGatewayName=bench\n"
            f"MaxNumberOfClients={_MOST_CLIENTS + 2}\nMaxInflightMsgs=10\nKeepAlive=60\nMQTTVersion=4\n"
            f"BrokerName=localhost\nBrokerPortNo={broker_port}\nBrokerSecurePortNo={broker_port}\n"
            f"RootCAfile={directory}/broker.pem\nCertKey={directory}/hub.pem\nPrivateKey={directory}/hub.key\n"
            "AggregatingGateway=NO\nQoS-1=NO\nForwarder=NO\nPredefinedTopic=NO\nClientAuthentication=YES\n"
            f"ClientsList={place}/clients.conf\nPredefinedTopicList={place}/predefinedTopic.conf\n"
            f"GatewayPortNo={self.port}\nMulticastPortNo={free_udp_port()}\nMulticastIP=225.1.1.1\nMulticastTTL=1\n"
            "ShearedMemory=NO\n"
        )
        self._process = subprocess.Popen(
            [program, "-f", str(place / "gateway.conf")],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def way(self) -> Way:
        return Way("paho", _GATEWAY_TOPIC, self._process.pid, self.port, True, FROM_PORT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paho_gateway", description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    started: list[PahoGateway] = []

    def others(directory: Path, broker_port: int) -> Sequence[Way]:
        started.append(PahoGateway(arguments.program, directory, broker_port))
        return [started[0].way()]

    try:
        json.dump(bench_forward(arguments.clients, arguments.seconds, others), sys.stdout, indent=1)
    finally:
        for gateway in started:
            gateway.stop()


if __name__ == "__main__":
    main()
