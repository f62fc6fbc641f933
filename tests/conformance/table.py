"""Reads the tables; no test, no product code."""

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """The rows of `gateway` or `client`, in order."""
    with (HERE / f"{name}.toml").open("rb") as file:
        return list(tomllib.load(file)["row"])


def title(row: Row) -> str:
    return f"{row['section']}({row['sentence']}) {row['says']}"


def connect(client_id: bytes) -> bytes:
    """The CONNECT that `given` stands for."""
    return bytes((6 + len(client_id), 0x04, 0x04, 0x01, 0, 60)) + client_id


CONNACK = bytes((3, 5, 0))
