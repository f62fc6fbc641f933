"""Readings as files for analysis: Parquet, by pyarrow (the extra `parquet`), which is loaded when somebody asks for it.

pyarrow and not a smaller library: it is the format's reference, it needs no other package, and it has decimals, so that
no value goes through a float.
"""

import io
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import Any

from deploy.headend.usage import Row
from hub.wire.uplink.reading import unit_of

PARQUET = "application/vnd.apache.parquet"
_DIGITS, _SCALE = 38, 18  # what an adapter may print fits: 18 digits, all of them after the point
_FITS = Decimal(10) ** (_DIGITS - _SCALE)
_EXACT = Context(prec=_DIGITS)


class NotInstalled(Exception):
    """The library for it is not here; the text says which extra brings it."""


def parquet(hub: str, rows: Iterable[Row]) -> bytes:
    """A file of one hub's readings, values exact: `value` (decimal, null where 38 digits do not hold it), and always
    `mantissa` and `exponent`. Raises NotInstalled."""
    try:
        import pyarrow
        from pyarrow import parquet as files
    except ImportError:
        raise NotInstalled("Parquet: install meterhub[parquet]") from None
    columns: dict[str, list[Any]] = {name: [] for name in _types(pyarrow)}
    for row in rows:
        columns["time"].append(row.t_ms)
        columns["hub"].append(hub)
        columns["appliance"].append(row.client)
        columns["quantity"].append(row.quantity)
        columns["unit"].append(unit_of(row.quantity))
        columns["value"].append(_value(row.mantissa, row.exponent))
        columns["mantissa"].append(row.mantissa)
        columns["exponent"].append(row.exponent)
        columns["flags"].append(row.flags)
    schema = pyarrow.schema(list(_types(pyarrow).items()))
    written = io.BytesIO()
    files.write_table(pyarrow.table(columns, schema=schema), written, compression="zstd")
    return written.getvalue()


def _types(pyarrow: Any) -> dict[str, Any]:
    word = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    return {
        "time": pyarrow.timestamp("ms", "UTC"), "hub": word, "appliance": word, "quantity": word, "unit": word,
        "value": pyarrow.decimal128(_DIGITS, _SCALE), "mantissa": pyarrow.int64(), "exponent": pyarrow.int32(),
        "flags": pyarrow.int32(),
    }  # fmt: skip


def _value(mantissa: int, exponent: int) -> Decimal | None:
    if not -_SCALE <= exponent <= _DIGITS:
        return None
    value = Decimal(mantissa).scaleb(exponent, _EXACT)
    return value if abs(value) < _FITS else None
