"""One ZCL appliance: its endpoints, its channels, what is known of their scales, and what its values are worth. No I/O.

An appliance is its endpoints and channels. What goes wrong in one cluster stays there; a channel may show up late; a
value whose scale is not known, or cannot be true, is withheld and said (promise P10), never guessed.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from drivers.zigbee import exceptions
from drivers.zigbee.address import client_id_of
from drivers.zigbee.channel import Channel, ClusterPlace, ZclReading
from drivers.zigbee.contradictions import Contradictions
from drivers.zigbee.ias import ZONE_STATUS, ZONE_TYPE, Zone, word_of
from drivers.zigbee.measures import (
    ANALOG_INPUT,
    ANALOG_UNITS,
    CLUSTERS,
    ELECTRICAL_MEASUREMENT,
    ENGINEERING_UNITS,
    IAS_ZONE,
    INSTANTANEOUS_DEMAND,
    MEASURES,
    METERING,
    METERING_DIVISOR,
    ON_OFF,
    TUYA_PRIVATE,
    UNIT_KWH,
    UNIT_KWH_BCD,
    UNIT_OF_MEASURE,
    Measure,
    class_of,
    scale_attributes,
    value_attributes,
)
from drivers.zigbee.scaling import Scale, bcd, doubt_of, fixed, scale_of
from hub.core.backoff import Pace
from hub.wire.device_class import may_publish
from hub.wire.zigbee import zcl

if TYPE_CHECKING:
    from hub.wire.admin import AdapterRow

# Every reported attribute comes four times an hour at least, every polled one more often.
LOST_AFTER_S = 3600.0
# Profiles whose endpoints speak ZCL to us: Home Automation, Light Link, Smart Energy.
SMART_ENERGY = 0x0109
PROFILES = frozenset((0x0104, 0xC05E, SMART_ENERGY))
_POLL_MOST_S = 1800.0
_NOTHING_TO_POLL_S = 240
_NO_UNIT = -1
_SLEEPY_POLL_S = 3600.0
_EVERYTHING = "everything"  # withheld of a device of which nothing can be read


class Shape(NamedTuple):
    """One endpoint as the interview found it."""

    profile: int
    device_type: int
    inputs: frozenset[int]

    @property
    def class_name(self) -> str:
        """What it is by its device type (measures.py); "" where that says little."""
        return class_of(self.device_type, self.inputs)


class Configuration(NamedTuple):
    """What an attribute's reporting is to be (ZCL 2.5.7); `change` in the attribute's counts."""

    attribute: int
    kind: int
    least_s: int
    most_s: int
    change: int


class ZclAppliance:
    """Kept for as long as the hub runs; the device behind it changes with every life of the radio.

    `record`: what `to_record` gave in an earlier life of the hub.
    """

    def __init__(self, ieee: str, record: dict[str, Any] | None = None) -> None:
        self.ieee = ieee
        self.client_id = client_id_of(ieee)
        self.manufacturer: str | None = None
        self.model: str | None = None
        self.software: str | None = None  # its version; "": it has none
        self.is_sleepy = False
        self.exceptions = exceptions.Exceptions()
        self.channels: dict[tuple[ClusterPlace, int], Channel] = {}
        self.places: list[ClusterPlace] = []
        self._current_keys: set[tuple[ClusterPlace, int]] = set()
        self.is_read = False  # all clusters were read once
        self.is_told = False  # each cluster was told what to report
        self.frames_in = self.frames_out = self.accepted = 0
        self.refused: dict[str, int] = {}
        self.withheld: dict[str, str] = {}  # quantity: why
        # While the hub holds it: what it is given back, in the counts of its level or setpoint. Whoever comes after a
        # hub that is no more gives it back.
        self.held_from: int | None = None
        self.told: set[str] = set()  # quantities of which it was said that they are withheld
        self.zones: dict[int, Zone] = {}  # by endpoint
        self.changed = False  # what `to_record` gives is new
        self._scaled: set[ClusterPlace] = set()  # whose channels have the scale that is known now
        self._facts: dict[ClusterPlace, dict[int, int]] = {}  # scale attributes that were read
        self._names: dict[str, int] = {}  # quantity: the endpoint that has it without a suffix
        self._chosen: dict[str, exceptions.Pair] = {}  # of `either`
        self._shapes: dict[int, Shape] = {}
        self._values = Contradictions()  # what it says of one moment, judged together
        self._held: list[tuple[Channel, zcl.Number]] = []
        self._poll_at: dict[ClusterPlace, float] = {}
        self._failures: dict[ClusterPlace, int] = {}
        self._heard_at: float | None = None
        self._has_left = False
        self._record = record or {}

    # What it is

    def describe(self, manufacturer: str | None, model: str | None, shapes: dict[int, Shape], *, sleepy: bool) -> None:
        """The interview's outcome. Called again when the device was interviewed anew; what is known already stays."""
        # What was read of it once is true still when it cannot be read again.
        self.manufacturer = manufacturer or self.manufacturer or _text(self._record.get("manufacturer"))
        self.model = model or self.model or _text(self._record.get("model"))
        self.software = _text(self._record.get("software")) if self.software is None else self.software
        self.is_sleepy = sleepy
        self._shapes = shapes
        self._find_exceptions()
        self.places = [
            ClusterPlace(endpoint, cluster)
            for endpoint, shape in sorted(shapes.items())
            if shape.profile in PROFILES and endpoint not in self.exceptions.skip_endpoints
            for cluster in sorted(CLUSTERS & shape.inputs, key=_order_of)
        ]
        self.places.sort(key=lambda place: _order_of(place.cluster))
        known, self.channels, self._current_keys = self.channels, {}, set()
        self._scaled.clear()
        for place in self.places:
            for measure in MEASURES:
                if measure.cluster_id == place.cluster and not self._is_pretended(measure):
                    key = (place, measure.attribute)
                    self.channels[key] = known.get(key) or Channel(place, measure)
                    if measure.scale == "current":
                        self._current_keys.add(key)
        if self._record:
            self._recall(self._record)
            self._record = {}
        self._settle_names()
        is_private = not self.places and any(TUYA_PRIVATE in shape.inputs for shape in shapes.values())
        if not is_private:
            self.withheld.pop(_EVERYTHING, None)
        elif _EVERYTHING not in self.withheld:
            self._withhold(_EVERYTHING, "it speaks its maker's own language alone (Tuya, cluster 0xEF00)", "private")

    @property
    def is_known(self) -> bool:
        """Whether it is an appliance to us: something of it is read, or it is said what is not."""
        return bool(self.places or self.withheld)

    @property
    def may_want_mirror(self) -> bool:
        """Whether it is a Smart Energy meter that sleeps: it asks for a mirror by itself, and is not to be asked."""
        is_meter = any(shape.profile == SMART_ENERGY and METERING in shape.inputs for shape in self._shapes.values())
        return self.is_sleepy and is_meter

    def _is_pretended(self, measure: Measure) -> bool:
        if measure.quantity in self.exceptions.skip:
            return True
        # What switches a load and measures it is fed by the mains, whatever its firmware says of batteries.
        clusters = {cluster for shape in self._shapes.values() for cluster in shape.inputs}
        is_plug = ON_OFF in clusters and bool(clusters & {METERING, ELECTRICAL_MEASUREMENT})
        return measure.quantity == "battery" and is_plug

    def _find_exceptions(self) -> None:
        types = {endpoint: shape.device_type for endpoint, shape in self._shapes.items()}
        reads = {
            (place.endpoint, measure.scale): facts[measure.divisor]
            for place, facts in self._facts.items()
            for measure in MEASURES
            if measure.cluster_id == place.cluster and measure.divisor and measure.divisor in facts
        }
        self.exceptions = exceptions.of(self.manufacturer, self.model, types, reads, self.software)

    def has_software(self, version: str) -> None:
        """Its software's version was read; "": it has none."""
        self.changed = self.changed or version != self.software
        self.software = version
        self._find_exceptions()
        self._scaled.clear()

    def unsure_places(self) -> list[ClusterPlace]:
        """Where it has what the version of its software would tell the scale of."""
        unsure = self.exceptions.unsure
        return list({channel.place: None for channel in self.channels.values() if channel.measure.quantity in unsure})

    # What to ask

    def questions(self, place: ClusterPlace, *, anew: bool = False) -> list[int]:
        """Attributes to read of a cluster. `anew`: also those that the device said it has not."""
        facts = self._facts.get(place, {})
        wanted = [attribute for attribute in scale_attributes(place.cluster) if anew or facts.get(attribute) != -1]
        for attribute in value_attributes(place.cluster):
            channel = self.channels.get((place, attribute))
            if channel is not None and (anew or not channel.is_absent):
                wanted.append(attribute)
        return wanted

    def absent(self, place: ClusterPlace, attributes: Iterable[int]) -> None:
        """The device said that it has none of these."""
        scales = scale_attributes(place.cluster)
        for attribute in attributes:
            channel = self.channels.get((place, attribute))
            if channel is not None and channel.kind is None:
                self.changed = self.changed or not channel.is_absent
                channel.is_absent = True
            if attribute in scales and attribute not in self._facts.get(place, {}):
                self._facts.setdefault(place, {})[attribute] = -1
                self.changed = True

    def to_configure(self, place: ClusterPlace, now: float) -> list[Configuration]:
        """What this cluster is to report: of each quantity its best channel, and the next where that has no value."""
        wanted = []
        for channel in self._channels_of(place):
            if self._is_wanted(channel, now) and self._is_of_use(channel) and channel.kind is not None:
                measure = channel.measure
                change = 1 if channel.scale is None else channel.scale.raw_change(measure.change)
                most = (1 << max(1, zcl.bits_of(channel.kind) - 1)) - 1
                wanted.append(
                    Configuration(measure.attribute, channel.kind, measure.least_s, measure.most_s, min(change, most))
                )
        return wanted

    def configured(self, place: ClusterPlace, attribute: int, *, took: bool) -> None:
        """The device took the reporting configuration of an attribute, or it did not."""
        channel = self.channels.get((place, attribute))
        if channel is not None:
            channel.is_configured, channel.is_refused = took, not took
            self.changed = True

    def to_poll(self, place: ClusterPlace, now: float) -> list[int]:
        """Attributes that have to be asked for because no report brings them."""
        wanted = [channel for channel in self._channels_of(place) if self._is_polled(channel, now)]
        attributes = {channel.measure.attribute: None for channel in wanted}
        for channel in wanted:
            if channel.measure.scale in self.exceptions.moves:
                attributes |= {channel.measure.multiplier: None, channel.measure.divisor: None}
        return list(attributes)

    def poll_due(self, place: ClusterPlace) -> float:
        """When `to_poll` is worth asking for."""
        return self._poll_at.get(place, float("-inf"))

    def polled(self, place: ClusterPlace, now: float, *, answered: bool = True) -> None:
        """A question was put: when the next is due. One that gets no answer is put more and more seldom."""
        self._failures[place] = 0 if answered else self._failures.get(place, 0) + 1
        periods = [channel.measure.poll_s for channel in self._channels_of(place) if self._is_polled(channel, now)]
        pace = Pace(
            max(min(periods, default=_NOTHING_TO_POLL_S), _SLEEPY_POLL_S if self.is_sleepy else 0.0),
            max(_POLL_MOST_S, _SLEEPY_POLL_S if self.is_sleepy else 0.0),
        )
        self._poll_at[place] = now + pace.ceiling_s(self._failures[place])

    def ask_soon(self, place: ClusterPlace) -> None:
        """Something was ordered here: what became of it is asked at the next turn, unless a report says so."""
        self._poll_at.pop(place, None)

    def _is_polled(self, channel: Channel, now: float) -> bool:
        return self._is_wanted(channel, now) and self._is_of_use(channel) and not channel.is_reporting(now)

    def _is_of_use(self, channel: Channel) -> bool:
        return channel.scale is not None or channel.measure.scale in self.exceptions.either

    def _is_wanted(self, channel: Channel, now: float) -> bool:
        is_its = bool(channel.quantity) and channel.is_there and self._is_of_its_class(channel)
        return is_its and not self._is_outspoken(channel, now)

    def _is_of_its_class(self, channel: Channel) -> bool:
        """Whether what its endpoint says that it is may publish this at all (hub/wire/device_class)."""
        shape = self._shapes.get(channel.place.endpoint)
        return shape is None or may_publish(shape.class_name, channel.base)

    def _is_outspoken(self, channel: Channel, now: float) -> bool:
        """Whether a better channel speaks for the same quantity."""
        for other in self.channels.values():
            if other is channel:
                return False
            if other.quantity == channel.quantity and other.speaks(now):
                return True
        return False

    def _channels_of(self, place: ClusterPlace) -> list[Channel]:
        return [channel for channel in self.channels.values() if channel.place == place]

    # What it says

    def heard(self, now: float) -> None:
        self.frames_in += 1
        self._heard_at = now
        self._has_left = False

    def take(
        self, place: ClusterPlace, records: Iterable[zcl.Record], now: float, *, reported: bool = False
    ) -> list[ZclReading]:
        """Attributes as the device gave them, read or reported: the readings that they are worth."""
        # A phase's current tells whether its voltage is measured.
        records = sorted(records, key=lambda record: (place, record.attribute) not in self._current_keys)
        self._learn(place, records)
        readings = []
        for record in records:
            channel = self.channels.get((place, record.attribute))
            if channel is None:
                continue
            if channel.kind != record.kind or channel.is_absent:
                channel.kind, channel.is_absent = record.kind, False
                self.changed = True
                self._settle_names()
            if reported:
                channel.reported_at, channel.is_refused = now, False
            if not self._is_of_its_class(channel):
                said = self._shapes[place.endpoint].class_name
                self._withhold(channel.quantity, f"its endpoint says that it is a {said}, which has none", "class")
                continue
            reading = self._value(channel, record, now)
            if reading is not None:
                readings.append(reading)
        return readings

    def take_zone(self, endpoint: int, status: int) -> tuple[list[ZclReading], list[str]]:
        """A zone's status: the readings and the texts of the alarms that it makes."""
        zone = self.zones.setdefault(endpoint, Zone(-1))
        readings = [] if zone.quantity is None else [ZclReading(zone.quantity, zone.reading(status))]
        return readings, zone.take(status)

    def take_zone_records(self, endpoint: int, records: Iterable[zcl.Record]) -> tuple[list[ZclReading], list[str]]:
        """Attributes of an IAS Zone cluster: its type first, then what it says now."""
        numbers = {record.attribute: record.number for record in records}
        kind, status = numbers.get(ZONE_TYPE), numbers.get(ZONE_STATUS)
        if kind is not None and (endpoint not in self.zones or self.zones[endpoint].zone_type != kind):
            self.zones[endpoint] = Zone(int(kind))
            self.changed = True
        return ([], []) if status is None else self.take_zone(endpoint, int(status))

    def settle(self, now: float) -> list[ZclReading]:
        """All clusters were read: what could only be judged together is judged. The readings that waited for it."""
        self.is_read = True
        held, self._held = self._held, []
        for endpoint in {channel.place.endpoint for channel, _ in held}:
            self._judge(endpoint, now, at_once=True)
            self._judge_phases(endpoint, at_once=True)
        return [reading for channel, raw in held if (reading := self._worth(channel, raw, now)) is not None]

    def _value(self, channel: Channel, record: zcl.Record, now: float) -> ZclReading | None:
        raw = record.number
        if raw is not None and channel.is_bcd:
            raw = bcd(int(raw))
        if raw is None:
            self._refuse("invalid")
            return None
        if channel.base.startswith("current"):
            self._values.note_current(channel.base, channel.place.endpoint, raw, now)
            if not self.is_read:  # the power that it is judged by may be read later
                self._held.append((channel, raw))
                return None
            self._judge(channel.place.endpoint, now)
        if channel.base.startswith("voltage") and any(place == channel.place for place, _ in self._current_keys):
            if channel.scale is not None:
                self._note(channel, raw * channel.scale.factor, now)
            if not self.is_read:
                self._held.append((channel, raw))
                return None
            self._judge_phases(channel.place.endpoint)
        if channel.measure.is_register and channel.scale is not None:
            wh_per_count = float(channel.scale.factor)
            if not channel.register.accepts(int(raw), zcl.bits_of(record.kind), wh_per_count, now):
                self._refuse("jump")
                return None
        return self._worth(channel, raw, now)

    def _worth(self, channel: Channel, raw: zcl.Number, now: float) -> ZclReading | None:
        quantity, scale = channel.quantity, channel.scale
        if scale is None:
            if channel.doubt:
                self._withhold(quantity, channel.doubt, "scale")
            return None
        value = raw * scale.factor
        if not channel.measure.least <= value <= channel.measure.most:
            self._withhold(quantity, f"{scale.text(raw)} cannot be true", "implausible")
            return None
        is_voltage = channel.base.startswith("voltage")
        if is_voltage and not value and self._values.carries_current(channel.base, channel.place.endpoint):
            self._refuse("implausible")  # no volts where amperes flow: this phase's voltage is not measured
            return None
        if self._values.holds_against(channel, self.channels.values()):
            self._withhold(quantity, "power, voltage and current do not fit one another", "implausible")
            return None
        if is_voltage and self._is_unproved():
            self._withhold(quantity, "another divisor of this device is false, and nothing bears this one out", "scale")
            return None
        self._note(channel, value, now)
        channel.valid_at = now
        if self._is_outspoken(channel, now):
            return None
        self.withheld.pop(quantity, None)
        self.accepted += 1
        return ZclReading(quantity, scale.text(raw))

    def _note(self, channel: Channel, value: Fraction, now: float) -> None:
        """What other values are judged by, believed or not."""
        if channel.measure.least <= value <= channel.measure.most:
            self._values.note(channel.base, channel.place.endpoint, Fraction(value), now)

    def _is_unproved(self) -> bool:
        """Whether the device was found to give a false divisor, and its power does not bear out the others (yet)."""
        if "current" not in self.exceptions.either or "current" in self._chosen:
            return False
        meters = [facts for place, facts in self._facts.items() if place.cluster == METERING]
        divisors = [facts[METERING_DIVISOR] for facts in meters if facts.get(METERING_DIVISOR, -1) != -1]
        return any(doubt_of(None, divisor) for divisor in divisors)

    # Scales

    def _learn(self, place: ClusterPlace, records: list[zcl.Record]) -> None:
        scales = scale_attributes(place.cluster)
        facts = self._facts.setdefault(place, {}) if scales else {}
        is_new = False
        for record in records:
            if record.attribute in scales:
                number = record.number
                value = 0 if number is None else int(number)  # an invalid one is no scale
                is_new = is_new or facts.get(record.attribute) != value
                facts[record.attribute] = value
        if is_new:
            self.changed = True
            self._find_exceptions()
            self._scaled.clear()
        if place not in self._scaled:
            self._scaled.add(place)
            for channel in self._channels_of(place):
                channel.scale, channel.doubt = self._scale_of(channel)
            self._settle_names()

    def _scale_of(self, channel: Channel) -> tuple[Scale | None, str]:
        """The scale of a channel, or why there is none."""
        scale, doubt = self._stated_scale(channel)
        times = self.exceptions.factor.get("instantaneous_demand")
        is_demand = (channel.measure.cluster_id, channel.measure.attribute) == (METERING, INSTANTANEOUS_DEMAND)
        if scale is not None and times is not None and is_demand:  # its register's pair is not this one's
            return fixed(scale.factor * Fraction(*times)), doubt
        return scale, doubt

    def _stated_scale(self, channel: Channel) -> tuple[Scale | None, str]:
        """By the pair that the device gives, or that the table has for it."""
        measure, facts = channel.measure, self._facts.get(channel.place, {})
        if measure.cluster_id == ANALOG_INPUT:
            return self._scale_of_analog(channel, facts)
        if measure.cluster_id == METERING:
            unit = self._unit_of(channel.place)
            channel.is_bcd = unit == UNIT_KWH_BCD
            if unit not in (UNIT_KWH, UNIT_KWH_BCD):
                return None, "its unit is not known" if unit == _NO_UNIT else ""
        if measure.quantity in self.exceptions.unsure:
            return None, "which of two scales it has, the version of its software tells, and that is not known"
        if not measure.scale:
            factor = Fraction(*self.exceptions.factor.get(measure.quantity, (1, 1)))
            return fixed(measure.factor * factor), ""
        if not measure.divisor:
            tabled = self.exceptions.scale.get(measure.scale)
            return (None, "where its scale ends is not known") if tabled is None else (scale_of(*tabled), "")
        chosen = self.exceptions.lies.get(measure.scale) or self._chosen.get(measure.scale)
        if chosen is not None:
            return scale_of(*chosen, measure.exponent), ""
        if measure.scale in self.exceptions.either:
            return None, "which of two scales it has shows only while it carries more power"
        multiplier, divisor = (
            None if value == -1 else value
            for value in (facts.get(measure.multiplier, -1), facts.get(measure.divisor, -1))
        )
        doubt = doubt_of(multiplier, divisor)
        if not doubt:
            assert divisor is not None
            return scale_of(1 if multiplier is None else multiplier, divisor, measure.exponent), ""
        fallback = self.exceptions.scale.get(measure.scale)
        return (None, doubt) if fallback is None else (scale_of(*fallback, measure.exponent), "")

    def _scale_of_analog(self, channel: Channel, facts: dict[int, int]) -> tuple[Scale | None, str]:
        analog = self.exceptions.analog.get(channel.place.endpoint)
        if analog is not None:
            return fixed(Fraction(analog[1], analog[2])), ""
        unit = ANALOG_UNITS.get(facts.get(ENGINEERING_UNITS, -1))
        return (None, "") if unit is None else (fixed(unit[1]), "")

    # Names

    def _base_of(self, channel: Channel) -> str:
        place = channel.place
        if place.cluster == ANALOG_INPUT:
            analog = self.exceptions.analog.get(place.endpoint)
            unit = ANALOG_UNITS.get(self._facts.get(place, {}).get(ENGINEERING_UNITS, -1))
            return analog[0] if analog is not None else "" if unit is None else unit[0]
        if place.cluster == ELECTRICAL_MEASUREMENT and channel.measure.attribute == 0x050B:
            total = self.channels.get((place, 0x0304))
            others = [self.channels.get((place, attribute)) for attribute in (0x090B, 0x0A0B)]
            is_one_of_three = any(other is not None and other.is_there for other in others)
            if is_one_of_three and total is not None and total.is_there and total.scale is not None:
                return "power.a"
        if place.cluster == METERING and self._unit_of(place) not in (UNIT_KWH, UNIT_KWH_BCD, _NO_UNIT):
            return ""  # it counts gas, water or heat
        return channel.measure.quantity

    def _unit_of(self, place: ClusterPlace) -> int:
        """What a register counts; _NO_UNIT when neither the device nor the table says."""
        unit = self._facts.get(place, {}).get(UNIT_OF_MEASURE, -1)
        if unit >= 0:
            return unit
        return _NO_UNIT if self.exceptions.unit is None else self.exceptions.unit

    def _settle_names(self) -> None:
        """The first endpoint that has a quantity has it by its own name; others add their number.

        First is the lowest that may have it, once one is known to: an endpoint that does not answer keeps its place.
        """
        by_base: dict[str, list[Channel]] = {}
        for channel in self.channels.values():
            channel.base = channel.quantity = self._base_of(channel)
            if channel.base and not channel.is_absent:
                by_base.setdefault(channel.base, []).append(channel)
        for base, channels in by_base.items():
            # An Analog Input that the table knows has no number: it is the device's only one of that quantity.
            numbered = [channel for channel in channels if not self._is_tabled(channel)]
            if not numbered:
                continue
            endpoints = {channel.place.endpoint for channel in numbered}
            first = self._names.get(base, min(endpoints))
            if first not in endpoints:
                first = min(endpoints)
            if any(channel.is_there for channel in numbered) and self._names.get(base) != first:
                self._names[base] = first
                self.changed = True
            for channel in numbered:
                if channel.place.endpoint != first:
                    channel.quantity = f"{base}.{channel.place.endpoint}"

    def _is_tabled(self, channel: Channel) -> bool:
        return channel.place.cluster == ANALOG_INPUT and channel.place.endpoint in self.exceptions.analog

    # What can be judged only together

    def _judge(self, endpoint: int, now: float, *, at_once: bool = False) -> None:
        """Do an endpoint's currents and voltages fit its power? First, where the currents have one of several scales,
        which of them."""
        here = [channel for channel in self.channels.values() if channel.place.endpoint == endpoint]
        currents = [channel for channel in here if channel.base.startswith("current")]
        pairs = self.exceptions.either.get("current")
        if pairs is not None and "current" not in self._chosen:
            pair = self._values.fitting(endpoint, pairs, now)
            if pair is not None:
                self._chosen["current"] = pair
                self.changed = True
            for channel in currents:
                channel.scale, channel.doubt = self._scale_of(channel)
        if pairs is None and "current" not in self.exceptions.lies and currents and currents[0].scale is not None:
            self.changed |= self._values.judge(endpoint, here, currents[0].scale.factor, now, at_once=at_once)

    def _judge_phases(self, endpoint: int, *, at_once: bool = False) -> None:
        here = [channel for channel in self.channels.values() if channel.place.endpoint == endpoint]
        self.changed |= self._values.judge_phases(endpoint, here, at_once=at_once)

    # For people

    def _refuse(self, kind: str) -> None:
        self.refused[kind] = self.refused.get(kind, 0) + 1

    def _withhold(self, quantity: str, why: str, kind: str) -> None:
        self.withheld[quantity] = why
        self._refuse(kind)

    def left(self) -> None:
        """It said that it leaves the network."""
        self._has_left = True

    def quantities(self) -> list[str]:
        """What it has, withheld or not."""
        return sorted({channel.quantity for channel in self.channels.values() if channel.is_there and channel.quantity})

    def state(self, now: float) -> str:
        """ "left", "lost" (not heard for an hour), "joining" (not heard yet), "active"."""
        if self._has_left:
            return "left"
        if self._heard_at is None:
            return "lost" if self.is_read else "joining"
        lost_after_s = LOST_AFTER_S if not self.is_sleepy else 12 * LOST_AFTER_S
        return "active" if now - self._heard_at < lost_after_s else "lost"

    def row(self, now: float) -> "AdapterRow":
        """A row for `meterhub adapters`, with the columns of an MQTT-SN session and a few of its own."""
        limit = self.exceptions.limit
        wanted = [channel for channel in self.channels.values() if self._is_wanted(channel, now)]
        return {
            "client": self.client_id,
            "link": "zigbee",
            "address": self.ieee,
            "state": self.state(now),
            "last_seen_s": None if self._heard_at is None else round(now - self._heard_at, 1),
            "duration_s": None,
            "queued": 0,
            "subscriptions": [],
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "accepted": self.accepted,
            "repeats": 0,
            "retransmissions": 0,
            "lost": 0,
            "refused": dict(self.refused),
            "quantities": self.quantities(),
            "withheld": dict(self.withheld),
            "polled": sorted({channel.quantity for channel in wanted if not channel.is_reporting(now)}),
            "alarms": sorted({word_of(zone.zone_type) for zone in self.zones.values()}),
            "limit": None if limit is None else limit.text,
            "manufacturer": self.manufacturer,
            "model": self.model,
        }

    # What is kept

    def to_record(self) -> dict[str, Any]:
        """All that would have to be asked for again, ready for JSON."""
        return {
            "manufacturer": self.manufacturer,
            "model": self.model,
            "software": self.software,
            "read": self.is_read,
            "told": self.is_told,
            "withheld": sorted(self.told),
            "held": self.held_from,
            "facts": {
                _key(*place): {str(a): value for a, value in facts.items()} for place, facts in self._facts.items()
            },
            "kinds": {
                _key(*channel.place, channel.measure.attribute): channel.kind
                for channel in self.channels.values()
                if channel.is_there
            },
            "absent": [
                _key(*channel.place, channel.measure.attribute)
                for channel in self.channels.values()
                if channel.is_absent
            ],
            "reports": [
                _key(*channel.place, channel.measure.attribute)
                for channel in self.channels.values()
                if channel.is_configured and not channel.is_refused
            ],
            "names": dict(self._names),
            "chosen": {pair: list(value) for pair, value in self._chosen.items()},
            "contradicted": sorted(self._values.contradicted),
            "zones": {str(endpoint): zone.zone_type for endpoint, zone in self.zones.items()},
        }

    def _recall(self, record: dict[str, Any]) -> None:
        """Raises nothing: what a damaged record lacks is asked for again."""
        try:
            self._facts = {
                ClusterPlace(*_unkey(place)): {int(a): int(value) for a, value in facts.items()}
                for place, facts in record["facts"].items()
            }
            self._names = {str(name): int(endpoint) for name, endpoint in record["names"].items()}
            self._chosen = {str(pair): (int(m), int(d)) for pair, (m, d) in record["chosen"].items()}
            self._values.contradicted = set(map(str, record["contradicted"]))
            self.told = set(map(str, record["withheld"]))
            self._find_exceptions()
            held = record.get("held")
            self.held_from = held if type(held) is int else None
            self.zones = {int(endpoint): Zone(int(kind)) for endpoint, kind in record["zones"].items()}
            for channel in self.channels.values():
                key = _key(*channel.place, channel.measure.attribute)
                channel.kind = record["kinds"].get(key, channel.kind)
                channel.is_absent = key in record["absent"]
                channel.is_configured = key in record["reports"]
                channel.scale, channel.doubt = self._scale_of(channel)
            self.is_read, self.is_told = bool(record["read"]), bool(record["told"])
        except (AttributeError, KeyError, TypeError, ValueError):
            self._facts, self._names, self._chosen = {}, {}, {}
            self.is_read = self.is_told = False

    def trust_reports(self, now: float) -> None:
        """After a start: who was told to report is believed to, until a report is late."""
        for channel in self.channels.values():
            if channel.is_configured and not channel.is_refused and not self.exceptions.is_polled(channel.quantity):
                channel.reported_at = now


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _order_of(cluster: int) -> int:
    """The order of MEASURES: what is preferred is read first."""
    if cluster == IAS_ZONE:
        return len(MEASURES)
    return next(at for at, measure in enumerate(MEASURES) if measure.cluster_id == cluster)


def _key(*numbers: int) -> str:
    """`ClusterPlace` and attribute as text, for JSON."""
    return ":".join(f"{number:x}" for number in numbers)


def _unkey(text: str) -> list[int]:
    return [int(number, 16) for number in text.split(":")]
