"""The tracker and a budget: what it refuses, how it says so, and that nothing stays reserved once a call is over."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path

import openai
import pytest

import costd_client
import harness
from budget_calls import Cents, cents, set_budget, standing
from costd_client.v1 import usage_pb2
from fake_provider import FakeProvider
from harness import Daemon, until

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"
#: $0.05 each.
FIVE_CENTS = {"input_tokens": 20_000}
_NUMBERS = count()


@pytest.fixture
def team(daemon: Daemon) -> str:
    """A team that has ten cents, and a budget of its name."""
    name = f"team-{next(_NUMBERS)}"
    set_budget(daemon, name, 10, scope={"team": name})
    return name


@pytest.fixture
def tracker(daemon: Daemon) -> Iterator[costd_client.Tracker]:
    """A tracker with time enough for a busy machine."""
    with costd_client.Tracker(daemon.grpc, key=daemon.admin_key, source_app="t", preflight_timeout_s=10) as made:
        yield made


def test_a_refusal_names_the_budget_its_numbers_and_when_it_resets(
    daemon: Daemon, tracker: costd_client.Tracker, team: str
) -> None:
    with tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS) as call:
        call.units(input_tokens=24_000)
    assert call.decision.budget is not None
    assert (call.decision.budget.name, call.decision.budget.remaining) == (team, Decimal("0.05"))
    assert tracker.flush(10)
    with pytest.raises(costd_client.BudgetExceeded) as caught:
        tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS).begin()
    refusal = caught.value
    assert not isinstance(refusal, costd_client.Undecided)
    assert (refusal.deny_reason, refusal.estimated_cost) == ("budget_exceeded", Decimal("0.05"))
    assert refusal.budget is not None
    assert (refusal.budget.name, refusal.budget.scope_type) == (team, "team")
    amounts = refusal.budget.limit, refusal.budget.spent, refusal.budget.remaining
    assert amounts == (Decimal("0.1"), Decimal("0.06"), Decimal("0.04"))
    now = datetime.now(UTC)
    resets = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    assert refusal.budget.resets_at == resets
    assert str(refusal) == (
        "this call of gpt-4o, estimated at $0.05, may not be made: budget_exceeded by the budget "
        f'"{team}" ($0.06 of $0.10 spent or reserved, resets {resets:%Y-%m-%d} 00:00 UTC)'
    )
    assert tracker.flush(10)
    assert cents(daemon, team) == Cents(10, settled=6, reserved=0, held=0, available=4, overshoot=0)


def test_amounts_are_told_in_dollars_with_as_many_digits_as_they_have() -> None:
    """And a budget without a period never resets."""
    said = usage_pb2.PreflightResponse(
        budget=usage_pb2.PreflightBudget(
            name="all", limit_nano_usd=100 * 10**9, spent_nano_usd=99_995_000_000, remaining_nano_usd=5_000_000
        )
    )
    decision = costd_client.decision.of_answer(said)
    assert str(decision.budget) == '"all" ($99.995 of $100.00 spent or reserved, never resets)'
    assert decision.budget is not None
    assert (str(decision.budget.limit), str(decision.budget.remaining)) == ("100", "0.005")


def test_calls_that_end_free_what_they_had_reserved(daemon: Daemon, tracker: costd_client.Tracker, team: str) -> None:
    """Without usage, or with an exception: the record says so, and it is free again."""
    with tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS):
        pass
    with pytest.raises(KeyError), tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS):
        raise KeyError("before it was made")
    assert tracker.flush(10)
    assert cents(daemon, team) == Cents(10, settled=0, reserved=0, held=0, available=10, overshoot=0)


def test_a_call_that_is_not_made_is_released_and_not_recorded(
    daemon: Daemon, tracker: costd_client.Tracker, team: str
) -> None:
    recorded = tracker.stats().sent
    call = tracker.start_call(model="gpt-4o", team=team, estimate=FIVE_CENTS).begin()
    assert cents(daemon, team).reserved == 5
    call.release()
    until(lambda: cents(daemon, team).reserved == 0, "the release")
    call.finish()
    with tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS) as other:
        other.release()
    until(lambda: cents(daemon, team).reserved == 0, "the release")
    assert tracker.flush(10)
    assert tracker.stats().sent == recorded


def test_a_release_after_the_end_takes_nothing_back(daemon: Daemon, tracker: costd_client.Tracker, team: str) -> None:
    with tracker.call(model="gpt-4o", team=team, estimate=FIVE_CENTS) as call:
        call.units(input_tokens=20_000)
    call.release()
    assert tracker.flush(10)
    assert cents(daemon, team) == Cents(10, settled=5, reserved=0, held=0, available=5, overshoot=0)


def test_a_release_is_sent_before_the_tracker_is_closed(daemon: Daemon, team: str) -> None:
    with costd_client.Tracker(daemon.grpc, key=daemon.admin_key, source_app="t", preflight_timeout_s=10) as made:
        call = made.start_call(model="gpt-4o", team=team, estimate=FIVE_CENTS).begin()
        call.release()
    assert cents(daemon, team).reserved == 0
    call.release()


def test_with_asyncio(daemon: Daemon, team: str) -> None:
    """Refused, released, and cancelled in the midst of it: the same as with threads."""

    async def use() -> None:
        made = costd_client.AsyncTracker(daemon.grpc, key=daemon.admin_key, source_app="t", preflight_timeout_s=10)
        async with made:
            calls = [made.start_call(model="gpt-4o", team=team, estimate=FIVE_CENTS) for _ in range(8)]
            begun = await asyncio.gather(*(call.begin() for call in calls), return_exceptions=True)
            refused = [each for each in begun if isinstance(each, costd_client.BudgetExceeded)]
            assert len(refused) == 6
            assert {each.budget.name for each in refused if each.budget} == {team}
            for call in calls:
                call.release()
            await asyncio.to_thread(until, lambda: cents(daemon, team).reserved == 0, "the releases")
            for delay_s in (0.0, 0.001, 0.002, 0.005):
                task = asyncio.create_task(made.start_call(model="gpt-4o", team=team, estimate=FIVE_CENTS).begin())
                await asyncio.sleep(delay_s)
                if not task.cancel():
                    (await task).release()
            await asyncio.to_thread(until, lambda: cents(daemon, team).reserved == 0, "the cancelled ones")

    asyncio.run(use())


def test_while_costd_is_away_calls_go_on_or_are_denied_as_one_says(launch: Callable[..., Daemon]) -> None:
    """A budget that is used up does not hold while nobody answers, unless the tracker denies then."""
    running = launch()
    set_budget(running, "none", 0, scope={"source_app": "t"})
    address = f"unix:{running.socket}"
    lenient = costd_client.Tracker(address, key=running.admin_key, source_app="t", preflight_timeout_s=2)
    strict = costd_client.Tracker(
        address, key=running.admin_key, source_app="t", on_unreachable="deny", preflight_timeout_s=0.3
    )
    with lenient, strict:
        with pytest.raises(costd_client.BudgetExceeded):
            lenient.call(model="gpt-4o", estimate=FIVE_CENTS).begin()
        running.process.send_signal(signal.SIGSTOP)
        try:
            with lenient.call(model="gpt-4o", estimate=FIVE_CENTS) as call:
                assert not call.decision.is_answer
            with pytest.raises(costd_client.Undecided) as undecided:
                strict.call(model="gpt-4o", estimate=FIVE_CENTS).begin()
            started_s = time.monotonic()
            call.release()
            strict.start_call(model="gpt-4o", estimate=FIVE_CENTS, preflight=False).release()
            assert time.monotonic() - started_s < 0.25, "a release never waits"
        finally:
            running.process.send_signal(signal.SIGCONT)
        assert (undecided.value.deny_reason, undecided.value.budget) == ("unreachable", None)

        def is_back() -> bool:
            try:
                lenient.call(model="gpt-4o", estimate=FIVE_CENTS).begin().release()
            except costd_client.BudgetExceeded:
                return True
            return False

        until(is_back, "the budget to hold again")


def test_a_preflight_that_is_answered_too_late_keeps_nothing_reserved(launch: Callable[..., Daemon]) -> None:
    """The tracker denies because nobody answered in time; what was reserved meanwhile is let go of."""
    running = launch()
    set_budget(running, "some", 100, scope={"source_app": "t"})
    made = costd_client.Tracker(
        running.grpc, key=running.admin_key, source_app="t", on_unreachable="deny", preflight_timeout_s=0.5
    )
    with made:
        made.call(model="gpt-4o", estimate=FIVE_CENTS).begin().release()
        until(lambda: cents(running, "some").reserved == 0, "the first release")
        running.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(costd_client.Undecided):
                made.call(model="gpt-4o", estimate=FIVE_CENTS).begin()
        finally:
            running.process.send_signal(signal.SIGCONT)
        until(lambda: cents(running, "some").reserved == 0, "the late one")


@pytest.mark.parametrize("kind", [costd_client.Tracker, costd_client.AsyncTracker])
def test_a_task_that_is_cancelled_while_it_asks_keeps_nothing_reserved(
    launch: Callable[..., Daemon], kind: type[costd_client.Tracker | costd_client.AsyncTracker]
) -> None:
    """An answer comes later, and something is reserved; nobody is there any more to make the call."""
    running = launch()
    set_budget(running, "some", 100, scope={"source_app": "t"})
    made = kind(running.grpc, key=running.admin_key, source_app="t", preflight_timeout_s=20)

    async def use(url: str) -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as plain:
            create = costd_client.wrap_openai(plain, made).chat.completions.create
            message = {"role": "user", "content": "Hello"}
            await create(model="gpt-4o", messages=[message], max_tokens=10)  # type: ignore[list-item]
            running.process.send_signal(signal.SIGSTOP)
            try:
                task = asyncio.create_task(create(model="gpt-4o", messages=[message], max_tokens=1_000))  # type: ignore[list-item]
                await asyncio.sleep(0.3)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            finally:
                running.process.send_signal(signal.SIGCONT)
            assert task.cancelled()

    with FakeProvider().serving() as provider:
        asyncio.run(use(provider.openai_url))
        assert len(provider.requests) == 1
    until(
        lambda: running.client.get("/metrics").text.count('costd_preflights_total{decision="allow",reason=""} 2'), "it"
    )
    until(lambda: standing(running, "some").reserved_nano_usd == 0, "what was reserved to be let go of")
    ended = made.close()
    if ended is not None:
        asyncio.run(ended)


def test_a_process_that_forks_with_releases_under_way_goes_on(daemon: Daemon, team: str) -> None:
    script = """
