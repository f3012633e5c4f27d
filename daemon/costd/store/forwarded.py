"""A hub takes over what its sources forward: every range once, its effect and the watermark in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from costd.domain.forwarded_checks import runs, unfit
from costd.domain.forwarding import CommitSpan, Lost, Range, Sealed, SetAside
from costd.domain.ids import public_id
from costd.domain.money import MAX_RECORD_NANO
from costd.store import source_epochs
from costd.store.commit import Commit
from costd.store.forwarded_items import apply_items
from costd.store.forwarded_records import Fates, apply_records
from costd.store.hub_state import read_hub_state
from costd.store.quarantine import Held, insert_quarantined
from costd.store.source_epochs import Mark

#: Reasons kept apart for one batch; where there are more, what is unfit is kept together.
MAX_RUNS = 16
#: A clock that is further ahead than this does not keep ids for longer.
MAX_AHEAD_MS = 7 * 86_400_000
#: How records are counted by the way they came.
DOOR = "forward"


class Sender(NamedTuple):
    """Who forwards: the source's number, the organizations it may record for by name, and its present epoch."""

    source_id: int
    orgs: Mapping[str, int]
    epoch: bytes


@dataclass(slots=True)
class Applied:
    """What is here now, and what became of the records of the range; `outcomes` counts them by word."""

    watermark: int
    seal: bytes
    set_aside: list[SetAside] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


class OtherLineage(NamedTuple):
    """The range belongs to another history of this epoch than the one that is here."""

    watermark: int


class Gap(NamedTuple):
    """The range begins too late: `expected` is the first number that is missing."""

    expected: int


Verdict = Applied | OtherLineage | Gap


def receive(
    commit: Commit, sender: Sender, sealed: Sealed, held: Range, lost: Lost | None, *, carefully: bool = False
) -> Verdict:
    """Take over a range if it is the next one; the source's mark exists.

    Done `carefully`, records that the database refuses are set aside, each by itself; otherwise that raises.
    """
    mark, verdict = _look(commit, sender, sealed)
    if verdict is not None:
        return verdict
    with commit.held_by(sender.source_id, sender.epoch):
        applied = _apply(commit, sender, sealed, held, is_first=mark.is_first, carefully=carefully)
    _take_down(commit, sender, sealed, applied, lost)
    return applied


def receive_unread(commit: Commit, sender: Sender, sealed: Sealed, held: Range | None, reason: str) -> Verdict:
    """Set a range aside as a whole if it is the next one, as it could not be read or applied, and move on."""
    _, verdict = _look(commit, sender, sealed)
    if verdict is not None:
        return verdict
    records = held.records if held is not None else 0
    applied = Applied(sealed.last, sealed.seal, outcomes=Counter(quarantined=records))
    prices = _prices(held, held.events.seq) if held is not None else {}
    applied.set_aside = [_keep_apart(commit, sender, sealed, prices, (sealed.first, sealed.last, reason))]
    _take_down(commit, sender, sealed, applied, None)
    return applied


def _look(commit: Commit, sender: Sender, sealed: Sealed) -> tuple[Mark, Verdict | None]:
    """Where the source stands, and what is to be said at once; None where the range is the next one."""
    mark = source_epochs.find_mark(commit.connection, sender.source_id, sender.epoch)
    assert mark is not None, "a source says hello first"
    if mark.watermark >= sealed.last:
        if source_epochs.has_seal(commit.connection, sender.source_id, sender.epoch, sealed):
            return mark, Applied(mark.watermark, mark.seal)
        return mark, OtherLineage(mark.watermark)
    if mark.seal and sealed.first > mark.watermark + 1:
        return mark, Gap(mark.watermark + 1)
    if mark.seal != sealed.previous or (mark.seal and sealed.first != mark.watermark + 1):
        return mark, OtherLineage(mark.watermark)
    return mark, None


