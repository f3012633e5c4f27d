"""Trackers: the client's front, for threads (Tracker) and for asyncio (AsyncTracker).

Stub: call(), start_call() take keyword arguments model, provider, user, project, team, product, job, prompt_key,
prompt_version, tags, endpoint, estimate, price_context, request_id, source_app, preflight.
"""

from __future__ import annotations

from typing import Any

from costd_client.call import AsyncCall, Call


class Tracker:
    """Tracks calls from threads."""

    def start_call(self, *, model: str, **fields: Any) -> Call:
        """A call that has not begun: for wrappers, whose calls end elsewhere. The same fields as call()."""
        raise NotImplementedError


class AsyncTracker:
    """Tracks calls from asyncio."""

    def start_call(self, *, model: str, **fields: Any) -> AsyncCall:
        """As Tracker.start_call."""
        raise NotImplementedError
