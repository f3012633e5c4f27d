"""Trackers: the client's front, for threads (Tracker) and for asyncio (AsyncTracker)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar

from costd_client import address as addresses
from costd_client import messages
from costd_client.call import AsyncCall, BaseCall, Call, usage_in
from costd_client.core import Core, OnUnreachable, Policy
from costd_client.ids import new_id
from costd_client.messages import Amount
from costd_client.outbox import Limits
from costd_client.spool import Spool
from costd_client.stats import Stats
from costd_client.v1 import record_pb2

if TYPE_CHECKING:
    from typing import Unpack

CallT = TypeVar("CallT", bound=BaseCall)


class Who(TypedDict, total=False):
    """Who makes a call, and for what; text of at most 256 characters. `source_app` wins over the tracker's own."""

    provider: str | None
    user: str | None
    project: str | None
    team: str | None
    product: str | None
    job: str | None
    prompt_key: str | None
    prompt_version: str | int | None
    tags: list[str] | tuple[str, ...] | None
    endpoint: str | None
    source_app: str | None


class CallFields(Who, total=False):
    """What can be said of a call before it is made.

    `estimate` is the most it may use, by unit; `price_context` selects a price variant ({"service_tier": "priority"});
    `request_id` is an id of one's own instead of one that is made; `preflight` says whether to ask costd first.
    """

    estimate: Mapping[str, Amount] | None
    price_context: Mapping[str, str] | None
    request_id: str | None
    preflight: bool | None


class BaseTracker:
    """What both trackers share."""

    def __init__(
        self,
        address: str | None = None,
        *,
        key: str | None = None,
        source_app: str | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_bytes: int = 64 << 20,
        queue_bytes: int = 8 << 20,
        ca: str | os.PathLike[str] | None = None,
        tls: bool | None = None,
        preflight: bool = True,
        preflight_timeout_s: float = 0.25,
        send_timeout_s: float = 5.0,
        exit_timeout_s: float = 2.0,
        on_unreachable: OnUnreachable = "allow",
    ) -> None:
        """A tracker of the costd at `address` ("host:port" or "unix:/path"); connects when it first has to.

        `address` and `key` are COSTD_ADDRESS (else 127.0.0.1:7430) and COSTD_KEY where they are not given. Beyond
        loopback the way there is TLS, trusting the authorities in the file `ca` or the system's, unless `tls` is False.
        `spool` is a path beside which records are kept while costd does not answer, at most `spool_bytes` of them;
        `queue_bytes` may wait in memory. `preflight` is what calls do that do not say themselves;
        `preflight_timeout_s` is the longest a call ever waits for costd, and `on_unreachable` says what then becomes
        of it. `exit_timeout_s` is what the end of the process may take. Raises TypeError and ValueError for values
        that make no sense, OSError where `ca` cannot be read.
        """
        if on_unreachable not in ("allow", "deny"):
            raise ValueError(f'on_unreachable is {on_unreachable!r}; it must be "allow" or "deny"')
        self._source_app = messages.text(source_app, "source_app")
        self._core = Core(
            addresses.target(address, ca=ca, tls=tls),
            addresses.key_metadata(key),
            None if spool is None else Spool(spool, spool_bytes),
            Limits(queue_bytes, send_timeout_s),
            Policy(preflight, preflight_timeout_s, on_unreachable == "allow", exit_timeout_s),
        )

    def record(
        self,
        *,
        model: str,
        units: Mapping[str, Amount] | None = None,
        usage: object = None,
        status: str | None = None,
        latency_ms: float | None = None,
        time_ms: int | None = None,
        cost_usd: Amount | str | None = None,
        price_context: Mapping[str, str] | None = None,
        request_id: str | None = None,
        **who: Unpack[Who],
    ) -> str:
        """Record a call that was made, and return its request id. Never blocks: a background thread sends it.

        `units` is how much of each was used; `usage` is the provider's answer or usage object, beside which `units`
        are further units. `time_ms` is when, in UTC milliseconds, now unless given; `cost_usd` wins over any price.
        Raises TypeError for wrong types, ValueError where `usage` needs a `provider`.
        """
        dimensions = self._dimensions(model, who)
        found = None if usage is None else usage_in(usage, self._core.complaints)
        units, raw = messages.used(dimensions, found, units)
        said_id = request_id or new_id()
        self._core.outbox.put(
            messages.record(
                dimensions,
                request_id=said_id,
                units=units,
                usage=raw,
                status=status,
                latency_ms=messages.milliseconds(latency_ms, "latency_ms"),
                time_ms=messages.milliseconds(time_ms, "time_ms") or time.time_ns() // 1_000_000,
                cost_nano_usd=messages.nano_usd(cost_usd, "cost_usd"),
                price_context=price_context,
            )
        )
        return said_id

    def stats(self) -> Stats:
        """What has become of this process's records so far."""
        return self._core.outbox.stats()

    def _dimensions(self, model: str, who: Who) -> record_pb2.Dimensions:
        if not isinstance(model, str):
            raise TypeError(f"model must be a str, not {type(model).__name__}")
        said: Any = who
        if "source_app" not in said:
            said = {**said, "source_app": self._source_app}
        return messages.dimensions(model=model, **said)

    def _call(self, kind: type[CallT], model: str, fields: CallFields) -> CallT:
        said: Any = dict(fields)
        estimate, context = said.pop("estimate", None), said.pop("price_context", None)
        asks = said.pop("preflight", None)
        request_id = said.pop("request_id", None) or new_id()
        who = self._dimensions(model, said)
        question = None
        if self._core.policy.preflight if asks is None else asks:
            question = messages.preflight(who, request_id=request_id, estimate=estimate, price_context=context)
        return kind(self._core, who, request_id, question, context)


class Tracker(BaseTracker):
    """Tracks calls from threads; any number of them may share one, and so may forked processes, each for itself."""

    def call(self, *, model: str, **fields: Unpack[CallFields]) -> Call:
        """A call about to be made: `with tracker.call(...) as call`.

        Entering asks costd whether it may be made and raises BudgetExceeded where not; leaving records it, with its
        time, as an error where the block raised. Raises TypeError for wrong types.
        """
        return self._call(Call, model, fields)

    def start_call(self, *, model: str, **fields: Unpack[CallFields]) -> Call:
        """The same, for calls that end elsewhere than they began: begin() it, and finish() it."""
        return self._call(Call, model, fields)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything recorded so far is on costd's disk, or refused by it; False where time was up."""
        return self._core.outbox.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Send what can be sent within the time (`exit_timeout_s`), put the rest into the spool, and stop."""
        self._core.close(self._core.policy.exit_timeout_s if timeout_s is None else timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncTracker(BaseTracker):
    """Tracks calls from asyncio. Belongs to no event loop: several may use it, one after another or at once."""

    def call(self, *, model: str, **fields: Unpack[CallFields]) -> AsyncCall:
        """As Tracker.call, with `async with`."""
        return self._call(AsyncCall, model, fields)

    def start_call(self, *, model: str, **fields: Unpack[CallFields]) -> AsyncCall:
        """As Tracker.start_call."""
        return self._call(AsyncCall, model, fields)

    async def flush(self, timeout_s: float = 5.0) -> bool:
        """As Tracker.flush."""
        return await asyncio.to_thread(self._core.outbox.flush, timeout_s)

    async def close(self, timeout_s: float | None = None) -> None:
        """As Tracker.close."""
        await asyncio.to_thread(self._core.close, self._core.policy.exit_timeout_s if timeout_s is None else timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
