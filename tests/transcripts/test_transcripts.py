"""Every verb of the command line in good states and broken ones: what it prints, compared with a file.

`make golden` writes the files anew. Whatever the state: no traceback, no Python repr, no None, no control character.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deploy.pki import DevelopmentAuthority
from hub.cli.main import VERBS
from tests.emulators.meter import Meter
from tests.harness.broker import Broker
from tests.harness.control_point import ControlPoint
from tests.harness.hub import ROOT, Hub
from tests.harness.operator import Operator, write_operators
from tests.harness.radio import Radio
from tests.harness.udp import UdpAdapter
from tests.harness.waiting import wait_for
from tests.transcripts.schemas import SCHEMAS, faults_of

HERE = Path(__file__).parent
IS_WRITING = os.environ.get("METERHUB_GOLDEN") == "write"
PLUG = "000d6f0000000001"
DEVICES = [
    {"kind": "adapter", "ieee": "00:0d:6f:00:00:00:00:02", "client_id": "charger", "period_s": 1, "appliance": "boiler"}
]
HOSTILE = b"hot\x1b[31m\x07 \xe2\x80\xae\xff"


class Said(NamedTuple):
    status: int
    out: str
    err: str


class Case(NamedTuple):
    """One command in one state; `words` may name {dir} and {pki}."""

    state: str
    name: str
    words: str

    @property
    def file(self) -> Path:
        return HERE / self.state / f"{self.name}.txt"


_ASKED = (
    "status", "adapters", "queue", "uplink", "readings", "readings --format csv", "readings --plot", "events", "limits",
    "operators list", "radio info", "meter", "doctor", "adapters --wide --sort seen",
    "events --since 10m --event hub", "readings --by-day", "config show", "top --rounds 1", "queue --plot",
    "limits --plot",
)  # fmt: skip
_WITH_JSON = (
    "status", "adapters", "queue", "uplink", "readings", "events", "limits", "operators list", "radio info", "meter",
    "doctor",
)  # fmt: skip
_DOES = (
    "reload", "check-config", "adapters forget nobody", "radio permit --seconds 5",
    "radio permit --any --seconds 5", "radio permit --any --seconds 999",
    "radio scan", "radio map", "radio backup --out {dir}/STATE.network", "radio remove 0000000000000009",
    "radio restore {dir}/nothing", "trace --count 1 --side han --client charger", "trace --seconds 0.1",
    "bundle --out {dir}/STATE.bundle", "bundle --out {dir}/no/such/folder/x", "factory-reset",
    "operators recover {dir}/nothing", "operators recover {dir}/rubbish",
)  # fmt: skip
_BROKER = "--host localhost --port PORT --ca {pki}/ca.pem --cert {pki}/headend.pem"
_SEND = f"{_BROKER} --cert-key {{pki}}/headend.key --key {{dir}}/op.key --kid op"


_WATCH = f"{_BROKER} --key {{pki}}/headend.key --hub-cert {{pki}}/hub.pem --save {{dir}}/archive"
_KEEP = f"{_BROKER} --cert-key {{pki}}/headend.key --hub-cert {{pki}}/hub.pem"


def _cases() -> Iterator[Case]:
    def each(state: str, commands: Any) -> Iterator[Case]:
        for words in commands:
            yield Case(state, re.sub(r"[^a-z0-9-]+", "-", words.replace("{dir}/", "")[:60].lower()).strip("-"), words)

    yield from each("live", (*_ASKED, *_DOES))
    yield from each("live", (f"{words} --json" for words in _WITH_JSON))
    yield from each(
        "live",
        (
            f"headend send limit.cancel --to MTR-1 --wait final --hub-cert {{pki}}/hub.pem {_SEND}",
            f"headend send limit --to MTR-1 {_SEND}",
            f"headend send nothing --to MTR-1 {_SEND}",
            f"headend watch --seconds 1 {_WATCH}",
            f"headend keep --seconds 1 --book {{dir}}/book --key {{dir}}/op.key --kid op {_KEEP}",
            "headend keygen second --roles limit,price --out {dir}",
            "headend keygen third --roles king --out {dir}",
            "headend audit {dir}/nothing --hub-cert {pki}/hub.pem",
            "headend audit {dir}/rubbish --hub-cert {pki}/hub.pem",
            "run",
        ),
    )
    yield from each("no-broker", ("status", "uplink", "queue", "doctor", "limits", "status --json", "doctor --json"))
    yield from each(
        "no-broker", (f"headend send limit.cancel --to MTR-1 {_SEND}", f"headend watch --seconds 1 {_WATCH}")
    )
    yield from each("stopped", (*_ASKED, *_DOES, "queue --json", "events --json", "readings --json", "doctor --json"))
    yield from each("stopped", ("slots-helper --folder {dir}/no-such-folder",))
    # The last of this state, since it forgets: what a factory reset leaves is looked at in `empty`.
    with_bundle = (
        "status", "adapters", "queue", "events", "doctor", "readings", "uplink", "limits", "meter", "radio info",
    )  # fmt: skip
    yield from each("bundle", (f"{words} --bundle {{dir}}/live.bundle" for words in with_bundle))
    yield from each("bundle", (f"{words} --bundle {{dir}}/rubbish" for words in with_bundle))
    yield from each("bundle", ("status --json --bundle {dir}/live.bundle", "status --bundle {dir}/nothing"))
    yield from each("empty", ("factory-reset --now --yes", "queue", "events", "readings", "status", "doctor"))
    for name in BROKEN:
        yield Case("broken", name, f"check-config {{dir}}/{name}.toml")
    yield from each("broken", ("status", "doctor", "queue", "run", "bundle", "radio info", "reload"))
    yield from each("broken", ("nonsense", "readings --from yesterday", "radio", "headend", "bench", "trace --side up"))
    yield from each("broken", ("statsu", "config", "config init", "config show", "bundle --decode {dir}/rubbish"))


def _good(text: str) -> str:
    return text


BROKEN: dict[str, Callable[[str], str]] = {
    "fine": _good,
    "unknown-key": lambda text: text.replace("[uplink]", "[uplink]\ncolour = 1"),
    "unknown-table": lambda text: text + "\n[colour]\nred = 1\n",
    "wrong-type": lambda text: text.replace("[uplink]", '[uplink]\nkeepalive_s = "long"'),
    "not-toml": lambda text: text + "\n[uplink\n",
    "control-characters": lambda text: text.replace("[uplink]", '[uplink]\n"\\u001b[31m" = 1'),
    "hostile-value": lambda text: text.replace("[uplink]", '[uplink]\nprotocol = "\\u001b[31m\\u0007"'),
    "port-in-host": lambda text: text.replace('host = "localhost"', 'host = "localhost:8883"'),
    "no-certificate": lambda text: text.replace("hub.pem", "nothing.pem"),
    "no-key": lambda text: text.replace("hub.key", "nothing.key"),
    "open-key": lambda text: text.replace("hub.key", "open.key"),
    "foreign-key": lambda text: text.replace("hub.key", "headend.key"),
    "no-uplink": lambda text: text.partition("[uplink]")[0],
    "wrong-name": lambda text: text.replace("[hub]", '[hub]\nid = "ANOTHER"'),
    "bad-operators": lambda text: text + '\n[control]\noperators_file = "{dir}/rubbish"\n',
    "empty-path": lambda text: text + '\n[meter]\npath = ""\n',
}
CASES = list(_cases())


class Heater(UdpAdapter):
    """An adapter that goes on acknowledging its orders, as one that is well does."""

    def go_on(self) -> None:
        threading.Thread(target=self._acknowledge, daemon=True).start()

    def _acknowledge(self) -> None:
        self.sock.settimeout(None)
        with contextlib.suppress(OSError):
            while True:
                kind, body = self.receive()
                if kind == 0x0C:
                    self.send(0x0D, body[1:5] + b"\x00")


class Stage:
    """Real parts, led through the states in their order; each command runs once, and what it said is kept."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.said: dict[tuple[str, str], Said] = {}
        self.authority = DevelopmentAuthority(directory / "pki")
        self.authority.issue("broker", hosts=["localhost", "127.0.0.1"])
        self.authority.issue("MTR-1", file_name="hub")
        self.authority.issue("headend")
        (directory / "rubbish").write_bytes(b"\x00\x1b[31mrubbish")
        self.port = 0

    def play(self) -> None:
        directory = self.dir
        broker = Broker(directory / "broker", self.authority).start()
        self.port = broker.port
        self._run("headend keygen op --roles limit,price,read,field,admin --out {dir}", None)
        operator = Operator("grid")
        operators = write_operators(directory / "operators.toml", operator)
        operators.write_text(operators.read_text() + (directory / "op.toml").read_text())
        meter = Meter(directory / "tty", "p1", power_w=1200).start()
        radio = Radio(DEVICES).start()
        point = ControlPoint(self.authority.directory, broker.port)
        hub = Hub(
            directory / "hub", self.authority, broker.port, radio__path=str(radio.path),
            control__operators_file=str(operators), meter__path=str(meter.link), meter__protocol="p1",
            uplink__retry_cap_s=1,
        ).start()  # fmt: skip
        try:
            self.config = hub.config
            heater = self._bring_to_life(hub, point, operator)
            self._play_state("live")
            broker.kill()
            wait_for("the loss", lambda: set(hub.conditions()) == {"uplink-unreachable"})
            self._play_state("no-broker")
            heater.close()
            hub.stop()
            self._play_state("stopped")
            self._play_state("bundle")
            self._play_state("empty")
        finally:
            hub.kill()
            point.stop()
            radio.close()
            meter.stop()
            broker.stop()
        self._break()
        self._play_state("broken")

    def _bring_to_life(self, hub: Hub, point: ControlPoint, operator: Operator) -> Heater:
        """An uplink, a radio's appliance, an adapter with a hostile tongue, a limit and an order that hold."""
        hub.wait_uplink()
        heater = Heater(hub.udp_port, "heater")
        assert heater.connect(duration_s=600) == 0
        heater.publish(0x0020, b'{"class":"water-heater","nominal_w":2000,"name":"\\u001b[31mBoiler"}')
        heater.send(0x12, b"\x21" + heater.next_msg_id().to_bytes(2, "big") + b"\x00\x30")
        heater.expect(0x13)
        heater.publish(0x0001, b"2000")
        heater.publish(0x0021, HOSTILE)
        heater.publish(0x0001, b"no number")
        heater.go_on()
        wait_for("the radio", lambda: hub.status()["radio"]["state"] == "up")
        hub.ask("radio.permit", duration_s=60)
        wait_for("the charger", lambda: point.values("charger"))
        wait_for("the meter", lambda: hub.status()["meter"]["state"] == "up")
        point.send(operator.command("switch", {"client": "heater", "on": False, "duration": 3600}))
        point.send(operator.command("limit", {"watts": 9000, "duration": 3600}))
        wait_for("both", lambda: len(hub.ask("limits")["limits"]) == 1 and len(hub.ask("limits")["orders"]) == 1)
        wait_for("no condition but the refusals", lambda: not hub.conditions())
        return heater

    def _break(self) -> None:
        """Configurations that cannot be used; and the hub's own, without its key."""
        text = self.config.read_text()
        key = self.authority.directory / "open.key"
        key.write_bytes((self.authority.directory / "hub.key").read_bytes())
        key.chmod(0o644)
        for name, change in BROKEN.items():
            clean = re.sub(r"\[(control|meter|radio)\]\n(?:[^\[\n].*\n)*", "", text)
            (self.dir / f"{name}.toml").write_text(change(clean).replace("{dir}", str(self.dir)))
        self.config = self.dir / "unknown-key.toml"

    def _play_state(self, state: str) -> None:
        for case in CASES:
            if case.state == state:
                words = case.words.replace("STATE", state).replace("PORT", str(self.port))
                self.said[case.state, case.name] = self._run(words, self.config)

    def _run(self, words: str, config: Path | None) -> Said:
        typed = [word.format(dir=self.dir, pki=self.authority.directory) for word in words.split()]
        env = {**os.environ, "COLUMNS": "80", "LANG": "C.UTF-8", "METERHUB_CONFIG": str(config or "")}
        env.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "hub", *typed]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
        )
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    stage.play()
    return stage


