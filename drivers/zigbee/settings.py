"""What zigpy and bellows are told: the hub's choices, each with its reason."""

import importlib
import secrets
from pathlib import Path
from typing import Any, Protocol

from drivers.zigbee import load_control, messaging, smart_energy
from drivers.zigbee.frames import Preset
from drivers.zigbee.tunnel import PRESETS
from hub.wire.zigbee import mirror

DATABASE = "radio.db"
# Joins are committed at once whatever this says; the rest (last seen, cached attributes) may be lost in a power cut
# and is not worth a flash page every half minute.
_COMMIT_INTERVAL_S = 1800
_BACKUP_PERIOD_MIN = 24 * 60
_IN_FLIGHT = 8
_LAST_PAN_ID = 0xFFF0  # 0xFFFF is the broadcast PAN (IEEE 802.15.4), which zigpy's own choice includes


class RadioSettings(Protocol):
    """The [radio] table of hub.toml."""

    @property
    def path(self) -> str: ...
    @property
    def baudrate(self) -> int: ...
    @property
    def tunnel(self) -> str: ...


def preset_of(radio: RadioSettings) -> Preset:
    """Where MQTT-SN travels. Raises KeyError for a name that hub/app/config.py would have refused."""
    return PRESETS[radio.tunnel]


def zigpy_config(radio: RadioSettings, database: Path | None) -> dict[str, Any]:
    """The configuration of one zigpy application. The PAN id counts only when a network has to be formed."""
    preset = preset_of(radio)
    if radio.path.startswith("rfc2217:"):
        importlib.import_module("serialx.platforms.serial_rfc2217").RFC2217Serial  # noqa: B018 (drivers/lazy_imports.py: it sleeps)
    return {
        "device": {"path": radio.path, "baudrate": radio.baudrate},
        "database_path": None if database is None else str(database),
        "database_commit_interval": _COMMIT_INTERVAL_S,
        "network": {"pan_id": 1 + secrets.randbelow(_LAST_PAN_ID)},
        "additional_endpoints": [
            {
                "endpoint": preset.endpoint_id,
                "profile": preset.profile_id,
                "device_type": 0x0001,
                "device_version": 0,
                "input_clusters": [preset.cluster_id],
                "output_clusters": [preset.cluster_id],
            },
            {  # the last ones: a radio may have no room for it (application.py)
                "endpoint": smart_energy.ENDPOINT,
                "profile": smart_energy.PROFILE,
                "device_type": smart_energy.ENERGY_SERVICE_INTERFACE,
                "device_version": 0,
                "input_clusters": [
                    mirror.BASIC,
                    smart_energy.TIME,
                    smart_energy.PRICE,
                    load_control.CLUSTER,
                    messaging.CLUSTER,
                ],
                "output_clusters": [mirror.METERING],  # by which a meter that sleeps finds who has a mirror for it
            },
            *(
                {
                    "endpoint": endpoint,
                    "profile": smart_energy.PROFILE,
                    "device_type": mirror.METERING_DEVICE,
                    "device_version": 0,
                    "input_clusters": [mirror.METERING],
                    "output_clusters": [],
                }
                for endpoint in smart_energy.MIRROR_ENDPOINTS
            ),
        ],
        "max_concurrent_requests": _IN_FLIGHT,
        # The hub's firmware reaches its devices by other ways than zigpy's lists on the Internet.
        "ota": {"enabled": False, "broadcast_enabled": False, "providers": []},
        # A scan asks every router for its neighbours: airtime and flash for a map that nobody looks at.
        "topology_scan_enabled": False,
        # A blank replacement radio gets the network back from the newest backup.
        "backup_enabled": True,
        "backup_period": _BACKUP_PERIOD_MIN,
        # The serial port is served by the hub's own loop: a second one costs a thread and two hops per frame.
        "use_thread": False,
    }
