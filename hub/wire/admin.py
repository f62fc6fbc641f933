"""What the admin socket answers, and so what `--json` prints: a type for each answer (design 3.4).

Nothing here exists at run time but dictionaries: the daemon imports none of it. deploy/admin_schema.py writes it down
as JSON Schema (docs/reference/admin-socket.json). A bundle holds the same answers. Times are UTC epoch seconds
where the name does not end in `_ms` (epoch milliseconds) or `_s` (a duration).
"""

from typing import Any, Literal, NotRequired, TypedDict

Counters = dict[str, int]


class ConditionRow(TypedDict):
    """Something that is wrong now; `severity` says how much, `why` why it matters (docs/reference/conditions.md)."""

    code: str
    severity: Literal["error", "warning"]
    text: str
    remedy: str
    why: str


class LaneFigures(TypedDict):
    """One lane of the outbox. `acknowledged`, `booked`: up to which number of this epoch."""

    pending: int
    oldest_s: float
    next: int
    acknowledged: int
    booked: int
    unsealed: NotRequired[int]


class QueueAnswer(TypedDict):
    """What waits for the control point."""

    readings: LaneFigures
    events: LaneFigures
    receipts: LaneFigures
    answers: LaneFigures


class BytesCarried(TypedDict):
    """Bytes of TCP; `bytes_on_line`: with all headers."""

    bytes_up: int
    bytes_down: int
    bytes_on_line: int


class TrafficFigures(TypedDict):
    """What the session carried today and this month, UTC."""

    today: BytesCarried
    month: BytesCarried
    since: float | None
    projected_mb_per_month: float | None


class TlsFigures(TypedDict, total=False):
    """The present session's TLS, or the last one's; empty before the first."""

    version: str | None
    cipher: str | None
    resumed: bool | None


class UplinkFigures(TypedDict):
    """The session to the broker."""

    state: str
    host: str
    protocol: str
    since: float | None
    rtt_ms: float | None
    last_error: str
    attempts: int
    sessions: int
    messages: int
    payload_bytes: int
    sent_again: int
    strays: int
    tls: TlsFigures


class UplinkAnswer(UplinkFigures):
    """The session, when the next attempt is, and what it carried."""

    next_attempt_s: float | None
    traffic: TrafficFigures


class StoreFigures(TypedDict):
    """The database. `written_bytes` since the hub started, by `written_source`."""

    commits: int
    refused: int
    errors: int
    salvaged: int
    readings: int
    unsealed: int
    thinned: int
    forwards_dropped: int
    packs_given_up: int
    epoch: int
    boot: int
    last_error: str
    commit_ms: float
    written_bytes: int
    written_source: str
    window_s: float
    stretched: bool
    bytes: int
    max_bytes: int


class RadioDevice(TypedDict):
    """How well a device is heard (`lqi`: 0 to 255), and what share of what is sent to it arrives (0 to 1)."""

    nwk: str
    lqi: int | None
    rssi_dbm: int | None
    delivered_share: float | None


class DisplayFigures(TypedDict):
    """In-home displays that ask for prices."""

    questions: int
    prices_told: int
    messages_told: int


class FirmwareImage(TypedDict):
    """Firmware for appliances that is offered; numbers as its maker gave them."""

    file: str
    manufacturer: int
    type: int
    version: int
    bytes: int


class FirmwareFigures(TypedDict):
    """The folder of firmware for appliances: what is offered, what is refused and why, who loads."""

    images: list[FirmwareImage]
    refused: dict[str, str]
    loading: str | None
    loaded_bytes: int | None


class SwitchGroupFigures(TypedDict):
    """The group by which plain appliances are switched at once. `members`: ClientIds; `unconfirmed`: how many were
    asked to join or to leave and have not said that they did; `frames`: commands sent to it since the start."""

    id: str
    members: list[str]
    unconfirmed: int
    frames: int


class RadioAnswer(TypedDict):
    """The radio; while there is none, or it is not loaded yet, its state and what is not known."""

    state: str
    channel: int | None
    pan_id: str | None
    ieee: str | None
    resets: int
    resets_last_hour: NotRequired[int]
    delivered_share: NotRequired[float | None]
    queue_age_s: NotRequired[float]
    frames_in: NotRequired[int]
    frames_out: NotRequired[int]
    dropped: NotRequired[int]
    failed: NotRequired[int]
    retries: NotRequired[int]
    too_long: NotRequired[int]
    duplicates: NotRequired[int]
    waiting: NotRequired[int]
    malformed: NotRequired[int]
    refused: NotRequired[int]
    address_conflicts: NotRequired[int]
    members: NotRequired[int]
    permit_s: NotRequired[int]
    move_to: NotRequired[int | None]
    move_in_s: NotRequired[int | None]
    displays: NotRequired[DisplayFigures]
    firmware: NotRequired[FirmwareFigures]
    mirrors: NotRequired[dict[str, str]]
    group: NotRequired[SwitchGroupFigures]
    devices: NotRequired[dict[str, RadioDevice]]


