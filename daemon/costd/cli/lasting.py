"""Streams that outlast the daemon they come from: where one breaks off, it is asked for again when a daemon is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from costd.cli.connection import Daemon, Target, connected, of_daemon, open_channel, remote, running
from costd.cli.options import Reach
from costd.domain.errors import CostdError, DaemonUnreachable, Unavailable

_PAUSE_S = 0.2

T = TypeVar("T")


def lasting(
    reach: Reach,
    ask: Callable[[Daemon], Iterator[T]],
    *,
    create: bool = False,
    patience_s: float = float("inf"),
    on_lost: Callable[[CostdError], None] = lambda _: None,
) -> Iterator[T]:
    """What `ask` gives, asked again wherever it breaks off: it must know itself how far it has come.

    Waits at most `patience_s` for a daemon, each time, and then raises what it was lost by. A ledger that is opened
    without a daemon (with `create` made, where there is none yet) is asked once. After the first answer the ledger is
    never opened here: a daemon that starts anew would find its folder held.
    """
    received = False
    with connected(reach, create=create) as daemon:
        try:
            for message in ask(daemon):
                received = True
                yield message
        except (DaemonUnreachable, Unavailable) as error:
            if daemon.target.is_offline or not received:
                raise
            lost: CostdError = error
        else:
            return
    yield from _again(reach, ask, lost, patience_s, on_lost)


def _again(
    reach: Reach,
    ask: Callable[[Daemon], Iterator[T]],
    lost: CostdError,
    patience_s: float,
    on_lost: Callable[[CostdError], None],
) -> Iterator[T]:
    on_lost(lost)
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        time.sleep(_PAUSE_S)
        target = _up(reach)
        if target is None:
            continue
        received = False
        try:
            with open_channel(target) as channel:
                for message in ask(Daemon(channel, target)):
                    received = True
                    yield message
        except (DaemonUnreachable, Unavailable) as error:
            if received:
                on_lost(error)
                deadline_s = time.monotonic() + patience_s
            continue
        return
    raise lost


def _up(reach: Reach) -> Target | None:
    """The daemon where it may be up again, None where there surely is none."""
    if reach.address is not None:
        return remote(reach)
    found = running(reach.load().config.data_dir)
    return None if found is None else of_daemon(found, reach)
