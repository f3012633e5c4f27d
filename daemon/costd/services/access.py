"""Keys: making, revoking and recognising them, all lookups from memory."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from costd.clock import Clock
from costd.domain.access import DEFAULT_ROLES, ROLES, Caller
from costd.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from costd.domain.ids import parse_uuid, public_id
from costd.domain.usage import check_string
from costd.services.membership import Membership
from costd.store.commit import Change, Commit
from costd.store.keys import (
    HUB,
    StoredKey,
    delete_key,
    insert_key,
    load_keys,
    rename_key,
    revoke_key,
    store_last_used,
)
from costd.store.orgs import OWN_ORG, find_org, org_name, org_names
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

SECRET_START = "ct_live_"  # noqa: S105 - the public beginning of every key
_Told = TypeVar("_Told")

PREFIX_LENGTH = len(SECRET_START) + 6
_SECRET_BYTES = 32

MAX_PAGE = 100
DEFAULT_PAGE = 20


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key to be made should be; empty bindings bind nothing."""

    name: str
    roles: tuple[str, ...] = DEFAULT_ROLES
    team: str = ""
    project: str = ""
    source_app: str = ""
    description: str = ""
    organization: str = ""  # whom to make it for; "": the maker's own


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key without its secret; times are UTC milliseconds, None where it did not happen."""

    id: str
    name: str
    key_prefix: str
    roles: tuple[str, ...]
    team: str
    project: str
    source_app: str
    description: str
    created_ms: int
    last_used_ms: int | None
    revoked_ms: int | None
    organization: str
    renamed_ms: int | None = None  # None: it has the name it was made with


class KeyPage(NamedTuple):
    """Some keys, newest first, and where the next page begins; "" where this was the last."""

    keys: list[KeyInfo]
    next_cursor: str


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its secret, which is shown this once."""

    info: KeyInfo
    secret: str


class _Placed(NamedTuple):
    """A key as it is on disk now, and its organization's name."""

    key: StoredKey
    organization: str


