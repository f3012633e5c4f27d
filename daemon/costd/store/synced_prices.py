"""A sidecar's copy of its hub's prices: the same rules and tables under the same numbers, the history of both kept."""

from __future__ import annotations

from collections.abc import Mapping

from costd.domain.synced import SyncedPrices, SyncedTable
from costd.store.commit import Commit
from costd.store.keys import HUB
from costd.store.price_list import PriceList
from costd.store.price_rules import insert_rule, load_rules, remove_rule, restore_rule
from costd.store.price_sources import FILE, LIST, keep_table
from costd.store.price_state import FROM_HUB

_ACTOR = HUB


def store_prices(commit: Commit, prices: SyncedPrices, orgs: Mapping[str, int], installed: PriceList) -> None:
    """Let the hub's prices be the only ones in force, as its revision of them."""
    _store_rules(commit, prices, orgs)
    for kind in (LIST, FILE):
        table = next((table for table in prices.tables if table.kind == kind), None)
        if table is not None and kind == LIST and table.digest == bytes.fromhex(installed.digest):
            table = None
        if table is not None and not _has(commit, table):  # it could not be read
            table = None
        _store_table(commit, kind, table, prices.revision)
    commit.connection.execute("UPDATE ledger_state SET price_revision = ?", (prices.revision,))


def _store_rules(commit: Commit, prices: SyncedPrices, orgs: Mapping[str, int]) -> None:
    wanted = {
        each.rule.id: each.rule._replace(org_id=None if each.organization is None else orgs[each.organization])
        for each in prices.rules
        if each.organization is None or each.organization in orgs
    }
    held = {rule.id for rule in load_rules(commit.connection)}
    for rule_id in held - wanted.keys():
        remove_rule(commit, rule_id, _ACTOR, prices.revision)
    for rule in wanted.values():
        if rule.id not in held and not restore_rule(commit, rule.id):
            insert_rule(commit, rule, _ACTOR, prices.revision)


def _has(commit: Commit, table: SyncedTable) -> bool:
    if table.body:
        return True
    found = commit.connection.execute("SELECT 1 FROM price_table WHERE digest = ?", (table.digest,)).fetchone()
    return found is not None


def _store_table(commit: Commit, kind: str, table: SyncedTable | None, revision: int) -> None:
    """Put a table of this kind in force in place of the one that is; None: that of costd itself, or none."""
    connection = commit.connection
    held = connection.execute(
        "SELECT version, name, digest, installed_version FROM price_import WHERE kind = ? AND removed_ms IS NULL",
        (kind,),
    ).fetchall()
    wanted = [] if table is None else [(table.version, table.name, table.digest, FROM_HUB)]
    if held == wanted:
        return
    connection.execute(
        "UPDATE price_import SET removed_ms = ?, removed_revision = ? WHERE kind = ? AND removed_ms IS NULL",
        (commit.now_ms, revision, kind),
    )
    if table is None:
        return
    if table.body:
        keep_table(commit, table.digest, table.body)
    # Prices of this ledger's own may have had the number before.
    (free,) = connection.execute(
        "SELECT max(?, coalesce(max(revision), 0) + 1) FROM price_import", (revision,)
    ).fetchone()
    connection.execute(
        "INSERT INTO price_import (revision, kind, version, name, digest, installed_version, imported_ms, imported_by) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (free, kind, table.version, table.name, table.digest, FROM_HUB, commit.now_ms, _ACTOR),
    )
