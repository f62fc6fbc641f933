"""Parquet: what comes out is what was measured."""

import io
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as files

from deploy.headend.exports import parquet
from deploy.headend.usage import Row
from hub.wire.uplink.reading import format_decimal, parse_decimal


def read(data: bytes) -> list[dict[str, object]]:
    found: list[dict[str, object]] = files.read_table(io.BytesIO(data)).to_pylist()
    return found


def test_a_file_has_every_reading_with_its_unit_and_time() -> None:
    rows = [Row("meter", "power", 1_790_000_000_123, 2301, -1, 0), Row("boiler", "odd", 0, -5, 3, 4)]
    first, second = read(parquet("MTR-1", rows))
    assert first["time"].isoformat() == "2026-09-21T14:13:20.123000+00:00"  # type: ignore[attr-defined]
    assert first | {"time": None} == {
        "time": None, "hub": "MTR-1", "appliance": "meter", "quantity": "power", "unit": "W",
        "value": Decimal("230.1"), "mantissa": 2301, "exponent": -1, "flags": 0,
    }  # fmt: skip
    assert (second["value"], second["unit"], second["flags"]) == (Decimal(-5000), "", 4)
    assert read(parquet("MTR-1", [])) == []


@given(st.integers(-(10**18) + 1, 10**18 - 1), st.integers(-18, 0))
def test_whatever_an_adapter_can_print_is_exact(mantissa: int, exponent: int) -> None:
    (row,) = read(parquet("MTR-1", [Row("a", "b", 0, mantissa, exponent, 0)]))
    assert row["value"] == Decimal(format_decimal(mantissa, exponent))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_what_no_decimal_holds_is_absent_and_never_rounded(mantissa: int, exponent: int) -> None:
    (row,) = read(parquet("MTR-1", [Row("a", "b", 0, mantissa, exponent, 0)]))
    assert (row["mantissa"], row["exponent"]) == (mantissa, exponent)
    value = row["value"]
    assert value is None or (isinstance(value, Decimal) and value == Decimal(mantissa) * Decimal(10) ** exponent)


def test_it_is_what_the_text_says() -> None:
    mantissa, exponent = parse_decimal(b"-0.00001")
    assert read(parquet("x", [Row("a", "b", 0, mantissa, exponent, 0)]))[0]["value"] == Decimal("-0.00001")
