"""Many rows in few statements: each statement executed costs a release of the interpreter's lock and its return."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_MAX_ROWS = 64


def insert_rows(
    connection: sqlite3.Connection, into: str, width: int, rows: Sequence[Sequence[Any]], suffix: str = ""
) -> list[tuple[Any, ...]]:
    """Run `into VALUES (…), (…) … suffix` for `rows` of `width` columns each; what they return, in any order.

    Rows go in groups of 64, 32, 16, … 1, so that a handful of prepared statements serve every number of rows.
    """
    returned: list[tuple[Any, ...]] = []
    start, count = 0, len(rows)
    while start < count:
        group = _MAX_ROWS
        while group > count - start:
            group >>= 1
        chunk = rows[start : start + group]
        returned += connection.execute(_statement(into, width, group, suffix), tuple(chain.from_iterable(chunk)))
        start += group
    return returned


@lru_cache(maxsize=256)
def _statement(into: str, width: int, group: int, suffix: str) -> str:
    row = f"({','.join('?' * width)})"
    return f"{into} VALUES {','.join([row] * group)}{suffix}"
