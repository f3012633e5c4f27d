"""Who alerts are sent to, for tests: a web server that answers as it is told, and a mail server."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Post(NamedTuple):
    """What a webhook was sent; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Answer(NamedTuple):
    """How to answer a post: after so long, with headers; status 0 hangs up without an answer."""

    status: int = 200
    after_s: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


class Receiver:
    """A web server on loopback; `posts` grows. Answers by `script`, one after the other, then by `default`."""

    def __init__(self, script: Sequence[Answer] = (), port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.script = list(script)
        self.default = Answer()
        #: Chosen by what was posted, before the script.
        self.chosen: Callable[[Post], Answer | None] = lambda _: None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What to post to; it has a token in it, as such addresses do."""
        return f"{self._scheme}://localhost:{self.port}/hooks/t0ken-in-the-path?key=t0ken-in-the-query"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, post: Post) -> Answer:
        with self._lock:
            self.posts.append(post)
            chosen = self.chosen(post)
            if chosen is not None:
                return chosen
            return self.script.pop(0) if self.script else self.default

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver._take(Post(self.path, headers, body, time.monotonic()))
                time.sleep(answer.after_s)
                if not answer.status:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in (*answer.headers, ("Content-Length", "0")):
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the base class's name

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


@contextmanager
def receiving(*script: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A web server for the time of a block."""
    receiver = Receiver(script, tls=tls)
    try:
        yield receiver
    finally:
        receiver.close()


class Mailbox:
    """A mail server's mind: what it took, whom it lets in, whom it refuses."""

    def __init__(self, password: str = "") -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[str] = []
        self.password = password
        #: What it answers to the next mails instead of taking them.
        self.refusals: list[str] = []
        self.unknown: set[str] = set()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's names
        self, server: object, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 no such user; you said t0ken"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: object, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"

    def authenticate(
        self, server: object, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """Let in whoever has the password."""
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        return AuthResult(success=data.password.decode() == self.password, handled=False)


@contextmanager
def mail_server(
    mailbox: Mailbox, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A mail server on loopback for the time of a block; its port."""
    options: dict[str, Any] = {"hostname": "localhost"}
    if starttls is not None:
        options |= {"tls_context": starttls, "require_starttls": True}
    if mailbox.password:
        is_open = starttls is None
        options |= {"authenticator": mailbox.authenticate, "auth_required": True, "auth_require_tls": not is_open}
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0, ssl=tls)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_ended(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended() -> None:
    """End what is under way, so that nothing is left when the loop is closed."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
