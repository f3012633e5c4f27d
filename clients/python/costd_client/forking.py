"""What happens to trackers when their process forks or ends: one place that knows all of them."""

from __future__ import annotations

import atexit
import logging
import multiprocessing.util
import os
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger("costd_client")


class Forkable(Protocol):
    """What is told of a fork, and of the end of the process."""

    def before_fork(self) -> None:
        """Come to rest; whatever is held is copied as it is."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Begin anew: no thread but this one is left, and nothing that was under way is ours."""

    def at_exit(self) -> None:
        """Bring home what can be brought home within the time there is."""


_all: dict[int, Forkable] = {}
#: Those that were told of the fork under way, and are told of its end.
_resting: list[Forkable] = []


def watch(tracked: Forkable) -> None:
    """Tell `tracked` from now on, and keep it until forget()."""
    _all[id(tracked)] = tracked


def forget(tracked: Forkable) -> None:
    """Tell it no more."""
    _all.pop(id(tracked), None)


def _before() -> None:
    _resting[:] = list(_all.values())
    for each in _resting:
        _told(each.before_fork)


def _after_in_parent() -> None:
    for each in _resting:
        _told(each.after_fork_in_parent)
    _resting.clear()


def _after_in_child() -> None:
    for each in _resting:
        _told(each.after_fork_in_child)
    _resting.clear()


def _told(hook: Callable[[], None]) -> None:
    try:
        hook()
    except Exception:
        _log.exception("costd's client and a fork of its process")


def at_exit() -> None:
    """Tell everybody that the process ends; what is closed already does nothing."""
    for each in list(_all.values()):
        _told(each.at_exit)


class _Module:
    """Stands for this module where a reference to something that can be weak is asked for."""

    def end_with_process(self) -> None:
        """Children of multiprocessing end without atexit, and forget what their parent had registered."""
        multiprocessing.util.Finalize(None, at_exit, exitpriority=0)


_module = _Module()
multiprocessing.util.register_after_fork(_module, _Module.end_with_process)
_module.end_with_process()
atexit.register(at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
