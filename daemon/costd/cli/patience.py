"""Long work on this machine that Ctrl-C ends at once, leaving nothing behind."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

import click

T = TypeVar("T")

#: What work may take to notice that it is stopped; SQLite's checks do not look for longer than that.
_NOTICE_S = 2.0
_TERMINATED = 128 + signal.SIGTERM


def ended_by_a_signal(work: Callable[[Callable[[], bool]], T], clean: Callable[[], None]) -> T:
    """The outcome of `work`, which is handed a function that says whether it is to stop.

    It runs in a thread, because Python hears of a signal only between two steps of its own, and one step of SQLite's
    may take minutes. On Ctrl-C or SIGTERM `work` is told to stop; where it does not notice in time, `clean` removes
    what it has begun, and it ends with the process.
    """
    stop = threading.Event()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(stop.is_set))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="costd-work", daemon=True)
    with _sigterm_as_exit():
        try:
            thread.start()
            thread.join()
        except (KeyboardInterrupt, SystemExit):
            stop.set()
            with suppress(KeyboardInterrupt, SystemExit):
                thread.join(_NOTICE_S)
            if not outcome:
                clean()
                click.echo("costd: interrupted; nothing was left behind", err=True)
                raise
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
