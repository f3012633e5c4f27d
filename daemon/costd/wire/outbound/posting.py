"""One POST to an address that the operator has set: nowhere else, and never longer than its time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from costd import __version__
from costd.services.alert_channel import NotAccepted
from costd.wire.pem import Unusable, read, read_authorities

JSON = "application/json"


def post(url: str, body: bytes, headers: Mapping[str, str], ca: Path | None, timeout_s: float) -> None:
    """Send `body`, which is JSON; NotAccepted unless the answer's status is 2xx.

    No redirect is followed, no proxy of the environment used, and nothing of the answer is read but its head: where a
    receiver is not what it should be, it can lead nowhere. What is raised has neither the address nor the answer in it.
    """
    status, retry_after = asyncio.run(_posted(url, body, headers, ca, timeout_s))
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotAccepted(f"it answered {status}, a redirect, which is not followed: set the address it leads to")
    raise NotAccepted(f"it answered {status}", _seconds(retry_after))


def trust(ca: Path | None) -> ssl.SSLContext:
    """How certificates are verified: by `ca`, or by the usual authorities; NotAccepted where that cannot be read."""
    try:
        return ssl.create_default_context(cadata=None if ca is None else read_authorities(ca).decode("ascii"))
    except Unusable as error:
        raise NotAccepted(f"alerts.ca cannot be used ({error.reason})") from None


def line_of(path: Path, setting: str) -> str:
    """The one line that a secret's file holds; NotAccepted, naming the setting, where it holds none."""
    try:
        text = read(path).decode("utf-8").strip()
    except Unusable as error:
        raise NotAccepted(f"the file of {setting} cannot be read ({error.reason})") from None
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise NotAccepted(f"the file of {setting} must hold one line of text")
    return text


def ssl_reason(error: ssl.SSLError) -> str:
    """What is wrong with the other side's TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted ({error.verify_message})"
    return f"TLS failed ({(error.reason or 'unknown').replace('_', ' ').lower()})"


async def _posted(
    url: str, body: bytes, headers: Mapping[str, str], ca: Path | None, timeout_s: float
) -> tuple[int, str]:
    given = {"Content-Type": JSON, "User-Agent": f"costd/{__version__}", **headers}
    connector = aiohttp.TCPConnector(ssl=trust(ca), force_close=True, resolver=_Resolver())
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    jar = aiohttp.DummyCookieJar()
    try:
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=timeout, trust_env=False) as session,
            session.post(yarl.URL(url, encoded=True), data=body, headers=given, allow_redirects=False) as response,
        ):
            return response.status, response.headers.get("Retry-After", "")
    except TimeoutError:
        raise NotAccepted(f"it did not answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotAccepted(_reason(error)) from None


class _Resolver(AbstractResolver):
    """Looks names up in the very thread: there is nothing else for it to do, and no other to be waited for at exit."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of the host."""
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=port, family=family, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for family, _, proto, _, place in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        return ssl_reason(cause) if isinstance(cause, ssl.SSLError) else "its certificate cannot be trusted"
    if isinstance(error, aiohttp.ClientSSLError) and isinstance(error.os_error, ssl.SSLError):
        return ssl_reason(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"it cannot be reached ({error.os_error.strerror or 'its name has no address'})"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up without an answer"
    return f"it cannot be spoken to ({type(error).__name__})"


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else None
