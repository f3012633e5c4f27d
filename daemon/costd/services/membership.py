"""Whether this daemon has joined a hub, and what it then leaves to it."""

from __future__ import annotations

from costd.domain.errors import Forbidden


class Membership:
    """What others ask before they change what is the hub's."""

    def __init__(self, address: str, *, has_joined: bool) -> None:
        """`address` is the hub's, "" where there is none; `has_joined` whether it was ever connected."""
        self.address = address
        self._has_joined = has_joined

    @property
    def is_member(self) -> bool:
        """Whether keys, catalog and prices come from a hub."""
        return self._has_joined and bool(self.address)

    def join(self) -> None:
        """The hub was connected."""
        self._has_joined = True

    def require_no_hub(self, what: str, command: str) -> None:
        """Raise Forbidden where `what` ("keys are made", ...) is the hub's business, naming where to go."""
        if self.is_member:
            raise Forbidden(f"{what} at the hub that this sidecar has joined: use `{command}` there, at {self.address}")