def _take_down(commit: Commit, sender: Sender, sealed: Sealed, applied: Applied, lost: Lost | None) -> None:
    source_epochs.move_mark(commit, sender.source_id, sender.epoch, sealed)
    source_epochs.set_aside(commit, sender.source_id, sender.epoch, applied.set_aside)
    if lost is not None:
        source_epochs.note_lost(commit, sender.source_id, sender.epoch, lost)
    _count(commit, sender, applied.outcomes["kept"], applied.outcomes["duplicate"])
    commit.tally[DOOR, "accepted"] += applied.outcomes["kept"]
    commit.tally[DOOR, "duplicate"] += applied.outcomes["duplicate"] + applied.outcomes["repeated"]
    commit.tally[DOOR, "quarantined"] += applied.outcomes["quarantined"]


def _count(commit: Commit, sender: Sender, kept: int, duplicates: int) -> None:
    commit.connection.execute(
        "UPDATE source SET records = records + ?, duplicates = duplicates + ?, seen_ms = ? WHERE id = ?",
        (kept, duplicates, commit.now_ms, sender.source_id),
    )


def retry(commit: Commit, sender: Sender, held: Range, window: tuple[int, int]) -> Counter[str]:
    """Try again to take over the records of a range in a window of its numbers, which were set aside; the outcomes.

    What is refused again is counted as quarantined.
    """
    layout = _Layout(commit, held, sender, is_first=True)
    reasons = unfit(held, _foreign(held, sender.orgs))
    layout.taken.update(seq for seq in held.events.seq if not window[0] <= seq <= window[1])
    with commit.held_by(sender.source_id, sender.epoch):
        fates = apply_records(commit, held, layout.places, sender.orgs, reasons, layout.taken)
        apply_items(commit, held, sender.orgs, layout.known, fates.out)
    commit.tally[DOOR, "accepted"] += fates.kept
    _count(commit, sender, fates.kept, len(fates.duplicates))
    return Counter(kept=fates.kept, duplicate=len(fates.duplicates), quarantined=len(fates.unfit))


def uncounted(commit: Commit, held: Range, window: tuple[int, int]) -> list[tuple[int, int]]:
    """Numbers of a range in a window of them, as (first, last), whose record or month entry is not here as theirs."""
    there = _held_commits(commit, held.commits)
    here: set[int] = set()
    for span in held.commits:
        if span.id in there:
            here.update(_records_of(commit, span, there[span.id]))
    for entry in held.entries:
        if commit.connection.execute("SELECT 1 FROM month_entry WHERE id = ?", (entry.id,)).fetchone():
            here.add(entry.seq)
    numbers = (*held.events.seq, *(entry.seq for entry in held.entries))
    missing = {seq: "not here" for seq in numbers if window[0] <= seq <= window[1] and seq not in here}
    return [(first, last) for first, last, _ in runs(missing)]


def _apply(commit: Commit, sender: Sender, sealed: Sealed, held: Range, *, is_first: bool, carefully: bool) -> Applied:
    reasons = unfit(held, _foreign(held, sender.orgs))
    layout = _Layout(commit, held, sender, is_first=is_first)
    # Of a commit that is here already its records are here too, but for those that were set aside: duplicates among
    # them are told again, to a source that may have forgotten.
    fates = apply_records(
        commit, held, layout.places, sender.orgs, reasons, layout.taken, layout.known, carefully=carefully
    )
    apply_items(commit, held, sender.orgs, layout.known, fates.out)
    applied = Applied(sealed.last, sealed.seal)
    applied.outcomes.update(
        kept=fates.kept,
        duplicate=len(fates.duplicates),
        quarantined=len(fates.unfit),
        repeated=held.records - fates.kept - len(fates.duplicates) - len(fates.unfit),
    )
    applied.set_aside = [SetAside(first, last) for first, last, _ in runs(dict.fromkeys(fates.duplicates, "duplicate"))]
    applied.set_aside += [_keep_apart(commit, sender, sealed, _prices(held, fates.unfit), run) for run in _few(fates)]
    return applied


