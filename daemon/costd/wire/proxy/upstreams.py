"""Connections to upstreams: one pool for each, to the configured address and nowhere else."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from costd.domain.errors import Refused
from costd.proxy_settings import Upstream
from costd.wire.proxy.called import Called
from costd.wire.proxy.pool import Answer, Body, Pool


class UpstreamFailed(Refused):
    """An upstream could not be reached, or did not answer.

    `status` is 502 or 504, `upstream` its name, `reason` a metric's word.
    """

    def __init__(self, status: int, upstream: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.upstream = upstream
        self.reason = reason


class Upstreams:
    """All upstreams by name. Made within the event loop that uses them."""

    def __init__(self, upstreams: tuple[Upstream, ...]) -> None:
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._pools: dict[str, Pool] = {}
        self._keys: dict[Path, tuple[float, str]] = {}

    def find(self, name: str) -> Upstream | None:
        """An upstream by its name."""
        return self._upstreams.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all."""
        return tuple(self._upstreams)

    def key(self, upstream: Upstream) -> str | None:
        """The key that is configured for an upstream, as its file holds it now; None where there is none."""
        path = upstream.key_file
        if path is None:
            return None
        try:
            changed = path.stat().st_mtime
            held = self._keys.get(path)
            if held is None or held[0] != changed:
                held = self._keys[path] = (changed, _one_word(path.read_bytes()))
        except OSError as error:
            message = f"the key file of {upstream.name} cannot be read: {error.strerror}"
            raise UpstreamFailed(502, upstream.name, "key", message) from None
        if not held[1]:
            message = f"the key file of {upstream.name} must hold a key and nothing else"
            raise UpstreamFailed(502, upstream.name, "key", message)
        return held[1]

    async def send(self, called: Called, body: Body) -> Answer:
        """Make a call; what comes back has its head, and its body still to come. Raises UpstreamFailed."""
        upstream = called.upstream
        path = f"{called.path}?{called.query}" if called.query else called.path
        try:
            pool = self._pools.get(upstream.name) or self._pool(upstream)
            return await pool.call(called.method, path, called.headers, body)
        except TimeoutError:
            raise UpstreamFailed(
                504, upstream.name, "timeout", f"{upstream.name} did not answer within its time"
            ) from None
        except aiohttp.ClientConnectorError as error:
            raise UpstreamFailed(
                502, upstream.name, "connect", f"{upstream.name} cannot be reached: {_words(error)}"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamFailed(
                502, upstream.name, "broken", f"{upstream.name} did not answer: {_words(error)}"
            ) from None

    def _pool(self, upstream: Upstream) -> Pool:
        pool = Pool(upstream.base_url, _trust(upstream), upstream.connect_s, upstream.answer_s)
        self._pools[upstream.name] = pool
        return pool

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.close()


def _one_word(content: bytes) -> str:
    """A key as its file holds it; "" where that is none that a header may have."""
    word = content.decode("latin-1").strip()
    return word if word.isascii() and word.isprintable() and " " not in word else ""


def _trust(upstream: Upstream) -> ssl.SSLContext | bool:
    if upstream.ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=upstream.ca)
    except (OSError, ssl.SSLError):
        raise UpstreamFailed(502, upstream.name, "ca", f"the authorities of {upstream.name} cannot be read") from None


def _words(error: BaseException) -> str:
    """What the system says; nothing of the request is in it."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return (getattr(cause, "strerror", None) or type(error).__name__)[:200]
