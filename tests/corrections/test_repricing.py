"""Rating history again: exact, there and back, never twice, and nothing but costs changes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corrections.history import (
    ADMIN,
    DAY_MS,
    Amount,
    copied,
    costs,
    findings,
    opened,
    record,
    reprice,
    set_price,
    total_nano,
)
from costd.domain.days import Span
from costd.domain.errors import Forbidden, Invalid
from costd.services.repricing import Scope
from ledger import NOW_MS

TOKENS: dict[str, Amount] = {"input_tokens": 1000, "output_tokens": 100}


@st.composite
def usages(draw: st.DrawFn) -> tuple[str, dict[str, Amount], int, dict[str, object]]:
    """A record of a model that is listed, one that is not, or one that only some rules know."""
    model = draw(st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "own-model", "nobody-knows"]))
    units: dict[str, Amount] = {
        "input_tokens": draw(st.integers(0, 400_000)),
        "output_tokens": draw(st.integers(0, 5_000)),
    }
    if draw(st.booleans()):
        units["cache_read_tokens"] = draw(st.integers(0, int(units["input_tokens"])))
    if draw(st.booleans()):
        units["gpu_seconds"] = Decimal(draw(st.integers(0, 10_000))) / 8
    more: dict[str, object] = {}
    if draw(st.booleans()):
        more["context"] = (("processing", "batch"),)
    if draw(st.integers(0, 9)) == 0:
        more["cost_nano"] = draw(st.integers(0, 10**9))
    if draw(st.integers(0, 4)) == 0:
        more["job"] = "j"
    return model, units, NOW_MS - draw(st.integers(0, 20)) * DAY_MS // 3, more


RULES = [
    ("gpt-4o", {"input_tokens": "0.000001"}, ""),
    ("gpt-*", {}, "0.75"),
    ("own-model", {"gpu_seconds": "0.0123456789", "input_tokens": "0.0000005"}, ""),
    ("*", {}, "1.1"),
    ("gemini-2.5-pro", {}, "0"),
]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    recorded=st.lists(usages(), min_size=1, max_size=25),
    chosen=st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique_by=lambda rule: rule[0]),
    days_ago=st.integers(0, 9),
)
def test_there_and_back_changes_nothing(
    recorded: list[tuple[str, dict[str, Amount], int, dict[str, object]]],
    chosen: list[tuple[str, dict[str, str], str]],
    days_ago: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "data") as core:
        for model, units, at_ms, more in recorded:
            record(core, model, units, at_ms, **more)
        before, total = costs(core), total_nano(core)
        ids = [set_price(core, model, rates, factor) for model, rates, factor in chosen]
        day_ms = NOW_MS - days_ago * DAY_MS
        by_day = reprice(core, day_ms=day_ms)
        assert findings(core) == []
        assert sum(model.after_nano for model in by_day.models) + _kept(recorded) == total_nano(core)
        by_rules = reprice(core)
        assert total_nano(core) == sum(cost or 0 for cost in costs(core))
        assert reprice(core).models == [
            replace(row, changed=0, before_nano=row.after_nano, newly_priced=0, newly_unpriced=0)
            for row in by_rules.models
        ]
        for rule_id in ids:
            core.services.price_rules.remove_rule(ADMIN, rule_id)
        back = reprice(core)
        assert back.unratable == 0
        assert costs(core) == before
        assert total_nano(core) == total
        assert findings(core) == []
        again = reprice(core).finished
        assert again is not None
        assert again.adjusted == 0


def _kept(recorded: list[tuple[str, dict[str, Amount], int, dict[str, object]]]) -> int:
    """What callers said themselves."""
    return sum(int(str(more.get("cost_nano", 0))) for *_, more in recorded)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recorded=st.lists(usages(), min_size=1, max_size=20))
def test_what_if_equals_a_reprice_on_a_copy(
    recorded: list[tuple[str, dict[str, Amount], int, dict[str, object]]],
) -> None:
    """On the copy, the one model's prices are set to the other's."""
    mini = {"input_tokens": "0.00000015", "output_tokens": "0.0000006", "cache_read_tokens": "0.000000075"}
    with tempfile.TemporaryDirectory() as folder:
        with opened(Path(folder) / "data") as core:
            for _, units, at_ms, more in recorded:
                record(
                    core, "own-model", units, at_ms, **{name: said for name, said in more.items() if name != "context"}
                )
            set_price(core, "mini-model", mini)
            asked = list(core.services.repricing.what_if(ADMIN, Scope({"model": "own-model"}), "", "mini-model"))[-1]
            untouched = total_nano(core)
        with opened(copied(Path(folder) / "data", Path(folder) / "copy")) as copy:
            set_price(copy, "own-model", mini)
            done = reprice(copy, Scope({"model": "own-model"}))
            assert [(row.events, row.after_nano, row.unpriced) for row in asked.models] == [
                (row.events, row.after_nano, row.unpriced) for row in done.models
            ]
            assert total_nano(copy, ["own-model"]) == sum(row.after_nano for row in asked.models) + _kept(recorded)
        with opened(Path(folder) / "data") as core:
            assert total_nano(core) == untouched


def test_only_the_records_asked_for_are_rated(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        for days in range(6):
            record(core, "gpt-4o", TOKENS, NOW_MS - days * DAY_MS, user="ada" if days % 2 else "bob")
            record(core, "gpt-4o-mini", TOKENS, NOW_MS - days * DAY_MS)
        set_price(core, "*", {}, "2")
        scope = Scope({"model": "gpt-4o", "user": "ada"}, Span(NOW_MS - 4 * DAY_MS, NOW_MS))
        done = reprice(core, scope).finished
        assert done is not None
        assert (done.adjusted, done.up_nano, done.down_nano) == (2, 7_000_000, 0)
        assert total_nano(core, ["gpt-4o"]) == 6 * 3_500_000 + 7_000_000


def test_prices_of_a_day_are_those_of_its_time_of_day(tmp_path: Path) -> None:
    day_ms = NOW_MS // DAY_MS * DAY_MS - 5 * DAY_MS
    with opened(tmp_path / "data") as core:
        record(core, "own-model", TOKENS, NOW_MS)
        set_price(core, "own-model", {"input_tokens": "0.001"}, from_ms=day_ms, until_ms=day_ms + DAY_MS)
        assert reprice(core).models[0].after_nano == 0
        assert reprice(core, day_ms=day_ms + 1234).models[0].after_nano == 1_000_000_000


def test_the_callers_own_cost_stays(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        record(core, "gpt-4o", TOKENS, cost_nano=17)
        set_price(core, "*", {}, "3")
        done = reprice(core)
        assert (done.kept, done.models) == (1, [])
        assert costs(core) == [17]


def test_a_cost_that_no_call_has_is_left_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        record(core, "own-model", {"gpu_seconds": 10**12})
        set_price(core, "own-model", {"gpu_seconds": "1"})
        done = reprice(core)
        assert (done.unratable, done.finished.adjusted if done.finished else None) == (1, 0)
        assert costs(core) == [None]


def test_a_cost_is_what_a_new_record_would_cost(tmp_path: Path) -> None:
    """Preflight, record and reprice agree to the nano-dollar."""
    units: dict[str, Amount] = {**TOKENS, "cache_read_tokens": 400, "gpu_seconds": Decimal("1.5")}
    with opened(tmp_path / "data") as core:
        record(core, "gpt-4o", units, context=(("processing", "batch"),))
        set_price(core, "gpt-4o", {"gpu_seconds": "0.1", "cache_read_tokens": "0.0000001"}, "0.9")
        fresh = record(core, "gpt-4o", units, context=(("processing", "batch"),))
        reprice(core)
        assert costs(core) == [fresh, fresh]


def test_counters_do_not_run_backward_and_survive_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        for number in range(4):
            record(core, "gpt-4o", TOKENS, NOW_MS - number * DAY_MS, request_id=f"r{number}")
        before = _usage_lines(core.services.metrics.render())
        set_price(core, "gpt-4o", {}, "0.5")
        reprice(core)
        core.services.repricing.void(ADMIN, "r1", "wrong")
        assert _usage_lines(core.services.metrics.render()) == before
        told = _adjusted_lines(core.services.metrics.render())
        assert 'costd_adjusted_cost_usd_total{direction="down",kind="reprice"} 0.007' in told
    with opened(tmp_path / "data") as core:
        assert _usage_lines(core.services.metrics.render()) == before
        assert _adjusted_lines(core.services.metrics.render()) == told


def _usage_lines(metrics: bytes) -> list[str]:
    names = ("costd_cost_usd_total{", "costd_requests_total{", "costd_tokens_total{", "costd_unpriced_requests_total{")
    return [line for line in metrics.decode().splitlines() if line.startswith(names)]


def _adjusted_lines(metrics: bytes) -> list[str]:
    return sorted(line for line in metrics.decode().splitlines() if line.startswith("costd_adjust"))


def test_only_admins_rate_again_and_only_readers_ask(tmp_path: Path) -> None:
    reader = ADMIN._replace(roles=frozenset({"read"}))
    ingest = ADMIN._replace(roles=frozenset({"ingest"}))
    with opened(tmp_path / "data") as core:
        repricing = core.services.repricing
        with pytest.raises(Forbidden):
            list(repricing.reprice(reader, Scope({}), None, ""))
        with pytest.raises(Forbidden):
            repricing.void(reader, "x", "y")
        with pytest.raises(Forbidden):
            list(repricing.what_if(ingest, Scope({}), "", "gpt-4o"))
        assert len(list(repricing.what_if(reader, Scope({}), "", "gpt-4o"))) == 1


def test_bad_requests_name_the_field(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as core:
        repricing = core.services.repricing
        for scope, field in ((Scope({"colour": "red"}), "filters"), (Scope({}, Span(5, 5)), "until")):
            with pytest.raises(Invalid) as refusal:
                list(repricing.preview(ADMIN, scope))
            assert refusal.value.field == field
        with pytest.raises(Invalid) as refusal:
            repricing.what_if(ADMIN, Scope({}), "", "")
        assert refusal.value.field == "to_model"
