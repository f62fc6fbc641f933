"""Supervises the one session to the utility: connect, serve, wait, again; it never gives up and never hurries."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from drivers.board import BoardFacts
from drivers.clock import monotonic, utc_ms
from drivers.host_names import HostNames
from drivers.tls import ResumingContext, client_context, stamp_of
from hub.core.health import CONDITIONS, Health
from hub.core.liveness import Liveness
from hub.core.uplink.config import UplinkConfig
from hub.core.uplink.reasons import LOST, PROTOCOL, describe
from hub.core.uplink.reconnect_policy import SHORT_IN_A_ROW, SHORT_S, ReconnectPolicy, ShortSessions, first_delay_s
from hub.core.uplink.traffic import LineBytes, Traffic
from hub.core.uplink.window import Rebooking
from hub.services.uplink.attempt import login_of
from hub.services.uplink.failure import UplinkFailure
from hub.services.uplink.sender import Sender
from hub.services.uplink.session import SILENCE_S, Delivery, MqttSession, StateWill
from hub.services.uplink.status import UplinkStatus, condition_of, place_of_state, state_payload
from hub.wire.keys.identity import Identity
from hub.wire.printable import why
from store import Store, StoreError

if TYPE_CHECKING:
    from hub.wire.admin import UplinkAnswer

log = logging.getLogger(__name__)

# What ended sessions that were well opened: it holds until one has lived.
_OF_SESSIONS = ("uplink-taken-over", "uplink-ends-at-message", "uplink-message-refused")
_CONDITIONS = tuple(code for code in CONDITIONS if code.startswith("uplink-"))
_GOODBYE_S = 1.0
_TRAFFIC_SAVED_S = 3600.0
# How long each thing may take before the loop counts as stuck: names, TCP, TLS and CONNACK have bounds of their own, a
# resolver may not.
_ATTEMPT_S, _SLACK_S = 300.0, 60.0
_FILTERS_AT_ONCE = 8  # of a SUBSCRIBE: what AWS IoT takes
_GROUP = "meters/group/"
_OWN_STATE_S = 5.0  # how long the broker may take to show the hub its own retained state


class ShownCertificate(Protocol):
    """What the uplink asks of whoever renews the hub's certificate. `waits`: another one is to be shown first."""

    new_to_show: Callable[[], None]

    @property
    def waits(self) -> bool: ...

    @property
    def shown_kid(self) -> bytes: ...

    def files(self) -> tuple[Path, Path]:
        """Certificate and key to connect with."""

    def failed(self, kind: str) -> None:
        """An attempt with these files failed."""

    def let_in(self) -> None:
        """The broker opened a session with them."""

    def cannot_read(self, error: Exception) -> None:
        """They do not read."""