# What differs from run to run -> the word that stands for it. In this order.
_PLACEHOLDERS: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00)", "<time>"),
    (r"\d{4}-\d\d-\d\d", "<date>"),
    (r"\d\d:\d\d:\d\d\.\d{3}", "<time>"),
    (r"/tmp/mh-[^\s/:;,]+", "<run>"),
    (r"/dev/pts/\d+", "<tty>"),
    (r"\b[0-9a-f]{32}\b", "<cti>"),
    (r"\b0x[0-9A-F]{4}\b", "<pan>"),
    (r"\b(?!0{15})[0-9a-f]{16}\b", "<ieee>"),
    (r"\b[\d.]+ (B|KiB|MiB|GiB)\b", "<size>"),
    (r"TLSv1\.\d", "<tls>"),
    (r"TLS_[A-Z0-9_]+", "<cipher>"),
    (r"\b0\.\d+\.\d+\b", "<version>"),
)
# A line of text that is the same but for its numbers. Not in `broken`: there each number is part of a sentence.
# Lengths of time have one unit or two.
_SPAN = re.compile(r"(?<![\w<.\[-])(?:\d+ (?:d|h|min|s)(?: (?=\d)|(?=\W)))+|(?<![\w<.\[-])(?:\d+[dhm])?\d+[dhms](?=\W)")
_NUMBER = re.compile(r"(?<![\w<-])-?\d+(?:\.\d+)?(?![\w>])")


