"""One proxied call: the body on its way up, the answer on its way down, and the record before its last byte.

Bytes pass as they come. A copy of the answer goes to a reader, which finds out what was sold; what ends the answer is
held back until the ledger has been handed the record. Whoever leaves early, caller or upstream, ends a call that is
recorded with what was seen of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from aiohttp import hdrs, web

from costd.domain.errors import Invalid, TooLarge
from costd.domain.proxied.body_edit import edit, must_ask_for_usage
from costd.domain.proxied.readers import Reader
from costd.domain.proxied.routes import Kind
from costd.domain.proxied.sandbox import answer as sandbox_answer
from costd.wire.proxy.as_said import AsSaid, WholeAsSaid
from costd.wire.proxy.called import Called, form_fields, read_metadata
from costd.wire.proxy.headers import Headers, backward
from costd.wire.proxy.ledger_link import LedgerLink
from costd.wire.proxy.pool import Answer, Body
from costd.wire.proxy.upstreams import UpstreamFailed, Upstreams
from costd.wire.unpacking import Unpacker
from costd.wire.web import body as bodies

if TYPE_CHECKING:
    from costd.clock import Clock
    from costd.metrics.proxy import ProxyMetrics
    from costd.services.admission import Decision

#: A body that is read before it is sent on is asked for as JSON; what is no JSON (uploads) streams through.
_JSON = "json"
#: How often it is looked whether a caller that gets nothing is still there.
_LOOK_S = 1.0
#: How much of a form is looked at for the model that it is for, before it is sent on.
_FORM_BYTES = 64 * 1024
#: A body of less is read in any case; a batch of 100,000 short requests, a million tokens of text or code have fewer.
_UNCOUNTED_BYTES = 1 << 20
_MOST_CONTAINERS = 500_000
_MOST_COMMAS = 2_000_000
#: After so much that was unpacked of one piece it is others' turn.
_GIVE_WAY_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class Denied(Exception):
    """A budget said no."""

    def __init__(self, decision: Decision) -> None:
        super().__init__("a budget said no")
        self.decision = decision


class Exchange:
    """One call on its way. Made anew for each."""

    def __init__(
        self,
        request: web.BaseRequest,
        called: Called,
        upstreams: Upstreams,
        ledger: LedgerLink,
        clock: Clock,
        metrics: ProxyMetrics,
        *,
        body_bytes: int,
        drain_s: float,
    ) -> None:
        self._request = request
        self._called = called
        self._upstreams = upstreams
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._drain_s = drain_s
        self._has_reserved = False
        #: Whether usage was asked for that the caller did not ask for.
        self._hides_usage = False
        #: Whether the caller has left, and until when what it asked for is read on (monotonic seconds).
        self._is_gone = False
        self._drained_s = 0.0
        self._is_broken_off = False
        self._held = b""
        self._is_settled = False
        self._out: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        """The answer, sent. Raises Denied, UpstreamFailed, or what was wrong with the call (CostdError)."""
        called = self._called
        if called.route.tells_results_url:
            called.headers[hdrs.ACCEPT_ENCODING] = "identity"
        try:
            body = await self._body()
            if called.is_sandbox:
                return await self._simulated()
            if called.route.is_asked:
                await self._ask_budgets()
            self._metrics.overhead.observe(called.labels, self._clock.monotonic_s() - called.began_s)
            answer = await self._upstreams.send(called, body)
        except BaseException:
            if self._has_reserved:
                self._ledger.release(called)
            raise
        try:
            return await self._relay(answer)
        except Exception:
            if self._out is None:
                raise
            # The answer is under way: there is no other to be given.
            _log.exception("a proxied answer broke off", extra={"upstream": called.upstream.name})
            if (transport := self._request.transport) is not None:
                transport.close()
            return self._out
        finally:
            answer.close()

    # -- up ----------------------------------------------------------------------------------------------------------

    async def _body(self) -> Body:
        """The body as it goes upstream: bytes that were looked at, or a stream of what need not be; None for none."""
        request, called = self._request, self._called
        if not request.body_exists:
            return None
        kind = request.headers.get(hdrs.CONTENT_TYPE, "").lower()
        is_read = called.route.is_asked and (_JSON in kind or not kind)
        if called.route.kind is Kind.ORDER and is_read:
            # Providers take batches that are larger than what is read here: those pass unread.
            is_read = (request.content_length or 0) <= self._body_bytes
        if not is_read and not called.is_sandbox:
            return await self._upload()
        raw = await bodies.read_raw(request, self._body_bytes)
        packed = request.headers.get(hdrs.CONTENT_ENCODING, "")
        plain = _unpacked(raw, packed, self._body_bytes) if packed else raw
        _check_parts(plain)
        called.said = _parsed(plain)
        if called.kept is not None:
            called.kept.sent(plain)
        ask = (
            called.route.can_hide_usage
            and called.upstream.include_usage
            and must_ask_for_usage(called.upstream.provider, dict(called.said))
        )
        edited = edit(plain, with_usage=ask)
        called.metadata = await self._ledger.versioned(called, read_metadata(edited.metadata))
        self._hides_usage = ask and edited.body is not plain
        if self._hides_usage:
            called.headers[hdrs.ACCEPT_ENCODING] = "identity"
        if edited.body is plain:
            return raw
        called.headers.popall(hdrs.CONTENT_ENCODING, None)
        return edited.body

    async def _upload(self) -> AsyncIterator[bytes]:
        """A body that streams through; of a form, what its first fields say is known before."""
        request = self._request
        length = request.headers.get(hdrs.CONTENT_LENGTH)
        if length is not None:
            self._called.headers[hdrs.CONTENT_LENGTH] = length
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        begun = b""
        if "multipart/form-data" in request.headers.get(hdrs.CONTENT_TYPE, "").lower():
            said = form_fields(begun)
            while len(begun) < _FORM_BYTES and "model" not in said and (chunk := await request.content.readany()):
                begun += chunk
                said = form_fields(begun)
            self._called.said = said
        if self._called.route.kind is Kind.UPLOAD:
            self._called.file = self._ledger.file_reader()
        return self._pieces(begun)

    async def _pieces(self, begun: bytes) -> AsyncIterator[bytes]:
        file = self._called.file
        if begun:
            if file is not None:
                file.feed(begun)
            yield begun
        async for chunk in self._request.content.iter_any():
            if file is not None:
                file.feed(chunk)
            yield chunk
        if file is not None:
            file.end()

    async def _ask_budgets(self) -> None:
        # Also where it does not come to an answer: of several models of a batch, some may have been asked for.
        self._has_reserved = True
        decision = await self._ledger.ask(self._called)
        if decision is not None and not decision.allow:
            raise Denied(decision)

    # -- a sandbox ---------------------------------------------------------------------------------------------------

    async def _simulated(self) -> web.StreamResponse:
        called = self._called
        ident = called.request_id.replace("-", "")
        answer = sandbox_answer(called.route.endpoint, dict(called.said), ident, self._clock.now_ms() // 1000)
        if called.route.is_paid:
            self._ledger.sandbox(called)
        self._out = out = web.StreamResponse(headers={hdrs.CONTENT_TYPE: answer.content_type})
        out.headers["X-Request-Id"] = called.request_id
        await out.prepare(self._request)
        for piece in answer.pieces:
            await self._write(piece)
        await out.write_eof()
        self._count(200)
        return out

    # -- down --------------------------------------------------------------------------------------------------------

    async def _relay(self, answer: Answer) -> web.StreamResponse:
        """Pass the answer on."""
        called = self._called
        called.answered = answer.status
        reader = called.route.reader(
            answer.status,
            answer.headers.get(hdrs.CONTENT_TYPE, ""),
            msgspec.json.decode,
            streams=called.streams,
            # Some pack an answer although they were asked not to: then nothing can be taken out of it.
            hide_usage=self._hides_usage and hdrs.CONTENT_ENCODING not in answer.headers,
            results_at=self._results_at(answer) if called.route.tells_results_url else "",
        )
        is_whole = False
        try:
            if not _is_there(answer) or reader.hides_usage:
                await self._begin(answer, hides=reader.hides_usage)
            await self._pass(answer, reader)
            is_whole = True
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = "timeout" if isinstance(error, TimeoutError) else "broken"
            self._metrics.upstream_errors.add((called.upstream.name, reason), 1)
        except asyncio.CancelledError:
            self._is_broken_off = True  # by a stop of the daemon, the only one that cancels
            raise
        finally:
            # Also where this call is cancelled: what was delivered is recorded.
            self._held += reader.rest()
            self._settle(reader, is_whole=is_whole)
        out = self._out
        if out is None:
            headers = self._backward(answer)
            out = WholeAsSaid(answer.status, answer.reason, headers, self._held)
        else:
            await self._finish(out, is_whole=is_whole)
        self._count(answer.status)
        return out

    def _results_at(self, answer: Answer) -> str:
        """What results of batches are below, as the caller sees costd; "" where nothing can be changed in an answer."""
        if hdrs.CONTENT_ENCODING in answer.headers:
            return ""
        headers = self._request.headers
        scheme = "https" if headers.get("X-Forwarded-Proto") == "https" else self._request.scheme
        return f"{scheme}://{headers.get(hdrs.HOST, '')}{self._called.results_path}"

    def _backward(self, answer: Answer) -> Headers:
        headers = backward(answer.raw_headers)
        headers["X-Costd-Request-Id"] = self._called.request_id
        headers.update(self._called.own_headers)
        return headers

    async def _begin(self, answer: Answer, *, hides: bool) -> None:
        headers = self._backward(answer)
        if hides:
            headers.popall(hdrs.CONTENT_LENGTH, None)
        self._out = out = AsSaid(status=answer.status, reason=answer.reason, headers=headers)
        try:
            await out.prepare(self._request)
        except OSError:
            self._is_gone = True

    async def _pass(self, answer: Answer, reader: Reader) -> None:
        """Pass on piece by piece; the end of it is held back until the record is handed over."""
        called, hides = self._called, reader.hides_usage
        unpacker = Unpacker("" if hides else answer.headers.get(hdrs.CONTENT_ENCODING, ""))
        streams = "event-stream" in answer.headers.get(hdrs.CONTENT_TYPE, "").lower()
        is_first = True
        while chunk := await self._next(answer):
            if is_first:
                is_first = False
                self._metrics.first_byte.observe(called.labels, self._clock.monotonic_s() - called.began_s)
            passed, unseen_bytes = b"", 0
            for plain in unpacker.pieces(chunk):
                if called.kept is not None:
                    called.kept.answered(plain)
                fed = reader.feed(plain)
                if hides:
                    passed += fed
                for sold in reader.take():
                    self._ledger.of_batch(called, sold)
                unseen_bytes += len(plain)
                if unseen_bytes >= _GIVE_WAY_BYTES:  # a bomb holds nobody else up
                    unseen_bytes = 0
                    await asyncio.sleep(0)
            self._held += passed if hides else chunk
            if reader.is_finished:
                # Nothing that counts can follow, though the upstream may be long about closing.
                self._settle(reader, is_whole=True)
            # The end of a document is known when it is over; events go on at once.
            await self._let_go(0 if streams or self._is_settled else len(chunk))

    async def _next(self, answer: Answer) -> bytes:
        """The next piece, b"" at the end. Raises TimeoutError where none comes, or nobody waits for it any more."""
        content = answer.content
        if not self._is_gone and ((chunk := content.read_nowait()) or content.at_eof()):
            return chunk
        silent_until_s = self._clock.monotonic_s() + self._called.upstream.idle_s
        while True:
            now_s = self._clock.monotonic_s()
            transport = self._request.transport
            if transport is None or transport.is_closing():
                self._is_gone = True
            if self._is_gone:
                self._drained_s = self._drained_s or now_s + self._drain_s
                silent_until_s = min(silent_until_s, self._drained_s)
            try:
                async with asyncio.timeout(min(_LOOK_S, max(0.0, silent_until_s - now_s))):
                    return await content.readany()
            except TimeoutError:
                if self._clock.monotonic_s() >= silent_until_s:
                    raise

    async def _let_go(self, kept: int) -> None:
        """Write what is held back, but for its last bytes; nothing before the answer is begun."""
        if self._out is None:
            return
        end = max(0, len(self._held) - kept)
        piece, self._held = self._held[:end], self._held[end:]
        await self._write(piece)

    async def _write(self, piece: bytes) -> None:
        if not piece or self._is_gone or self._out is None:
            return
        try:
            await self._out.write(piece)
        except OSError:
            self._is_gone = True

    def _settle(self, reader: Reader, *, is_whole: bool) -> None:
        """Hand the record over, once."""
        if self._is_settled:
            return
        self._is_settled = True
        sold = reader.end(is_whole=is_whole)
        for late in reader.take():
            self._ledger.of_batch(self._called, late)
        if not sold.is_complete and not sold.is_error:
            by = "stop" if self._is_broken_off else "caller" if self._is_gone else "upstream"
            self._metrics.incomplete.add((*self._called.labels, by), 1)
        self._ledger.sold(self._called, sold)

    async def _finish(self, out: web.StreamResponse, *, is_whole: bool) -> None:
        """Pass on what was held back, and the end: an end only where the upstream's answer had one."""
        await self._let_go(0)
        transport = self._request.transport
        if self._is_gone:
            return
        if is_whole:
            try:
                await out.write_eof()
            except OSError:
                self._is_gone = True
        elif transport is not None:
            out.force_close()
            transport.close()

    def _count(self, status: int) -> None:
        called = self._called
        self._metrics.requests.add((*called.labels, str(status)), 1)
        self._metrics.total.observe(called.labels, self._clock.monotonic_s() - called.began_s)