class HanFigures(TypedDict):
    """The home's MQTT-SN side. `links`: each link's own figures."""

    clients: int
    asleep: int
    lost: int
    known: int
    links: dict[str, dict[str, Any]]
    counters: Counters
    internal_errors: int


class LimitFigures(TypedDict):
    """What the household is held to, and until when."""

    state: str
    watts: float | None
    until: float | None
    export_watts: float | None
    trial_until: float | None


class ControlFigures(LimitFigures):
    """The same, and how many commands came to what."""

    counters: Counters


class MeterFigures(TypedDict):
    """The meter's port, without what the household uses; `state` alone where there is none. `withheld`: quantity and
    why."""

    state: str
    protocol: NotRequired[str]
    configured: NotRequired[str]
    line: NotRequired[str]
    last_s: NotRequired[float | None]
    unreadable: NotRequired[str]
    ident: NotRequired[str]
    telegrams: NotRequired[int]
    bad: NotRequired[int]
    doubtful: NotRequired[int]
    bad_share: NotRequired[float | None]
    last_fault: NotRequired[str]
    withheld: NotRequired[dict[str, str]]


class RegisterRow(TypedDict):
    """A register as the meter has it, decimal text."""

    value: str
    unit: str


class OtherMeterRow(TypedDict):
    """What the meter passes on of another meter: `text` is a decimal number of `unit`."""

    client: str
    quantity: str
    text: str
    unit: str
    at: str
    ago_s: float


class MeterAnswer(MeterFigures):
    """All that the meter says; for whoever stands in front of it. `quantities`: decimal text; `units`: theirs."""

    path: NotRequired[str]
    number: NotRequired[str]
    check: NotRequired[str]
    quantities: NotRequired[dict[str, str]]
    units: NotRequired[dict[str, str]]
    others: NotRequired[list[OtherMeterRow]]
    registers: NotRequired[dict[str, RegisterRow]]
    counts: NotRequired[Counters]
    raw: NotRequired[str]


class UpdateFigures(TypedDict):
    """The update under way, or the last one of this run."""

    slots: bool
    state: str | None
    version: str | None
    percent: int | None
    reason: str
    text: str


class BoardFigures(TypedDict):
    """What was started, of a board with two slots. `data`: "partition", or "memory" where that could not be used."""

    image: str
    slot: str
    rollback_index: int
    data: str


class FlashFigures(TypedDict):
    """What the flash says of its life (eMMC's EXT_CSD). `life_used_percent`: in steps of ten, at most so much, 110 is
    beyond it; `pre_eol`: "normal", "warning" or "urgent", of the blocks in reserve. None: it does not say."""

    life_used_percent: int | None
    pre_eol: str | None


class ProcessFigures(TypedDict):
    """The daemon itself."""

    rss_bytes: int
    clock_trusted: bool


class StatusAnswer(TypedDict):
    """Everything at a glance; nothing of what the household uses."""

    hub: str
    version: str
    epoch: int
    boot: int
    uptime_s: float
    uplink: UplinkAnswer
    queue: QueueAnswer
    store: StoreFigures
    radio: RadioAnswer
    han: HanFigures
    limit: ControlFigures
    meter: MeterFigures
    update: UpdateFigures
    board: BoardFigures | None
    flash: FlashFigures
    process: ProcessFigures
    conditions: list[ConditionRow]


class AdapterRow(TypedDict):
    """One adapter: an MQTT-SN session, or a ZCL appliance (with the columns from `quantities` on)."""

    client: str
    link: str
    address: str
    state: str
    last_seen_s: float | None
    duration_s: float | None
    queued: int
    subscriptions: list[str]
    frames_in: int
    frames_out: int
    accepted: int
    repeats: int
    retransmissions: int
    lost: int
    refused: Counters
    lqi: NotRequired[int | None]
    rssi_dbm: NotRequired[int | None]
    quantities: NotRequired[list[str]]
    withheld: NotRequired[dict[str, str]]
    polled: NotRequired[list[str]]
    alarms: NotRequired[list[str]]
    limit: NotRequired[str | None]
    manufacturer: NotRequired[str | None]
    model: NotRequired[str | None]
    muted: NotRequired[bool]
    dropped: NotRequired[int]


class ReadingRow(TypedDict):
    """A reading: its exact value as decimal text."""

    client: str
    quantity: str
    t_ms: int
    value: str
    unit: str
    flags: int


class LimitRow(TypedDict):
    """One operator's limit of the household."""

    cti: str
    operator: str
    state: str
    watts: float
    direction: str
    criticality: int
    start: float
    end: float
    told: str


class OrderRow(TypedDict):
    """What one appliance was told by command."""

    cti: str
    operator: str
    client: str
    order: str
    end: float


