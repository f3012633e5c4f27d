"""What is exported and imported is the same, whatever the records hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness
from callers import Stubs, stubs
from costd.v1 import usage_pb2
from harness import Daemon
from record_calls import export, import_file, send

#: What formats could trip over: formulas, quotes, separators, escapes, ends of lines that are none.
AWKWARD = (
    "=1+1",
    "'-x",
    "''@",
    "-",
    "+",
    'a"b',
    "a;b=c\\",
    "\\",
    ",",
    " a ",
    "\u2028",
    "\U0001f600",
    "null",
    "'",
    "0",
)
MODELS = ("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash", "nobodys-model", "litellm/none", "o3")
TIMES_MS = st.integers(946_684_800_000, 1_790_000_000_000)

text = st.one_of(
    st.just(""),
    st.sampled_from(AWKWARD),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12),
)
word = text.filter(bool)
whole = st.integers(0, 10**12)
fraction = st.decimals(0, 10**6, places=4, allow_nan=False)
#: Units without a column: of the price list (one under another name), and inventions.
OTHERS = {"chars": whole, "gpu_seconds": st.one_of(whole, fraction), "zebras": fraction, "a_b": whole}
number = itertools.count()


@st.composite
def counts(draw: Any) -> dict[str, int]:
    whole, out = draw(st.integers(0, 300_000)), draw(st.integers(0, 5_000))
    read = draw(st.integers(0, whole))
    return {
        "input_tokens": whole,
        "output_tokens": out,
        "cache_read_tokens": read,
        "cache_write_tokens": draw(st.integers(0, whole - read)),
        "output_reasoning_tokens": draw(st.integers(0, out)),
    }


@st.composite
def rows(draw: Any) -> usage_pb2.RecordRequest:
    """Any record that the ledger takes; without an id, or with one that is made unique by the test."""
    others = {name: draw(OTHERS[name]) for name in draw(st.sets(st.sampled_from(sorted(OTHERS)), max_size=3))}
    units = [usage_pb2.Quantity(unit=name, count=count) for name, count in draw(counts()).items() if count]
    for name, value in others.items():
        said = {"count": value} if isinstance(value, int) else {"decimal": format(value, "f")}
        units.append(usage_pb2.Quantity(unit=name, **said))
    row = usage_pb2.RecordRequest(
        dimensions=usage_pb2.Dimensions(
            source_app=draw(text),
            model=draw(st.sampled_from(MODELS)),
            provider=draw(st.sampled_from(("", "openai", "Anthropic", "=evil"))),
            user=draw(text),
            project=draw(text),
            team=draw(text),
            prompt_key=draw(text),
            prompt_version=draw(text),
            tags=draw(st.lists(word.filter(lambda tag: "," not in tag), max_size=3)),
            endpoint=draw(text),
            job=draw(text),
        ),
        units=units,
        status=draw(st.sampled_from(("", "success", "ok", "error", "timeout", "=x"))),
        time_ms=draw(TIMES_MS),
        request_id=draw(st.sampled_from(("", "id", "=id", "uuid"))),
        price_context=draw(st.dictionaries(word, text, max_size=2)),
    )
    if draw(st.booleans()):
        row.latency_ms = draw(st.integers(0, 604_800_000))
    if draw(st.integers(0, 3)) == 0:
        row.cost_nano_usd = draw(st.integers(0, 10**15))
    return row


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon, Stubs, Stubs]]:
    """A ledger that records are sent to, and one that they are imported into."""
    folder = tmp_path_factory.mktemp("pair")
    here, there = harness.start(folder / "here"), harness.start(folder / "there")
    with stubs(here) as services, stubs(there) as others:
        yield here, there, services, others
    assert (here.stop(), there.stop()) == (0, 0)


def key_of(daemon: Daemon) -> str:
    return str(daemon.query("SELECT id FROM api_key")[0][0])


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(rows(), min_size=1, max_size=12))
def test_export_import_export_is_the_identity(
    pair: tuple[Daemon, Daemon, Stubs, Stubs], tmp_path_factory: pytest.TempPathFactory, sent: list[Any]
) -> None:
    """The same bytes but for the key; either format says the same; where it came from, it adds nothing."""
    here, there, services, others = pair
    product = f"example-{next(number)}"
    for row in sent:
        row.dimensions.product = product
        if row.request_id:
            unique = next(number)
            row.request_id = f"{unique:032x}" if row.request_id == "uuid" else f"{row.request_id}{unique}"
    send(services, sent)
    text, table = export(services, product=product), export(services, "csv", product=product)
    folder = tmp_path_factory.mktemp("files")
    as_json, as_csv = folder / "records.jsonl", folder / "records.csv"
    as_json.write_bytes(text.encode())
    as_csv.write_bytes(table.encode())
    assert import_file(there, as_json)["new"] == len(sent)
    assert export(others, product=product) == text.replace(key_of(here), key_of(there))
    assert export(others, "csv", product=product) == table.replace(key_of(here), key_of(there))
    for daemon, path in ((there, as_json), (there, as_csv), (here, as_json), (here, as_csv)):
        again = import_file(daemon, path)
        assert (again["new"], again["already_there"], again["not_imported"]) == (0, len(sent), [])


def test_both_ledgers_are_sound_afterwards(pair: tuple[Daemon, Daemon, Stubs, Stubs]) -> None:
    """Old records went into the right hours, days and months."""
    for daemon in pair[:2]:
        assert harness.costd("check", "--data-dir", str(daemon.data_dir)).returncode == 0


def test_costs_that_are_kept_are_those_of_the_export(pair: tuple[Daemon, Daemon, Stubs, Stubs], tmp_path: Path) -> None:
    """A file of another ledger's costs, with prices this one does not have."""
    _, there, _, others = pair
    path = tmp_path / "kept.jsonl"
    path.write_text(
        '{"id":"kept-1","time":"2020-01-01T00:00:00Z","source_app":"old","model":"gpt-4o","product":"kept",'
        '"units":{"input_tokens":1000},"cost_usd":"1.000000001","cost_source":"override","price_version":"x"}\n'
    )
    assert import_file(there, path, "--keep-costs")["new"] == 1
    assert '"cost_usd":"1.000000001","cost_source":"caller"' in export(others, product="kept")
