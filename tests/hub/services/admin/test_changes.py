"""What changes something over the admin socket is for few: each question is judged, a new one too."""

from typing import Any

from hub.services.admin.queries import CHANGES, Queries

# Neither changes anything nor hands out a key.
READS = {
    "status", "adapters", "queue", "readings", "events", "limits", "operators", "meter", "trace", "radio.scan",
    "radio.map", "config", "history",
}  # fmt: skip


def test_every_question_either_reads_or_is_for_few() -> None:
    nobody: Any = None  # the table alone is looked at
    known = set(Queries(nobody).handlers())
    assert known == READS | CHANGES
    assert not READS & CHANGES
