"""Routes: one declaration for each endpoint, from which dispatch, validation and the OpenAPI document all follow."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from costd.domain.access import Caller
from costd.wire.web.answers import Envelope, rfc3339

if TYPE_CHECKING:
    from costd.services.services import Services

Handler = Callable[["Call"], Awaitable[object]]
#: Runs a blocking read in a thread of its own.
Read = Callable[..., Awaitable[Any]]

#: A path's parameter: {name}, up to the next slash.
PARAMETER = re.compile(r"\{(\w+)\}")

#: What metrics call this door.
DOOR = "http"

#: In place of a role: whoever has a key.
ANY = "any"

JSON = "application/json"
JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Route:
    """One method of one path.

    `role` is what the key must hold, ANY where any key will do, None where none is needed. `body` and `query` are the
    structs they are decoded into; with `raw_body` the handler gets the bytes and `body` only describes them. `answer`
    is the struct of a success, which has this `status`, or None where `content_type` is not JSON. `field_names` maps
    the domain's names of fields, or of their first part, to this surface's. `idempotent` routes take an
    Idempotency-Key; refusals of those that store `records` are counted. What is sent where it `has_names` may meet
    another of the same.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any = None
    role: str | None = None
    body: Any = None
    raw_body: bool = False
    query: Any = None
    idempotent: bool = False
    records: bool = False
    has_names: bool = False
    content_type: str = JSON
    status: int = 200
    body_types: tuple[str, ...] = (JSON,)
    field_names: Mapping[str, str] = field(default_factory=dict)


class Call:
    """One request on its way through a handler: who calls, what was sent, and what the handler may use."""

    __slots__ = (
        "body",
        "caller",
        "handed_over",
        "host",
        "idempotency_key",
        "path",
        "query",
        "raw",
        "read",
        "request_id",
        "services",
    )

    def __init__(self, services: Services, read: Read, request_id: str) -> None:
        self.services = services
        self.read = read
        #: The id of this HTTP request, not of a record.
        self.request_id = request_id
        #: The host (with its port) that its caller knows the daemon by.
        self.host = ""
        self.idempotency_key = ""
        self.caller: Caller = NOBODY
        self.body: Any = None
        self.raw = b""
        self.query: Any = None
        self.path: Mapping[str, str] = {}
        #: Whether a service has taken the record over, and counts it if it is refused.
        self.handed_over = False

    def envelope(self, data: Any) -> Envelope[Any]:
        """The dashboard API's frame around `data`."""
        return Envelope(
            success=True, data=data, timestamp=rfc3339(self.services.clock.now_ms()), requestId=self.request_id
        )


#: Who calls where no key is needed.
NOBODY = Caller(org_id=0, key_id="", name="", roles=frozenset())
