"""Proxy endpoints: slugs by which Anthropic's API is called without a costd key."""

from __future__ import annotations

from typing import NamedTuple


class ProxyEndpoint(NamedTuple):
    """A proxy endpoint; `id` is a UUID, and what its records have for a key."""

    id: str
    org_id: int
    name: str
    slug: str


class ProxyEndpoints:
    """The endpoints in force, in memory."""

    def find(self, slug: str) -> ProxyEndpoint | None:
        """The endpoint of a slug."""
        return None
