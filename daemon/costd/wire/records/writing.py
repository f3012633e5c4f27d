"""Writes records as JSON Lines and as CSV: what they have in common is made into text once, the rest by format strings.

A record takes some three microseconds; through an encoder of objects it would take ten.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from costd.domain.batch import COUNT_COLUMNS
from costd.domain.money import usd_text
from costd.domain.series import TAG_SEPARATOR, Series
from costd.services.exports import NamedBlock
from costd.store.exports import PlainRow
from costd.wire.records import form

#: Series remembered in their text.
MAX_SERIES = 20_000
#: Minutes remembered in theirs.
MAX_MINUTES = 4_096
_QUOTED = re.compile(r'[",\r\n]|^\s|\s$')
_NO_PRICE = ("", "")


class _Minutes(dict[int, str]):
    """`YYYY-MM-DDTHH:MM:` by the number of the minute since 1970: records come about in the order of their times."""

    def __missing__(self, minute: int) -> str:
        if len(self) >= MAX_MINUTES:
            self.clear()
        text = self[minute] = f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%M:}"
        return text


class Writer(ABC):
    """Writes blocks of records as lines."""

    def __init__(self) -> None:
        self._minutes = _Minutes()
        self._heads: dict[int, tuple[str, ...]] = {}
        self._prices: dict[int | None, str] = {}

    #: The line before the first record, "" where there is none.
    header: str

    def lines(self, named: NamedBlock) -> list[str]:
        """A line for each record of the block."""
        if len(self._heads) > MAX_SERIES:
            self._heads.clear()
        heads = self._heads
        for number in {row[2] for row in named.block.rows} - heads.keys():
            heads[number] = self._head(named.series[number])
        self._prices = {number: self._price(*source) for number, source in named.sources.items()}
        self._prices[None] = self._price(*_NO_PRICE)
        return self._lines(named.block.ids, named.block.rows)

    @abstractmethod
    def _head(self, series: Series) -> tuple[str, ...]:
        """The text of what the records of a series have in common."""

    @abstractmethod
    def _price(self, kind: str, version: str) -> str:
        """The text of where a cost is from."""

    @abstractmethod
    def _lines(self, ids: Sequence[str], rows: Sequence[PlainRow]) -> list[str]:
        """The lines; heads and prices of the rows are there."""


class JsonLines(Writer):
    """An object a line. What a record has not is left out, but for the cost, which then is null."""

    header = ""

    def _head(self, series: Series) -> tuple[str, ...]:
        fields: dict[str, Any] = {name: getattr(series, name) for name in form.NAMES}
        fields["tags"] = series.tags.split(TAG_SEPARATOR) if series.tags else ""
        fields["endpoint"] = series.endpoint
        said = "".join(f',"{name}":{_json(value)}' for name, value in fields.items() if value)
        key = f',"key_id":{_json(series.key_id)}}}\n' if series.key_id else "}\n"
        return said, f'{said},"status":{_json(series.status)}', key

    def _price(self, kind: str, version: str) -> str:
        source = f',"cost_source":{_json(kind)}' if kind else ""
        return f'{source},"price_version":{_json(version)}' if version else source

    def _lines(self, ids: Sequence[str], rows: Sequence[PlainRow]) -> list[str]:
        minutes, heads, prices = self._minutes, self._heads, self._prices
        lines = []
        for id_, row in zip(ids, rows, strict=True):
            _, at_ms, number, in_, out, read, write, reasoning, cost, source, latency, extra = row
            minute, ms = divmod(at_ms, 60_000)
            said, head, tail = heads[number]
            after = ""
            if read or write or reasoning or extra is not None or not (in_ and out):
                units = [f'"{n}":{c}' for n, c in zip(COUNT_COLUMNS, row[3:8], strict=True) if c]
                if extra is not None:
                    more = json.loads(extra)
                    head = _with_extra(said, head, more)
                    units += [
                        f'"{name}":{form.plain(amount)}' for name, amount in sorted(more.get("units", {}).items())
                    ]
                    if context := more.get("context"):
                        after = f',"price_context":{_json(dict(sorted(context.items())))}'
                used = f',"units":{{{",".join(units)}}}' if units else ""
            else:
                used = f',"units":{{"input_tokens":{in_},"output_tokens":{out}}}'
            took = "" if latency is None else f',"latency_ms":{latency}'
            usd = "null" if cost is None else f'"{usd_text(cost)}"'
            lines.append(
                f'{{"id":{_json_id(id_)},"time":"{minutes[minute]}{ms // 1000:02d}.{ms % 1000:03d}Z"'
                f'{head}{took}{used}{after},"cost_usd":{usd}{prices[source]}{tail}'
            )
        return lines


class Csv(Writer):
    """A header and a line for each record (RFC 4180, lines end with a line feed)."""

    header = ",".join(form.CSV_COLUMNS) + "\n"

    def _head(self, series: Series) -> tuple[str, ...]:
        said = [_cell(getattr(series, name)) for name in (*form.NAMES, "tags", "endpoint")]
        return ",".join(said), _cell(series.status), f",{_cell(series.key_id)}\n"

    def _price(self, kind: str, version: str) -> str:
        return f"{_cell(kind)},{_cell(version)}"

    def _lines(self, ids: Sequence[str], rows: Sequence[PlainRow]) -> list[str]:
        minutes, heads, prices = self._minutes, self._heads, self._prices
        lines = []
        for id_, row in zip(ids, rows, strict=True):
            _, at_ms, number, in_, out, read, write, reasoning, cost, source, latency, extra = row
            minute, ms = divmod(at_ms, 60_000)
            said, status, tail = heads[number]
            job = others = context = ""
            if extra is not None:
                more = json.loads(extra)
                status = _cell(more["status"]) if "status" in more else status
                job = _cell(more.get("job", ""))
                others = _cell(
                    form.joined((name, form.plain(amount)) for name, amount in sorted(more.get("units", {}).items()))
                )
                context = _cell(form.joined(sorted(more.get("context", {}).items())))
            lines.append(
                f"{_cell(id_)},{minutes[minute]}{ms // 1000:02d}.{ms % 1000:03d}Z,{said},{status},{job},"
                f"{'' if latency is None else latency},{in_ or ''},{out or ''},{read or ''},{write or ''},"
                f"{reasoning or ''},{others},{context},{'' if cost is None else usd_text(cost)},{prices[source]}{tail}"
            )
        return lines


def writer(name: str) -> Writer:
    """The writer of a format of form.FORMATS."""
    return Csv() if name == form.CSV else JsonLines()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json_id(text: str) -> str:
    # Ids are UUIDs nearly always, and what is of letters, digits, - and _ alone needs no escaping.
    return f'"{text}"' if text.isascii() and text.replace("-", "").replace("_", "").isalnum() else _json(text)


def _with_extra(said: str, head: str, more: Mapping[str, Any]) -> str:
    """The head of a record whose status or job is not its series'."""
    if "status" in more:
        head = f'{said},"status":{_json(more["status"])}'
    return f'{head},"job":{_json(more["job"])}' if more.get("job") else head


def _cell(text: str) -> str:
    if text.isascii() and text.replace("-", "").replace("_", "").isalnum() and text[0] != "-":
        return text
    text = form.guarded(text)
    if _QUOTED.search(text):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text
