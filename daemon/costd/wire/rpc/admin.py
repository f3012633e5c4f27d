"""AdminService: keys, status and the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from costd import __version__
from costd.domain.access import Caller
from costd.domain.errors import Invalid
from costd.services.access import NewKey
from costd.v1 import admin_pb2
from costd.wire.rpc import convert
from costd.wire.rpc.link import link_message
from costd.wire.rpc.usage import WRITE_TIMEOUT_S

if TYPE_CHECKING:
    from costd.services.services import Services


@dataclass
class Addresses:
    """Where the daemon's doors were opened; filled in as they are."""

    grpc: str = ""
    http: str = ""
    socket: str = ""


class AdminService:
    """Answers costd.v1.AdminService."""

    def __init__(self, services: Services, addresses: Addresses) -> None:
        self._services = services
        self._addresses = addresses

    def create_key(self, caller: Caller, request: admin_pb2.CreateKeyRequest) -> admin_pb2.CreateKeyResponse:
        """Make a key; returns once it is on disk and in force."""
        new = NewKey(
            name=request.name,
            roles=tuple(request.roles),
            team=request.team,
            project=request.project,
            source_app=request.source_app,
            description=request.description,
            organization=request.organization,
        )
        try:
            created = self._services.access.create_key(caller, new).wait(WRITE_TIMEOUT_S)
        except Invalid as refusal:
            raise refusal.renamed("roles") if refusal.field == "role" else refusal from None
        return admin_pb2.CreateKeyResponse(key=convert.key(created.info), secret=created.secret)

    def list_keys(self, caller: Caller, _request: admin_pb2.ListKeysRequest) -> admin_pb2.ListKeysResponse:
        """Every key of the organization."""
        return admin_pb2.ListKeysResponse(keys=map(convert.key, self._services.access.list_keys(caller)))

    def revoke_key(self, caller: Caller, request: admin_pb2.RevokeKeyRequest) -> admin_pb2.Key:
        """Revoke a key; returns once nobody gets in with it."""
        return convert.key(self._services.access.revoke_key(caller, request.id).wait(WRITE_TIMEOUT_S))

    def status(self, caller: Caller, _request: admin_pb2.StatusRequest) -> admin_pb2.StatusResponse:
        """How the daemon is."""
        caller.require("admin")
        services = self._services
        health = services.health.report()
        fresh = services.reports.freshness(caller)
        link = services.link.report()
        return admin_pb2.StatusResponse(
            version=__version__,
            data_dir=str(services.config.data_dir),
            state="ok" if health.ready else "not_ready",
            problems=health.problems,
            started_ms=health.started_ms,
            queued_records=health.queued_records,
            queued_bytes=health.queued_bytes,
            queue_max_records=health.queue_max_records,
            queue_max_bytes=health.queue_max_bytes,
            last_commit_ms=health.last_commit_ms or 0,
            database_bytes=health.database_bytes,
            wal_bytes=health.wal_bytes,
            events=services.health.count_events(),
            accepted=health.accepted,
            duplicates=health.duplicates,
            rejected=health.rejected,
            freshness=fresh.overall,
            providers=[
                admin_pb2.ProviderFreshness(provider=provider, newest_ms=newest_ms, freshness=word)
                for provider, (newest_ms, word) in sorted(fresh.providers.items())
            ],
            price_list=services.prices.version,
            grpc_address=self._addresses.grpc,
            http_address=self._addresses.http,
            socket_path=self._addresses.socket,
            auth=services.access.auth_required,
            mode=services.config.mode,
            hub=None if link is None else link_message(link),
        )

    def check(self, caller: Caller, _request: admin_pb2.CheckRequest) -> admin_pb2.CheckResponse:
        """Compare rollups with events; reads the whole ledger."""
        found = self._services.health.check(caller)
        return admin_pb2.CheckResponse(
            ok=found.ok, events=found.events, rollups=found.rollups, findings=found.findings[:100]
        )
