"""Budgets: what may be spent on what; set, removed and listed, and in memory for everybody who has to heed them.

What is set is on disk, and in the index, when it is answered. A budget that is new, or has a new revision, begins with
what was recorded in its present window before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.budget import TAG, Budget
from costd.domain.budget_change import BudgetChange, applied
from costd.domain.budget_index import BudgetIndex
from costd.domain.errors import Conflict, Forbidden, Invalid, NotFound
from costd.domain.ids import public_id
from costd.domain.money import usd_text
from costd.domain.series import TAG_SEPARATOR
from costd.domain.window import MONTH
from costd.services.membership import Membership
from costd.store import budgets as store
from costd.store.audit import append_audit
from costd.store.budget_history import Before, read_before, settle_before
from costd.store.budgets import HUB, NOT_COUNTED, StoredBudget, StoredChange
from costd.store.commit import Change, Commit
from costd.store.orgs import org_name
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: Each costs memory at every daemon, and a line in everybody's list; more than this are made by a program's mistake.
MAX_BUDGETS = 10_000
WRITE_TIMEOUT_S = 30.0


class _Known(NamedTuple):
    """What is known at one moment: everything that was not removed by id, and the index of what is in force."""

    by_id: Mapping[str, StoredBudget]
    in_force: BudgetIndex


class _Done(NamedTuple):
    """A change that is on disk, and the number of it."""

    held: StoredBudget
    version: int


class Budgets:
    """Holds the budgets; changes them."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        membership: Membership,
        canonical_provider: Callable[[str], str],
    ) -> None:
        """`canonical_provider` gives the one name of a provider."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._hub = membership.address
        self._canonical_provider = canonical_provider
        #: Where the budgets in force are from: a sidecar that has a hub keeps to the hub's.
        self._origin = HUB if membership.address else ""
        self._setting = threading.Lock()
        self._watchers: list[Callable[[], None]] = []
        self._settle_origins()
        with readers.snapshot() as connection:
            self.version = store.read_version(connection)
            self._place(store.load_budgets(connection))

    def _settle_origins(self) -> None:
        """A hub was joined or left: note which budgets are charged no more, and count anew those that are again."""
        other = "" if self._origin else HUB
        with self._readers.snapshot() as connection:
            known = store.load_budgets(connection)
        if any(held.origin == other and held.known_seq != NOT_COUNTED for held in known):
            self._writer.submit(Change(lambda commit: store.suspend(commit, other))).wait(WRITE_TIMEOUT_S)
        for held in known:
            if held.origin == self._origin and held.known_seq == NOT_COUNTED:
                self._writer.submit(Change(self._return_of(held.budget))).wait(WRITE_TIMEOUT_S)

    def _return_of(self, budget: Budget) -> Callable[[Commit], None]:
        """What brings a budget in force again: the hub knows itself what was spent of its own."""
        if self._origin == HUB:
            return lambda commit: store.begin_anew(commit, budget.id)
        try:
            before = self._read_before(budget, self._clock.now_ms())
        except Invalid:  # this machine does not know its time zone, and the tills say so
            return lambda _: None
        return lambda commit: _count_anew(commit, before)

    def _read_before(self, budget: Budget, now_ms: int) -> Before:
        with self._readers.snapshot(unbounded=True) as connection:
            return read_before(connection, budget, now_ms)

    # -- for those who heed them ---------------------------------------------------------------------------------------

    @property
    def index(self) -> BudgetIndex:
        """The budgets in force; another index after each change."""
        return self._known.in_force

    def in_force(self, budget_id: str) -> Budget | None:
        """The budget with this id as it is in force; None where it is not."""
        held = self._known.by_id.get(budget_id)
        return held.budget if held is not None and held.origin == self._origin else None

    def known_seq(self, budget_id: str) -> int:
        """The ledger's last number when the present revision of a budget came to be known here."""
        held = self._known.by_id.get(budget_id)
        return held.known_seq if held is not None else 0

    def all_in_force(self) -> list[StoredBudget]:
        """The budgets in force of all organizations, by name."""
        return [held for held in self._known.by_id.values() if held.origin == self._origin]

    def of_orgs(self, org_ids: Collection[int]) -> list[StoredBudget]:
        """The budgets in force of these organizations, by name: what a source of theirs is told."""
        return [held for held in self.all_in_force() if held.budget.org_id in org_ids]

    def watch(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each change; in the writer's thread: quick, and must not raise."""
        self._watchers.append(callback)

    def use(self, copies: Iterable[StoredBudget]) -> None:
        """Let the hub's budgets be in force, as store_copies has put them on disk; called in the writer's thread."""
        own = [held for held in self._known.by_id.values() if held.origin != HUB]
        self._use([*own, *copies], self.version + 1)

    def _use(self, budgets: Iterable[StoredBudget], version: int) -> None:
        self._place(budgets)
        self.version = version
        for callback in self._watchers:
            callback()

    def _place(self, budgets: Iterable[StoredBudget]) -> None:
        ordered = sorted(budgets, key=lambda held: (held.budget.name, held.budget.id))
        index = BudgetIndex(held.budget for held in ordered if held.origin == self._origin)
        self._known = _Known({held.budget.id: held for held in ordered}, index)

    # -- questions -----------------------------------------------------------------------------------------------------

    def all(self, caller: Caller) -> list[StoredBudget]:
        """The organization's budgets in force, by name."""
        caller.require("read")
        return self.of_orgs({caller.org_id})

    def month_limit_nano(self, caller: Caller, provider: str) -> int | None:
        """How much the whole organization may spend in a calendar month, or may with one provider; None: any amount.

        The lowest amount of the budgets that say just that, whatever their time zone.
        """
        wanted = "provider" if provider else "org"
        amounts = [
            held.budget.amount_nano
            for held in self.all(caller)
            if (held.budget.period, held.budget.anchor_day, held.budget.each) == (MONTH, 1, "")
            and [dimension for dimension, _ in held.budget.scope] == [wanted]
            and (not provider or held.budget.scope[0][1] == provider)
        ]
        return min(amounts, default=None)

    def get(self, caller: Caller, wanted: str) -> StoredBudget:
        """One of them, by its id or its name. Raises NotFound."""
        caller.require("read")
        if not wanted:
            raise Invalid("budget", "is required: the id or the name of a budget")
        known = self._known.by_id
        found = known.get(wanted) or self._named(caller.org_id, wanted)
        if found is None or found.budget.org_id != caller.org_id or found.origin != self._origin:
            raise NotFound(f'there is no budget "{wanted[:64]}"; `costd budgets list` shows them')
        return found

    def get_past(self, caller: Caller, wanted: str) -> StoredBudget:
        """The same, and by its id also one that was removed. Raises NotFound."""
        try:
            return self.get(caller, wanted)
        except NotFound:
            with self._readers.snapshot() as connection:
                found = store.find_budget(connection, wanted)
            if found is None or found.budget.org_id != caller.org_id or found.origin != self._origin:
                raise
            return found

    def changes(self, caller: Caller, wanted: str, limit: int) -> list[StoredChange]:
        """What became of a budget, newest first, at most `limit`. Raises NotFound."""
        held = self.get_past(caller, wanted)
        with self._readers.snapshot() as connection:
            return store.list_changes(connection, held.budget, limit)

    def _named(self, org_id: int, name: str) -> StoredBudget | None:
        for held in self._known.by_id.values():
            if held.budget.name == name and held.budget.org_id == org_id and held.origin == self._origin:
                return held
        return None

    # -- changes -------------------------------------------------------------------------------------------------------

    def set(self, caller: Caller, change: BudgetChange) -> StoredBudget:
        """Make or change a budget of the caller's organization; in force when this returns. Needs admin, and blocks.

        Raises Invalid (naming the field), Forbidden, NotFound (no such id), Conflict (the name is another's).
        """
        self._require_own(caller)
        with self._setting:
            held = self._meant(caller, change)
            budget = applied(change, None if held is None else held.budget, caller.org_id)
            budget = self._resolved(budget, caller)
            if held is not None and budget == held.budget:
                return held
            return self._write(caller, held, budget)

    def remove(self, caller: Caller, wanted: str) -> StoredBudget:
        """Remove a budget, by its id or its name; its history stays. Needs admin, and blocks. Raises NotFound."""
        self._require_own(caller)
        with self._setting:
            held = self.get(caller, wanted)

            def apply(commit: Commit) -> _Done:
                _check_same(commit, held)
                budget = held.budget
                gone = StoredBudget(
                    budget, held.organization, held.created_ms, commit.now_ms, commit.now_ms, "", held.known_seq
                )
                store.put_budget(commit, gone, caller.key_id, store.REMOVED)
                append_audit(commit, budget.org_id, caller.key_id, "budget.removed", budget.id, _audited(budget))
                return _Done(gone, store.next_version(commit))

            return self._commit(apply)

    def _require_own(self, caller: Caller) -> None:
        caller.require("admin")
        if self._hub:
            raise Forbidden(f"budgets are set at the hub of this sidecar: use `costd budgets` there, at {self._hub}")

    def _meant(self, caller: Caller, change: BudgetChange) -> StoredBudget | None:
        """The budget that a change is about, None where it is to be made."""
        if not change.id:
            held = self._named(caller.org_id, change.name)
            if held is not None and change.is_new:
                raise Conflict(f'there is a budget "{change.name[:64]}" already, {held.budget.id}; change that one')
            if held is None and len(self._known.by_id) >= MAX_BUDGETS:
                raise Invalid("name", f"there are {MAX_BUDGETS:,} budgets already; remove some first")
            return held
        held = self.get(caller, change.id)
        other = self._named(caller.org_id, change.name)
        if other is not None and other.budget.id != held.budget.id:
            raise Conflict(f'there is another budget "{change.name[:64]}" already, {other.budget.id}')
        return held

    def _resolved(self, budget: Budget, caller: Caller) -> Budget:
        """The budget, its scope in the words that records have; raises Invalid where it can mean nothing."""
        scope = dict(budget.scope)
        if "provider" in scope:
            scope["provider"] = self._canonical_provider(scope["provider"])
        if TAG_SEPARATOR in scope.get(TAG, ""):
            raise Invalid(f"scope.{TAG}", "must be one tag, without a comma")
        if "key" in scope or "org" in scope:
            with self._readers.snapshot() as connection:
                own, said = org_name(connection, caller.org_id), scope.get("org")
                if said not in {None, own}:
                    raise Invalid("scope.org", f'must be "{own}": a key sets budgets of its own organization')
                if "key" in scope:
                    found = store.keys_known_as(connection, caller.org_id, scope["key"])
                    scope["key"] = _only_key(found, scope["key"])
        return budget._replace(scope=tuple(scope.items()))

    def _write(self, caller: Caller, held: StoredBudget | None, budget: Budget) -> StoredBudget:
        now_ms = self._clock.now_ms()
        is_new_revision = held is None or held.budget.revision != budget.revision
        if held is None:
            budget = budget._replace(id=public_id(now_ms))
        before = None
        if is_new_revision:
            budget = budget._replace(since_ms=now_ms)
            before = self._read_before(budget, now_ms)

        def apply(commit: Commit) -> _Done:
            if held is not None:
                _check_same(commit, held)
            elif store.budget_named(commit.connection, budget.org_id, budget.name, "") is not None:
                raise _changed_meanwhile(budget.name)
            stored = StoredBudget(
                budget._replace(since_ms=commit.now_ms) if is_new_revision else budget,
                org_name(commit.connection, budget.org_id),
                commit.now_ms if held is None else held.created_ms,
                commit.now_ms,
                known_seq=0 if held is None else held.known_seq,
            )
            action = store.CREATED if held is None else store.CHANGED
            store.put_budget(commit, stored, caller.key_id, action)
            if before is not None:
                _count_anew(commit, before)
            append_audit(commit, budget.org_id, caller.key_id, f"budget.{action}", budget.id, _audited(budget))
            return _Done(stored, store.next_version(commit))

        return self._commit(apply)

    def _commit(self, apply: Callable[[Commit], _Done]) -> StoredBudget:
        def after(done: _Done) -> None:
            known = {**self._known.by_id, done.held.budget.id: done.held}
            if done.held.removed_ms is not None:
                del known[done.held.budget.id]
            self._use(known.values(), done.version or self.version + 1)

        done: _Done = self._writer.submit(Change(apply, after)).wait(WRITE_TIMEOUT_S)
        return done.held


def _count_anew(commit: Commit, before: Before) -> None:
    """Let a budget's windows begin with what was recorded before, this commit's records included."""
    settle_before(commit, before)
    store.known_from_here(commit, before.budget.id)


def _check_same(commit: Commit, held: StoredBudget) -> None:
    """Raise Conflict where a budget is another than it was when the change was prepared."""
    found = store.find_budget(commit.connection, held.budget.id)
    if found is None or (found.budget, found.updated_ms, found.removed_ms) != (held.budget, held.updated_ms, None):
        raise _changed_meanwhile(held.budget.name)


def _changed_meanwhile(name: str) -> Conflict:
    return Conflict(f'the budget "{name}" was changed in this moment by somebody else; look at it, and try again')


def _only_key(found: list[tuple[str, bool]], named: str) -> str:
    """The id of the one key that is meant; those in force come first."""
    living = [key_id for key_id, is_living in found if is_living] or [key_id for key_id, _ in found]
    if not living:
        raise Invalid("scope.key", f'there is no key with the id or name "{named}"; `costd keys list` shows them')
    if len(living) > 1:
        raise Invalid("scope.key", f'{len(living)} keys are named "{named}"; name the one by its id')
    return living[0]


def _audited(budget: Budget) -> dict[str, object]:
    return {
        "name": budget.name,
        "scope": dict(budget.scope),
        "each": budget.each,
        "amount_usd": usd_text(budget.amount_nano),
        "period": budget.period,
        "hard": budget.hard,
        "revision": budget.revision,
    }
