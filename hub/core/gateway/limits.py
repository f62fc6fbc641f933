"""What bounds the gateway: every table has a limit, every limit a clear answer (design P9; MQTT-SN 1.2 section 7.2)."""

from dataclasses import dataclass, field

from hub.wire.mqttsn.topics import PREDEFINED


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Counts and bytes; reaching one is answered with congestion (0x01) or told in a counter; nothing falls over."""

    clients: int = 5000
    clients_per_address: int = 200  # a forwarder and a bench have many; nobody has all
    new_names_per_address: int = 160  # at once, and then so many a second:
    new_names_per_address_per_s: float = 0.1
    # A client that is silent for longer than this keeps its session, whatever Duration it said, but makes place when
    # its address, or the table, is full.
    keep_alive_cap_s: float = 3600.0
    idle_s: float = 60.0  # the same of one that has never published, subscribed or registered
    topics_per_client: int = 2000
    quantities_per_client: int = 200  # whose readings it may send, since the hub started
    subscriptions_per_client: int = 200
    queued_per_client: int = 200
    queued_bytes_per_client: int = 32 * 1024
    retained: int = 2000
    retained_bytes: int = 512 * 1024
    retained_per_client: int = 100  # besides its `about/`, of which each client has one
    about_bytes: int = 1024
    topics_per_address: int = 2000
    subscriptions_per_address: int = 1000
    queued_per_address: int = 2000
    queued_bytes_per_address: int = 256 * 1024
    fan_out: int = 500
    deliveries_per_address_per_s: float = 300.0  # to more than one, five seconds' worth at once
    nameless: int = 256  # senders of QoS -1 that never connect
    # Requests whose commit is still under way; beyond it the store is behind and adapters are told to wait.
    pending_requests: int = 1500


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Settings of the gateway machine; times in seconds, defaults within the ranges of section 7.2."""

    gw_id: int = 1
    advertise_s: int = 900
    t_retry_s: float = 10.0
    n_retry: int = 4
    will_dialogue_s: float = 30.0
    dup_window_s: float = 600.0
    predefined: dict[int, str] = field(default_factory=lambda: dict(PREDEFINED))
    # Largest MQTT-SN message per link, bytes (a Zigbee tunnel carries 60); links not named carry any length.
    max_bytes: dict[str, int] = field(default_factory=dict)
    # PUBLISHes a second that one client of a link, or one sender without a name, may send in the long run, ten seconds'
    # worth at once; links not named: any number. Beyond it QoS 1 and 2 are answered congestion, QoS 0 and -1 are
    # dropped (counted).
    publishes_per_s: dict[str, float] = field(default_factory=dict)
    # Links that can carry a broadcast ADVERTISE to the peer (link, "*").
    broadcast_links: tuple[str, ...] = ()
    forward_filters: tuple[str, ...] = ()
    limits: GatewayLimits = field(default_factory=GatewayLimits)


def tolerated_silence_s(duration_s: int) -> float:
    """How long after the last word a client is declared lost: 50 % over up to a minute, 10 % over beyond (section 7.2).

    Over a minute the tenth is never less than the half minute that a one-minute client gets.
    """
    return duration_s * 1.5 if duration_s <= 60 else duration_s + max(30.0, duration_s * 0.1)
