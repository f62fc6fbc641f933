"""What the uplink is told: where to go, who it is, how much it may carry. Read by hub/app/config.py."""

from dataclasses import dataclass
from pathlib import Path

from hub.wire.uplink.pack_form import PackForm


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    hosts: tuple[tuple[str, int], ...]
    ca_file: Path
    cert_file: Path
    key_file: Path
    protocol: str = "auto"
    keepalive_s: int = 60
    pack_interval_s: float = 60.0
    booked_within_s: float = 86400.0  # acknowledged and not booked by then: sent again
    drain_kb_s: int = 64  # how fast a backlog of readings may go; 0: no bound
    boot_spread_s: float = 60.0  # how long after its machine's start a hub may wait with its first attempt
    retry_cap_s: float = 3600.0  # no pause between two attempts is longer; the pauses themselves spread a fleet
    deflate: bool = False  # packs made smaller, for a head-end that reads them (hub/wire/uplink/pack.py)
    time_step_ms: int = 1  # times in packs are multiples of it
    crl_file: Path | None = None  # revoked brokers
    username: str | None = None  # where a broker wants one beside the certificate
    password_file: Path | None = None
    topic_prefix: str = ""  # before every topic of the contract, for brokers that give a tenant a tree of its own
    est_url: str | None = None  # where the hub's certificate is renewed (RFC 7030); none: nowhere
    est_look_s: float = 604_800.0  # how often the hub looks there whether another authority certifies by now

    @property
    def pack_form(self) -> PackForm:
        return PackForm(self.deflate, self.time_step_ms)