def _is_there(answer: Answer) -> bool:
    """Whether all of an answer came with its head, as short documents do, and its length is known beforehand."""
    return answer.content.is_eof() and hdrs.CONTENT_LENGTH in answer.headers


def _unpacked(raw: bytes, packed: str, most_bytes: int) -> bytes:
    unpacker = Unpacker(packed, most_bytes)
    plain = unpacker.feed(raw)
    if unpacker.is_too_long:
        raise TooLarge(f"the body unpacks to more than {most_bytes} bytes (proxy.body_bytes)")
    if not unpacker.is_sound:
        raise Invalid("Content-Encoding", "must be gzip, deflate or zstd, and the body packed by it")
    return plain


def _check_parts(body: bytes) -> None:
    """Raise TooLarge for what is large and made of millions of parts: to read it would take seconds, and gigabytes."""
    if len(body) > _UNCOUNTED_BYTES and (
        body.count(b"{") + body.count(b"[") > _MOST_CONTAINERS or body.count(b",") > _MOST_COMMAS
    ):
        raise TooLarge(f"the body has more than {_MOST_CONTAINERS} objects and arrays, or {_MOST_COMMAS} commas")


def _parsed(body: bytes) -> dict[str, object]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


__all__ = ["Denied", "Exchange", "UpstreamFailed"]
