"""Slices as they are kept: at a hub, who may use them and what each source holds; at a sidecar, its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from costd.domain.lease import MAX_PENDING, Report, Return
from costd.domain.window_key import WindowKey
from costd.store import source_epochs
from costd.store.budget_rows import AccountRow
from costd.store.commit import Commit

#: A sidecar's own slices are in the accounts of this source.
OWN = 0
_INCARNATION_BYTES = 16
#: Keys looked up in one statement: four parameters each.
_LOOKUP = 200
_KEY = "budget_id, revision, value, start_ms"

# -- at a hub ----------------------------------------------------------------------------------------------------------


class Succession(NamedTuple):
    """Where a source's epoch stands with slices.

    `watermark` is what of it is here, `proven` how much of the source's sequence is, in an epoch of which nothing came
    yet by those before it. `incarnation` is of the process that may use its slices, b"" where none was confirmed yet;
    `reported_epoch` the hub's epoch under which the source has told of its slices.
    """

    watermark: int
    proven: int
    incarnation: bytes
    reported_epoch: bytes


def read_succession(connection: sqlite3.Connection, source_id: int, epoch: bytes) -> Succession | None:
    """Where it stands; None where nothing of this epoch was ever heard on the road that forwards."""
    row = connection.execute(
        "SELECT last_seq, seal, lease_incarnation, reported_epoch FROM source_epoch e "
        "JOIN source s ON s.id = e.source_id WHERE source_id = ? AND epoch = ?",
        (source_id, epoch),
    ).fetchone()
    if row is None:
        return None
    watermark, seal, incarnation, reported_epoch = row
    proven = watermark if seal else source_epochs.highest(connection, source_id)
    return Succession(watermark, proven, incarnation, reported_epoch)


def store_succession(commit: Commit, source_id: int, epoch: bytes, incarnation: bytes) -> None:
    """Let the slices of an epoch be this process's."""
    commit.connection.execute(
        "UPDATE source_epoch SET lease_incarnation = ? WHERE source_id = ? AND epoch = ?",
        (incarnation, source_id, epoch),
    )


def store_reported(commit: Commit, source_id: int, hub_epoch: bytes) -> None:
    """A source has told this hub, in its present epoch, of all its slices."""
    commit.connection.execute("UPDATE source SET reported_epoch = ? WHERE id = ?", (hub_epoch, source_id))


def read_awaited(connection: sqlite3.Connection, hub_epoch: bytes) -> frozenset[int]:
    """Sources that were confirmed once, are not forgotten, and have not told this epoch of the hub of their slices."""
    rows = connection.execute(
        "SELECT id FROM source s WHERE forgotten_ms IS NULL AND reported_epoch <> ? AND EXISTS "
        "(SELECT 1 FROM source_epoch e WHERE e.source_id = s.id AND e.lease_incarnation <> x'')",
        (hub_epoch,),
    )
    return frozenset(source_id for (source_id,) in rows)


def take_returns(commit: Commit, source_id: int, proven: int, returns: Sequence[Return]) -> list[Return]:
    """Take back what a source gives back; those that count: all before is here, and no more than was granted."""
    accepted = []
    for each in returns:
        if each.last_seq > proven:
            continue
        done = commit.connection.execute(
            f"UPDATE budget_account SET returned_nano = ?1 WHERE ({_KEY}) = (?2, ?3, ?4, ?5) AND source_id = ?6 "
            "AND epoch = ?7 AND returned_nano < ?1 AND granted_nano >= ?1",
            (each.returned_nano, *each.window, source_id, each.epoch),
        )
        if done.rowcount:
            accepted.append(each)
    return accepted


def take_report(commit: Commit, source_id: int, report: Sequence[Report]) -> None:
    """Take the larger of what a source knows of its slices and what is known here; other budgets are passed over."""
    commit.connection.executemany(
        f"INSERT INTO budget_account ({_KEY}, source_id, epoch, granted_nano, returned_nano, settled_nano) "
        "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0 WHERE EXISTS (SELECT 1 FROM budget WHERE id = ?1) "
        "ON CONFLICT DO UPDATE SET granted_nano = max(granted_nano, excluded.granted_nano), "
        "returned_nano = max(returned_nano, excluded.returned_nano)",
        [
            (*each.window, source_id, each.epoch, each.granted_nano, min(each.returned_nano, each.granted_nano))
            for each in report
        ],
    )