def normal(case: Case, text: str, directory: Path) -> str:
    """The text with placeholders for what differs from run to run."""
    text = text.replace(str(directory), "<dir>").replace(sys.executable, "python")
    for pattern, word in _PLACEHOLDERS:
        text = re.sub(pattern, word, text)
    # Said on a machine so busy that an answer takes two seconds.
    text = text.replace("meterhub: the hub is looking: this takes its time\n", "")
    # What argparse says of usage is worded otherwise in each version of Python; what is wrong is not.
    text = re.sub(r"usage: .*?^(?=meterhub[\w -]*: error:)", "usage: ...\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\(choose from [^)]*\)", lambda found: found[0].replace("'", ""), text)
    if case.state != "broken":
        text = _SPAN.sub("<span>", text)
        text = _NUMBER.sub("<n>", text)
        text = re.sub(r"(?m) +clock not synchronised$", "", text)  # as this machine's is, at this moment
        text = re.sub(r"(?<=\S) {2,}", "  ", text)
        # Known only after a while.
        text = re.sub(r"too few to tell|<n>% of the last", "<share>", text)
        text = re.sub(r"too early to say|about <n> MB at this pace", "<pace>", text)
    return text


def transcript(case: Case, said: Said, directory: Path) -> str:
    """One file: what was typed, what came, the exit status. Rows that are the same but for their numbers stand once."""
    text = f"$ meterhub {case.words}\n{normal(case, said.out, directory)}"
    if err := normal(case, said.err, directory):
        text += "--- standard error\n" + err
    first, *rest = text.rstrip("\n").split("\n")
    lines = list(dict.fromkeys(rest)) if case.state != "broken" else rest
    if case.words.startswith(_IN_ANY_ORDER):
        lines.sort()
    return "\n".join([first, *lines, f"--- exit status {said.status}", ""])


_IN_ANY_ORDER = ("readings", "events", "adapters")  # who was heard first is not the same twice
_NEVER_THE_SAME = (
    "top", "trace", "readings --plot", "queue --plot", "limits --plot", "headend watch", "headend keep", "radio map",
    "radio scan", "run",
)  # fmt: skip


def is_compared(case: Case) -> bool:
    """JSON is judged by its schema; frames, drawings and logs are not the same twice."""
    return "--json" not in case.words and (case.state == "broken" or not case.words.startswith(_NEVER_THE_SAME))


@pytest.mark.parametrize("case", [case for case in CASES if is_compared(case)], ids=lambda c: f"{c.state}: {c.words}")
def test_what_it_prints(case: Case, stage: Stage) -> None:
    text = transcript(case, stage.said[case.state, case.name], stage.dir)
    if IS_WRITING:
        case.file.parent.mkdir(exist_ok=True)
        case.file.write_text(text)
    assert case.file.exists(), f"make golden writes {case.file.relative_to(ROOT)}"
    assert text == case.file.read_text(), f"{case.file.relative_to(ROOT)}; if it is meant: make golden"


_FORBIDDEN = {
    "a traceback": r"Traceback|File \"",
    "the word None": r"\bNone\b",
    "a Python repr": r"\bb'|\bb\"|<[\w.]+ object|PosixPath|\[Errno|\{'|\['|\('|dict_|frozenset|Error\(",
    "a control character": r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]",
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.state}: {c.words}")
def test_nothing_of_python_shows(case: Case, stage: Stage) -> None:
    said = stage.said[case.state, case.name]
    for what, pattern in _FORBIDDEN.items():
        found = re.search(pattern, said.out + said.err)
        assert not found, f"{what}: {(said.out + said.err)[max(0, found.start() - 60) : found.end() + 60]!r}"
    assert said.status in (0, 1, 2, 3)
    assert said.out or said.err or case.words.startswith(("trace", "slots-helper"))


@pytest.mark.parametrize("case", [c for c in CASES if "--json" in c.words], ids=lambda c: f"{c.state}: {c.words}")
def test_json_is_as_its_schema_says(case: Case, stage: Stage) -> None:
    said = stage.said[case.state, case.name]
    verb = " ".join(word for word in re.split(r" --", case.words)[0].split())
    assert not faults_of(json.loads(said.out), SCHEMAS[verb]), (
        f"{verb}: {faults_of(json.loads(said.out), SCHEMAS[verb])}"
    )


def test_every_verb_is_told() -> None:
    told = {case.words.split()[0] for case in CASES}
    assert set(VERBS) <= told, set(VERBS) - told
    assert len({(case.state, case.name) for case in CASES}) == len(CASES)
    files = set(HERE.glob("*/*.txt"))
    assert files <= {case.file for case in CASES}, "a transcript that nothing writes any more"