import os, sys, costd_client
tracker = costd_client.Tracker(sys.argv[1], key=sys.argv[2], source_app="t", preflight_timeout_s=10)
def use():
    call = tracker.start_call(model="gpt-4o", team=sys.argv[3], estimate={"input_tokens": 400}).begin()
    assert call.decision.is_answer
    call.release()
for _ in range(5):
    use()
    child = os.fork()
    if child == 0:
        use()
        tracker.close()
        os._exit(0)
    use()
    assert os.waitpid(child, 0)[1] == 0
tracker.close()
"""
    command = [sys.executable, "-W", "ignore", "-c", script, daemon.grpc, daemon.admin_key, team]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    until(lambda: cents(daemon, team).reserved == 0, "all releases")


def test_a_wrapped_client_spends_no_more_than_there_is(daemon: Daemon, team: str) -> None:
    """With a blocking client, and by tasks with a tracker for threads, of which some are cancelled in the midst."""
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1_000}

    async def use(tracker: costd_client.Tracker, url: str) -> None:
        async with openai.AsyncOpenAI(api_key="sk-test", base_url=url) as plain:
            create = costd_client.wrap_openai(plain, tracker, team=team).chat.completions.create
            tasks = [asyncio.create_task(create(**chat)) for _ in range(24)]  # type: ignore[call-overload]
            await asyncio.sleep(0.005)
            for task in tasks[:6]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(each, costd_client.BudgetExceeded) for each in ended)

    with (
        FakeProvider().serving() as provider,
        costd_client.Tracker(daemon.grpc, key=daemon.admin_key, source_app="t", preflight_timeout_s=10) as made,
    ):
        with openai.OpenAI(api_key="sk-test", base_url=provider.openai_url) as plain:
            wrapped = costd_client.wrap_openai(plain, made, team=team)
            wrapped.chat.completions.create(**chat)  # type: ignore[call-overload]
            with pytest.raises(costd_client.BudgetExceeded) as refusal:
                wrapped.chat.completions.create(**chat, n=11)  # type: ignore[call-overload]
        assert (refusal.value.budget is not None, len(provider.requests)) == (True, 1)
        asyncio.run(use(made, provider.openai_url))
        assert made.flush(20)
        until(lambda: standing(daemon, team).reserved_nano_usd == 0, "everything to be settled or released")
    window = standing(daemon, team)
    assert 0 < window.settled_nano_usd <= window.limit_nano_usd


def test_the_examples_of_budgets_run(daemon: Daemon) -> None:
    """With money and without."""
    section = README.read_text().partition("\n## Budgets\n")[2].partition("\n## ")[0]
    program = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    env = harness.clean_env({"COSTD_ADDRESS": daemon.grpc, "COSTD_KEY": daemon.admin_key})
    printed = []
    for amount in (10_000, 0):
        set_budget(daemon, "video", amount, scope={"team": "video"})
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert printed[0] == ""
    assert 'may not be made: budget_exceeded by the budget "video" ($' in printed[1]
    assert standing(daemon, "video").reserved_nano_usd == 0