class Access:
    """Knows every living key by the digest of its secret."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        membership: Membership,
        *,
        auth_required: bool,
        local_token: str = "",
    ) -> None:
        """`local_token` is a secret that lives only as long as this process and acts as an administrator."""
        self.auth_required = auth_required
        self._writer = writer
        self._readers = readers
        self.clock = clock
        self._membership = membership
        self._keys: dict[str, StoredKey] = {}
        self._callers: dict[bytes, Caller] = {}
        #: Those of the hub's keys, while they are not accepted, and why they are not.
        self._doubted: dict[bytes, Caller] = {}
        self._doubt = ""
        self._changing = threading.Lock()
        self._used_ms: dict[str, int] = {}
        self._anonymous = Caller(OWN_ORG, "", "local", frozenset({"admin"}))
        if local_token:
            self._callers[_digest(local_token)] = self._anonymous
        with readers.snapshot() as connection:
            for key in load_keys(connection):
                self.take_over(key)

    def authenticate(self, token: str | None) -> Caller:
        """The caller this secret stands for; without one, the local user where authentication is off."""
        if not token:
            if not self.auth_required:
                return self._anonymous
            raise Unauthenticated
        caller = self._callers.get(_digest(token))
        if caller is None:
            if _digest(token) in self._doubted:
                raise Unauthenticated(self._doubt or None)
            where = f" at the hub, {self._membership.address}" if self._membership.is_member else ""
            raise Unauthenticated(f"this key is unknown or was revoked; make one with `costd keys create`{where}")
        if caller.key_id:
            self._used_ms[caller.key_id] = self.clock.now_ms()
        return caller

    def create_key(self, caller: Caller, new: NewKey) -> Ticket[CreatedKey]:
        """Make a key in the caller's organization; needs admin. In another one: of the installation's own.

        Raises Forbidden and Invalid; NotFound, from the ticket, where there is no such organization.
        """
        caller.require("admin")
        self._membership.require_no_hub("keys are made", "costd keys create")
        drafted, secret = self.draft_key(new)

        def apply(commit: Commit) -> _Placed:
            key = replace(drafted, org_id=_org_of(commit, caller, new.organization))
            insert_key(commit, key, caller.key_id)
            return _placed(commit, key)

        return self._change(apply, lambda placed: CreatedKey(self._info(*placed), secret))

    def list_keys(self, caller: Caller) -> list[KeyInfo]:
        """All keys the caller looks after, newest first; needs admin, and reads the ledger.

        These are of its organization, or of all where that is the installation's own.
        """
        caller.require("admin")
        keys = list(self._keys.values())  # a copy: the writer's thread may add to it
        keys.sort(key=lambda key: key.id, reverse=True)
        with self._readers.snapshot() as connection:
            names = org_names(connection)
        return [self._info(key, names[key.org_id]) for key in keys if caller.org_id in {key.org_id, OWN_ORG}]

    def revoke_key(self, caller: Caller, wanted: str) -> Ticket[KeyInfo]:
        """Revoke a key the caller looks after, by id, prefix or unambiguous name. Needs admin.

        In force when the ticket resolves, which raises NotFound, and Conflict where the name is ambiguous.
        """
        caller.require("admin")
        if not wanted:
            raise Invalid("id", "must name the key to revoke by its id, prefix or name")
        org_id = None if caller.org_id == OWN_ORG else caller.org_id

        def apply(commit: Commit) -> _Placed:
            key = revoke_key(commit, org_id, wanted, caller.key_id)
            if key.origin:
                self._membership.require_no_hub("this key is revoked", f"costd keys revoke {key.id}")
            return _placed(commit, key)

        return self._change(apply, lambda placed: self._info(*placed))

    def page(self, caller: Caller, cursor: str = "", limit: int | None = None) -> KeyPage:
        """Of list_keys those in force; `cursor` is the next_cursor of an earlier page, "" for the first."""
        caller.require("admin")
        limit = DEFAULT_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid("limit", f"must be between 1 and {MAX_PAGE}")
        if cursor and parse_uuid(cursor) is None:
            raise Invalid("cursor", "must be the next cursor of an earlier answer")
        listed = self.list_keys(caller)
        living = [key for key in listed if key.revoked_ms is None and (not cursor or key.id < cursor)]
        found = living[:limit]
        return KeyPage(found, found[-1].id if len(living) > limit else "")

    def delete_key(self, caller: Caller, key_id: str) -> Ticket[KeyInfo]:
        """Revoke a key in force that the caller looks after, by its id and nothing else. Needs admin.

        In force when the ticket resolves, which raises NotFound.
        """
        caller.require("admin")
        org_id = None if caller.org_id == OWN_ORG else caller.org_id

        def apply(commit: Commit) -> _Placed:
            key = delete_key(commit, org_id, key_id, caller.key_id)
            if key.origin:
                self._membership.require_no_hub("this key is revoked", f"costd keys revoke {key.id}")
            return _placed(commit, key)

        return self._change(apply, lambda placed: self._info(*placed))

    def profile(self, caller: Caller) -> KeyInfo:
        """The caller's own key. Reads the ledger; raises NotFound where the caller has none."""
        key = self._keys.get(caller.key_id)
        if key is None:
            raise _no_profile()
        with self._readers.snapshot() as connection:
            return self._info(key, org_name(connection, key.org_id))

    def rename_key(self, caller: Caller, name: str) -> Ticket[KeyInfo]:
        """Give the caller's own key another name. Needs admin: others know the key by that name, and revoke it by it.

        In force when the ticket resolves. Raises Forbidden, Invalid, and NotFound where the caller has no key.
        """
        caller.require("admin")
        _check_name(name)
        if not caller.key_id:
            raise _no_profile()

        def apply(commit: Commit) -> _Placed:
            key = rename_key(commit, caller.org_id, caller.key_id, name, caller.key_id)
            if key.origin:
                self._membership.require_no_hub("this key is renamed", "PUT /api/profile")
            return _placed(commit, key)

        return self._change(apply, lambda placed: self._info(*placed))

    def has_admin_key(self) -> bool:
        """Whether there ever was an admin key, living or revoked."""
        return any("admin" in key.roles for key in list(self._keys.values()))

    def first_admin_key(self, secret: str) -> Ticket[CreatedKey]:
        """Make `secret` an admin key."""
        key = self._stored(OWN_ORG, NewKey("admin", ("admin",), description="made at the first start"), secret)

        def apply(commit: Commit) -> _Placed:
            insert_key(commit, key, "")
            return _placed(commit, key)

        return self._change(apply, lambda placed: CreatedKey(self._info(*placed), secret))

    def is_in_force(self, key_id: str) -> bool:
        """Whether there is such a key and it was not revoked."""
        key = self._keys.get(key_id)
        return key is not None and key.revoked_ms is None

    # -- what a hub and its sources know of each other's keys ----------------------------------------------------------

    def doubt_hub_keys(self, reason: str) -> None:
        """Accept no copies of the hub's keys, and say why; "" accepts them again. Costs nothing while unchanged."""
        if reason == self._doubt:
            return
        with self._changing:
            self._doubt = reason
            for key in self._keys.values():
                self._place(key)

    def hub_key_uses(self) -> dict[str, int]:
        """When copies of the hub's keys were last used here, UTC milliseconds by id."""
        used = self._used_ms
        found = {key.id: used.get(key.id, key.last_used_ms) for key in list(self._keys.values()) if key.origin == HUB}
        return {key_id: used_ms for key_id, used_ms in found.items() if used_ms}

    def note_uses(self, org_ids: Collection[int], uses: Mapping[str, int]) -> None:
        """Keys of these organizations were used elsewhere (UTC milliseconds by id)."""
        now_ms = self.clock.now_ms()
        for key_id, used_ms in uses.items():
            key = self._keys.get(key_id)
            if key is not None and key.org_id in org_ids:
                known_ms = self._used_ms.get(key_id, key.last_used_ms) or 0
                if known_ms < min(used_ms, now_ms):
                    self._used_ms[key_id] = min(used_ms, now_ms)

    # -- making keys ---------------------------------------------------------------------------------------------------

    def flush_last_used(self) -> Ticket[None] | None:
        """Write down when keys were last used; None if none was."""
        used, self._used_ms = self._used_ms, {}
        if not used:
            return None
        with self._changing:
            for key_id, used_ms in used.items():
                if key_id in self._keys:
                    self._keys[key_id] = replace(self._keys[key_id], last_used_ms=used_ms)
        return self._writer.submit(Change(lambda commit: store_last_used(commit, used)))

    def draft_key(self, new: NewKey) -> tuple[StoredKey, str]:
        """A key of the installation's own organization that is stored nowhere yet, and its secret."""
        _check_new(new)
        secret = new_secret()
        return self._stored(OWN_ORG, new, secret), secret

    def _stored(self, org_id: int, new: NewKey, secret: str) -> StoredKey:
        now_ms = self.clock.now_ms()
        return StoredKey(
            id=public_id(now_ms),
            org_id=org_id,
            name=new.name,
            digest=_digest(secret),
            key_prefix=secret[:PREFIX_LENGTH],
            roles=new.roles or DEFAULT_ROLES,
            team=new.team,
            project=new.project,
            source_app=new.source_app,
            description=new.description,
            created_ms=now_ms,
        )

    def take_over(self, key: StoredKey) -> None:
        """Let a key be in force, or be so no more, as it is on disk now."""
        with self._changing:
            self._keys[key.id] = key
            self._place(key)

    def _place(self, key: StoredKey) -> None:
        """Have a key where it is found; without a moment in which it is nowhere."""
        places = [self._callers, self._doubted]
        if key.revoked_ms is None:
            place = places.pop(1 if self._doubt and key.origin == HUB else 0)
            place[key.digest] = _caller(key)
        for other in places:
            other.pop(key.digest, None)

    def _change(self, apply: Callable[[Commit], _Placed], convert: Callable[[_Placed], _Told]) -> Ticket[_Told]:
        """A change of one key, which is in force when the ticket resolves."""
        # Keys are few, and a revocation cannot wait for those whom it is to turn away.
        change = Change(apply, after=lambda placed: self.take_over(placed.key), bounded=False)
        return self._writer.submit(change, convert)

    def _info(self, key: StoredKey, organization: str) -> KeyInfo:
        return KeyInfo(
            key.id,
            key.name,
            key.key_prefix,
            key.roles,
            key.team,
            key.project,
            key.source_app,
            key.description,
            key.created_ms,
            self._used_ms.get(key.id, key.last_used_ms),
            key.revoked_ms,
            organization,
            key.renamed_ms,
        )


