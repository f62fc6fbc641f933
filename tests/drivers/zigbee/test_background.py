"""What reads the radio's whole memory leaves it to whoever has something to send."""

import asyncio
from typing import Any

from tests.drivers.zigbee.radio import Emulator, HubSide, short_directory


def test_two_who_read_all_of_the_radio_do_not_keep_a_frame_from_the_air() -> None:
    """As zigpy's backup and the hub's snapshot did after each start: on a slow line the radio was taken for dead, since
    it could not show that it sends, and both began anew with it."""
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                application: Any = hub.link._supervisor.application
                for reader in (application.backups.create_backup, application.load_network_info):
                    both = [asyncio.ensure_future(reader(load_devices=True)) for _ in range(2)]
                    for _ in range(20):  # they are at it
                        await application._ezsp.getNodeId()
                    await application.prove()
                    assert not any(task.done() for task in both), "the frame waited for the end of one"
                    await asyncio.gather(*both)

        asyncio.run(scenario())


def test_a_backup_is_whole_however_much_is_sent_beside_it() -> None:
    with short_directory() as place, Emulator(place, []) as radio:

        async def scenario() -> None:
            async with HubSide(radio.tty, place / "data") as hub:
                await hub.up()
                application: Any = hub.link._supervisor.application
                reading = asyncio.ensure_future(application.backups.create_backup(load_devices=True))
                for _ in range(30):
                    await application.prove()
                assert (await asyncio.wait_for(reading, 60)).is_complete()

        asyncio.run(scenario())
