"""Zigbee: zigpy and bellows, supervised; the MQTT-SN tunnel; ZCL appliances. zigpy types stop at this package.

Importing it costs tens of megabytes and, on a small ARM, seconds: the daemon does it late and in a thread.
"""

import logging

from drivers import lazy_imports

with lazy_imports.imports():
    from drivers.zigbee.link import ZigbeeLink

# What these say below WARNING is a line per frame, with addresses of the home's devices in it.
for _name in ("zigpy", "bellows", "serialx", "aiosqlite"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class _KnownNoise(logging.Filter):
    """Drops what asyncio says of frames that were on their way when the radio went: each a traceback, none a fault."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        is_of_radio = kind is not None and kind.__name__ == "NcpFailure"  # told by the supervisor, with its reason
        return not is_of_radio and "AshProtocol._send_data_frame" not in record.getMessage()


logging.getLogger("asyncio").addFilter(_KnownNoise())

__all__ = ["ZigbeeLink"]
