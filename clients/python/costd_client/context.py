"""Dimensions for everything that is called within a block: who it is for, where the calls are made by other code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

#: What may be said for a block; the rest of a call (model, provider, endpoint, request_id, …) is its own.
DIMENSIONS = frozenset(
    {"source_app", "user", "project", "team", "product", "job", "prompt_key", "prompt_version", "tags"}
)

_NONE: Mapping[str, Any] = MappingProxyType({})
_current: ContextVar[Mapping[str, Any]] = ContextVar("costd_dimensions", default=_NONE)


@contextmanager
def context(**dimensions: Any) -> Iterator[None]:
    """Attribute the calls of wrapped SDK clients made within the block to these dimensions.

    They win over those that the client was wrapped with; blocks nest, and the inner one wins. Each thread and each
    asyncio task has blocks of its own; a task starts with those of the code that created it. Raises TypeError for a
    name that is not one of user, project, team, product, job, prompt_key, prompt_version, tags and source_app.
    """
    unknown = dimensions.keys() - DIMENSIONS
    if unknown:
        raise TypeError(f"context() takes {', '.join(sorted(DIMENSIONS))}; not {', '.join(sorted(unknown))}")
    token = _current.set(MappingProxyType({**_current.get(), **dimensions}))
    try:
        yield
    finally:
        _current.reset(token)


def current_dimensions() -> Mapping[str, Any]:
    """What the blocks around the caller say."""
    return _current.get()
