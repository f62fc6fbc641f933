"""Makes an appliance report: reads what it has, chooses one source a quantity, binds, configures reporting."""

import logging
from typing import Any

from zigpy.zcl import Cluster
from zigpy.zcl.foundation import Status
from zigpy.zcl.helpers import ReportingConfig

from drivers.zigbee.measures import MEASURES, METERING, UNIT_KWH, Measure, attributes_of
from drivers.zigbee.scaling import Scale, scale_of

log = logging.getLogger(__name__)

Sources = dict[tuple[int, str], tuple[Measure, Scale]]
Values = dict[int, dict[str, Any]]


async def configure(clusters: list[Cluster], sources: Sources) -> Values:
    """Do it all, filling `sources`; the values read on the way, by cluster and attribute name.

    Raises TimeoutError or ZigbeeException when the appliance does not answer; doing it again does no harm.
    """
    by_id: dict[int, Any] = {int(cluster.cluster_id): cluster for cluster in clusters}
    values: Values = {}
    for cluster_id, cluster in by_id.items():
        values[cluster_id], _failures = await cluster.read_attributes(attributes_of(cluster_id))
    chosen = choose(values)
    sources.clear()
    sources.update(chosen)
    for cluster_id in dict.fromkeys(cluster_id for cluster_id, _ in chosen):
        await _report(by_id[cluster_id], [source for key, source in chosen.items() if key[0] == cluster_id])
    return values


def choose(values: Values) -> Sources:
    """One source a quantity: the first of MEASURES that the appliance has a value for."""
    chosen: Sources = {}
    taken: set[str] = set()
    for measure in MEASURES:
        found = values.get(measure.cluster_id, {})
        value = found.get(measure.attribute)
        if measure.quantity in taken or value is None or value == measure.missing:
            continue
        if measure.cluster_id == METERING and found.get("unit_of_measure", UNIT_KWH) != UNIT_KWH:
            continue
        taken.add(measure.quantity)
        scale = scale_of(found.get(measure.multiplier), found.get(measure.divisor), measure.exponent)
        chosen[measure.cluster_id, measure.attribute] = (measure, scale)
    return chosen


async def _report(cluster: Any, sources: list[tuple[Measure, Scale]]) -> None:
    await cluster.bind()
    wanted = {
        cluster.find_attribute(measure.attribute): ReportingConfig(
            min_interval=measure.least_s,
            max_interval=measure.most_s,
            reportable_change=scale.raw_change(measure.change),
        )
        for measure, scale in sources
    }
    for attribute, status in (await cluster.configure_reporting_multiple(wanted)).items():
        if status != Status.SUCCESS:
            log.debug("%s does not report %s: %s", cluster, attribute.name, status)
