"""The report: what was measured, beside its yardstick and its goal, as a table and as JSON."""

from __future__ import annotations

import json
import platform
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

_LOG_WIDTH = 120


@dataclass(frozen=True)
class Line:
    """One figure.

    `ratio` is ours over the yardstick's. `goal` reads as a condition; `is_met` is None where the line only informs.
    `how` says in a few words what was counted against what.
    """

    name: str
    ours: float
    unit: str
    yardstick: float | None
    goal: str
    is_met: bool | None
    how: str

    @property
    def ratio(self) -> float | None:
        """Ours over the yardstick's."""
        return self.ours / self.yardstick if self.yardstick else None


def show(value: float | None, unit: str) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}" if value >= 10 else f"{value:.2f} {unit}"


def print_table(lines: Sequence[Line]) -> None:
    """Everything measured, as a table."""
    table = Table(title="costd, each figure beside a yardstick of the same run", title_justify="left")
    for column in ("row", "ours", "yardstick", "ratio", "goal", "met"):
        table.add_column(column, justify="right" if column in {"ours", "yardstick", "ratio"} else "left")
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[line.is_met]
        ours, yardstick = show(line.ours, line.unit), show(line.yardstick, line.unit)
        table.add_row(line.name, ours, yardstick, ratio, line.goal, met)
    console = Console()
    if not console.is_terminal:  # a log file has no width to wrap at
        console = Console(width=_LOG_WIDTH)
    console.print(table)
    for line in lines:
        console.print(f"[bold]{line.name}[/]: {line.how}", highlight=False, soft_wrap=True)


def write_json(lines: Sequence[Line], path: Path) -> None:
    """The same for programs, with what it ran on."""
    document = {"machine": machine(), "lines": [asdict(line) | {"ratio": line.ratio} for line in lines]}
    path.write_text(json.dumps(document, indent=2) + "\n")


def machine() -> dict[str, str | int]:
    """What it ran on."""
    libraries = {name: version(name) for name in ("aiohttp", "grpcio", "msgspec", "protobuf", "uvloop")}
    return {"system": platform.platform(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version} | {
        **libraries
    }
