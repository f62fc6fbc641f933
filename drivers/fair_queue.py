"""Datagrams shared out by address before anybody reads them: who sends much waits, and then loses, its own alone.

Nothing is decoded here. A host has its turn, and in it one of its ports; each has a place for so many and no more, so
that neither memory nor anybody's delay grows with what one of them sends.
"""

from typing import Any

from drivers.link import Datagrams

# Of one port, waiting; beyond it what comes is dropped, as a full radio would.
PORT_HOLDS = 512
TOTAL_HOLDS = 2048
BYTES_HELD = 1 << 19
# Taken in one turn: bounds the time before answers go out. Fewer where several wait, so that each turn is short.
TURN = 512
TURN_OF_MANY = 96


class FairQueue:
    """Waiting datagrams by host and port, taken in turns."""

    def __init__(self) -> None:
        # Lists: most ports have one waiting, and a deque takes 760 bytes however short it is.
        self._hosts: dict[str, dict[tuple[Any, ...], list[bytes]]] = {}
        self._count = 0
        self._bytes = 0
        self.dropped: dict[tuple[Any, ...], int] = {}  # by peer, since `take_dropped`

    def __len__(self) -> int:
        return self._count

    def put(self, peer: tuple[Any, ...], data: bytes) -> None:
        """A datagram from `("udp", host, port)`; dropped and counted where its port, or everybody, has too many."""
        ports = self._hosts.setdefault(peer[1], {})
        waiting = ports.get(peer)
        if waiting is None:
            waiting = ports[peer] = []
        if len(waiting) >= PORT_HOLDS or self._count >= TOTAL_HOLDS or self._bytes + len(data) > BYTES_HELD:
            if not waiting:
                del ports[peer]
                if not ports:
                    del self._hosts[peer[1]]
            self.dropped[peer] = self.dropped.get(peer, 0) + 1
            return
        waiting.append(data)
        self._count += 1
        self._bytes += len(data)

    def take(self) -> Datagrams:
        """The next turn's datagrams: one of each host, of each of its ports in turn, until there are enough."""
        taken: Datagrams = []
        is_lone = len(self._hosts) == 1 and len(next(iter(self._hosts.values()))) == 1
        most = TURN if is_lone else TURN_OF_MANY
        while self._hosts and len(taken) < most:
            for host in list(self._hosts):
                ports = self._hosts[host]
                peer, waiting = next(iter(ports.items()))
                del ports[peer]  # to the end of its host's row
                data = waiting.pop(0)
                taken.append((peer, data))
                self._bytes -= len(data)
                if waiting:
                    ports[peer] = waiting
                elif not ports:
                    del self._hosts[host]
                if len(taken) >= most:
                    # The hosts that had no turn come first in the next one.
                    self._hosts = {h: p for h, p in self._hosts.items() if h != host} | (
                        {host: ports} if host in self._hosts else {}
                    )
                    break
        self._count -= len(taken)
        return taken

    def take_dropped(self) -> dict[tuple[Any, ...], int]:
        """What was dropped since the last call, by peer."""
        dropped, self.dropped = self.dropped, {}
        return dropped
