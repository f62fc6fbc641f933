"""Questions to a cluster, in zigpy's words: read, bind, configure reporting and see that it was taken.

What comes back keeps the type that the device used (zcl.Record). Whatever a device answers is an answer; these raise
TimeoutError or ZigbeeException only when none comes.
"""

from typing import Any, NamedTuple

from zigpy import types
from zigpy.zcl import foundation

from drivers.zigbee.appliance import Configuration
from hub.wire.zigbee.zcl import Record

f: Any = foundation  # zigpy's integers carry no annotations of their constructors
t: Any = types

# What fits one answer without fragments: five values of six bytes, their ids, types and status (ZCL 2.5.2).
_AT_A_TIME = 5
_INT16, _IEEE_ADDRESS = 0x29, 0xF0  # data types (ZCL 2.6.2)
_CONFIGURED_AT_A_TIME = 3
_WORTH_ASKING_ALONE = (f.Status.INSUFFICIENT_SPACE, f.Status.FAILURE, f.Status.MALFORMED_COMMAND)
_ABSENT = (f.Status.UNSUPPORTED_ATTRIBUTE, f.Status.UNSUPPORTED_CLUSTER)


class AttributesRead(NamedTuple):
    """What a device has, and what it says it has not."""

    records: list[Record]
    absent: list[int]


async def read(cluster: Any, attributes: list[int], *, retries: int, singly: bool = False) -> AttributesRead:
    """Read attributes, a few at a time; one at a time what did not fit or did not come."""
    answer, alone = AttributesRead([], []), list[int]()
    size = 1 if singly else _AT_A_TIME
    for at in range(0, len(attributes), size):
        chunk = attributes[at : at + size]
        missing = await _read_chunk(cluster, chunk, answer, retries)
        alone += missing if len(chunk) > 1 else []
    for attribute in alone:
        await _read_chunk(cluster, [attribute], answer, retries)
    return answer


async def _read_chunk(cluster: Any, chunk: list[int], answer: AttributesRead, retries: int) -> list[int]:
    """Read a chunk into `answer`; those that are worth asking for alone."""
    result = await cluster.read_attributes_raw(chunk, retries=retries)
    records = getattr(result, "status_records", None)
    if records is None:  # a default response: none of it
        if len(chunk) == 1 and getattr(result, "status", None) in (*_ABSENT, f.Status.UNSUP_GENERAL_COMMAND):
            answer.absent.extend(chunk)
        return chunk
    missing = set(chunk)
    for record in records:
        attribute = int(record.attrid)
        if record.status in _WORTH_ASKING_ALONE or attribute not in missing:
            continue
        missing.discard(attribute)
        if record.status == f.Status.SUCCESS and record.value.value is not None:
            answer.records.append(Record(attribute, int(record.value.type), bytes(record.value.value.serialize())))
        elif record.status in _ABSENT:
            answer.absent.append(attribute)
    return [attribute for attribute in chunk if attribute in missing]


async def configure(cluster: Any, wanted: list[Configuration]) -> dict[int, bool]:
    """Bind, configure, and read the configuration back: which attributes will be reported."""
    await cluster.bind(retries=1)
    taken: dict[int, bool] = {}
    for at in range(0, len(wanted), _CONFIGURED_AT_A_TIME):
        chunk = wanted[at : at + _CONFIGURED_AT_A_TIME]
        result = await cluster.general_command(
            f.GeneralCommand.Configure_Reporting, [_config(configuration) for configuration in chunk], retries=1
        )
        taken |= _statuses(result, chunk)
    agreed = [configuration for configuration in wanted if taken[configuration.attribute]]
    for at in range(0, len(agreed), _CONFIGURED_AT_A_TIME):
        taken |= await _verify(cluster, agreed[at : at + _CONFIGURED_AT_A_TIME])
    return taken


def _statuses(result: Any, chunk: list[Configuration]) -> dict[int, bool]:
    records = getattr(result, "status_records", None)
    if records is None:  # a default response: the whole command was refused, unless it says success
        return dict.fromkeys((c.attribute for c in chunk), getattr(result, "status", None) == f.Status.SUCCESS)
    failed = {int(r.attrid) for r in records if r.status != f.Status.SUCCESS and r.attrid is not None}
    everything = any(r.status != f.Status.SUCCESS and r.attrid is None for r in records)
    return {c.attribute: not everything and c.attribute not in failed for c in chunk}


async def _verify(cluster: Any, chunk: list[Configuration]) -> dict[int, bool]:
    """Read Reporting Configuration (2.5.9): what a device took and forgot. One that cannot say is believed for now:
    a report that does not come is noticed (channel.py)."""
    asked = []
    for configuration in chunk:
        record = f.ReadReportingConfigRecord()
        record.direction, record.attrid = f.ReportingDirection.SendReports, configuration.attribute
        asked.append(record)
    try:
        result = await cluster.general_command(f.GeneralCommand.Read_Reporting_Configuration, asked, retries=0)
    except TimeoutError:
        return {}
    taken = {}
    for row in getattr(result, "attribute_configs", None) or ():
        if row.status == f.Status.NOT_FOUND or row.status == f.Status.UNREPORTABLE_ATTRIBUTE:
            taken[int(row.config.attrid)] = False
        elif row.status == f.Status.SUCCESS:
            taken[int(row.config.attrid)] = row.config.max_interval not in (0x0000, 0xFFFF)
    return taken


async def write_ieee(cluster: Any, attribute: int, ieee: Any) -> None:
    """Write an attribute that holds an IEEE address (ZCL 2.5.3). By number: zigpy's own definitions of the cluster need
    not be loaded (drivers/lazy_imports.py)."""
    record = f.Attribute(attribute, f.TypeValue(_IEEE_ADDRESS, ieee))
    await cluster.general_command(f.GeneralCommand.Write_Attributes, [record], retries=1)


async def write_int16(cluster: Any, attribute: int, value: int) -> bool:
    """Write an attribute that is an int16 (ZCL 2.5.3). Whether the device took it."""
    record = f.Attribute(attribute, f.TypeValue(_INT16, t.int16s(value)))
    result = await cluster.general_command(f.GeneralCommand.Write_Attributes, [record], retries=1)
    records = getattr(result, "status_records", None)
    if records is None:  # a default response
        return bool(getattr(result, "status", None) == f.Status.SUCCESS)
    return all(row.status == f.Status.SUCCESS for row in records)


def _config(configuration: Configuration) -> Any:
    config = f.AttributeReportingConfig()
    config.direction = f.ReportingDirection.SendReports
    config.attrid, config.datatype = configuration.attribute, configuration.kind
    config.min_interval, config.max_interval = configuration.least_s, configuration.most_s
    config.reportable_change = configuration.change
    return config
