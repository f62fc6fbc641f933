"""Figures for Prometheus (text format 0.0.4)."""

import time
from typing import Any

from deploy.headend.clearing import cleared, last_walk_ms
from hub.headend.database import BookReader

_EXPIRY_DAYS = (7, 30, 90)

# A hub that was revoked is not waited for.
_EXPIRING = (
    "SELECT count(*) FROM hub h WHERE h.not_after_s < ? AND NOT EXISTS (SELECT 1 FROM hub_certificate c"
    " WHERE c.hub = h.hub AND c.kid = h.kid AND c.revoked_s > 0)"
)


def metrics(fleet: dict[str, Any], counts: dict[str, int], chains_broken: int, db: BookReader) -> str:
    """The page. `fleet` as overview() gives it, `counts` the service's own since its start."""
    lines: list[str] = []

    def add(name: str, kind: str, text: str, rows: list[tuple[str, float]]) -> None:
        lines.extend((f"# HELP meterhub_{name} {text}", f"# TYPE meterhub_{name} {kind}"))
        lines.extend(f"meterhub_{name}{labels} {value:g}" for labels, value in rows)

    states = [(f'{{state="{state}"}}', fleet[state]) for state in ("online", "offline", "never_seen")]
    add("hubs", "gauge", "Hubs by what they said last.", states)
    add("messages_stored", "gauge", "Messages in the book.", [("", fleet["messages"])])
    add("readings_stored", "gauge", "Readings in the database.", [("", fleet["readings"])])
    add("receipt_chains_broken", "gauge", "Receipts that do not follow from the one before.", [("", chains_broken)])
    lost = db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE is_given_up = 1").fetchone()[0]
    add("messages_lost", "gauge", "Numbers that hubs do not keep any more.", [("", lost)])
    add(
        "messages_missing",
        "gauge",
        "Numbers that were not heard, asked for, and have not come.",
        [("", counts["missing"])],
    )
    said = db.execute(
        "SELECT severity, code, count(DISTINCT hub) FROM alarm WHERE source = 'event' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    add("alarms", "gauge", "Hubs that said so in an event, and not yet that it is over.", [
        (f'{{severity="{severity}",code="{code}"}}', n) for severity, code, n in said])  # fmt: skip
    now = int(time.time())
    silent = db.execute("SELECT count(*) FROM hub WHERE seen_ms > 0 AND seen_ms < ?", ((now - 3600) * 1000,)).fetchone()
    add("hubs_silent", "gauge", "Hubs that were heard once, and not within an hour.", [("", silent[0])])
    add("certificates_expiring", "gauge", "Hubs whose certificate ends within so many days.", [
        (f'{{days="{days}"}}', db.execute(_EXPIRING, (now + days * 86_400,)).fetchone()[0]) for days in _EXPIRY_DAYS
    ])  # fmt: skip
    ends = db.execute("SELECT min(next_s) FROM revocation_list").fetchone()[0]
    if ends is not None:
        text = "Until the first of the revocation lists is out of date, and brokers refuse everybody."
        add("revocation_list_left_seconds", "gauge", text, [("", ends - now)])
    rows = db.execute("SELECT status, count(*) FROM order_hub GROUP BY status ORDER BY status").fetchall()
    add("order_answers", "gauge", "Hubs asked, by what became of it.", [(f'{{status="{s}"}}', n) for s, n in rows])
    kinds = cleared(db)
    if kinds:
        add("cleared_rows_total", "counter", "Rows that went since ever because they were old.", [
            (f'{{what="{what}"}}', its.rows) for what, its in kinds.items()])  # fmt: skip
        add("kept_since_seconds", "gauge", "UTC epoch seconds from which on all rows are here; 0: none went.", [
            (f'{{what="{what}"}}', its.before_ms // 1000) for what, its in kinds.items()])  # fmt: skip
        text = "UTC epoch seconds when all hubs were last looked through for what is old."
        add("clearing_ended_seconds", "gauge", text, [("", last_walk_ms(db) // 1000)])
    columns = ("messages", "readings", "faults", "repeats", "commits", "failed")
    workers = db.execute(f"SELECT name, beat_ms, {', '.join(columns)} FROM worker ORDER BY name").fetchall()
    if workers:
        add("worker_silent_seconds", "gauge", "Seconds since a worker said that it is there.", [
            (f'{{worker="{row[0]}"}}', max(0.0, time.time() - row[1] / 1000)) for row in workers])  # fmt: skip
        for at, column in enumerate(columns, 2):
            rows = [(f'{{worker="{row[0]}"}}', row[at]) for row in workers]
            add(f"worker_{column}_total", "counter", f"Of a worker since it started: {column}.", rows)
    waiting = db.execute("SELECT count(*) FROM uncolumned").fetchone()[0]
    add(
        "column_packs_waiting",
        "gauge",
        "Packs that are in the book and not in the columnar store yet.",
        [("", waiting)],
    )
    for name, text in (
        ("column_readings", "Readings given to the columnar store."),
        ("column_failures", "Times that the columnar store could not be written."),
        ("clearing_failures", "Times that what is old could not be cleared."),
        ("worker_starts", "Workers started, each time."),
        ("messages", "Messages taken."), ("readings", "Readings taken."), ("faults", "Messages not believed."),
        ("repeats", "Messages that were in the book."), ("commits", "Transactions."), ("sent", "Commands published."),
        ("failed", "Transactions that could not be written."), ("enrolled", "Certificates given to hubs."),
        ("enrolments_refused", "Requests for a certificate that were refused."),
        ("notices_sent", "Webhooks that subscribers took."), ("notices_failed", "Webhooks that they did not."),
        ("notices_given_up", "Webhooks that were tried for the last time."),
        ("broker_files_failed", "Attempts to tell brokers of revocations that came to nothing."),
    ):  # fmt: skip
        if name in counts:
            add(f"{name}_total", "counter", text, [("", counts[name])])
    return "\n".join(lines) + "\n"
