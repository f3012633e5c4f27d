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

import copy
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict, TypeVar

from costd_client.call import BaseCall
from costd_client.context import current_dimensions
from costd_client.provider_usage import ERROR, INCOMPLETE, PENDING, ProviderUsage, find_usage
from costd_client.response_tap import Tap, reader_for
from costd_client.tracker import AsyncTracker, Tracker

_log = logging.getLogger("costd_client")

ClientT = TypeVar("ClientT")
EstimateHook = Callable[[str, Mapping[str, Any]], Mapping[str, int]]


class Dimensions(TypedDict, total=False):
    """Who the calls of a wrapped client are for, and how they are tracked."""

    user: str
    project: str
    team: str
    product: str
    job: str
    prompt_key: str
    prompt_version: str
    tags: list[str]
    source_app: str
    preflight: bool


class PaidCall(NamedTuple):
    """A request that costs money, read from its body.

    `units` are known before the answer (characters to speak); `changes` are options of the SDK's to send instead of
    the caller's; `hide_usage` takes out of a stream what those changes added.
    """

    endpoint: str
    model: str
    provider: str
    estimate: Mapping[str, int]
    price_context: Mapping[str, str]
    streams: bool = False
    units: Mapping[str, int] = {}
    changes: Mapping[str, Any] = {}
    hide_usage: bool = False


#: Reads a request: the client, the method, the path without its query, the body and the options. None: not paid.
Planner = Callable[[Any, str, Any], PaidCall | None]


class Meter:
    """How the calls of a wrapped client, and of its copies, are tracked."""

    def __init__(self, tracker: Tracker | AsyncTracker, plan: Planner, dimensions: Mapping[str, Any]) -> None:
        self._tracker = tracker
        self._plan = plan
        self._dimensions = dimensions
        # A mistake in a name or a type is one of the program's, and is told where it was made.
        tracker.start_call(model="unknown", **dimensions)

    @property
    def is_blocking(self) -> bool:
        """Whether begin() blocks its thread."""
        return isinstance(self._tracker, Tracker)

    def open(self, client: Any, options: Any) -> Metering | None:
        """The call that these options are about to make; None where it costs nothing, or cannot be understood."""
        try:
            plan = self._plan(client, path_of(options), options)
            if plan is None:
                return None
            call = self._tracker.start_call(
                model=plan.model,
                provider=plan.provider,
                endpoint=plan.endpoint,
                estimate=dict(plan.estimate),
                price_context=dict(plan.price_context),
                **{**self._dimensions, **current_dimensions()},
            )
            return Metering(call, plan, options)
        except Exception as error:
            # Tracking never stands in the way of the call.
            _log.warning("a call is not tracked: %s: %s", type(error).__name__, error)
            return None


class Metering:
    """One paid call on its way through the SDK."""

    def __init__(self, call: BaseCall, plan: PaidCall, options: Any) -> None:
        self._call = call
        self._plan = plan
        self._found: ProviderUsage | None = None
        self.options = self._watched(options)

    def begin(self) -> Any:
        """Ask whether the call may be made: raises BudgetExceeded; to be awaited with an AsyncTracker."""
        return self._call.begin()  # type: ignore[attr-defined]

    def answered(self, result: Any) -> None:
        """The SDK returned `result`; never raises."""
        try:
            self._answered(result)
        except Exception as error:
            _log.warning("a call is recorded without its usage: %s", type(error).__name__)
            self._call.finish()

    def failed(self, error: BaseException) -> None:
        """The SDK raised `error`; never raises."""
        try:
            # An answer that cannot be parsed has been paid for all the same.
            found = self._found or find_usage(getattr(error, "completion", None) or getattr(error, "response", None))
            if found is not None and found.usage:
                self._call.usage(found)
        except Exception as mistake:
            _log.warning("a call is recorded without its usage: %s", type(mistake).__name__)
        self._call.finish(status=ERROR if isinstance(error, Exception) else INCOMPLETE)

    def _watched(self, options: Any) -> Any:
        """The options to send: the caller's, with the changes of the plan, and with an eye on what is parsed."""
        options = copy.copy(options)
        for name, value in self._plan.changes.items():
            setattr(options, name, value)
        parse = options.post_parser

        def post_parser(parsed: Any) -> Any:
            self._parsed(parsed)
            return parse(parsed) if callable(parse) else parsed

        options.post_parser = post_parser
        return options

    def _parsed(self, parsed: Any) -> None:
        try:
            self._found = find_usage(parsed)
        except Exception as error:
            _log.warning("no usage could be read out of an answer: %s", type(error).__name__)

    def _answered(self, result: Any) -> None:
        if self._plan.units:
            self._call.units(**self._plan.units)
        response = _http_response(result)
        if self._found is None and response is not None:
            self._watch(response)
            return
        found = self._found or find_usage(result)
        if found is not None:
            self._call.usage(found)
        # A background job has been taken on and nothing more: what it will use is not known here.
        status = INCOMPLETE if found is not None and found.status == PENDING else found.status if found else None
        self._call.finish(status=status)

    def _watch(self, response: Any) -> None:
        reader = reader_for(
            response.headers.get("content-type", ""), streams=self._plan.streams, hide_usage=self._plan.hide_usage
        )
        tap = Tap(self._call, reader)
        if response.is_closed:
            tap.take(response.content)
        else:
            tap.attach(response)


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


def path_of(options: Any) -> str:
    """The path of a request's URL, without a query and without a slash at either end."""
    path: str = options.url.partition("?")[0]
    return path.strip("/")


def body_of(options: Any) -> dict[str, Any]:
    """The body as it will be sent: the resource's, with the caller's extra_body over it. Values are as given."""
    body: dict[str, Any] = {}
    for part in (options.json_data, getattr(options, "extra_json", None)):
        if isinstance(part, Mapping):
            body.update(part)
    return body


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
        await (_in_a_thread(metering.begin) if meter.is_blocking else metering.begin())
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


async def _in_a_thread(function: Callable[[], Any]) -> Any:
    # The SDKs stand on anyio, and so run on asyncio and on trio; it is there whenever they are.
    import anyio.to_thread  # noqa: PLC0415 - only with an SDK

    return await anyio.to_thread.run_sync(function)


def _http_response(result: Any) -> Any:
    """The HTTP response under what the SDK returned, where there is one."""
    for candidate in (result, *(getattr(result, "__dict__", {}).get(name) for name in ("http_response", "response"))):
        if all(hasattr(candidate, name) for name in ("status_code", "headers", "is_closed", "iter_raw")):
            return candidate
    return None
