"""Who comes from one address, and who makes place: no address can fill the gateway's tables alone.

An address is where a datagram comes from: a host without its port, a radio's IEEE address; of IPv6 the /64, of which
one host has all. What is behind a forwarder comes from the forwarder. An address may bring so many new names at once
and few later on; when there are too many clients, the address that has the most gives up what it can best do without.
"""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from hub.core.allowance import Allowance
from hub.core.gateway import session as states
from hub.core.gateway.limits import GatewayLimits
from hub.core.gateway.session import Session
from hub.core.records import Peer

Address = tuple[str, str]

_GONE = (states.DISCONNECTED, states.LOST)
_MAX_ALLOWANCES = 4096
_DELIVERIES_AT_ONCE_S = 5.0  # each is a row of the commit that brings it, and all of them are in memory until then


def address_of(peer: Peer) -> Address:
    """The address that a peer counts for."""
    where = str(peer[1])
    if peer[0] == "udp" and ":" in where:
        try:
            host = ip_address(where.partition("%")[0])
        except ValueError:
            return "udp", where
        if isinstance(host, IPv6Address):
            mapped = host.ipv4_mapped
            where = str(mapped) if mapped else f"{IPv6Address(int(host) >> 64 << 64)}/64"
    return str(peer[0]), where


class Addresses:
    """Sessions by address. Times are the machine's `now`, in seconds."""

    def __init__(self, limits: GatewayLimits) -> None:
        self._limits = limits
        self._clients: dict[Address, dict[str, Session]] = {}
        self._total = 0
        self._allowances: dict[Address, Allowance] = {}
        self._deliveries: dict[Address, Allowance] = {}

    def add(self, session: Session) -> None:
        """A session has this address now."""
        clients = self._clients.setdefault(address_of(session.peer), {})
        self._total += session.client_id not in clients
        clients[session.client_id] = session

    def remove(self, session: Session) -> None:
        """A session is no longer at the address that it has."""
        address = address_of(session.peer)
        clients = self._clients.get(address)
        if clients is None or clients.pop(session.client_id, None) is None:
            return
        self._total -= 1
        if not clients:
            del self._clients[address]

    def count(self, peer: Peer) -> int:
        """How many clients have this peer's address."""
        return len(self._clients.get(address_of(peer), ()))

    def may_bring_a_name(self, peer: Peer, now: float) -> bool:
        """Whether an address may bring one more name that was never heard before; asked once a name."""
        rate = self._limits.new_names_per_address_per_s
        allowance = _allowance(self._allowances, address_of(peer))
        return allowance.spend(rate, now, self._limits.new_names_per_address / rate)

    def may_deliver(self, address: Address, count: int, now: float) -> bool:
        """Whether a publish from this address may go to so many: each is work, and a row where it has to be kept."""
        rate = self._limits.deliveries_per_address_per_s
        at_once = _DELIVERIES_AT_ONCE_S * rate
        allowance = _allowance(self._deliveries, address)
        return allowance.spend(rate, now, _DELIVERIES_AT_ONCE_S, amount=min(count, at_once))

    def share(self, session: Session, most: int, of_all: int) -> int:
        """How much of a table one client may have: `most`, but less where many share its address, or the gateway.

        `of_all`: what one address may have, and ten times of it the whole gateway.
        """
        here = len(self._clients.get(address_of(session.peer), ())) or 1
        return min(most, max(_LEAST_SHARE, min(of_all // here, 10 * of_all // max(1, self._total))))

    def who_makes_place_at(self, peer: Peer, now: float) -> Session | None:
        """The client of this address that it can best do without, for a new one of the same address; None: none."""
        return self._least(self._clients.get(address_of(peer), {}).values(), now)

    def who_makes_place(self, peer: Peer, now: float) -> Session | None:
        """The client that makes place for a new one from `peer` in a full table; None: the new one has to wait.

        The address with the most clients gives one up for an address that has fewer; an address that is alone with its
        client loses it only once that is gone, or has never been of use and is silent.
        """
        crowded = max(self._clients.values(), key=len, default={})
        if len(crowded) > self.count(peer) + 1:
            return self._least(crowded.values(), now) or max(
                crowded.values(), key=lambda s: (not s.is_of_old, s.joined_at), default=None
            )
        everybody = (session for clients in self._clients.values() for session in clients.values())
        return self._least((s for s in everybody if s.state in _GONE or now - s.last_heard > self._limits.idle_s), now)

    def _least(self, sessions: Iterable[Session], now: float) -> Session | None:
        """Of those that may go: who is gone before who is here, who was never of use first, clean ones before kept
        ones, new ones before those known of old, and then the longest silent."""
        cap_s = self._limits.keep_alive_cap_s
        may_go = (s for s in sessions if s.state in _GONE or not s.is_of_use or now - s.last_heard > cap_s)
        return min(
            may_go,
            key=lambda s: (s.state not in _GONE, s.is_of_use, not s.clean_session, s.is_of_old, s.last_heard),
            default=None,
        )


_LEAST_SHARE = 8


def _allowance(table: dict[Address, Allowance], address: Address) -> Allowance:
    found = table.pop(address, None) or Allowance()
    table[address] = found  # the least used ones go first, and by then they are whole again
    if len(table) > _MAX_ALLOWANCES:
        del table[next(iter(table))]
    return found
