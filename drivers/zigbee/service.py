"""What an engineer does with the radio: listen to the channels, draw the mesh, back the network up and restore it."""

from typing import TYPE_CHECKING, Any

from zigpy import types as t
from zigpy.backups import NetworkBackup

from drivers.zigbee.address import hex_of
from drivers.zigbee.application import Application

if TYPE_CHECKING:
    from hub.wire.admin import ChannelRow, NeighbourRow

_SCAN_EXPONENT = 4  # (2^4 + 1) x 15.36 ms a channel (IEEE 802.15.4-2015, 8.2.11.1): four seconds for all sixteen


async def scan(application: Application) -> "list[ChannelRow]":
    """How loud each channel is, 0 to 255, and which one is ours. Raises what the radio raises."""
    energies = await application.energy_scan(t.Channels.ALL_CHANNELS, _SCAN_EXPONENT, 1)
    ours = int(application.state.network_info.channel)
    return [
        {"channel": int(channel), "energy": round(float(energy)), "ours": int(channel) == ours}
        for channel, energy in sorted(energies.items())
    ]


async def draw(application: Application) -> "list[NeighbourRow]":
    """Who hears whom, as every router and the hub itself say it; takes a second or so a router."""
    await application.topology.scan()
    return [
        {
            "of": hex_of(ieee),
            "neighbour": hex_of(neighbour.ieee),
            "nwk": f"0x{int(neighbour.nwk):04X}",
            "kind": neighbour.device_type.name,
            "relation": neighbour.relationship.name,
            "depth": int(neighbour.depth),
            "lqi": int(neighbour.lqi),
        }
        for ieee, neighbours in application.topology.neighbors.items()
        for neighbour in neighbours
    ]


async def back_up(application: Application) -> dict[str, Any]:
    """The network in the open coordinator backup format: keys included, so whoever holds it can join and listen."""
    backup = await application.backups.create_backup(load_devices=True)
    document: dict[str, Any] = backup.as_open_coordinator_json()
    return document


def read_backup(document: Any) -> NetworkBackup:
    """A backup of ours or of another coordinator's software. Raises ValueError."""
    try:
        backup: NetworkBackup = NetworkBackup.from_dict(document)
        complete = backup.is_complete()
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"not a backup of a Zigbee network: {error!r}") from None
    if not complete:
        raise ValueError("the backup is not complete: no network can be made of it")
    return backup


def devices_of(backup: NetworkBackup) -> set[str]:
    """The IEEE addresses (16 hex digits) that belong to the network."""
    info = backup.network_info
    return {
        hex_of(ieee) for ieee in [*info.children, *info.nwk_addresses, *(key.partner_ieee for key in info.key_table)]
    }


async def restore(application: Application, backup: NetworkBackup) -> None:
    """Put the network into the radio. This application is good for nothing afterwards: the next one finds it there."""
    await application.backups.restore_backup(backup, create_new=False)
    application.connection_lost(ConnectionResetError("another network was restored"))
