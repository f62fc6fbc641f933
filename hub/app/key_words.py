"""What each key of hub.toml is, in a sentence, and its default: for the reference, and for `meterhub config`."""

import dataclasses
from typing import Any

from hub.app.config import KEYS, Config, MeterConfig, RadioConfig
from hub.core.uplink.config import UplinkConfig

KEY_MEANINGS = {
    "hub.data_dir": "database, radio state, keys written at run time",
    "hub.run_dir": "where the admin socket is: `admin.sock`",
    "hub.groups": "fleet groups whose commands this hub hears",
    "hub.admin_group": "the group that may change something over the admin socket; the hub's own group may ask",
    "hub.id": "only to be sure: anything but the CN of `uplink.cert_file` is an error",
    "radio.path": "the radio's port: a tty, a pty or `socket://HOST:PORT`; without the table there is no Zigbee",
    "radio.baudrate": "of the radio's serial line",
    "radio.tunnel": "which profile, cluster and endpoint carry MQTT-SN",
    "han.udp.listen": "where MQTT-SN over UDP is heard; without the table nowhere",
    "han.udp.networks": "where adapters may be; none named: anywhere",
    "han.udp.advertise": "where ADVERTISE is broadcast to",
    "han.udp.publishes_per_s": "of one adapter, in the long run; absent: no bound",
    "meter.path": "the meter's register port; without the table none is read",
    "meter.protocol": "what the meter speaks; `auto` finds out, rate and parity included",
    "meter.key_file": "the key, where the meter enciphers its telegrams",
    "meter.address": "IEC 62056-21: of a meter that answers to its own address alone",
    "uplink.host": "the broker; or `uplink.hosts`, not both",
    "uplink.hosts": "brokers, tried in turn; a hub begins at hash(hub id) mod n",
    "uplink.port": "where an address has none of its own",
    "uplink.ca_file": "who certifies the broker; read anew when it changes",
    "uplink.cert_file": "the hub's certificate; its CN is the hub's name",
    "uplink.key_file": "its key: a PEM file that nobody else may read, or a `pkcs11:` URI",
    "uplink.protocol": "MQTT's version",
    "uplink.keepalive_s": "MQTT keep-alive",
    "uplink.pack_interval_s": "how long readings may wait to be packed together",
    "uplink.booked_within_s": "acknowledged by the broker and not booked by then: sent again",
    "uplink.drain_kb_s": "how fast a backlog of readings may go; 0: no bound",
    "uplink.boot_spread_s": "how long after its machine's start a hub may wait with its first attempt",
    "uplink.retry_cap_s": "no pause between two attempts is longer",
    "uplink.deflate": "packs made smaller, for a control point that reads them",
    "uplink.time_step_ms": "times in packs are multiples of this: 100 halves what a deflated pack takes",
    "uplink.crl_file": "revoked brokers",
    "uplink.username": "where a broker wants one beside the certificate",
    "uplink.password_file": "its password",
    "uplink.topic_prefix": "before every topic, for brokers that give a tenant a tree of its own",
    "uplink.est_url": "where the hub's certificate is renewed (EST, RFC 7030); absent: nowhere",
    "uplink.est_look_s": "how often the hub looks there whether another authority certifies by now, and renews if so",
    "forward.out": "local topics that also go up unchanged",
    "store.max_mb": "how large the database may become; less where the partition does not bear it beside an update",
    "store.retention_days": "how long readings stay here after delivery",
    "store.daily_write_mb": "flash written in a day before commits wait for company; 0: no bound",
    "update.slots_dir": "where slots are spoken for; not there: no updates",
    "update.kb_s": "how fast a bundle is fetched; 0: no bound",
    "update.spread_s": "a command for many hubs: within which time each begins to fetch",
    "update.max_mb": "the largest bundle",
    "update.well_s": "how long a slot has to be well in one go, to be found good",
    "update.uplink_s": "by when an uplink that worked before an update has to be back after it",
    "control.operators_file": "who may command what; not there: nobody",
    "control.recovery_key_file": "certificate or public key of the manufacturer, whose signature brings a new list of "
    "operators where nobody can command any more (`meterhub operators recover`); not there: nobody's does",
    "control.heartbeat_s": "how often control points that send heartbeats send them; two periods of silence count",
    "control.failsafe": "the household limit while the control point is silent",
    "control.failsafe_min_s": "how long that limit holds, at the longest of its own (EEBUS LPC)",
    "control.floor_w": "no limit of consumption is lower than this",
}


def defaults() -> dict[str, Any]:
    """`table.key` -> its default, for the keys that have one."""
    names = {"hub_id": "hub.id", "forward_out": "forward.out", "slots_dir": "update.slots_dir"}
    found: dict[str, Any] = {}
    for prefix, kind in (("radio", RadioConfig), ("meter", MeterConfig), ("uplink", UplinkConfig), ("", Config)):
        for field in dataclasses.fields(kind):
            if field.default is dataclasses.MISSING:
                continue
            if prefix:
                found[f"{prefix}.{field.name}"] = field.default
            elif field.name in names:
                found[names[field.name]] = field.default
            elif field.name.startswith("udp_"):
                found[f"han.udp.{field.name[4:]}"] = field.default
            elif field.name.startswith("update_"):
                found[f"update.{field.name[7:]}"] = field.default
            else:
                table = next((name for name in ("hub", "store", "control") if field.name in KEYS[name]), None)
                if table:
                    found[f"{table}.{field.name}"] = field.default
    found["uplink.port"] = 8883
    return found
