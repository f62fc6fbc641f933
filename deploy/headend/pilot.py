"""`make headend`: the control point as a service on one machine, with a pilot's fleet: a broker, simulated hubs and
one real hub with an emulated home.

A development PKI, mosquitto with the access list of deploy/broker (an embedded broker where it is not there), the
service with its API and console, and hubs. A limit is ordered for all of them and followed until every hub has kept it;
the book is held against what hubs say they sent. Without --seconds it goes on until Ctrl-C.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.headend.access import new_secret
from deploy.headend.console_parts import trouble
from deploy.janitor import Janitor, end_groups
from deploy.local_broker import production_config
from deploy.parent import end_with_parent
from deploy.pki import DevelopmentAuthority
from deploy.waiting import free_port
from hub.wire.keys.operators import operator_entry

ROOT = Path(__file__).resolve().parents[2]
REAL = "MTR-PILOT-1"
KID = "pilot"
LIMIT_W, LIMIT_S = 1500, 5
_START_S = 60.0


class Failed(Exception):
    """The pilot cannot go on; the text says why."""


class Api:
    """Asks the service as a client of its API would."""

    def __init__(self, address: str, client_id: str, secret: str) -> None:
        self._address = address
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        self._token = ""
        self._token = self._ask("POST", "/oauth/token", urllib.parse.urlencode(form).encode())["access_token"]

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, said: dict[str, Any]) -> Any:
        return self._ask("POST", path, json.dumps(said).encode(), "application/json")

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
        request = urllib.request.Request(self._address + path, body, method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if kind:
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Pilot:
    """All parts, in a folder. `divides_by`: how packs are divided among workers, where there are some."""

    divides_by = "broker"

    def __init__(self, folder: Path, janitor: Janitor, hubs: int, port: int, brokers: int = 1) -> None:
        self._folder, self._janitor, self.hubs = folder, janitor, hubs
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._http_port = port or free_port()
        self.ports = [free_port() for _ in range(brokers)]
        self._broker_words: list[list[str]] = []
        self._broker_program = sys.executable
        self._broker_environments: list[dict[str, str]] = []
        self._protocol = "auto"  # of MQTT, with the brokers
        self._secrets: dict[str, str] = {}
        self._hubs_began = 0.0

    @property
    def names(self) -> list[str]:
        """Every hub's."""
        return [*(f"SIM-{number:05d}" for number in range(self.hubs)), REAL]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http_port}"

    def start(self, *, embedded: bool) -> None:
        self._make_keys()
        self._start_brokers(embedded=embedded)
        self._start_service()
        self._start_hubs()

    @property
    def _hub_ports(self) -> list[int]:
        """Where hubs go."""
        return self.ports

    def _service_lines(self) -> tuple[str, str]:
        """More lines of [service], and more tables."""
        return "", ""

    def _make_keys(self) -> None:
        pki = self._pki = self._folder / "pki"
        self._authority = DevelopmentAuthority(pki)
        (pki / "hubs").mkdir()
        (pki / "real").mkdir()
        self._known = self._folder / "known"  # what the service is given: certificates, no keys
        self._known.mkdir()
        self._authority.issue("broker", hosts=["localhost", "127.0.0.1"])
        self._authority.issue("headend")
        for name in self.names[:-1]:
            self._certify_hub(name, f"hubs/{name}")
        self._certify_real_hub()
        operator = ec.generate_private_key(ec.SECP256R1())
        self._operators = self._folder / "operators.toml"
        self._operators.write_text(
            operator_entry(KID, operator.public_key(), ["limit", "price", "read", "field", "admin"], "Pilot")
        )
        key_file = self._folder / "operator.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            operator.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        say("keys", "an authority; certificates for the broker, the service, hubs")

    def _certify_hub(self, name: str, file_name: str) -> None:
        """A key and its certificate, which the service gets to know."""
        certificate, _ = self._authority.issue(name, file_name=file_name)
        shutil.copy(certificate, self._known / f"{name}.pem")

    def _start_brokers(self, *, embedded: bool) -> None:
        mosquitto = None if embedded else shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        for number, port in enumerate(self.ports):
            if mosquitto is None:
                self._broker_words.append(["-m", "deploy.embedded_broker", str(port), str(self._pki)])
            else:
                self._broker_words.append(["-c", str(self._mosquitto_conf(self._folder / f"broker{number}", port))])
        self._broker_program = mosquitto or sys.executable
        for number in range(len(self.ports)):
            self.start_broker(number)
        each = "" if len(self.ports) == 1 else f"{len(self.ports)} times "
        if mosquitto is None:
            self._protocol = "3.1.1"  # amqtt says nothing to 5: a hub would find that out in half a minute
            say("broker", f"{each}embedded (amqtt); with mosquitto installed it is that")
        else:
            say("broker", f"{each}mosquitto, mutual TLS, each hub held to its own topics by its certificate's name")

    def _mosquitto_conf(self, place: Path, port: int) -> Path:
        return production_config(place, port, self._pki)

    def start_broker(self, number: int) -> None:
        """One of them, anew where it was killed."""
        name = f"broker{number}"
        environment = self._broker_environments[number] if self._broker_environments else {}
        self._spawn(name, *self._broker_words[number], program=self._broker_program, environment=environment)
        self.wait("the broker to listen", lambda: self._listens(self.ports[number]), 120)

    def kill_broker(self, number: int) -> None:
        """As a machine that dies."""
        self._kill(f"broker{number}")

    def _kill(self, name: str) -> None:
        child = self._children.pop(name)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    @staticmethod
    def _listens(port: int) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    @property
    def _broker_hosts(self) -> str:
        return json.dumps([f"localhost:{port}" for port in self._service_ports])

    @property
    def _service_ports(self) -> list[int]:
        """Where the service goes: to each of them."""
        return self.ports

    def _start_service(self) -> None:
        clients = ""
        for name, roles in (("desk", ["fleet", "usage", "control", "admin"]), ("second", ["fleet", "approve"])):
            self._secrets[name], digest = new_secret()
            clients += f'[client.{name}]\nsecret_sha256 = "{digest}"\nroles = {json.dumps(roles)}\n'
        self._write_service_config(clients)
        self._start_service_process()
        self._sign_in()
        absent = trouble()
        say(
            "service",
            f"{'API' if absent else 'console'} at {self.address}/  client desk, secret {self._secrets['desk']}",
        )
        if absent:
            say("no console", absent)

    def _sign_in(self) -> None:
        """A service that started again knows no token of before."""
        self.desk = Api(self.address, "desk", self._secrets["desk"])
        self.second = Api(self.address, "second", self._secrets["second"])

    def _write_service_config(self, clients: str) -> None:
        self._config = self._folder / "headend.toml"
        more, tables = self._service_lines()
        self._config.write_text(
            f'[service]\ndata_dir = "{self._folder}/headend"\nlisten = "127.0.0.1:{self._http_port}"\n{more}{tables}'
            f'[broker]\nhosts = {self._broker_hosts}\nca_file = "{self._pki}/ca.pem"\n'
            f'cert_file = "{self._pki}/headend.pem"\nkey_file = "{self._pki}/headend.key"\n'
            f'divides_by = "{self.divides_by}"\n'
            f'[operator]\nkid = "{KID}"\nkey_file = "{self._folder}/operator.key"\n'
            f'[registry]\ncertificates = "{self._folder}/known"\n'
            f"[policy]\nsecond_person_above = 10\ngap_after_s = 10\nbooked_every_s = 15\n{clients}"
        )

    def _start_service_process(self) -> None:
        self._spawn("service", "-m", "deploy.headend", "serve", str(self._config))
        self.wait("the service to answer", self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.address + "/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _certify_real_hub(self) -> None:
        self._certify_hub(REAL, "real/hub")

    def _start_hubs(self) -> None:
        self._hubs_began = time.monotonic()
        self._start_swarm()
        self._start_real_hub()

    def _start_swarm(self, *more: str, program: str = "deploy.fleet.swarm") -> None:
        if self.hubs:
            self._spawn(
                "swarm", "-m", program, "--ca", f"{self._pki}/ca.pem", "--hubs", f"{self._pki}/hubs",
                "--operators", str(self._operators), "--interval-s", "5", "--pack-s", "5", *more,
                "--brokers", *(f"localhost:{port}" for port in self._hub_ports),
            )  # fmt: skip

    def _start_real_hub(self, uplink: str = "") -> None:
        """`uplink`: more lines of that table of its configuration."""
        home = self._folder / "home.json"
        home.write_text(json.dumps(_HOME))
        pty = self._folder / "radio"
        self._spawn(
            "radio", "-m", "tests.emulators.serve", "--link", str(pty), "--home", str(home),
            "--state", str(self._folder / "ncp.json"), "--control", str(self._folder / "radio.sock"),
            "--baud", "115200",
        )  # fmt: skip
        self.wait("the radio", pty.exists)
        config = self._folder / "hub.toml"
        hosts = json.dumps([f"localhost:{port}" for port in self._hub_ports])
        config.write_text(
            f'[hub]\ndata_dir = "{self._folder}/data"\nrun_dir = "{self._folder}/run"\n[radio]\npath = "{pty}"\n'
            f'[uplink]\nhosts = {hosts}\nca_file = "{self._pki}/ca.pem"\n'
            f'cert_file = "{self._pki}/real/hub.pem"\nkey_file = "{self._pki}/real/hub.key"\npack_interval_s = 5\n'
            f'protocol = "{self._protocol}"\nboot_spread_s = 0\n{uplink}'
            f'[control]\noperators_file = "{self._operators}"\n'
        )
        self._spawn("hub", "-m", "hub", "run", "--config", str(config))
        words = [sys.executable, "-m", "hub", "radio", "permit", "--any", "--config", str(config)]
        self.wait("the real hub to let its home in", lambda: self._succeeds(words))
        say("hubs", f"{self.hubs} simulated, one real ({REAL}) with an emulated home on a radio")

    def _succeeds(self, words: list[str]) -> bool:
        return not subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode

    def _spawn(
        self, name: str, *arguments: str, program: str = sys.executable, environment: dict[str, str] | None = None
    ) -> None:  # fmt: skip
        with (self._folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [program, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=end_with_parent, env=os.environ | (environment or {}),
            )  # fmt: skip
        self._adopt(name, child)

    def _adopt(self, name: str, child: "subprocess.Popen[bytes]") -> None:
        self._janitor.watch(child.pid)
        self._children[name] = child

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def wait(self, what: str, condition: Callable[[], Any], timeout_s: float = _START_S) -> None:
        ends_at = time.monotonic() + timeout_s
        while not condition():
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise Failed(f"{name} ended by itself:\n{self._log(name)}")
            if time.monotonic() > ends_at:
                raise Failed(f"waited {timeout_s:.0f} s in vain for {what}")
            time.sleep(0.1)

    def tell(self) -> bool:
        """The story; True when nothing is missing and every hub answered."""
        wanted = self.hubs + 1
        self.wait("all hubs to be online", lambda: self.desk.get("/v1/fleet")["online"] >= wanted, 180)
        say(
            "online",
            f"{wanted} of {wanted} hubs after {time.monotonic() - self._hubs_began:.1f} s; their sessions stay open",
        )
        self.wait("readings of each hub", lambda: self.desk.get("/v1/fleet")["readings"] >= 2 * wanted, 120)
        return self.conclude(self.limit_all(wanted), wanted)

    def limit_all(self, wanted: int) -> str:
        """A limit to all of them, followed to its end; the order's id."""
        order = {
            "op": "limit",
            "args": {"watts": LIMIT_W, "duration": LIMIT_S},
            "target": {"all": True},
            "valid_s": 120,
        }
        made = self.desk.post("/v1/orders", order)
        if made["state"] == "waiting":
            say("order", f"limit {LIMIT_W} W for {LIMIT_S} s to all {made['hubs']} hubs: waits for a second person")
            self.second.post(f"/v1/orders/{made['id']}/approve", {})
        sent = time.monotonic()
        say("order", "approved and sent" if made["state"] == "waiting" else f"limit {LIMIT_W} W for {LIMIT_S} s sent")
        self._follow(made["id"], wanted, ("accepted", "applied", "partial", "completed"), sent, "obey")
        self._follow(made["id"], wanted, ("completed",), sent, "kept it to its end")
        return str(made["id"])

    def _follow(self, order_id: str, wanted: int, statuses: tuple[str, ...], sent: float, word: str) -> None:
        def reached() -> bool:
            counts = self.desk.get(f"/v1/orders/{order_id}?most=1")["counts"]
            return bool(sum(counts.get(status, 0) for status in statuses) >= wanted)

        self.wait(f"all hubs to {word}", reached, 120)
        say("limit", f"{wanted} of {wanted} hubs {word} after {time.monotonic() - sent:.1f} s")

    def missing(self) -> int:
        """How many numbers of all hubs are neither in the book nor given up."""
        count = 0
        for hub in self.desk.get("/v1/hubs?most=100000"):
            ends: dict[tuple[int, str], int] = {}
            rows = self.desk.get(f"/v1/hubs/{hub['hub']}/book")
            for row in sorted(rows, key=lambda row: (row["epoch"], row["lane"], row["first"])):
                lane = (row["epoch"], row["lane"])
                count += row["first"] - ends.get(lane, 0) - 1
                ends[lane] = row["last"]
        return count

    def conclude(self, order_id: str, wanted: int, more: dict[str, str] | None = None) -> bool:
        """The closing table; whether nothing is missing, lost or doubted and all kept the order."""
        fleet = self.desk.get("/v1/fleet")
        order = self.desk.get(f"/v1/orders/{order_id}?most=1")
        day = datetime.now(UTC).date()
        halves = self.desk.get(f"/v1/hubs/{REAL}/intervals?day={day}")
        lost = sum(
            row["last"] - row["first"] + 1
            for hub in self.desk.get("/v1/hubs?most=100000")
            for row in self.desk.get(f"/v1/hubs/{hub['hub']}/book")
            if row["is_lost"]
        )
        missing = self.missing()
        rows = [
            ("hubs online", f"{fleet['online']} of {wanted}"), ("messages in the book", fleet["messages"]),
            ("readings", fleet["readings"]), ("missing", missing), ("given up by hubs", lost),
            ("not believed", fleet["faults"]),
            ("chains of receipts broken", fleet["chains_broken"]),
            ("limit kept by", f"{order['counts'].get('completed', 0)} of {wanted}"),
            ("half-hours of the real hub", len(halves)), *(more or {}).items(),
        ]  # fmt: skip
        print()
        for name, value in rows:
            print(f"  {name:30} {value}")
        kept = int(order["counts"].get("completed", 0))
        return not (missing or lost or fleet["faults"] or fleet["chains_broken"]) and kept == wanted

    def stop(self) -> None:
        def reap() -> None:
            for child in self._children.values():
                child.poll()

        end_groups([child.pid for child in reversed(self._children.values())], reap=reap)


_HOME = {
    "seed": 1,
    "devices": [{"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "boiler", "name": "Boiler",
                 "period_s": 5, "appliance": {"kind": "boiler", "nominal_w": 2000}}],
}  # fmt: skip


def say(what: str, text: str) -> None:
    print(f"{what:9} {text}", flush=True)


def run(pilot: Pilot, *, embedded: bool, once: bool) -> bool:
    """Start all of it, tell the story, go on until Ctrl-C unless `once`; whether it went well."""
    is_fine = False
    try:
        pilot.start(embedded=embedded)
        is_fine = pilot.tell()
        if not once:
            print("\nIt goes on until Ctrl-C.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except (Failed, urllib.error.URLError) as error:
        print(f"headend: {error}", file=sys.stderr)
    finally:
        pilot.stop()
    return is_fine


def story_parser(name: str, about: str, *, hubs: int, brokers: int) -> argparse.ArgumentParser:
    """The command line of a story."""
    parser = argparse.ArgumentParser(prog=f"python -m deploy.headend.{name}", description=about)
    parser.add_argument("--hubs", type=int, default=hubs, help="simulated ones (default: %(default)s)")
    parser.add_argument("--brokers", type=int, default=brokers, help="(default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of API and console (default: a free one)")
    parser.add_argument("--embedded", action="store_true", help="embedded brokers though mosquitto is there")
    parser.add_argument("--once", action="store_true", help="end after the story")
    return parser


def live(kind: type[Pilot], name: str, about: str, *, hubs: int, brokers: int) -> int:
    """A story by its command line. The exit status."""
    return live_as(kind, story_parser(name, about, hubs=hubs, brokers=brokers).parse_args())


def live_once(kind: Callable[..., Pilot], parser: argparse.ArgumentParser, *options: str) -> int:
    """A story that ends by itself and has options of its own, which `kind` is given by name. The exit status."""
    arguments = parser.parse_args()
    arguments.once = True
    return live_as(kind, arguments, **{name: getattr(arguments, name) for name in options})


def live_as(kind: Callable[..., Pilot], arguments: argparse.Namespace, **options: Any) -> int:
    """In a folder that goes with it, whatever ends it. The exit status."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="mh-pilot-"))
    janitor = Janitor(folder)
    try:
        pilot = kind(folder, janitor, arguments.hubs, arguments.port, arguments.brokers, **options)
        return 0 if run(pilot, embedded=arguments.embedded, once=arguments.once) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        janitor.dismiss()


if __name__ == "__main__":
    sys.exit(live(Pilot, "pilot", __doc__ or "", hubs=100, brokers=1))
