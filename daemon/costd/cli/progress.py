"""A bar that shows how far a long command has come: on stderr, and only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Is told how far a command has come, as often as one likes; `note` stands beside the bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show `done` of `total`."""


@contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[Advance]:
    """A bar until the end of the block, unless it is not `shown` or nobody watches."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total, note="": None
        return
    from rich.console import Console  # noqa: PLC0415 - commands without a terminal start faster
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance
