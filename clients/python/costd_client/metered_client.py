"""Metering around an SDK client's one way out: what wrap_openai and wrap_anthropic share.

The seam is the client's `request(cast_to, options, …)`. Both SDKs, made by the same generator, have led every call of
every resource through it since their first stable releases: `create`, `parse`, `stream`, `with_raw_response`,
`with_streaming_response`, beta resources, tool runners, and `client.post` by hand. It is above the SDK's retries, so a
call is one call however often it is tried; the body is there as data, and what it returns is what the caller gets.

Other seams, and why not: the resources' methods are many, differ between releases, and are bound early by the raw
variants; the HTTP client's transport sees each try apart, sees bytes alone, and is shared with clients that are not
wrapped; httpx's event hooks cannot see how a stream ends; a proxy object is no `openai.OpenAI`; and a subclass is not
either where the SDK compares types (it does, before it looks for credentials).

So a copy of the client is made as `with_options` makes it, and its `request` is shadowed on the instance, as are `copy`
and `with_options`, whose copies are treated the same way. Its type stays the SDK's, the client given is left alone.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar

from costd_client.metering import Meter, Planner
from costd_client.tracker import AsyncTracker, Tracker

ClientT = TypeVar("ClientT")


def metered(client: ClientT, sdk: str, tracker: Tracker | AsyncTracker, plan: Planner, **dimensions: Any) -> ClientT:
    """A copy of an SDK's client whose paid calls are tracked.

    Raises TypeError where `client` is not one of the SDK's, or where an AsyncTracker is given with a blocking client.
    """
    if not any(base.__module__.partition(".")[0] == sdk for base in type(client).__mro__):
        raise TypeError(f"wrap_{sdk} takes a client of the {sdk} package, not {type(client).__name__}")
    is_async = inspect.iscoroutinefunction(type(client).request)  # type: ignore[attr-defined]
    if not isinstance(tracker, Tracker | AsyncTracker):
        raise TypeError(f"wrap_{sdk} takes a Tracker or an AsyncTracker, not {type(tracker).__name__}")
    if isinstance(tracker, AsyncTracker) and not is_async:
        raise TypeError(f"{type(client).__name__} blocks, and an AsyncTracker cannot: give it a Tracker")
    meter = Meter(tracker, plan, dimensions)
    try:
        own: Any = client.copy()  # type: ignore[attr-defined]
    except TypeError:
        # A subclass with a constructor of its own, which the SDK cannot copy either: then it is this one.
        own = client
    return _shadow(own, meter, is_async=is_async)  # type: ignore[no-any-return]


def _shadow(client: Any, meter: Meter, *, is_async: bool) -> Any:
    request, derive = type(client).request, type(client).copy

    @functools.wraps(request)
    def metered_request(cast_to: Any, options: Any, *arguments: Any, **keywords: Any) -> Any:
        metering = meter.open(client, options)
        if metering is None:
            return request(client, cast_to, options, *arguments, **keywords)
        metering.begin()
        try:
            result = request(client, cast_to, metering.options, *arguments, **keywords)
        except BaseException as error:
            metering.failed(error)
            raise
        metering.answered(result)
        return result

    @functools.wraps(request)
    async def metered_async_request(cast_to: Any, options: Any, *arguments: Any, **keywords: Any) -> Any:
        metering = meter.open(client, options)
        if metering is None:
            return await request(client, cast_to, options, *arguments, **keywords)
        await metering.begin_async()
        try:
            result = await request(client, cast_to, metering.options, *arguments, **keywords)
        except BaseException as error:
            metering.failed(error)
            raise
        metering.answered(result)
        return result

    @functools.wraps(derive)
    def metered_copy(*arguments: Any, **keywords: Any) -> Any:
        return _shadow(derive(client, *arguments, **keywords), meter, is_async=is_async)

    client.__dict__["request"] = metered_async_request if is_async else metered_request
    client.__dict__["copy"] = client.__dict__["with_options"] = metered_copy
    return client
