"""A bar that shows how far a long command has come: on stderr, and only where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Tells how far it has come: `done` of `total`, and a few words beside the bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show it; as often as one likes."""


def _nowhere(done: int, total: int, note: str = "") -> None:
    """Nobody watches."""


@contextmanager
def progress(what: str, *, shown: bool = True) -> Iterator[Advance]:
    """A bar for the time of a `with`, gone afterwards; with `shown` False there is none, whatever stderr is."""
    if not (shown and sys.stderr.isatty()):
        yield _nowhere
        return
    from rich.console import Console  # noqa: PLC0415 - commands without a terminal start faster
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance
