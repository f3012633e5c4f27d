"""What others let through, or wrongly hold back, each tried at both doors: published failures of tools for budgets.

LiteLLM: callers at the same time all pass the check; reservations that leak deny with nothing spent. snipz: a sweep, a
new reservation and late commits spend twice the cap. And what belongs to these: a commit larger than its hold, one
request id for two amounts, several budgets for one request, a user's budget behind a team's key.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import grpc
import pytest

from budget_calls import CENT_NANO, CONFLICT, DOORS, Cents, Door, GrpcDoor, Spend, cents, set_budget, standing
from harness import Daemon, until

_NUMBERS = count()
_CALLERS = 200
#: Long enough to fill a budget on a busy machine, short enough to wait for.
_TTL_MINUTES, _TTL_S = "0.05", 3.0


@pytest.fixture(params=sorted(DOORS))
def make(request: pytest.FixtureRequest) -> Callable[..., Door]:
    """Makes callers of one kind."""
    return DOORS[request.param]


@pytest.fixture
def door(daemon: Daemon, make: Callable[..., Door]) -> Iterator[Door]:
    """One caller of a daemon that others use too."""
    opened = make(daemon)
    yield opened
    opened.close()


def new(kind: str) -> str:
    """A name that no other test uses."""
    return f"{kind}-{next(_NUMBERS)}"


def spent(door: Door, spend: Spend) -> None:
    """A call that asks, is allowed, and is recorded."""
    answer = door.ask(spend)
    assert answer.allow, answer
    assert door.record(spend._replace(request_id=answer.request_id)) == "kept"


# -- callers at the same time ------------------------------------------------------------------------------------------


def test_200_callers_at_once_never_pass_a_nearly_spent_budget(daemon: Daemon, make: Callable[..., Door]) -> None:
    """Ten cents are left: exactly ten of them may make their call of a cent, whoever comes first."""
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 100, scope={"user": user})
    doors = _open(make, daemon, _CALLERS)
    spent(doors[0], Spend(90, user=user))
    together = threading.Barrier(_CALLERS)

    def call(door: Door) -> str:
        together.wait(30)
        answer = door.ask(Spend(1, user=user))
        if answer.allow:
            assert door.record(Spend(1, answer.request_id, user)) == "kept"
        return answer.word

    with ThreadPoolExecutor(_CALLERS) as pool:
        words = Counter(pool.map(call, doors))
    assert words == {"allow": 10, "budget_exceeded": _CALLERS - 10}
    assert cents(daemon, name) == Cents(100, settled=100, reserved=0, held=0, available=0, overshoot=0)
    for each in doors:
        each.close()


def _open(make: Callable[..., Door], daemon: Daemon, callers: int) -> list[Door]:
    if make is not GrpcDoor:
        return [make(daemon) for _ in range(callers)]
    channels = [grpc.insecure_channel(daemon.grpc, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(8)]
    return [GrpcDoor(daemon, channel=channels[number % 8]) for number in range(callers)]


# -- reservations that leak --------------------------------------------------------------------------------------------


def test_what_is_only_reserved_is_named_so_and_comes_back_when_released(daemon: Daemon, door: Door) -> None:
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 10, scope={"user": user})
    held = [door.ask(Spend(2, user=user)) for _ in range(5)]
    assert all(answer.allow for answer in held)
    refused = door.ask(Spend(1, user=user))
    assert (refused.word, refused.budget["name"]) == ("budget_exceeded", name)
    assert (refused.budget["spent_nano_usd"], refused.budget["remaining_nano_usd"]) == (10 * CENT_NANO, 0)
    assert cents(daemon, name) == Cents(10, settled=0, reserved=10, held=10, available=0, overshoot=0)
    assert all(door.release(answer.request_id) for answer in held)
    assert not any(door.release(answer.request_id) for answer in held), "nothing is released twice"
    assert cents(daemon, name) == Cents(10, settled=0, reserved=0, held=0, available=10, overshoot=0)
    spent(door, Spend(10, user=user))


def test_a_call_that_failed_frees_what_it_had_reserved(daemon: Daemon, door: Door) -> None:
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 10, scope={"user": user})
    answer = door.ask(Spend(10, user=user))
    assert not door.ask(Spend(1, user=user)).allow
    assert door.record(Spend(0, answer.request_id, user), status="error") == "kept"
    assert cents(daemon, name) == Cents(10, settled=0, reserved=0, held=0, available=10, overshoot=0)


def test_abandoned_reservations_deny_nobody_after_their_time(launch: Callable[..., Daemon]) -> None:
    """A storm of preflights that nobody records, then quiet: nothing is held, and the whole budget can be spent."""
    running = launch("--budgets-reservation-minutes", _TTL_MINUTES)
    set_budget(running, "team", 1_000, scope={"team": "video"})
    for make in DOORS.values():
        door = make(running)
        asked = [door.ask(Spend(5, team="video")) for _ in range(200)]
        assert all(answer.allow for answer in asked)
        assert door.ask(Spend(1, team="video")).word == "budget_exceeded"
        until(lambda: cents(running, "team").held == 0, "the reservations to expire", _TTL_S * 5)
        whole = door.ask(Spend(1_000, team="video"))
        assert whole.allow, whole
        assert door.release(whole.request_id)
        door.close()


# -- commits that are not what was reserved ----------------------------------------------------------------------------


def test_a_commit_larger_than_its_hold_is_recorded_in_full_and_counts_against_what_follows(
    daemon: Daemon, door: Door
) -> None:
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 100, scope={"user": user})
    answer = door.ask(Spend(10, user=user))
    assert door.record(Spend(150, answer.request_id, user)) == "kept"
    assert cents(daemon, name) == Cents(100, settled=150, reserved=0, held=0, available=0, overshoot=50)
    refused = door.ask(Spend(1, user=user))
    assert refused.word == "budget_exceeded"
    assert (refused.budget["spent_nano_usd"], refused.budget["remaining_nano_usd"]) == (150 * CENT_NANO, 0)


def test_a_commit_smaller_than_its_hold_frees_the_rest(daemon: Daemon, door: Door) -> None:
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 100, scope={"user": user})
    answer = door.ask(Spend(100, user=user))
    assert door.record(Spend(30, answer.request_id, user)) == "kept"
    assert cents(daemon, name) == Cents(100, settled=30, reserved=0, held=0, available=70, overshoot=0)
    spent(door, Spend(70, user=user))


def test_what_was_never_asked_for_counts_too(daemon: Daemon, door: Door) -> None:
    """Recorded without a preflight, or after one that said no."""
    user, name = new("user"), new("budget")
    set_budget(daemon, name, 100, scope={"user": user})
    assert door.record(Spend(60, user=user)) == "kept"
    refused = door.ask(Spend(50, user=user))
    assert not refused.allow
    assert door.record(Spend(50, refused.request_id, user)) == "kept"
    assert cents(daemon, name) == Cents(100, settled=110, reserved=0, held=0, available=0, overshoot=10)


def test_to_give_no_estimate_is_no_way_around_a_budget(daemon: Daemon, door: Door) -> None:
    """Where all is spent, and where nothing may be spent at all, a call that says nothing of its cost is denied too."""
    user, name, nobody = new("user"), new("budget"), new("user")
    set_budget(daemon, name, 10, scope={"user": user})
    set_budget(daemon, nobody, 0, scope={"user": nobody})
    for answer in (door.ask(Spend(0, user=user)), door.ask(Spend(0, user=user))):
        assert answer.allow
        assert door.record(Spend(5, answer.request_id, user)) == "kept"
    assert door.ask(Spend(0, user=user)).word == "budget_exceeded"
    assert door.ask(Spend(0, user=nobody)).word == "budget_exceeded"
    assert cents(daemon, name) == Cents(10, settled=10, reserved=0, held=0, available=0, overshoot=0)


def test_a_record_for_somebody_else_frees_what_was_reserved_and_charges_whom_it_names(
    daemon: Daemon, door: Door
) -> None:
    asked, other = new("user"), new("user")
    for user in (asked, other):
        set_budget(daemon, user, 100, scope={"user": user})
    answer = door.ask(Spend(40, user=asked))
    assert door.record(Spend(30, answer.request_id, other)) == "kept"
    assert cents(daemon, asked) == Cents(100, settled=0, reserved=0, held=0, available=100, overshoot=0)
    assert cents(daemon, other) == Cents(100, settled=30, reserved=0, held=0, available=70, overshoot=0)


def test_sweep_reserve_again_and_late_commits(launch: Callable[..., Daemon], make: Callable[..., Door]) -> None:
    """Holds expire, others are made in their place, then the first calls are recorded after all.

    That money is gone, so it is recorded; it is seen at once, and from then on nothing is admitted.
    """
    running = launch("--budgets-reservation-minutes", _TTL_MINUTES)
    set_budget(running, "cap", 500, scope={"user": "ada"})
    door = make(running)
    first = [door.ask(Spend(50)) for _ in range(10)]
    assert all(answer.allow for answer in first)
    assert not door.ask(Spend(50)).allow
    until(lambda: cents(running, "cap").held == 0, "the first holds to expire", _TTL_S * 5)
    second = door.ask(Spend(250))
    assert second.allow
    for answer in first:
        assert door.record(Spend(50, answer.request_id)) == "kept"
    now = cents(running, "cap")
    assert (now.settled, now.available) == (500, 0)
    assert door.ask(Spend(1)).word == "budget_exceeded"
    assert door.record(Spend(250, second.request_id)) == "kept"
    assert cents(running, "cap") == Cents(500, settled=750, reserved=0, held=0, available=0, overshoot=250)
    assert door.ask(Spend(1)).word == "budget_exceeded"
    door.close()


# -- one request id ----------------------------------------------------------------------------------------------------


def test_one_request_id_reserves_once_and_takes_no_other_amount(daemon: Daemon, door: Door) -> None:
    user, name, request = new("user"), new("budget"), new("request")
    set_budget(daemon, name, 100, scope={"user": user})
    first = door.ask(Spend(10, request, user))
    assert first.allow
    assert door.ask(Spend(10, request, user)) == first
    assert door.ask(Spend(40, request, user)).word == CONFLICT
    assert door.ask(Spend(1, request, user)).word == CONFLICT
    assert cents(daemon, name) == Cents(100, settled=0, reserved=10, held=10, available=90, overshoot=0)
    assert door.record(Spend(10, request, user)) == "kept"
    assert door.record(Spend(10, request, user)) == "duplicate"
    assert door.record(Spend(40, request, user)) == CONFLICT
    assert cents(daemon, name) == Cents(100, settled=10, reserved=0, held=0, available=90, overshoot=0)


def test_a_retry_of_everything_leaves_nothing_reserved(daemon: Daemon, door: Door) -> None:
    """A caller that never saw its answers asks and records again: what it reserved anew goes with the duplicate."""
    user, name, request = new("user"), new("budget"), new("request")
    set_budget(daemon, name, 100, scope={"user": user})
    for word in ("kept", "duplicate", "duplicate"):
        assert door.ask(Spend(10, request, user)).allow
        assert door.record(Spend(10, request, user)) == word
    assert cents(daemon, name) == Cents(100, settled=10, reserved=0, held=0, available=90, overshoot=0)


def test_200_callers_with_one_request_id_reserve_once(daemon: Daemon, make: Callable[..., Door]) -> None:
    user, name, request = new("user"), new("budget"), new("request")
    set_budget(daemon, name, 100, scope={"user": user})
    doors = _open(make, daemon, _CALLERS)
    together = threading.Barrier(_CALLERS)

    def call(door: Door) -> str:
        together.wait(30)
        return door.ask(Spend(60, request, user)).word

    with ThreadPoolExecutor(_CALLERS) as pool:
        assert Counter(pool.map(call, doors)) == {"allow": _CALLERS}
    assert cents(daemon, name) == Cents(100, settled=0, reserved=60, held=60, available=40, overshoot=0)
    assert doors[0].release(request)
    for each in doors:
        each.close()


# -- several budgets ---------------------------------------------------------------------------------------------------


def test_several_budgets_reserve_all_or_none_under_one_request_id(daemon: Daemon, door: Door) -> None:
    user, team, app, request = new("user"), new("team"), new("app"), new("request")
    names = user, team, app
    for amount, scope in ((100, {"user": user}), (50, {"team": team}), (20, {"source_app": app, "model": "gpt-4o"})):
        set_budget(daemon, next(iter(scope.values())), amount, scope=scope)
    wanted = Spend(15, request, user, team, source_app=app)
    assert door.ask(wanted).allow
    assert door.ask(wanted).allow
    assert [cents(daemon, name).reserved for name in names] == [15, 15, 15]
    refused = door.ask(Spend(10, new("request"), user, team, source_app=app))
    assert (refused.word, refused.budget["name"]) == ("budget_exceeded", app)
    assert set(refused.budget["scope_type"].replace(" ", "").split(",")) == {"source_app", "model"}
    assert [cents(daemon, name).reserved for name in names] == [15, 15, 15], "all or none"
    assert door.record(wanted._replace(cents=7)) == "kept"
    assert [cents(daemon, name)[1:3] for name in names] == [(7, 0)] * 3
    assert door.ask(wanted._replace(request_id=new("request"), cents=13)).allow


def test_a_users_budget_holds_behind_a_teams_key(daemon: Daemon, make: Callable[..., Door]) -> None:
    """The key's own team counts, whatever a caller says, and does not take the user's budget away."""
    user, team, app = new("user"), new("team"), new("app")
    set_budget(daemon, user, 10, scope={"user": user})
    set_budget(daemon, team, 1_000, scope={"team": team})
    door = make(daemon, daemon.key(new("key"), team=team, source_app=app))
    spend = Spend(6, user=user, source_app=app)
    spent(door, spend)
    refused = door.ask(spend)
    assert (refused.word, refused.budget["name"]) == ("budget_exceeded", user)
    spent(door, spend._replace(user=new("user")))
    assert (cents(daemon, user).settled, cents(daemon, team).settled) == (6, 12)
    door.close()


def test_each_user_has_the_whole_amount_and_no_more(daemon: Daemon, door: Door) -> None:
    """Also those who are nobody: to leave the user out is no way around it."""
    team, name = new("team"), new("budget")
    set_budget(daemon, name, 10, scope={"team": team}, each="user")
    for user in (new("user"), new("user"), ""):
        spent(door, Spend(6, user=user, team=team))
        assert door.ask(Spend(6, user=user, team=team)).word == "budget_exceeded"
        assert standing(daemon, name, user).settled_nano_usd == 6 * CENT_NANO
