"""Waiting until a channel has reached the hub: for one attempt, as the pauses between attempts are ours, not gRPC's."""

from __future__ import annotations

import queue
from typing import Any

import grpc

_STATES = grpc.ChannelConnectivity
#: What gRPC says once an attempt has failed; it would make the next by itself, later and later.
_ENDS = {_STATES.READY: True, _STATES.TRANSIENT_FAILURE: False, _STATES.SHUTDOWN: False}


class Opening:
    """One attempt of a new channel's."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._states: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def succeeds(self, timeout_s: float) -> bool:
        """Whether the channel is connected, as soon as that is known or the time is over."""
        self._channel.subscribe(self._states.put, try_to_connect=True)
        try:
            while True:
                state = self._states.get(timeout=timeout_s)
                if state in _ENDS:
                    return _ENDS[state]
        except queue.Empty:
            return False
        finally:
            self._channel.unsubscribe(self._states.put)

    def give_up(self) -> None:
        """Let whoever waits go, from any thread."""
        self._states.put(_STATES.SHUTDOWN)
