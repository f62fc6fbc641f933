"""One channel of an appliance: a measured attribute of an endpoint, what it is worth, how its value comes. No I/O."""

from dataclasses import dataclass, field
from typing import NamedTuple

from drivers.zigbee.measures import Measure
from drivers.zigbee.register import EnergyRegister
from drivers.zigbee.scaling import Scale

# A report is late when so much more than the longest interval has passed: the network was busy, a frame was lost.
_LATE = 1.5
_LATE_MARGIN_S = 30.0
# What speaks for a quantity does so until it has been silent, or invalid, for so long.
SPEAKS_S = 3600.0


class ClusterPlace(NamedTuple):
    """A cluster of an endpoint."""

    endpoint: int
    cluster: int


class SwitchPlace(NamedTuple):
    """An endpoint that can be switched. `ieee`: 16 hex digits."""

    ieee: str
    endpoint: int

    def __str__(self) -> str:
        return f"{self.ieee}:{self.endpoint}"


class ZclReading(NamedTuple):
    """A value in the hub's units, as decimal text."""

    quantity: str
    text: str


@dataclass(slots=True)
class Channel:
    """`quantity` "": what it measures is not known (yet). `scale` None: `doubt` says why it is withheld."""

    place: ClusterPlace
    measure: Measure
    quantity: str = ""
    base: str = ""  # the quantity without the endpoint's number
    kind: int | None = None  # the ZCL type that the device uses; None: never given
    is_absent: bool = False  # the device said that it has none
    scale: Scale | None = None
    doubt: str = ""
    is_bcd: bool = False
    is_configured: bool = False  # it took the reporting configuration
    is_refused: bool = False  # it does not report this, ever
    reported_at: float | None = None  # when it last did, unasked
    valid_at: float | None = None
    register: EnergyRegister = field(default_factory=EnergyRegister)

    @property
    def is_there(self) -> bool:
        """Whether the device has given a value of it, valid or not."""
        return self.kind is not None and not self.is_absent

    def speaks(self, now: float) -> bool:
        """Whether its values are good at present: one less preferred for the same quantity keeps silent then."""
        return self.scale is not None and self.valid_at is not None and now - self.valid_at < SPEAKS_S

    def is_reporting(self, now: float) -> bool:
        """Whether its reports come: proved by one, and not too long ago. What does not report is asked."""
        if self.is_refused or self.reported_at is None:
            return False
        return now - self.reported_at < _LATE * self.measure.most_s + _LATE_MARGIN_S
