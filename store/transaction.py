"""The transaction of an engine: what memory knows goes back when the database does."""

from types import TracebackType

from store.log_owner import Counted


class EngineTransaction:
    """The database's transaction, and what memory says of it: both hold, or neither."""

    __slots__ = ("_before", "_engine", "_inner")

    def __init__(self, engine: Counted) -> None:
        self._engine = engine
        self._inner = engine.db.transaction()
        self._before = (dict(engine.outbox.next), engine.first_seq, engine.pruned_samples)

    def __enter__(self) -> None:
        self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self._inner.__exit__(kind, raised, at)
        except BaseException:
            self._restore()
            raise
        if kind is not None:
            self._restore()

    def _restore(self) -> None:
        engine = self._engine
        engine.outbox.next, engine.first_seq, engine.pruned_samples = self._before
