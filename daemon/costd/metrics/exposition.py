"""Prometheus' text format for families with thousands of series, where a library's time for each line adds up.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

#: Lines joined at once: joining holds the interpreter, so a large family goes out in small pieces.
_LINES_AT_ONCE = 2_000


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """`name="value",` for each label: a trailing comma is allowed, so that others can follow."""
    return "".join([f'{name}="{_escaped(value)}",' for name, value in zip(names, values, strict=True)])


def family(name: str, kind: str, text: str, lines: Iterable[str]) -> Iterator[bytes]:
    """A whole family: its head and its lines (each ending with a newline)."""
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n".encode()
    gathered: list[str] = []
    for line in lines:
        gathered.append(line)
        if len(gathered) == _LINES_AT_ONCE:
            yield "".join(gathered).encode()
            gathered.clear()
    yield "".join(gathered).encode()


def _escaped(value: str) -> str:
    if value.isalnum():
        return value
    # A lone surrogate has no place in UTF-8; one bad label must not take the whole page with it.
    sound = value.encode("utf-8", "replace").decode()
    return sound.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