class Uplink:
    """Keeps one session to the utility's broker for as long as the hub runs."""

    def __init__(
        self,
        config: UplinkConfig,
        identity: Identity,
        store: Store,
        health: Health,
        *,
        heartbeat_s: int,
        version: str,
        board: BoardFacts | None = None,
        groups: Sequence[str] = (),
        traffic_file: Path | None = None,
        silence_s: float = SILENCE_S,
        renewal: ShownCertificate | None = None,
        command: Callable[[bytes, Callable[[], None]], None] | None = None,
        forgot: Callable[[], None] = lambda: None,
        liveness: Liveness | None = None,
        random_source: Callable[[], float] = random.random,
        machine_up_s: Callable[[], float] = monotonic,
    ) -> None:
        self._config = config
        self._identity = identity
        self._store = store
        self._health = health
        self._heartbeat_s = heartbeat_s
        self._version, self._board = version, board
        # `command(message, acknowledge)`: takes one message of the command topics; calls `acknowledge` once it is
        # durable what became of it. None: nobody here takes commands, so none are asked for.
        self._command = command
        # `forgot()`: the broker knows more of this hub than its own database, so a database is lost.
        self._forgot = forgot
        self._command_topics = _command_topics(config.topic_prefix, identity.hub_id, groups)
        self._vitals = liveness or Liveness(monotonic)
        self._random, self._machine_up_s = random_source, machine_up_s
        self._names = HostNames()
        self._reconnect = ReconnectPolicy(random_source, config.retry_cap_s)
        # Whoever looks at the messages: called with "in" or "out", the topic, the payload.
        self.tap: Callable[[str, str, bytes], None] = lambda way, topic, payload: None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reconfigured = asyncio.Event()  # ends a pause between attempts
        # The utility has been told of this hub, or could not be: what takes the processor may have it.
        self.has_tried = asyncio.Event()
        self.sessions_before = 0
        self._sender: Sender | None = None
        self._context: tuple[list[tuple[Path, int]], ResumingContext] | None = None
        self._protocol = "5" if config.protocol == "auto" else config.protocol
        self._falls_back = False  # the next attempt is in the other version of MQTT
        self._wants_retained = True
        self._told_epoch = 0  # in the will of the present session
        self._is_settling = False  # this session only asks what the broker knows of the hub
        self._host_at = self._first_host()
        self._short = ShortSessions()
        self._suspected = ""
        self._closed_on: set[str] = set()  # topics at whose SUBSCRIBE a broker closed the connection
        self._goodbye: tuple[int, asyncio.Event] | None = None
        self._status = UplinkStatus()
        self._rebooking = Rebooking(config.booked_within_s)
        self._rtt_ms: float | None = None
        self._session: MqttSession | None = None
        self._next_at = monotonic()  # of the next attempt, while there is no session
        self._silence_s = silence_s
        self._renewal = renewal
        if renewal is not None:
            renewal.new_to_show = self.show_certificate
        self._traffic_file = traffic_file
        self.traffic = _load_traffic(traffic_file)
        self._traffic_saved_at = monotonic()

    def store_changed(self, what: set[str]) -> None:
        """Something new is in the store. On the loop; the daemon brings it over from the writer's thread."""
        if "epoch" in what and self._session is not None and self._told_epoch != self._store.epoch:
            # What the broker keeps, and the will, are of the old one: a hub that is lost then would not be told.
            self._begin_anew("another epoch")
        if self._sender is not None:
            self._sender.store_changed(what)

    def send_again(self, lane: str, epoch: int, first: int, last: int) -> bool:
        """Send sealed messages once more, byte for byte; False while there is no session to send them over."""
        if self._sender is None:
            return False
        self._sender.send_again(lane, epoch, first, last)
        return True

    def reconfigure(self, config: UplinkConfig, heartbeat_s: int, groups: Sequence[str]) -> None:
        """Go on with other settings: the present session ends, the next one is opened with them at once."""
        self._config, self._heartbeat_s = config, heartbeat_s
        self._rebooking.within_s = config.booked_within_s
        self._command_topics = _command_topics(config.topic_prefix, self._identity.hub_id, groups)
        self._protocol = "5" if config.protocol == "auto" else config.protocol
        self._falls_back, self._wants_retained = False, True
        self._context, self._host_at = None, self._first_host()
        self._closed_on.clear()
        self._reconnect.backoff.reset()
        self._reconnect.backoff.cap_s = config.retry_cap_s
        self.sessions_before = self._status.sessions
        self._reconfigured.set()
        if self._session is not None:
            self._session.end("other settings")

    def _first_host(self) -> int:
        """Each hub begins with a host of its own choice, so that a fleet spreads over them (design 3.1)."""
        return crc32(self._identity.hub_id.encode()) % len(self._config.hosts)

    def show_certificate(self) -> None:
        """There is a new certificate to be tried: the present session ends, the next one shows it."""
        self._begin_anew("a new certificate")

    def _begin_anew(self, why: str) -> None:
        """End the present session, and begin the next one at once."""
        self._reconfigured.set()
        if self._session is not None:
            self._session.end(why)

    @property
    def is_up(self) -> bool:
        """Whether there is a session with the broker now."""
        return self._status.state == "up"

    @property
    def has_session_since_reconfigured(self) -> bool:
        return self._status.state == "up" and self._status.sessions > self.sessions_before

    def stop(self) -> None:
        """Ask `run` to say goodbye to the broker and end."""
        self._stopping.set()
        self._wake.set()
        if self._session is not None:
            self._session.abandon()

    def status(self) -> "UplinkAnswer":
        """For `meterhub status` and `meterhub uplink`."""
        if self._sender is not None:
            self._rtt_ms = self._sender.window.rtt_ms
        self._count_bytes()
        next_s = max(0.0, self._next_at - monotonic()) if self._status.state in ("waiting", "stopped") else None
        return {
            **self._status.as_dict(self._rtt_ms),
            "next_attempt_s": None if next_s is None else round(next_s, 1),
            "traffic": self.traffic.as_dict(utc_ms()),
        }

    def _count_bytes(self) -> None:
        line_bytes = self._session.line_bytes() if self._session is not None else None
        if line_bytes is not None:
            self._carried(line_bytes)

    def _carried(self, line_bytes: LineBytes) -> None:
        t_ms = utc_ms()
        self.traffic.carried(line_bytes, datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%d"), t_ms)
        if monotonic() - self._traffic_saved_at > _TRAFFIC_SAVED_S:
            self._save_traffic()

    def _connection_over(self, line_bytes: LineBytes) -> None:
        self._carried(line_bytes)
        self.traffic.ended()

    def _save_traffic(self) -> None:
        self._traffic_saved_at = monotonic()
        if self._traffic_file is not None:
            with suppress(OSError):  # a full disk costs an hour's figures, nothing else
                beside = self._traffic_file.with_suffix(".new")
                beside.write_bytes(self.traffic.as_document())
                beside.replace(self._traffic_file)

    async def run(self) -> None:
        """Connect, serve, wait, again: until `stop`."""
        delay_s = first_delay_s(self._machine_up_s(), self._config.boot_spread_s, self._random)
        if delay_s > 0:
            self.has_tried.set()  # not now, and for some time
        self._next_at = monotonic() + delay_s
        await self._pause(delay_s)
        while not self._stopping.is_set():
            failure = await self._try_once()
            self.has_tried.set()
            if self._stopping.is_set():
                break
            self._health.clear_condition(*_CONDITIONS)
            self._health.raise_condition(condition_of(failure.kind), str(failure))
            self._status.down(failure, utc_ms())
            delay_s = self._reconnect.delay_s(failure.kind)
            self._next_at = monotonic() + delay_s
            log.info("uplink: %s; next attempt in %.1f s", failure, delay_s)
            await self._pause(delay_s)
        self._status.stopped(utc_ms())
        self._save_traffic()

    async def _pause(self, delay_s: float) -> None:
        """Wait before the next attempt, unless there is a reason to try, or to stop, at once."""
        self._vitals.expect("uplink", delay_s + _SLACK_S)
        reasons = [asyncio.ensure_future(event.wait()) for event in (self._stopping, self._reconfigured)]
        await asyncio.wait(reasons, timeout=delay_s, return_when=asyncio.FIRST_COMPLETED)
        for reason in reasons:
            reason.cancel()

    async def _try_once(self) -> UplinkFailure:
        self._reconfigured.clear()
        self._vitals.expect("uplink", _ATTEMPT_S)
        if self._config.protocol == "auto" and not self._falls_back:
            self._protocol = "5"  # at each connection anew: one that was closed says little of what a broker speaks
        self._falls_back = False
        host, port = self._config.hosts[self._host_at % len(self._config.hosts)]
        self._status.connecting(host, self._protocol, utc_ms())
        try:
            session = self._session = self._build_session()
            await session.connect(host, port)
        except UplinkFailure as failure:
            self._host_at += 1
            if self._renewal is not None:
                self._renewal.failed(failure.kind)
            if self._context is not None:
                self._context[1].forget_sessions()
            return self._redirected(self._reconsider_protocol(failure))
        except Exception as error:  # whatever paho or ssl thought of: the hub tries again, and says so
            return self._internal(error)
        connected_at = monotonic()
        try:
            over = await self._serve(session, host)
        except UplinkFailure as ended:
            over = ended
        except Exception as error:
            over = self._internal(error)
        finally:
            self._sender = None
            await session.close()
            self._reconnect.backoff.lived(monotonic() - connected_at)
        return self._recognised(self._redirected(over), monotonic() - connected_at, session)

    def _recognised(self, failure: UplinkFailure, lived_s: float, session: MqttSession) -> UplinkFailure:
        """Many brokers close without a word where another client comes under the same name, or where they refuse a
        message: known by the pattern."""
        is_mute = failure.kind == LOST and not session.ended_in_order and not session.ended_by_us
        if is_mute and session.refusal is not None and not session.has_answered:
            # mosquitto says no to a message and closes, at once (2.0.11): the same again at each connection.
            text = f"PUBACK reason code {describe(session.refusal)}, and it ended the session"
            return UplinkFailure("uplink-message-refused", f"{text}: {failure}")
        kind = self._short.ended(lived_s, is_mute=is_mute, was_served=session.has_answered)
        if not kind or self._stopping.is_set():
            return failure
        text = f"{SHORT_IN_A_ROW} sessions in a row were closed without a reason, the last after {lived_s:.0f} s"
        return UplinkFailure(kind, f"{text}: {failure}")

    def _redirected(self, failure: UplinkFailure) -> UplinkFailure:
        """Go where the broker says that hubs are served, if the utility has configured that host: what else a broker
        names is not believed, for a stolen one could move a fleet away for good."""
        for reference in failure.reference.split():
            for at, (host, port) in enumerate(self._config.hosts):
                if reference in (host, f"{host}:{port}", f"[{host}]:{port}"):
                    self._host_at = at
                    return UplinkFailure("uplink-redirected", f"{failure}: to {reference}")
        if failure.reference:
            return UplinkFailure(failure.kind, f"{failure}: {failure.reference} is not in uplink.hosts")
        return failure

    def _reconsider_protocol(self, failure: UplinkFailure) -> UplinkFailure:
        """With `auto`, a broker that ends the connection before CONNACK may only speak the other version.

        The other version is worth one try at once; when both were refused it is a refusal like any other.
        """
        if failure.maybe_retain and self._wants_retained:
            self._wants_retained = False
            self._host_at -= 1
            return UplinkFailure(PROTOCOL, str(failure))
        if self._config.protocol != "auto" or not failure.maybe_version:
            return failure
        if self._protocol != "5":
            return UplinkFailure("uplink-refused", f"neither MQTT 5 nor 3.1.1: {failure}")
        self._protocol, self._falls_back = "3.1.1", True
        self._host_at -= 1  # the same host once more
        return UplinkFailure(PROTOCOL, str(failure))

    def _internal(self, error: Exception) -> UplinkFailure:
        log.exception("uplink: internal error")
        self._health.raise_condition("internal-error", f"uplink: {error!r}")
        return UplinkFailure("uplink-lost", repr(error))

    async def _serve(self, session: MqttSession, host: str) -> UplinkFailure:
        # A session that was opened proves nothing yet where sessions were opened and ended before: see `_proved`.
        self._health.clear_condition(*(code for code in _CONDITIONS if code not in _OF_SESSIONS))
        proof = asyncio.get_running_loop().call_later(SHORT_S, self._proved)
        try:
            return await self._serve_proved(session, host)
        finally:
            proof.cancel()

    def _proved(self) -> None:
        """This session lives."""
        self._health.clear_condition(*_OF_SESSIONS)

    async def _serve_proved(self, session: MqttSession, host: str) -> UplinkFailure:
        if self._renewal is not None:
            self._renewal.let_in()
            if self._renewal.waits:  # it came while this session was being opened
                session.end("a new certificate")
        if self._is_settling:
            return await self._settle_epoch(session)
        # Before anybody is told that the hub is there: who answers "online" with a command wants it heard.
        await self._listen(session)
        self._status.up(utc_ms(), session.tls)
        log.info("uplink: session with %s, MQTT %s", host, self._protocol)
        sender = self._sender = Sender(
            session,
            self._store,
            self._health,
            self._status,
            prefix=self._topic(""),
            pack_interval_s=self._config.pack_interval_s,
            heartbeat_s=self._heartbeat_s,
            drain_bytes_s=self._config.drain_kb_s * 1000,
            wake=self._wake,
            rebooking=self._rebooking,
            alive=lambda wait_s: self._vitals.expect("uplink", wait_s + _SLACK_S),
        )
        session.publish(self._topic("state"), self._state("online"), retain=True)
        self.has_tried.set()
        self._store.record_event("uplink.up", {"host": host, "protocol": self._protocol})
        over = asyncio.create_task(self._wake_at_end(session))
        try:
            await sender.run(self._stopping)
        finally:
            over.cancel()
        if self._stopping.is_set() and not session.is_over:
            await self._say_goodbye(session)
        if not session.is_over:
            return UplinkFailure("uplink-lost", "the hub stops")
        return await session.ended()

    async def _settle_epoch(self, session: MqttSession) -> UplinkFailure:
        """Look once at what the broker keeps of this hub, whose folder was lost or is new, before anything is numbered
        for good; the next session, at once, is the first in the epoch that comes of it. A broker that does not let
        hubs see their own state, or ends the session over it, is not asked again."""
        told, topic = None, self._topic("state")
        try:
            if session.keeps_retained and topic not in self._closed_on:
                told = await session.retained(topic, _OWN_STATE_S)
        except UplinkFailure as failure:
            if failure.kind == LOST and not failure.reference and not self._stopping.is_set():
                self._suspect([topic])
            raise
        if self._stopping.is_set():
            return UplinkFailure(LOST, "the hub stops")
        try:
            if await asyncio.wrap_future(self._store.settle_epoch(place_of_state(told or b""))):
                self._forgot()
        except StoreError as error:
            return UplinkFailure(LOST, f"the store cannot begin its epoch: {error}")
        log.info("uplink: epoch %d", self._store.epoch)
        # What has waited comes again: nothing of it was acknowledged.
        self._begin_anew(f"begun anew in epoch {self._store.epoch}")
        return await session.ended()

    async def _listen(self, session: MqttSession) -> None:
        """Ask for commands. A broker that refuses still takes readings, so it is a condition and no end."""
        if self._command is None:
            return
        # Its own commands first and alone; the rest in pieces, since some brokers take eight filters at a time. One
        # that closes the connection over a topic is not asked for that again: readings are worth more.
        own, *others = self._command_topics
        pieces = [[own], *(others[at : at + _FILTERS_AT_ONCE] for at in range(0, len(others), _FILTERS_AT_ONCE))]
        refused: list[str] = []
        for piece in pieces:
            asked = [topic for topic in piece if topic not in self._closed_on]
            refused += [topic for topic in piece if topic in self._closed_on]
            if not asked:
                continue
            try:
                refused += await session.subscribe(asked)
            except UplinkFailure as failure:
                if failure.kind == LOST and not failure.reference and not self._stopping.is_set():
                    self._suspect(asked)
                raise
        self._health.set_condition("uplink-commands-refused", bool(refused), ", ".join(refused))

    def _suspect(self, asked: list[str]) -> None:
        """The connection ended at this SUBSCRIBE: twice in a row is no chance."""
        key = ", ".join(asked)
        if self._suspected == key:
            self._closed_on.update(asked)
        self._suspected = key

    def _received(self, session: MqttSession, message: Delivery) -> None:
        """Hand on a command. What comes on any other topic, or as the broker's retained message, is nobody's order, and
        there are brokers that give a hub its own state when it reconnects: counted and dropped (design 3.3)."""
        is_ours = message.topic in self._command_topics
        if message.is_retained or not is_ours:
            self._status.strays += 1
            if not is_ours and message.topic.startswith(self._config.topic_prefix + _GROUP):
                session.leave(message.topic)  # of a group that this hub is no longer in, or it would come for years
            session.acknowledge(message.mid)
            return
        if self._sender is not None:
            self._sender.somebody_listens()
        if self._command is not None and not self._is_settling:  # until then a command waits at the broker
            self._command(message.payload, partial(session.acknowledge, message.mid))

    async def _wake_at_end(self, session: MqttSession) -> None:
        await session.ended()
        self._wake.set()

    async def _say_goodbye(self, session: MqttSession) -> None:
        """Tell the utility that the hub leaves on purpose, and give the broker a moment to confirm it."""
        confirmed = asyncio.Event()
        mid = session.publish(self._topic("state"), self._state("offline"), retain=True)
        self._goodbye = (mid, confirmed)
        try:
            await asyncio.wait_for(confirmed.wait(), _GOODBYE_S)
        except TimeoutError:
            log.info("uplink: the broker did not confirm the goodbye; its will says the same")

    def _published(self, mid: int, reason: int) -> None:
        if self._goodbye is not None and self._goodbye[0] == mid:
            self._goodbye[1].set()
        if self._sender is not None:
            self._sender.published(mid, reason)

    def _build_session(self) -> MqttSession:
        self._is_settling, keeps = self._store.is_epoch_new, self._wants_retained
        self._told_epoch = self._store.epoch
        session: MqttSession = MqttSession(
            client_id=self._identity.hub_id,
            protocol=self._protocol,
            context=self._tls(),
            keepalive_s=self._config.keepalive_s,
            silence_s=self._silence_s,
            # A new epoch's will must not replace what the broker has still to be asked for.
            will=StateWill(self._topic("state"), self._state("offline"), retain=keeps and not self._is_settling),
            login=login_of(self._config),
            names=self._names,
            published=self._published,
            received=lambda message: self._received(session, message),
        )
        session.tap = lambda way, topic, payload: self.tap(way, topic, payload)
        return session

    def _tls(self) -> ResumingContext:
        """One context for as long as its files stay the same: it remembers the TLS session for the next connect."""
        config, renewal = self._config, self._renewal
        pair = (config.cert_file, config.key_file) if renewal is None else renewal.files()
        files = (config.ca_file, *pair, config.crl_file)
        try:
            stamps = [(file, stamp_of(file)) for file in files if file is not None]
            if self._context is None or self._context[0] != stamps:
                context = client_context(*files)
                context.count = self._connection_over
                self._context = (stamps, context)
        except OSError as error:  # ssl.SSLError is one
            if renewal is not None:
                renewal.cannot_read(error)
            raise UplinkFailure("uplink-refused", f"the hub's own certificate files: {why(error)}") from None
        return self._context[1]

    def _topic(self, tail: str) -> str:
        return f"{self._config.topic_prefix}meters/{self._identity.hub_id}/{tail}"

    def _state(self, word: str) -> bytes:
        kid = self._identity.signer.kid if self._renewal is None else self._renewal.shown_kid
        return state_payload(word, self._store.epoch, self._store.boot, self._version, kid, utc_ms(), self._board)


def _command_topics(prefix: str, hub_id: str, groups: Sequence[str]) -> list[str]:
    """Where commands come from: this hub's own topic first."""
    names = [f"meters/{hub_id}", "meters/all", *(_GROUP + group for group in groups)]
    return [f"{prefix}{name}/commands" for name in names]


def _load_traffic(file: Path | None) -> Traffic:
    try:
        return Traffic(file.read_bytes() if file is not None else b"")
    except OSError:
        return Traffic()
