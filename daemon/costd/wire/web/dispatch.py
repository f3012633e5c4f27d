"""Dispatch: the one wrapper around every handler, from the guard to the bytes of the answer.

One function instead of a chain of middlewares: it runs once for every record, in the thread of the event loop.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web
from multidict import istr

from costd.domain.errors import CostdError, NotFound, Refused, Unauthenticated
from costd.services.metering import reason_of
from costd.wire import decoding
from costd.wire.proxy.proxies import Proxies
from costd.wire.status import retry_after_s
from costd.wire.web import body, reply
from costd.wire.web.answers import Answer, encode
from costd.wire.web.failures import MethodNotAllowed, error_body, http_status
from costd.wire.web.guard import Guard
from costd.wire.web.request_ids import RequestIds
from costd.wire.web.route import ANY, DOOR, JSON, PARAMETER, Call, Read, Route

if TYPE_CHECKING:
    from costd.services.services import Services

_log = logging.getLogger(__name__)

# Looked up on every request: istr carries its folded form along.
_HOST = istr("Host")
_ORIGIN = istr("Origin")
_AUTHORIZATION = istr("Authorization")
_API_KEY = istr("X-API-Key")
_REQUEST_ID = istr("X-Request-Id")
_IDEMPOTENCY_KEY = istr("Idempotency-Key")

_MAX_REQUEST_ID = 128
_NO_NAMES: Mapping[str, str] = {}


class _Endpoint:
    """A route made ready: what can be worked out once is worked out here."""

    __slots__ = ("decoder", "field_names", "handler", "needs_key", "query", "reads_body", "records", "role", "status")

    def __init__(self, route: Route) -> None:
        self.handler = route.handler
        self.status = route.status
        self.needs_key = route.role is not None
        self.role = None if route.role == ANY else route.role
        self.query = route.query
        self.field_names = route.field_names
        self.records = route.records
        self.reads_body = route.body is not None
        self.decoder = decoding.decoder(route.body) if self.reads_body and not route.raw_body else None


class Dispatch:
    """Answers every request: guard, route, key, body, handler, and one form for everything that can go wrong."""

    def __init__(
        self,
        services: Services,
        routes: Iterable[Route],
        guard: Guard,
        request_ids: RequestIds,
        read: Read,
        body_bytes: int,
        proxies: Proxies,
    ) -> None:
        """`proxies` answer what is below their prefixes; `read` runs a blocking call in a thread.

        `body_bytes` is the largest body.
        """
        self._new_id = request_ids.new
        self._services = services
        self._guard = guard
        self._read = read
        self._body_bytes = body_bytes
        self._proxies = proxies
        self._exact: dict[str, dict[str, _Endpoint]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, _Endpoint]]] = []
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        if PARAMETER.search(route.path):
            pattern = re.compile(PARAMETER.sub(r"(?P<\1>[^/]+)", route.path) + r"\Z")
            methods = next((held for known, held in self._patterns if known == pattern), {})
            if not methods:
                self._patterns.append((pattern, methods))
        else:
            methods = self._exact.setdefault(route.path, {})
        methods[route.method] = _Endpoint(route)
        if route.method == "GET":
            methods["HEAD"] = methods["GET"]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request; never raises but for cancellation."""
        headers = request.headers
        request_id = headers.get(_REQUEST_ID)
        if request_id is None or not _is_sane(request_id):
            request_id = self._new_id()
        endpoint: _Endpoint | None = None
        call = Call(self._services, self._read, request_id)
        try:
            host = headers.get(_HOST)
            self._guard.check(host, headers.get(_ORIGIN))
            call.host = host or ""
            path, _, query = request.raw_path.partition("?")
            if self._proxies.owns(path):
                return await self._proxies.answer(request, path, query, request_id)
            endpoint = self._find(request.method, path, call)
            if endpoint.needs_key:
                call.caller = self._services.access.authenticate(_token(headers))
                if endpoint.role is not None:
                    call.caller.require(endpoint.role)
            if endpoint.query is not None:
                call.query = decoding.decode_query(endpoint.query, query)
            if endpoint.reads_body:
                call.idempotency_key = headers.get(_IDEMPOTENCY_KEY, "")
                call.raw = await body.read(request, self._body_bytes)
                if endpoint.decoder is not None:
                    call.body = decoding.decode(endpoint.decoder, call.raw)
            answer = await endpoint.handler(call)
        except Exception as error:
            return self._failed(error, request, endpoint, call)
        if type(answer) is Answer or endpoint.status != 200:
            made = answer if isinstance(answer, Answer) else Answer(encode(answer), status=endpoint.status)
            return reply.response(made.status, made.body, made.content_type, request_id)
        return reply.ok(request, encode(answer), JSON, request_id)

    def _find(self, method: str, path: str, call: Call) -> _Endpoint:
        methods = self._exact.get(path)
        if methods is None:
            methods, call.path = self._match(path)
        endpoint = methods.get(method)
        if endpoint is None:
            raise MethodNotAllowed(method, path, ", ".join(sorted(methods)))
        return endpoint

    def _match(self, path: str) -> tuple[dict[str, _Endpoint], Mapping[str, str]]:
        plain = unquote(path)
        if plain in self._exact:
            return self._exact[plain], _NO_NAMES
        for pattern, methods in self._patterns:
            found = pattern.match(path)
            if found:
                return methods, {name: unquote(value) for name, value in found.groupdict().items()}
        raise NotFound(f"there is nothing at {path[:200]}; GET /openapi.json lists what there is")

    def _failed(
        self, error: Exception, request: web.BaseRequest, endpoint: _Endpoint | None, call: Call
    ) -> web.Response:
        if not isinstance(error, CostdError):
            _log.error("a request failed unexpectedly", extra=_trace(request, call.request_id), exc_info=error)
        if endpoint is None:
            return failure(error, request, _NO_NAMES, call.request_id)
        if endpoint.records and not call.handed_over and isinstance(error, Refused):
            self._services.metrics.rejected(DOOR, reason_of(error))
        return failure(error, request, endpoint.field_names, call.request_id)


def failure(
    error: BaseException, request: web.BaseRequest, field_names: Mapping[str, str], request_id: str
) -> web.Response:
    """The response to a request that failed."""
    content = error_body(error, request.raw_path, field_names, request_id)
    response = reply.response(http_status(error), encode(content), JSON, request_id)
    retry_s = retry_after_s(error)
    if retry_s is not None:
        response.headers["Retry-After"] = str(retry_s)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    if not request.content.is_eof():
        # What is left of the body is not worth reading only to keep the connection.
        response.force_close()
    return response


def _is_sane(request_id: str) -> bool:
    return 0 < len(request_id) <= _MAX_REQUEST_ID and request_id.isascii() and request_id.isprintable()


def _token(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer KEY`, else in `X-API-Key`."""
    authorization = headers.get(_AUTHORIZATION)
    if authorization is not None and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return headers.get(_API_KEY)


def _trace(request: web.BaseRequest, request_id: str) -> dict[str, Any]:
    """What a log line may say about a request: nothing of its query, headers or body."""
    return {"method": request.method, "path": request.raw_path.partition("?")[0][:200], "request_id": request_id}
