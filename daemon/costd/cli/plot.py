"""The chart of `costd report --plot`: what was spent in each day or hour, stacked by group, drawn in the terminal.

Figures on it are rounded for drawing only; the table, JSON and CSV are exact.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from costd.cli.output import safe

#: More groups cannot be told apart; the rest are drawn as one.
MAX_GROUPS = 6
OTHER = "other"
_HEIGHT = 20
_MARKS = ("#", "x", "o", "+", "=", "%", ".")
_COLOURS = ("blue", "orange", "green", "magenta", "cyan", "red", "gray")
#: Wide enough for one label of the time axis and the gap beside it.
_LABEL_COLUMNS = 12
_STEP_MS = {"hour": 3_600_000, "day": 86_400_000}

Spend = Mapping[str, Mapping[int, Decimal]]


def chart(spend: Spend, bucket: str) -> str:
    """The chart of {group: {start of its bucket: USD}}; `bucket` is "hour" or "day"."""
    import plotext  # noqa: PLC0415 - only who draws waits for it

    width = shutil.get_terminal_size((80, 24)).columns
    step_ms = _STEP_MS[bucket]
    held = sorted({moment for buckets in spend.values() for moment in buckets})
    moments = range(held[0], held[-1] + step_ms, step_ms)
    groups = dearest(spend)
    plotext.clear_figure()
    if not _is_coloured():
        plotext.theme("clear")
    plotext.plotsize(width, _HEIGHT)
    plotext.title(f"USD by {bucket} (UTC)")
    plotext.stacked_bar(
        list(range(len(moments))),
        [[float(buckets.get(moment, 0)) for moment in moments] for _, buckets in groups],
        labels=[safe(name) or "-" for name, _ in groups],
        marker=list(_MARKS[: len(groups)]) if not _is_coloured() else None,
        color=list(_COLOURS[: len(groups)]),
    )
    shown = range(0, len(moments), max(1, -(-len(moments) * _LABEL_COLUMNS // width)))
    plotext.xticks(list(shown), [_label(moments[at], bucket) for at in shown])
    drawn: str = plotext.build()
    return (drawn if _is_coloured() else plotext.uncolorize(drawn)).rstrip("\n")


def dearest(spend: Spend) -> Sequence[tuple[str, Mapping[int, Decimal]]]:
    """The groups that cost most, the dearest first, and all others as one."""
    ordered = sorted(spend.items(), key=lambda group: (-sum(group[1].values()), group[0]))
    if len(ordered) <= MAX_GROUPS + 1:
        return ordered
    rest: dict[int, Decimal] = {}
    for _, buckets in ordered[MAX_GROUPS:]:
        for moment, usd in buckets.items():
            rest[moment] = rest.get(moment, Decimal(0)) + usd
    return [*ordered[:MAX_GROUPS], (OTHER, rest)]


def _label(moment_ms: int, bucket: str) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return f"{moment:%m-%d %H:%M}" if bucket == "hour" else f"{moment:%Y-%m-%d}"


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
