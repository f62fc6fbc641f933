"""An MQTT broker from PyPI (amqtt) over TLS, for demonstrations where mosquitto is not installed.

    python -m deploy.embedded_broker PORT PKI_DIRECTORY

It checks the certificates that clients show but does not insist on one, and keeps nothing over a restart: enough to
look at, not to test custody with.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any


async def serve(port: int, pki: Path) -> None:
    from amqtt.broker import Broker

    config: dict[str, Any] = {
        "listeners": {
            "default": {
                "type": "tcp",
                "bind": f"127.0.0.1:{port}",
                "ssl": True,
                "cafile": str(pki / "ca.pem"),
                "certfile": str(pki / "broker.pem"),
                "keyfile": str(pki / "broker.key"),
            }
        },
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = Broker(config)
    await broker.start()
    print("ready", flush=True)
    await stopping.wait()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
