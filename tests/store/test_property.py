"""Whatever the batches, seals, restarts and power cuts: what was taken comes out once, each client's in order."""

from collections import defaultdict
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.core.records import Sample
from hub.wire.uplink.pack import decode_pack
from hub.wire.uplink.reading import IMPLAUSIBLE
from tests.harness.memory import folder_in_memory
from tests.store.helpers import WAIT_S, batch, commit, every, payload_of, power_cut, seal_all, started

clients = st.sampled_from(["a", "plug-1", "meter", "zb-00124b0001020304"])
samples = st.builds(
    Sample,
    client_id=clients,
    quantity=st.sampled_from(["power", "energy"]),
    sampled_s=st.floats(0, 2**31, allow_nan=False),
    mantissa=st.integers(-(10**18), 10**18),
    exponent=st.integers(-18, 0),
    flags=st.sampled_from((0, 0, IMPLAUSIBLE)),
)
steps = st.one_of(
    st.tuples(st.just("take"), st.lists(samples, min_size=1, max_size=12)),
    st.tuples(st.just("seal"), st.integers(1, 20)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("cut"), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25))
def test_in_is_out(script: list[tuple[str, object]]) -> None:
    taken: dict[tuple[str, str], list[tuple[Decimal, int]]] = defaultdict(list)
    with folder_in_memory() as folder:
        lives, store = 0, started(folder / "0")
        try:
            for number, (kind, what) in enumerate(script):
                if kind == "take":
                    assert isinstance(what, list)
                    assert commit(store, batch(number, *what, seen=3)) is None
                    for one in what:
                        taken[one.client_id, one.quantity].append(
                            (Decimal(one.mantissa).scaleb(one.exponent), one.flags)
                        )
                elif kind == "seal":
                    assert isinstance(what, int)
                    store.seal_pack(what).result(WAIT_S)
                elif kind == "restart":
                    store.close()
                    store = started(folder / str(lives))
                else:
                    cut = power_cut(folder / str(lives), folder / str(lives + 1))
                    store.close()
                    lives, store = lives + 1, started(cut)
            unsealed = store.queue_status().result(WAIT_S)["readings"]["unsealed"]
            assert len(store.readings(limit=10_000).result(WAIT_S)) == sum(map(len, taken.values()))
            rest = seal_all(store, 7)
            packs = every(store, "readings")
            assert store.epoch == 1
            assert store.status()["readings"] == sum(map(len, taken.values()))
        finally:
            store.close()
    assert sum(len(decode_pack(payload_of(pack))) for pack in rest) == unsealed
    assert [pack.number for pack in packs] == list(range(1, len(packs) + 1))
    assert given_out(packs) == {key: sorted(values) for key, values in taken.items()}


def given_out(packs: list[object]) -> dict[tuple[str, str], list[tuple[Decimal, int]]]:
    # A pack orders by series, and one series may be split by exponent: order within a series has a test of its own.
    found: dict[tuple[str, str], list[tuple[Decimal, int]]] = defaultdict(list)
    for pack in packs:
        for reading in decode_pack(payload_of(pack)):  # type: ignore[arg-type]
            found[reading.client_id, reading.quantity].append(
                (Decimal(reading.mantissa).scaleb(reading.exponent), reading.flags & IMPLAUSIBLE)
            )
    return {key: sorted(values) for key, values in found.items()}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(clients, st.lists(st.integers(0, 9), max_size=5)), max_size=20), st.integers(1, 9))
def test_order_is_kept(groups: list[tuple[str, list[int]]], max_readings: int) -> None:
    """One exponent: the samples of a client come out in the order they were taken, whatever their times."""
    expected: dict[str, list[int]] = defaultdict(list)
    count = 0
    with folder_in_memory() as folder:
        store = started(folder)
        try:
            for number, (client, times) in enumerate(groups):
                made = []
                for at_s in times:
                    count += 1
                    made.append(Sample(client, "power", float(at_s), count, 0))
                    expected[client].append(count)
                if made:
                    assert commit(store, batch(number, *made)) is None
            packs = seal_all(store, max_readings)
        finally:
            store.close()
    found: dict[str, list[int]] = defaultdict(list)
    for pack in packs:
        for reading in decode_pack(payload_of(pack)):
            found[reading.client_id].append(reading.mantissa)
    assert found == {client: values for client, values in expected.items() if values}