def _few(fates: Fates) -> Sequence[tuple[int, int, str]]:
    found = list(runs(fates.unfit))
    if len(found) <= MAX_RUNS:
        return found
    return [(found[0][0], found[-1][1], f"{len(fates.unfit)} records, the first of them: {found[0][2]}")]


def _prices(held: Range, numbers: Collection[int]) -> dict[int, int]:
    """{number: cost} of these records, in bounds and 0 where it is not known."""
    said = zip(held.events.seq, held.events.cost_nano, strict=True)
    return {seq: min(max(cost, 0), MAX_RECORD_NANO) for seq, cost in said if seq in numbers}


def _keep_apart(
    commit: Commit, sender: Sender, sealed: Sealed, prices: Mapping[int, int], run: tuple[int, int, str]
) -> SetAside:
    """Keep those of `prices` ({number: cost}) in a run of numbers in quarantine; between them may be others."""
    first, last, reason = run
    costs = [cost for seq, cost in prices.items() if first <= seq <= last]
    told = SetAside(first, last, public_id(commit.now_ms), reason, len(costs), sum(costs))
    insert_quarantined(
        commit,
        Held(
            id=told.quarantine_id,
            source_id=sender.source_id,
            epoch=sender.epoch,
            first_seq=first,
            last_seq=last,
            records=told.records,
            cost_nano=told.cost_nano,
            reason=reason,
            format=sealed.form,
            content=sealed.content,
            at_ms=commit.now_ms,
        ),
    )
    return told


def _foreign(held: Range, orgs: Mapping[str, int]) -> frozenset[int]:
    return frozenset(at for at, name in enumerate(held.organizations) if name not in orgs)


class _Layout:
    """Where the commits of a range lie in this ledger: those it holds already, and those it takes over now.

    `places` are (first number there, first number here), ascending. `known` are the source's numbers of commits that
    were here before, `taken` those of them whose record is here.
    """

    def __init__(self, commit: Commit, held: Range, sender: Sender, *, is_first: bool) -> None:
        there = _held_commits(commit, held.commits)
        forgotten_ms = 0
        if not is_first and (state := read_hub_state(commit.connection)) is not None:
            forgotten_ms = state.ids_from_ms
        self.places: list[tuple[int, int]] = []
        self.known: list[range] = []
        self.taken: set[int] = set()
        new: list[CommitSpan] = []
        for span in held.commits:
            here = there.get(span.id)
            if here is None and span.at_ms >= forgotten_ms:
                new.append(span)
                continue
            # Of what this ledger has forgotten, everything was here: sources are waited for before anything goes.
            self.known.append(range(span.first, span.last + 1))
            if here is None:
                self.taken.update(range(span.first, span.last + 1))
            else:
                self.places.append((span.first, here))
                self.taken.update(_records_of(commit, span, here))
        # Ids outlast their records' own time too, which is ahead of ours where the source's clock is.
        latest_ms = min(max(held.events.at_ms, default=0), commit.now_ms + MAX_AHEAD_MS)
        self.places += commit.adopt(new, max(commit.now_ms, latest_ms))
        self.places.sort()


def _records_of(commit: Commit, span: CommitSpan, here: int) -> list[int]:
    """The source's numbers of the records that are here of a commit which begins at `here`."""
    rows = commit.connection.execute("SELECT seq FROM event WHERE seq >= ? AND seq < ?", (here, here + span.items))
    return [seq - here + span.first for (seq,) in rows]


def _held_commits(commit: Commit, spans: Sequence[CommitSpan]) -> dict[int, int]:
    """{id: first number here} of the commits that this ledger holds."""
    found: dict[int, int] = {}
    for start in range(0, len(spans), _LOOKUP):
        ids = [span.id.to_bytes(16, "big") for span in spans[start : start + _LOOKUP]]
        marks = ",".join("?" * len(ids))
        rows = commit.connection.execute(f"SELECT id, first_seq FROM ledger_commit WHERE id IN ({marks})", ids)
        found.update((int.from_bytes(commit_id, "big"), first) for commit_id, first in rows)
    return found


_LOOKUP = 500
