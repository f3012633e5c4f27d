"""One paid call on its way through an SDK: begun before the request, ended by whatever becomes of the answer.

Nothing here knows a provider: a plan (see PaidCall) says what a request is, costd_client.provider_usage what an answer
used, costd_client.response_tap when an answer that is read piece by piece is over.
"""

from __future__ import annotations

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

from costd_client.call import AsyncCall, Call
from costd_client.context import current_dimensions
from costd_client.outcome import Outcome
from costd_client.provider_usage import ERROR, INCOMPLETE, PENDING, ProviderUsage, find_usage
from costd_client.response_tap import Tap, reader_for
from costd_client.tracker import AsyncTracker, Tracker

_log = logging.getLogger("costd_client")

EstimateHook = Callable[[str, Mapping[str, Any]], Mapping[str, int]]

#: Background jobs that are remembered until their result is fetched; the oldest is given up for a newer one.
MAX_PENDING = 1_000


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


class Fetch(NamedTuple):
    """A request for a job of before, by its id; its result says what the job used."""

    job_id: str


#: Reads a request: the client, the path without its query, and the options. None: it costs nothing.
Planner = Callable[[Any, str, Any], PaidCall | Fetch | None]


class Meter:
    """How the calls of a wrapped client, and of its copies, are tracked."""

    def __init__(self, tracker: Tracker | AsyncTracker, plan: Planner, dimensions: Mapping[str, Any]) -> None:
        self._tracker = tracker
        self._plan = plan
        self._dimensions = dimensions
        self._pending: dict[str, Outcome] = {}
        self._pending_lock = threading.Lock()
        unknown = dimensions.keys() - Dimensions.__annotations__
        if unknown:
            raise TypeError(f"not a dimension: {', '.join(sorted(unknown))}")
        # A mistake in a name or a type is one of the program's, and is told where it was made.
        tracker.start_call(model="unknown", **dimensions)
        weakref.finalize(self, _give_up, self._pending)

    def open(self, client: Any, options: Any) -> Metering | None:
        """The call that these options are about to make; None where it costs nothing, or cannot be understood."""
        try:
            plan = self._plan(client, path_of(options), options)
            if plan is None:
                return None
            if isinstance(plan, Fetch):
                with self._pending_lock:
                    outcome = self._pending.pop(plan.job_id, None)
                return Metering(self, outcome, options, job_id=plan.job_id) if outcome else None
            call = self._tracker.start_call(
                model=plan.model,
                provider=plan.provider,
                endpoint=plan.endpoint,
                estimate=dict(plan.estimate),
                price_context=dict(plan.price_context),
                **{**self._dimensions, **current_dimensions()},
            )
            return Metering(self, Outcome(call, plan.price_context), options, call=call, plan=plan)
        except Exception as error:
            # Tracking never stands in the way of the call. The error may quote the request: it is only named.
            _log.warning("a call is not tracked: %s", type(error).__name__)
            return None

    def keep(self, job_id: str, outcome: Outcome) -> None:
        """Remember the call of a job that goes on at the provider."""
        with self._pending_lock:
            self._pending[job_id] = outcome
            oldest = self._pending.pop(next(iter(self._pending))) if len(self._pending) > MAX_PENDING else None
        if oldest is not None:
            oldest.finish(status=INCOMPLETE)


class Metering:
    """One paid call on its way through the SDK; `options` are those to send."""

    def __init__(
        self,
        meter: Meter,
        outcome: Outcome,
        options: Any,
        *,
        call: Call | AsyncCall | None = None,
        plan: PaidCall | None = None,
        job_id: str = "",
    ) -> None:
        """`call` and `plan` are those of a call that has not begun; `job_id` is that of one which goes on."""
        self._meter = meter
        self._outcome = outcome
        self._call = call
        self._job_id = job_id
        self._plan = plan
        self._found: ProviderUsage | None = None
        self.options = self._watched(options, plan.changes if plan else {})

    def begin(self) -> None:
        """Ask whether the call may be made; raises BudgetExceeded."""
        if isinstance(self._call, Call):
            self._call.begin()

    async def begin_async(self) -> None:
        """As begin; waits for a blocking tracker's answer beside the event loop."""
        if isinstance(self._call, AsyncCall):
            await self._call.begin()
        elif self._call is not None:
            # The SDKs stand on anyio, and so run on asyncio and on trio; it is there whenever they are.
            import anyio.to_thread  # noqa: PLC0415 - only with an SDK

            try:
                await anyio.to_thread.run_sync(self.begin)
            except BaseException:  # cancelled while the thread was asking: nobody will make the call
                self._call.release()
                raise

    def answered(self, result: Any) -> None:
        """The SDK returned `result`; never raises."""
        try:
            self._answered(result)
        except Exception as error:
            _log.warning("a call is recorded without its usage: %s", type(error).__name__)
            self._outcome.finish()

    def failed(self, error: BaseException) -> None:
        """The SDK raised `error`; never raises."""
        if self._job_id:
            # A result that could not be fetched this time says nothing about the job.
            self._meter.keep(self._job_id, self._outcome)
            return
        try:
            # An answer that cannot be parsed has been paid for all the same.
            found = self._found or find_usage(getattr(error, "completion", None) or getattr(error, "response", None))
            if found is not None:
                self._outcome.usage(found)
        except Exception as mistake:
            _log.warning("a call is recorded without its usage: %s", type(mistake).__name__)
        self._outcome.finish(status=ERROR if isinstance(error, Exception) else INCOMPLETE)

    def _watched(self, options: Any, changes: Mapping[str, Any]) -> Any:
        """The options to send: the caller's, with the changes of the plan, and with an eye on what is parsed."""
        options = copy.copy(options)
        for name, value in changes.items():
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
        if self._call is not None and self._plan is not None and self._plan.units:
            self._call.units(**self._plan.units)
        response = _http_response(result)
        if self._found is None and response is not None and self._is_to_be_watched(response):
            return
        found = self._found or find_usage(result)
        if found is not None and found.status == PENDING and found.job_id:
            self._meter.keep(found.job_id, self._outcome)
            return
        if found is not None:
            self._outcome.usage(found)
        self._outcome.finish(status=found.status if found else None)

    def _is_to_be_watched(self, response: Any) -> bool:
        """Whether what was used is to be read out of the bytes; then whoever reads them ends the call."""
        content_type = response.headers.get("content-type", "")
        streams, hide_usage = (self._plan.streams, self._plan.hide_usage) if self._plan else (False, False)
        tap = Tap(self._outcome, reader_for(content_type, streams=streams, hide_usage=hide_usage))
        if not response.is_closed:
            tap.attach(response)
        elif "event-stream" in content_type:
            tap.take(response.content)
        else:
            return False
        return True


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


def _http_response(result: Any) -> Any:
    """The HTTP response under what the SDK returned, where there is one."""
    for candidate in (result, *(getattr(result, "__dict__", {}).get(name) for name in ("http_response", "response"))):
        if all(hasattr(candidate, name) for name in ("status_code", "headers", "is_closed", "iter_raw")):
            return candidate
    return None


def _give_up(pending: dict[str, Outcome]) -> None:
    """Record the jobs whose results nobody has fetched and nobody can any more."""
    while pending:
        pending.popitem()[1].finish(status=INCOMPLETE)
