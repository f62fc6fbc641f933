"""The meter's own register port: DSMR/ESMR P1 telegrams, or IEC 62056-21 read-outs, as readings of client `meter`."""

from drivers.meter.port import MeterPort

__all__ = ["MeterPort"]
