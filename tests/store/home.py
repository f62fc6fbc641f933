"""A home on a virtual clock: appliances that report every ten seconds, each fourth a register, the others power."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator

from hub.core.records import Batch, Sample, Seen
from store import Store
from tests.store.helpers import WAIT_S, Answers, commit

Series = tuple[str, str]


class Home:
    """Knows what it reported: `taken[client, quantity] = [(monotonic ms, value), ...]`."""

    def __init__(self, clock: list[float], *, appliances: int = 20, period_s: float = 10.0, seed: int = 1) -> None:
        self.clock = clock
        self.appliances = appliances
        self.step_s = period_s / appliances
        self.taken: dict[Series, list[tuple[int, int]]] = defaultdict(list)
        self.count = 0
        self._chance = random.Random(seed)
        self._registers = [1000 * number for number in range(appliances)]

    def monotonic(self) -> float:
        return self.clock[0]

    def sample(self) -> tuple[Sample, Seen]:
        """The next reading, a step of the clock later, as a QoS 1 publish."""
        self.clock[0] = round(self.clock[0] + self.step_s, 6)
        number, chance = self.count % self.appliances, self._chance
        if number % 4:
            quantity, value, at_s = "power", 2000 + chance.randrange(400), self.clock[0] - chance.randrange(200) / 1000
        else:
            self._registers[number] += chance.randrange(12)
            quantity, value, at_s = "energy", self._registers[number], self.clock[0]
        client = f"plug-{number}"
        self.count += 1
        self.taken[client, quantity].append((round(at_s * 1000), value))
        return Sample(client, quantity, at_s, value, 0), Seen(client, self.count % 65536, chance.randrange(2**32), 1)

    def batches(self, readings: int, group: int = 1) -> Iterator[Batch]:
        """So many readings, `group` of them a commit."""
        for first in range(0, readings, group):
            batch = Batch(first)
            batch.urgent = True
            for _ in range(min(group, readings - first)):
                sample, seen = self.sample()
                batch.samples.append(sample)
                batch.seen.append(seen)
            yield batch

    def report(self, store: Store, readings: int, group: int = 1, after: Callable[[], object] = lambda: None) -> int:
        """Report so many readings, each commit answered before the next; how many commits were refused."""
        refused = 0
        for batch in self.batches(readings, group):
            refused += commit(store, batch) is not None
            after()
        return refused

    def report_at_once(self, store: Store, readings: int, in_flight: int = 64) -> None:
        """A batch a reading, many in flight: faster, and as many rows as commits that the writer makes of them."""
        answers = Answers()
        for number, batch in enumerate(self.batches(readings)):
            store.commit(batch, answers)
            answers.wait(number + 1 - in_flight)
        assert all(error is None for _, error in answers.wait(readings))


__all__ = ["WAIT_S", "Home", "Series"]
