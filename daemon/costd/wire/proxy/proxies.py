"""The two surfaces of the proxies: /api/proxy/v1/UPSTREAM/… with a costd key, /proxy/SLUG/… with a provider's alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from costd.domain.access import Caller
from costd.domain.errors import CostdError, Invalid, NotFound, Unauthenticated
from costd.domain.proxied.refusals import Refusal, Speech, speech_of
from costd.domain.proxied.routes import ENDPOINTS, Route, clean_path, route_of
from costd.proxy_settings import ANTHROPIC, Upstream
from costd.wire.proxy.called import PROMPT_PROXY, SLUG_PROXY, Called, KeptBodies
from costd.wire.proxy.exchange import Denied, Exchange, UpstreamFailed
from costd.wire.proxy.headers import ANTHROPIC_VERSION, onward, onward_from_slug, with_key
from costd.wire.proxy.ledger_link import LedgerLink, new_request_id
from costd.wire.proxy.refusing import NoWebSocket, denied_fields, denied_sentence, refusal_of
from costd.wire.proxy.slug_limits import CalledTooOften, SlugLimits
from costd.wire.proxy.upstreams import Upstreams
from costd.wire.web import reply
from costd.wire.web.answers import encode
from costd.wire.web.failures import error_body
from costd.wire.web.route import JSON

if TYPE_CHECKING:
    from costd.services.services import Services

#: What the routes below `/v1` begin with.
_NAMES = frozenset(name.partition("/")[0] for name in ENDPOINTS)
_TRUE = frozenset({"true", "1", "yes"})
_NOTHING: Mapping[str, str] = {}
_UPGRADE = istr("Upgrade")
#: What a call that is broken off has for its record, and that for the disk.
_LAST_S = 1.0

_log = logging.getLogger(__name__)


class Proxies:
    """Answers everything below the two prefixes."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.config.proxy
        self._upstreams = Upstreams(self._settings.upstreams)
        self._ledger = LedgerLink(services)
        self._limits = SlugLimits(services.clock, self._settings.requests_per_minute, self._settings.counts_per_minute)
        #: The tasks of calls under way; also of those whose caller has left, of which the server knows no more.
        self._under_way: set[asyncio.Task[Any]] = set()
        #: By when they are to have ended, once the daemon stops (monotonic seconds).
        self._until_s = 0.0

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path, as it came, is a proxy's."""
        return path.startswith((PROMPT_PROXY, SLUG_PROXY))

    def stop_within(self, grace_s: float) -> None:
        """The daemon stops: break calls off that are still under way after so long."""
        self._until_s = self._services.clock.monotonic_s() + grace_s
        asyncio.get_running_loop().call_later(grace_s, self._break_off)

    @property
    def _left_s(self) -> float:
        """How long what is under way may still take; a little even where its time is over."""
        return max(_LAST_S, self._until_s - self._services.clock.monotonic_s())

    def _break_off(self) -> None:
        if self._under_way:
            _log.warning("the stop breaks off proxied calls that are under way", extra={"calls": len(self._under_way)})
        for task in self._under_way:
            task.cancel()

    async def close(self) -> None:
        """Once calls have ended (stop_within), let their records reach the ledger, and close connections."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=self._left_s)
        await self._ledger.flush(self._left_s)
        await self._upstreams.close()

    async def answer(self, request: web.BaseRequest, path: str, query: str, request_id: str) -> web.StreamResponse:
        """The answer to one call; never raises but for cancellation."""
        metrics = self._services.metrics.proxy
        speech = Speech.ANTHROPIC if ANTHROPIC in path or path.startswith(SLUG_PROXY) else Speech.OPENAI
        labels, told = ("", ""), _NOTHING
        try:
            called = self._called(request, path, query, self._services.clock.monotonic_s())
            speech, labels, told = called.speech, called.labels, called.own_headers
            if _UPGRADE in request.headers and _is_websocket(request):
                raise NoWebSocket
            if request.method == hdrs.METH_TRACE:  # its answer would show a key that only the configuration has
                raise Invalid("method", "TRACE is not passed on: it would show the headers, with the provider's key")
            return await self._exchange(request, called)
        except Denied as denied:
            refused = self._denied(denied, speech, request, request_id)
        except UpstreamFailed as failed:
            metrics.upstream_errors.add((failed.upstream, failed.reason), 1)
            refused = self._refused(Refusal(failed.status, failed.message), failed, speech, request, request_id)
        except CalledTooOften as error:
            told = error.told
            refused = self._refused(refusal_of(error), error, speech, request, request_id)
        except CostdError as error:
            refused = self._refused(refusal_of(error), error, speech, request, request_id)
        except Exception as error:
            said = {"request_id": request_id, "upstream": labels[0]}
            _log.error("a proxied call failed unexpectedly", exc_info=error, extra=said)
            refused = self._refused(refusal_of(error), error, speech, request, request_id)
        refused.headers.update(told)
        metrics.requests.add((*labels, str(refused.status)), 1)
        return refused

    async def _exchange(self, request: web.BaseRequest, called: Called) -> web.StreamResponse:
        in_flight, name = self._services.metrics.proxy.in_flight, called.upstream.name
        in_flight[name] = in_flight.get(name, 0) + 1
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            exchange = Exchange(
                request,
                called,
                self._upstreams,
                self._ledger,
                self._services.clock,
                self._services.metrics.proxy,
                body_bytes=self._settings.body_bytes,
                drain_s=self._settings.drain_s,
            )
            return await exchange.run()
        finally:
            in_flight[name] -= 1
            self._under_way.discard(task)

    # -- who calls what ----------------------------------------------------------------------------------------------

    def _called(self, request: web.BaseRequest, path: str, query: str, began_s: float) -> Called:
        if path.startswith(PROMPT_PROXY):
            name, _, rest = path.removeprefix(PROMPT_PROXY).partition("/")
            return self._by_key(request, name, rest, query, began_s)
        slug, _, rest = path.removeprefix(SLUG_PROXY).partition("/")
        return self._by_slug(request, slug, rest, query, began_s)

    def _by_key(self, request: web.BaseRequest, name: str, rest: str, query: str, began_s: float) -> Called:
        headers = request.headers
        token, spare = _platform_key(headers)
        if not self._services.config.auth:
            token, spare = None, spare or token  # costd wants no key: what is there is the provider's
        caller = self._services.access.authenticate(token)
        caller.require("ingest")
        upstream = self._upstreams.find(name)
        if upstream is None:
            raise NotFound(f'there is no upstream "{name[:64]}"; there are {", ".join(self._upstreams.names)}')
        clean, route = _routed(request.method, rest)
        is_sandbox = headers.get("X-Sandbox", "").strip().lower() in _TRUE
        onwards = onward(headers)
        key = headers.get("X-Provider-Key", "").strip() or spare or self._upstreams.key(upstream)
        if key:
            with_key(onwards, upstream.dialect, upstream.provider, _bare(key))
        elif not is_sandbox and _needs_key(upstream):
            raise Unauthenticated("the provider's key is missing: send it as X-Provider-Key")
        if upstream.dialect == ANTHROPIC:
            onwards.setdefault("anthropic-version", ANTHROPIC_VERSION)
        return Called(
            caller=caller,
            upstream=upstream,
            route=route,
            method=request.method,
            path=clean,
            query=query,
            headers=onwards,
            speech=speech_of(upstream.dialect, route.endpoint),
            request_id=new_request_id(self._services.clock.now_ms()),
            began_s=began_s,
            is_sandbox=is_sandbox,
        )

    def _by_slug(self, request: web.BaseRequest, slug: str, rest: str, query: str, began_s: float) -> Called:
        endpoint = self._services.proxy_endpoints.find(slug)
        if endpoint is None:
            raise NotFound("there is no such proxy endpoint")
        upstream = self._upstreams.find(ANTHROPIC)
        assert upstream is not None, "it is there by itself"
        clean, route = _routed_from_slug(request.method, rest)
        told = self._limits.take(slug, is_count=route.endpoint == "count_tokens")
        onwards = onward_from_slug(request.headers)
        onwards.setdefault("anthropic-version", ANTHROPIC_VERSION)
        return Called(
            caller=Caller(endpoint.org_id, endpoint.id, endpoint.name, frozenset({"ingest"})),
            upstream=upstream,
            route=route,
            method=request.method,
            path=clean,
            query=query,
            headers=onwards,
            speech=Speech.ANTHROPIC,
            request_id=new_request_id(self._services.clock.now_ms()),
            began_s=began_s,
            endpoint=endpoint,
            own_headers=told,
            kept=KeptBodies(endpoint.body_bytes) if endpoint.store_bodies and route.is_paid else None,
        )

    # -- refusals ----------------------------------------------------------------------------------------------------

    def _denied(self, denied: Denied, speech: Speech, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        sentence = denied_sentence(denied.decision)
        refusal = Refusal(429, sentence, code="insufficient_quota", may_retry=False)
        ours = denied_fields(denied.decision, sentence, request_id)
        return _response(refusal, speech, request, request_id, ours)

    def _refused(
        self, refusal: Refusal, error: BaseException, speech: Speech, request: web.BaseRequest, request_id: str
    ) -> web.StreamResponse:
        ours = msgspec.to_builtins(error_body(error, request.path, {}, request_id))
        ours["message"] = refusal.message
        if isinstance(error, UpstreamFailed):
            ours["code"] = "INTEGRATION_ERROR"
        return _response(refusal, speech, request, request_id, ours)


def _response(
    refusal: Refusal, speech: Speech, request: web.BaseRequest, request_id: str, ours: dict[str, Any]
) -> web.StreamResponse:
    body = encode(refusal.body(speech, request_id, ours))
    response = reply.response(refusal.status, body, JSON, request_id)
    response.headers.update(refusal.headers())
    if refusal.status == 426:
        response.headers["Upgrade"] = "HTTP/1.1"
    if refusal.status == 426 or not request.content.is_eof():
        # What is left of the body is not worth reading only to keep the connection.
        response.force_close()
    return response


@lru_cache(maxsize=256)
def _routed(method: str, rest: str) -> tuple[str, Route]:
    clean = clean_path(f"/{rest}")
    if clean is None:
        raise Invalid("path", "is none that may be called: no empty, dot or encoded dot segments")
    return clean, route_of(method, clean)


def _is_websocket(request: web.BaseRequest) -> bool:
    """Whether a WebSocket is asked for; whoever offers HTTP/2 besides is answered in HTTP/1.1."""
    return request.method == "GET" and "websocket" in request.headers[_UPGRADE].lower()


def _routed_from_slug(method: str, rest: str) -> tuple[str, Route]:
    """The same where a slug's URL stands for the provider's: there is more than its `/v1`, and a root to be asked."""
    if rest in {"", "/"}:
        return "/", route_of(method, "")
    clean, route = _routed(method, rest)
    if rest.startswith("v1/") or clean.partition("/")[0] in _NAMES:
        return clean, route
    return f"/{clean}", route


def _platform_key(headers: CIMultiDictProxy[str]) -> tuple[str | None, str | None]:
    """The costd key, and the provider's where it came in `x-api-key`, as Anthropic's SDKs send it."""
    authorization, api_key = headers.get("Authorization"), headers.get("X-API-Key")
    if authorization is not None:
        return _bare(authorization), api_key
    return api_key, None


def _bare(key: str) -> str:
    return key[7:].strip() if key[:7].lower() == "bearer " else key.strip()


def _needs_key(upstream: Upstream) -> bool:
    """Servers of one's own may need none; the providers do."""
    return bool(upstream.provider)
