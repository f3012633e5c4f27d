"""What a forwarded range holds beside records: month entries, corrections, and what was said of the catalog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from costd.domain.forwarding import Adjustment, CatalogSaid, Entry, Range
from costd.domain.ids import split_event_id
from costd.store.adjustments import REPRICE, AdjustmentDraft, append_adjustments
from costd.store.catalog_kinds import KINDS, Kind
from costd.store.commit import Commit
from costd.store.corrections import begin_correction, finish_correction, reverse
from costd.store.effect import Effect, effect_of
from costd.store.outbox_ranges import ENTRY_COLUMNS
from costd.store.price_sources import source_id
from costd.store.requests import INTO_REQUEST

_KINDS = {kind.name: kind for kind in KINDS}
#: How the corrections that came from sources are told from the hub's own.
_FORWARDED = "forwarded"
_ENTRY_WIDTH = ENTRY_COLUMNS.count(",") + 1
_PROVIDER = ENTRY_COLUMNS.split(", ").index("provider")


def apply_items(
    commit: Commit, held: Range, orgs: Mapping[str, int], known: Sequence[range], out: frozenset[int]
) -> None:
    """Add what is new; `known` are numbers of commits that are here already, `out` those not to be taken over.

    What is of an organization that is not the source's is left out.
    """
    names = held.organizations

    def is_new(seq: int, org: int) -> bool:
        return names[org] in orgs and seq not in out and not any(seq in numbers for numbers in known)

    requests = {each.seq: each for each in held.requests} if held.entries else {}
    for entry in held.entries:
        if is_new(entry.seq, entry.org):
            seq = _add_entry(commit, orgs[names[entry.org]], entry)
            request = requests.get(entry.seq)
            if seq and request is not None:
                row = (seq, orgs[names[request.org]], request.request_id, request.fingerprint)
                commit.connection.execute(f"{INTO_REQUEST} VALUES (?, ?, ?, ?)", row)
    for said in held.catalog:
        if is_new(said.seq, said.org) and said.kind in _KINDS:
            apply_said(commit, orgs[names[said.org]], said)
    for each in held.adjustments:
        if is_new(each.seq, held.series[each.series].org_id):
            _adjust(commit, held, orgs[names[held.series[each.series].org_id]], each)


def _add_entry(commit: Commit, org_id: int, entry: Entry) -> int:
    """Add a month entry unless it is here; its number, 0 where it was."""
    found = commit.connection.execute("SELECT 1 FROM month_entry WHERE id = ?", (entry.id,)).fetchone()
    if found:
        return 0
    seq = commit.take_seq()
    commit.connection.execute(
        f"INSERT INTO month_entry (seq, id, org_id, {ENTRY_COLUMNS}) VALUES (?, ?, ?{', ?' * _ENTRY_WIDTH})",
        (seq, entry.id, org_id, *entry.values),
    )
    commit.heard_of(org_id, str(entry.values[_PROVIDER]), commit.now_ms)
    return seq


def apply_said(commit: Commit, org_id: int, said: CatalogSaid) -> None:
    """Carry out what was said of one thing of the catalog, unless it is so already."""
    kind = _KINDS[said.kind]
    key = {"org_id": org_id, **({"source_app": said.source_app} if kind.has_apps else {}), kind.id_column: said.id}
    values = {kind.columns[name]: value for name, value in said.values.items() if name in kind.columns}
    commit.catalog_said.add((kind.name, org_id, said.source_app if kind.has_apps else "", said.id))
    if kind.registers and said.registers:
        values["registered"] = 1  # type: ignore[assignment]  # the one column that is no text
    where = " AND ".join(f"{column} = ?" for column in key)
    columns = ", ".join(values) or "1"
    row = commit.connection.execute(f"SELECT {columns} FROM {kind.table} WHERE {where}", tuple(key.values())).fetchone()
    if row is None:
        _insert_said(commit, kind, {**key, **({"registered": 0} if kind.registers else {}), **values})
        return
    if not values or tuple(row) == tuple(values.values()):
        return
    changed = "".join(f"{column} = ?, " for column in values)
    commit.connection.execute(
        f"UPDATE {kind.table} SET {changed}updated_ms = ?, seq = ? WHERE {where}",
        (*values.values(), commit.now_ms, commit.take_seq(), *key.values()),
    )


def _insert_said(commit: Commit, kind: Kind, row: Mapping[str, object]) -> None:
    full = {**row, "created_ms": commit.now_ms, "updated_ms": commit.now_ms, "seq": commit.take_seq()}
    commit.connection.execute(
        f"INSERT INTO {kind.table} ({', '.join(full)}) VALUES ({', '.join('?' * len(full))})", tuple(full.values())
    )


def _adjust(commit: Commit, held: Range, org_id: int, each: Adjustment) -> None:
    """Carry out a correction of a record that has an effect here; the hub's own corrections come before others'."""
    seq = _number_of(commit, each.event_id)
    standing = effect_of(commit.connection, seq) if seq else None
    # A record that the hub dropped as a duplicate has no effect here that could be taken back.
    if standing is None or standing.is_void or standing.org_id != org_id:
        return
    if each.kind != REPRICE:
        reverse(commit, standing, each.kind, each.reason, each.actor)
    elif not _is_ours(commit, standing):
        _reprice(commit, held, standing, each)


def _reprice(commit: Commit, held: Range, standing: Effect, each: Adjustment) -> None:
    source = held.sources[each.source - 1] if each.source else None
    number = None if source is None else source_id(commit, source.kind, source.version, None)
    request = json.dumps({_FORWARDED: each.seq})
    made = begin_correction(commit, standing.org_id, REPRICE, request, each.reason, each.actor, standing.seq)
    draft = AdjustmentDraft(standing.seq, standing.at_ms, standing.series_id, each.amounts, each.units, number)
    append_adjustments(commit, REPRICE, made.id, [draft])
    finish_correction(commit, made.id)


def _is_ours(commit: Commit, standing: Effect) -> bool:
    """Whether this ledger has corrected the record by itself."""
    rows = commit.connection.execute(
        "SELECT c.request FROM adjustment a JOIN correction c ON c.id = a.correction_id WHERE a.event_seq = ?",
        (standing.seq,),
    )
    return any(_FORWARDED not in json.loads(request) for (request,) in rows)


def _number_of(commit: Commit, event_id: bytes) -> int | None:
    """The number here of the record with this public id."""
    commit_id, ordinal = split_event_id(int.from_bytes(event_id, "big"))
    row = commit.connection.execute(
        "SELECT first_seq + ? FROM ledger_commit WHERE id = ? AND items > ?",
        (ordinal, commit_id.to_bytes(16, "big"), ordinal),
    ).fetchone()
    return int(row[0]) if row else None
