"""The uplink: bytes on the wire per reading, TLS included, beside one JSON publish a reading; and how fast it drains.

A home of ten appliances; each reports every ten seconds (a second's pack holds one reading, a minute's sixty), or
every second. Time is in the samples, not on the wall: the readings of a pack are taken at once and sent at once.
"""

import json
import random
import ssl
import sys
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.pki import DevelopmentAuthority
from hub.bench.uplink import bench_uplink
from hub.core.records import Batch, Sample
from hub.wire.uplink.pack import deflate_pack, encode_pack
from hub.wire.uplink.pack_form import PackForm
from hub.wire.uplink.reading import Reading
from tests.harness.broker import Broker
from tests.harness.folders import folder_until_exit
from tests.harness.house import House
from tests.harness.proxy import Proxy
from tests.harness.waiting import wait_for

APPLIANCES = 10
# A pack's length and how often each appliance reports, seconds.
PACK_FORMS = (PackForm(), PackForm(deflate=True), PackForm(deflate=True, time_step_ms=100))
FORMS = ((1, 1), (60, 1), (900, 1), (1, 10), (60, 10), (120, 10), (300, 10), (900, 10))


def _readings(count: int, every_s: int) -> list[tuple[str, float, int]]:
    """`(client, t, watts)`: a base load, steps, noise of some watts, some ms of jitter; the same in every run."""
    chance = random.Random(7)
    found = []
    for i in range(count):
        appliance, k = i % APPLIANCES, i // APPLIANCES
        watts = 40 * appliance + (k // 30 % 7) * 200 + int(chance.gauss(0, 4))
        found.append((f"appliance-{appliance}", i * every_s / APPLIANCES + chance.random() * 0.05, watts))
    return found


def measure_bytes(
    packs: int = 5, publishes: int = 600, forms: Sequence[tuple[int, int]] = FORMS
) -> list[dict[str, Any]]:
    """One row a pack length, then the JSON form; bytes up and down per reading as the proxy counts them."""
    place = folder_until_exit("meterhub-bench-", None)
    authority = DevelopmentAuthority(place / "pki")
    authority.issue("broker", hosts=["localhost", "127.0.0.1"])
    authority.issue("MTR-1", file_name="hub")
    authority.issue("headend")
    broker = Broker(place / "broker", authority).start()
    proxy = Proxy(broker.port)
    try:
        rows = []
        for number, pack_form in enumerate(PACK_FORMS):
            options = {"heartbeat_s": 3600, "keepalive_s": 3600, **pack_form._asdict()}
            house = House(place / f"house-{number}", authority, [proxy.port], **options)
            try:
                house.wait_state("up")
                house.wait_drained()
                rows += [_packs(house, proxy, span_s, every_s, packs, pack_form) for span_s, every_s in forms]
            finally:
                house.stop()
        rows.append(_json(authority, Proxy(broker.port), publishes))
        return rows
    finally:
        proxy.close()
        broker.stop()


def _packs(house: House, proxy: Proxy, span_s: int, every_s: int, packs: int, pack_form: PackForm) -> dict[str, Any]:
    per_pack = span_s * APPLIANCES // every_s
    taken = _readings(per_pack, every_s)
    before = _settled(proxy)
    sealed = house.status()["payload_bytes"]
    for _ in range(packs):
        batch = Batch(1)
        batch.urgent = True
        batch.samples = [Sample(client, "power", t, watts, 0) for client, t, watts in taken]
        house.store.commit(batch, lambda _id, _error: None)
        wait_for("the pack to be taken", lambda: house.store.queue_status().result(10)["readings"]["unsealed"] == 0)
        house.wait_drained()
    up, down = (after - first for after, first in zip(_settled(proxy), before, strict=True))
    readings = packs * per_pack
    readings_of_it = [Reading(client, "power", int(t * 1000), watts, 0) for client, t, watts in taken]
    pack = encode_pack(pack_form.in_steps(readings_of_it))
    if pack_form.deflate:
        pack = deflate_pack(pack)[0]
    return {
        "form": f"packs of {span_s} s, a reading every {every_s} s{_words(pack_form)}",
        "readings": readings,
        "up": up / readings,
        "down": down / readings,
        "sealed": (house.status()["payload_bytes"] - sealed) / readings,
        "pack": len(pack) / per_pack,
    }


def _words(form: PackForm) -> str:
    step = f", times in steps of {form.time_step_ms} ms" if form.time_step_ms > 1 else ""
    return (", deflated" if form.deflate else "") + step


def _json(authority: DevelopmentAuthority, proxy: Proxy, count: int) -> dict[str, Any]:
    """What many gateways do: each reading a publish of its own, QoS 1, on a topic that names it."""
    pki = authority.directory
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "json-gateway")
    client.tls_set(str(authority.ca_file), str(pki / "headend.pem"), str(pki / "headend.key"),
                   tls_version=ssl.PROTOCOL_TLS_CLIENT)  # fmt: skip
    client.connect("localhost", proxy.port, keepalive=3600)
    client.loop_start()
    wait_for("the session", client.is_connected)
    before = _settled(proxy)
    for name, t, watts in _readings(count, 10):
        body = {
            "hub": "MTR-1",
            "client": name,
            "quantity": "power",
            "t": 1_795_000_000_000 + int(t * 1000),
            "value": watts,
        }
        client.publish(f"meters/MTR-1/json/{name}/power", json.dumps(body), qos=1).wait_for_publish(10)
    up, down = (after - first for after, first in zip(_settled(proxy), before, strict=True))
    client.disconnect()
    client.loop_stop()
    proxy.close()
    return {"form": "one JSON publish a reading", "readings": count, "up": up / count, "down": down / count}


def _settled(proxy: Proxy) -> tuple[int, int]:
    """The proxy's counts once nothing more comes."""
    seen = [(-1, -1)] * 10

    def is_still() -> bool:
        seen.append((proxy.bytes_up, proxy.bytes_down))
        return len(set(seen[-10:])) == 1

    wait_for("the line to be quiet", is_still, period_s=0.03)
    return seen[-1]


def main() -> None:
    rows = measure_bytes()
    for row in rows:
        print(json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}))
    single = rows[-1]["up"] + rows[-1]["down"]
    for row in rows[:-1]:
        print(f"{row['form']}: 1/{single / (row['up'] + row['down']):.0f} of JSON")
    if "--drain" in sys.argv:
        for per_commit in (1, 10):
            print(json.dumps(bench_uplink(1_000_000 if per_commit > 1 else 200_000, per_commit)))


if __name__ == "__main__":
    main()