def read_accounts(
    connection: sqlite3.Connection, source_id: int, epoch: bytes, keys: Collection[WindowKey]
) -> dict[WindowKey, AccountRow]:
    """What a source holds of these windows in an epoch, as far as there are rows of it."""
    found: dict[WindowKey, AccountRow] = {}
    every = list(keys)
    for start in range(0, len(every), _LOOKUP):
        chunk = every[start : start + _LOOKUP]
        rows = connection.execute(
            f"SELECT {_KEY}, granted_nano, returned_nano, settled_nano FROM budget_account "
            f"WHERE ({_KEY}) IN (VALUES {', '.join(['(?, ?, ?, ?)'] * len(chunk))}) AND source_id = ? AND epoch = ?",
            [part for key in chunk for part in key] + [source_id, epoch],
        )
        found.update((WindowKey(*row[:4]), AccountRow(*row[4:])) for row in rows)
    return found


# -- at a sidecar ------------------------------------------------------------------------------------------------------


class LeaseState(NamedTuple):
    """How a sidecar stands with its hub about slices; b"" where there is none.

    `epoch` is of its own sequence, `hub_epoch` of the hub that knows of all its slices; `confirmed` is the process that
    this hub confirmed last, `pending` are those that asked for it since: it may have confirmed each of them without
    being heard.
    """

    epoch: bytes = b""
    hub_epoch: bytes = b""
    confirmed: bytes = b""
    pending: tuple[bytes, ...] = ()

    def asked(self, epoch: bytes, incarnation: bytes) -> LeaseState:
        """This process is about to ask, in this epoch."""
        others = tuple(each for each in self.pending if each != incarnation)
        return self._replace(epoch=epoch, pending=(*others, incarnation)[-MAX_PENDING:])

    def heard(self, incarnation: bytes, hub_epoch: bytes) -> LeaseState:
        """The hub has confirmed this process, and so no other one since."""
        return self._replace(hub_epoch=hub_epoch, confirmed=incarnation, pending=(incarnation,))


def read_lease_state(connection: sqlite3.Connection) -> LeaseState:
    """How it stands."""
    row = connection.execute("SELECT epoch, hub_epoch, confirmed, pending FROM lease_state").fetchone()
    if row is None:
        return LeaseState()
    epoch, hub_epoch, confirmed, pending = row
    names = (pending[at : at + _INCARNATION_BYTES] for at in range(0, len(pending), _INCARNATION_BYTES))
    return LeaseState(epoch, hub_epoch, confirmed, tuple(names))


def store_lease_state(commit: Commit, state: LeaseState) -> None:
    """Take down how it stands."""
    commit.connection.execute(
        "INSERT INTO lease_state (id, epoch, hub_epoch, confirmed, pending) VALUES (1, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET epoch = excluded.epoch, hub_epoch = excluded.hub_epoch, "
        "confirmed = excluded.confirmed, pending = excluded.pending",
        (*state[:3], b"".join(state.pending)),
    )


def store_slices(commit: Commit, slices: Mapping[tuple[WindowKey, bytes], tuple[int, int]]) -> None:
    """Raise what was granted and given back in all, by window and epoch; neither ever goes down."""
    commit.connection.executemany(
        f"INSERT INTO budget_account ({_KEY}, source_id, epoch, granted_nano, returned_nano, settled_nano) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
        "granted_nano = max(granted_nano, excluded.granted_nano), "
        "returned_nano = max(returned_nano, excluded.returned_nano)",
        [(*key, OWN, epoch, granted, returned) for (key, epoch), (granted, returned) in slices.items()],
    )


def read_slices(connection: sqlite3.Connection, now_ms: int) -> list[Report]:
    """All slices that are known, of all epochs, but those of windows that are over."""
    rows = connection.execute(
        f"SELECT {_KEY}, epoch, granted_nano, returned_nano FROM budget_account JOIN budget_window USING ({_KEY}) "
        "WHERE source_id = ? AND end_ms > ?",
        (OWN, now_ms),
    )
    return [Report(WindowKey(*row[:4]), *row[4:]) for row in rows]
