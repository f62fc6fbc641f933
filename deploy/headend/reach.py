"""Whose hubs a client of the API sees and commands: all, or those of its groups. No other is there for it."""

from dataclasses import dataclass

from hub.headend.database import BookReader


@dataclass(frozen=True, slots=True)
class Reach:
    """`groups`: None for the whole fleet. Who is in a group follows from what hubs said (registry.py)."""

    groups: tuple[str, ...] | None = None

    @property
    def is_all(self) -> bool:
        return self.groups is None

    def clause(self, column: str = "hub") -> str:
        """An SQL condition on the column that names the hub, for `values`."""
        if self.groups is None:
            return "true"
        return f"{column} IN (SELECT hub FROM hub_group WHERE name IN ({', '.join('?' * len(self.groups))}))"

    @property
    def values(self) -> tuple[str, ...]:
        return self.groups or ()

    def hubs(self, db: BookReader) -> frozenset[str]:
        """All of them, by name."""
        rows = db.execute(f"SELECT hub FROM hub WHERE {self.clause()}", self.values)
        return frozenset(row[0] for row in rows)

    def has_all_of(self, db: BookReader, order_id: str) -> bool:
        """Whether every hub that an order is for is within; False where there is no such order."""
        return self._has_all(db, "order_hub", "order_id", order_id)

    def has_all_of_rollout(self, db: BookReader, rollout_id: str) -> bool:
        """The same of a roll-out."""
        return self._has_all(db, "rollout_hub", "rollout_id", rollout_id)

    def _has_all(self, db: BookReader, table: str, column: str, key: str) -> bool:
        count, within = db.execute(
            f"SELECT count(*), coalesce(sum(CASE WHEN {self.clause()} THEN 1 ELSE 0 END), 0) FROM {table}"
            f" WHERE {column} = ?",
            (*self.values, key),
        ).fetchone()
        return bool(count and count == within)


EVERYBODY = Reach()
