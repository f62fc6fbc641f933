"""Who hears a topic, remembered within bounds."""

import tracemalloc

from hub.wire.mqttsn.topics import Subscriptions


def test_what_is_remembered_of_answers_is_bounded_by_their_size() -> None:
    """A topic that everybody hears is as large as the home; nobody's flood of topics makes a home of each."""
    subscriptions = Subscriptions()
    clients = [f"c{n}" for n in range(250)]
    for client in clients:
        subscriptions.add(client, "#", 1)
    tracemalloc.start()
    try:
        for n in range(3000):
            assert len(subscriptions.match(f"keep/{n}")) == len(clients)
        assert tracemalloc.get_traced_memory()[0] < 1_500_000
    finally:
        tracemalloc.stop()
    subscriptions.add("late", "keep/2999", 0)
    assert ("late", 0) in subscriptions.match("keep/2999"), "a change is seen at once"
