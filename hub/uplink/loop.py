"""Supervises the one session to the utility: connect, serve, wait, again; it never gives up and never hurries."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from drivers.clock import monotonic, utc_ms
from hub.config import UplinkConfig
from hub.contract.identity import Identity
from hub.health import CONDITIONS, Health
from hub.uplink.policy import Backoff
from hub.uplink.sender import Sender
from hub.uplink.session import MqttSession, UplinkFailure, Will
from hub.uplink.state import UplinkStatus, condition_of, state_payload
from hub.uplink.tls import ResumingContext, client_context
from hub.uplink.window import Position, Tail
from store import Store

log = logging.getLogger(__name__)

_CONDITIONS = tuple(code for code in CONDITIONS if code.startswith("uplink-"))
_GOODBYE_S = 1.0


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
        groups: Sequence[str] = (),
        command: Callable[[bytes, Callable[[], None]], None] | None = None,
        random_source: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._identity = identity
        self._store = store
        self._health = health
        self._heartbeat_s = heartbeat_s
        self._version = version
        # `command(message, acknowledge)`: takes one message of the command topics; calls `acknowledge` once it is
        # durable what became of it. None: nobody here takes commands, so none are asked for.
        self._command = command
        hub_id = identity.hub_id
        names = [f"meters/{hub_id}", *(f"meters/group/{group}" for group in groups), "meters/all"]
        self._command_topics = [f"{name}/commands" for name in names]
        self._backoff = Backoff(random_source)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._sender: Sender | None = None
        self._context: tuple[list[int], ResumingContext] | None = None
        self._protocol = "5" if config.protocol == "auto" else config.protocol
        self._attempt = 0
        self._has_worked = False
        self._goodbye: tuple[int, asyncio.Event] | None = None
        self._status = UplinkStatus()
        self._tail = Tail()
        self._again: list[tuple[str, Position]] = []
        self._rtt_ms: float | None = None

    def store_changed(self, what: set[str]) -> None:
        """Something new is in the store. On the loop; the daemon brings it over from the writer's thread."""
        if self._sender is not None:
            self._sender.store_changed(what)

    def stop(self) -> None:
        """Ask `run` to say goodbye to the broker and end."""
        self._stopping.set()
        self._wake.set()

    def status(self) -> dict[str, object]:
        """For `meterhub status`."""
        if self._sender is not None:
            self._rtt_ms = self._sender.window.rtt_ms
        return self._status.as_dict(self._rtt_ms)

    async def run(self) -> None:
        """Connect, serve, wait, again: until `stop`."""
        while not self._stopping.is_set():
            failure = await self._try_once()
            if self._stopping.is_set():
                break
            self._health.clear_condition(*_CONDITIONS)
            self._health.raise_condition(condition_of(failure.kind), str(failure))
            self._status.down(failure, utc_ms())
            delay_s = self._backoff.delay_s(failure.kind)
            log.info("uplink: %s; next attempt in %.1f s", failure, delay_s)
            try:
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            except TimeoutError:
                pass
        self._status.stopped(utc_ms())

    async def _try_once(self) -> UplinkFailure:
        host, port = self._config.hosts[self._attempt % len(self._config.hosts)]
        self._status.connecting(host, self._protocol, utc_ms())
        try:
            session = self._build_session()
            await session.connect(host, port)
        except UplinkFailure as failure:
            self._attempt += 1
            if self._context is not None:
                self._context[1].forget_session()
            failure = self._reconsider_protocol(failure)
            return failure
        except Exception as error:  # whatever paho or ssl thought of: the hub tries again, and says so
            return self._internal(error)
        connected_at = monotonic()
        try:
            return await self._serve(session, host)
        except Exception as error:
            return self._internal(error)
        finally:
            self._sender = None
            await session.close()
            self._backoff.connected_for(monotonic() - connected_at)

    def _reconsider_protocol(self, failure: UplinkFailure) -> UplinkFailure:
        """With `auto`, a broker that ends the connection before CONNACK may only speak the other version.

        A version that has worked is kept, unless the broker says in so many words that it does not speak it.
        """
        if self._config.protocol != "auto":
            return failure
        if failure.kind != "uplink-protocol" and (failure.kind != "uplink-refused" or self._has_worked):
            return failure
        self._protocol = "3.1.1" if self._protocol == "5" else "5"
        # The other version is worth one try at once; when both were refused it is a refusal like any other.
        return UplinkFailure("uplink-protocol", str(failure)) if self._protocol == "3.1.1" else failure

    def _internal(self, error: Exception) -> UplinkFailure:
        log.exception("uplink: internal error")
        self._health.raise_condition("internal-error", f"uplink: {error!r}")
        return UplinkFailure("uplink-lost", repr(error))

    async def _serve(self, session: MqttSession, host: str) -> UplinkFailure:
        self._health.clear_condition(*_CONDITIONS)
        self._has_worked = True
        self._status.up(utc_ms())
        log.info("uplink: session with %s, MQTT %s", host, self._protocol)
        sender = self._sender = Sender(
            session,
            self._store,
            self._health,
            self._status,
            prefix=self._topic(""),
            pack_interval_s=self._config.pack_interval_s,
            heartbeat_s=self._heartbeat_s,
            wake=self._wake,
            tail=self._tail,
            again=self._again,
        )
        session.publish(self._topic("state"), self._state("online"), retain=True)
        self._store.record_event("uplink.up", {"host": host, "protocol": self._protocol})
        await self._listen(session)
        over = asyncio.create_task(self._wake_at_end(session))
        try:
            await sender.run(self._stopping)
        finally:
            over.cancel()
        if self._stopping.is_set() and not session.is_over:
            await self._say_goodbye(session)
        if not session.is_over:
            return UplinkFailure("uplink-lost", "the hub stops")
        suspect = [] if session.ended_in_order else self._tail.broke(monotonic())
        self._again = list(dict.fromkeys([*sender.owed_again, *suspect]))
        return UplinkFailure("uplink-lost", await session.ended())

    async def _listen(self, session: MqttSession) -> None:
        """Ask for commands. A broker that refuses still takes readings, so it is a condition and no end."""
        if self._command is None:
            return
        refused = await session.subscribe(self._command_topics)
        self._health.set_condition("uplink-commands-refused", bool(refused), ", ".join(refused))

    def _received(self, session: MqttSession, message: bytes, mid: int) -> None:
        if self._command is not None:
            self._command(message, lambda: session.acknowledge(mid))

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
        session: MqttSession = MqttSession(
            client_id=self._identity.hub_id,
            protocol=self._protocol,
            context=self._tls(),
            keepalive_s=self._config.keepalive_s,
            will=Will(self._topic("state"), self._state("offline")),
            published=self._published,
            received=lambda message, mid: self._received(session, message, mid),
        )
        return session

    def _tls(self) -> ResumingContext:
        """One context for as long as its files stay the same: it remembers the TLS session for the next connect."""
        files = (self._config.ca_file, self._config.cert_file, self._config.key_file)
        try:
            stamps = [file.stat().st_mtime_ns for file in files]
            if self._context is None or self._context[0] != stamps:
                self._context = (stamps, client_context(*files))
        except OSError as error:  # ssl.SSLError is one
            raise UplinkFailure("uplink-refused", f"the hub's own certificate files: {error}") from None
        return self._context[1]

    def _topic(self, tail: str) -> str:
        return f"meters/{self._identity.hub_id}/{tail}"

    def _state(self, word: str) -> bytes:
        return state_payload(word, self._store.epoch, self._store.boot, self._version, utc_ms())