class HouseholdFigures(TypedDict):
    """Watts of the household and of what cannot be restricted, and who was restricted to what."""

    household_w: int | None
    base_w: int
    restricted: Counters
    deaf: list[str]
    opted_out: list[str]


ApplianceRow = TypedDict(
    "ApplianceRow",
    {
        "client": str,
        "class": str,
        "power_w": int | None,
        "nominal_w": int,
        "priority": int,
        "restrictable": bool,
        "protected": bool,
        "listens": bool,
        "share_w": int | None,
        "obeys": bool | None,
        "deaf": bool,
        "opted_out": bool,
        "kept_waiting_s": int,
    },
)


class OperatorRow(TypedDict):
    """Who may command what."""

    kid: str
    name: str
    roles: list[str]


class LimitsAnswer(ControlFigures):
    """What holds the household, what waits, and what each appliance is told."""

    limits: list[LimitRow]
    orders: list[OrderRow]
    household: HouseholdFigures
    appliances: list[ApplianceRow]
    operators: list[OperatorRow]


class HistoryRow(TypedDict):
    """A minute of the last day: messages that waited in each lane, readings not packed yet, the age of the oldest;
    watts that the household drew and was held to, null where that is not known, or there was no limit."""

    t_ms: int
    readings: int
    events: int
    receipts: int
    answers: int
    unsealed: int
    oldest_s: float
    household_w: float | None
    limit_w: float | None


class FrameRow(TypedDict):
    """A frame on either side; `kind`: what `data`, its beginning in hexadecimal, is; `size_bytes`: of all of it;
    `aps`: the header of a Zigbee frame."""

    number: int
    t_ms: int
    side: Literal["han", "uplink"]
    way: Literal["in", "out"]
    kind: Literal["mqtt-sn", "mqtt", "zigbee"]
    where: str
    size_bytes: int
    data: str
    aps: Counters | None
    client: str


class TraceAnswer(TypedDict):
    """Frames after the one that was named; `missed`: how many are gone; `next`: what to ask for then; `topics`: the
    topic ids that the frames' clients registered, by client."""

    frames: list[FrameRow]
    missed: int
    next: int
    topics: dict[str, dict[str, str]]


class ClientAnswer(TypedDict):
    client: str


class PermitAnswer(TypedDict):
    duration_s: int


class ChannelRow(TypedDict):
    """How loud a channel is, 0 to 255."""

    channel: int
    energy: int
    ours: bool


class NeighbourRow(TypedDict):
    """Who hears whom."""

    of: str
    neighbour: str
    nwk: str
    kind: str
    relation: str
    depth: int
    lqi: int


class RestoreAnswer(TypedDict):
    devices: int
    channel: int


class KeyAnswer(TypedDict):
    """The network has another key; the number of it."""

    sequence: int


class MoveAnswer(TypedDict):
    """The network will move to another channel."""

    channel: int
    in_s: int


class RemoveAnswer(TypedDict):
    """`told`: whether the device could be told to leave."""

    ieee: str
    told: bool


class ResetAnswer(TypedDict):
    forgets: str


class ReloadAnswer(TypedDict):
    operators: list[str]


class OperatorEntry(TypedDict):
    """`not_after`: UTC epoch seconds; null: for good."""

    kid: str
    name: str
    roles: list[str]
    not_after: float | None
    priority: int
    lpc: bool


class OperatorsAnswer(TypedDict):
    """`admins`: who may bring another list now; `trial_until`: when the list before this one returns."""

    operators: list[OperatorEntry]
    threshold: int
    admins: list[str]
    trial_until: float | None


class ConfigAnswer(TypedDict):
    """`changed`: the settings that a command set, by `table.key`: they are not the file's any more."""

    changed: dict[str, Any]


# An event is its own map (docs/reference/events.md), with what the store knows of it.
class EventRow(TypedDict):
    t: int
    event: str
    epoch: int
    number: int
    boot: NotRequired[int]


# question -> its answer's type.
ANSWERS: dict[str, Any] = {
    "status": StatusAnswer,
    "adapters": list[AdapterRow],
    "queue": QueueAnswer,
    "readings": list[ReadingRow],
    "events": list[EventRow],
    "limits": LimitsAnswer,
    "history": list[HistoryRow],
    "meter": MeterAnswer,
    "adapters.forget": ClientAnswer,
    "radio.permit": PermitAnswer,
    "trace": TraceAnswer,
    "radio.scan": list[ChannelRow],
    "radio.map": list[NeighbourRow],
    "radio.backup": dict[str, Any],  # the open coordinator backup format
    "radio.restore": RestoreAnswer,
    "radio.remove": RemoveAnswer,
    "radio.rotate_key": KeyAnswer,
    "radio.channel": MoveAnswer,
    "factory_reset": ResetAnswer,
    "reload": ReloadAnswer,
    "operators": OperatorsAnswer,
    "operators.recover": ReloadAnswer,
    "config": ConfigAnswer,
}
# What more than a named field may stand in.
OPEN = (EventRow,)