def _placed(commit: Commit, key: StoredKey) -> _Placed:
    return _Placed(key, org_name(commit.connection, key.org_id))


def _caller(key: StoredKey) -> Caller:
    return Caller(key.org_id, key.id, key.name, frozenset(key.roles), key.team, key.project, key.source_app)


def _org_of(commit: Commit, caller: Caller, name: str) -> int:
    """The number of the organization that the caller makes a key for."""
    if not name or name == org_name(commit.connection, caller.org_id):
        return caller.org_id
    if caller.org_id != OWN_ORG:
        raise Forbidden("a key for another organization takes a key of the installation's own organization")
    found = find_org(commit.connection, name)
    if found is None:
        raise NotFound(f'there is no organization "{name}"; `costd sources create SOURCE --org "{name}"` makes one')
    return found


def new_secret() -> str:
    """A new key's secret: ct_live_ and 256 random bits."""
    return SECRET_START + secrets.token_urlsafe(_SECRET_BYTES)


def check_binding(bound: str, said: str, field: str, key_name: str) -> str:
    """The value to use for a dimension a key may be bound to; Forbidden when the caller says another one."""
    if not bound or said == bound:
        return said
    if said:
        raise Forbidden(f'{field}: the key "{key_name}" is bound to another {field}', field=field)
    return bound


def _no_profile() -> NotFound:
    return NotFound("who calls without a key has no profile; send one of `costd keys create`")


def _check_name(name: str) -> None:
    if not name:
        raise Invalid("name", "must say what the key is for")
    check_string(name, "name")


def _check_new(new: NewKey) -> None:
    _check_name(new.name)
    for field in ("team", "project", "source_app", "description", "organization"):
        check_string(getattr(new, field), field)
    for role in new.roles:
        if role not in ROLES:
            raise Invalid("role", f'"{role}" is not a role; allowed are {", ".join(ROLES)}')


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
