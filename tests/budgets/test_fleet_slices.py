"""Slices between real daemons: sidecars share a budget, whatever becomes of them, of the hub and of the road."""

from __future__ import annotations

import shutil
import time
from math import ceil
from pathlib import Path

import pytest

from budget_calls import CENT_NANO, set_budget
from fleet import Sidecar, drained, fleet, query, said
from fleet_spending import EXCEEDED, PATIENT, PROMISED_S, UNAVAILABLE, Caller, books, capped, patient
from harness import costd, until


def test_sidecars_share_a_budget_to_the_cent(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b", "c") as members:
        callers = capped(members)

        def is_spent() -> bool:
            for caller in callers:
                caller.spend_all(10)
            return sum(caller.spent for caller in callers) == 500

        # What one was granted and cannot use, the others are lent within seconds.
        until(is_spent, "all of it to be spent", 30)
        assert {caller.spend(1) for caller in callers} == {EXCEEDED}
        members.drain()
        until(lambda: books(members.data_dir).held == 0, "nothing to be held")
        assert books(members.data_dir).settled == 500 * CENT_NANO
        members.check()


def test_a_hub_s_own_callers_compete_with_those_of_its_sources(tmp_path: Path) -> None:
    with patient(tmp_path, "a") as members:
        (caller,) = capped(members)
        own = Caller(members.hub)
        assert caller.spend(10) == own.spend(10) == "allow"

        def is_spent() -> bool:
            own.spend_all(10, 3)
            caller.spend_all(10, 3)
            return own.spent + caller.spent == 500

        until(is_spent, "all of it to be spent", 30)
        assert own.spend(1) == caller.spend(1) == EXCEEDED
        assert own.spent > 100, "the hub's own had their share"
        assert caller.spent > 100
        members.drain()
        assert books(members.data_dir).settled == 500 * CENT_NANO


def test_a_call_that_is_larger_than_what_is_left_is_denied_and_takes_nothing_from_the_others(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b") as members:
        one, two = capped(members, 100)
        assert one.spend_all(10, 5) == ""
        denied = two.ask(60)
        assert denied.word == EXCEEDED
        assert denied.budget["name"] == "cap"
        assert denied.budget["limit_nano_usd"] == 100 * CENT_NANO
        until(lambda: two.may(40), "what fits", PROMISED_S)


def test_money_that_lies_idle_goes_back_by_itself(tmp_path: Path) -> None:
    with patient(tmp_path, "a") as members:
        (caller,) = capped(members)
        assert caller.spend(10) == "allow"
        members.drain()
        assert books(members.data_dir).held > 0
        until(lambda: books(members.data_dir).held == 0, "it to be back", 50)
        assert caller.spend(10) == "allow"


def test_another_amount_takes_effect_in_time(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b") as members:
        one, two = capped(members, 100)
        until(lambda: one.spend_all(10) and two.spend_all(10) and one.spent + two.spent == 100, "it to be spent", 20)
        set_budget(members.hub, "cap", 200)
        until(lambda: one.may(10), "more", PROMISED_S)
        until(lambda: two.may(10), "more for the other", PROMISED_S)
        # A lower one: what nobody needs is not spent any more.
        set_budget(members.hub, "cap", 140)
        time.sleep(PROMISED_S)
        one.spend_all(1)
        two.spend_all(1)
        assert one.spent + two.spent <= 140
        members.drain()
        until(lambda: books(members.data_dir).available >= 0, "what is held to be back", PROMISED_S)


# -- the hub is out of reach -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_hub_down", ["deny", "allow"])
def test_the_budget_says_what_becomes_of_calls_while_the_hub_is_down(tmp_path: Path, on_hub_down: str) -> None:
    with patient(tmp_path, "a") as members:
        (caller,) = capped(members, on_hub_down=on_hub_down)
        assert caller.spend(10) == "allow"
        members.stop_hub()
        if on_hub_down == "allow":
            assert caller.spend_all(10, 60) == ""
        else:
            assert caller.spend_all(10, 60) == UNAVAILABLE
            assert caller.spent < 500
        members.start_hub()
        if on_hub_down == "deny":
            until(lambda: caller.may(10), "the hub to lend again", 40)
        members.drain()
        # What went beyond the limit meanwhile counts.
        until(lambda: books(members.data_dir).settled == caller.spent * CENT_NANO, "the hub to know", 20)


def test_a_slice_may_not_be_used_for_ever_without_a_word_from_the_hub(tmp_path: Path) -> None:
    with patient(tmp_path, "a", flags=("--budgets-use-minutes=0.1",)) as members:
        (caller,) = capped(members)
        assert caller.spend(10) == "allow"
        members.sidecars[0].proxy.blackhole()
        until(lambda: caller.spend(1) == UNAVAILABLE, "its use to be over", 15)
        members.sidecars[0].proxy.heal()
        until(lambda: caller.may(1), "the hub's word", 40)


# -- processes come and go ---------------------------------------------------------------------------------------------


def test_a_sidecar_that_is_killed_goes_on_with_its_slice(tmp_path: Path) -> None:
    with fleet(tmp_path) as members:
        for name in ("a", "b"):
            members.add(name, *PATIENT, "--budgets-reservation-minutes=0.05")
        one, two = capped(members)
        assert one.spend(10) == "allow"
        members.sidecars[0].kill()
        again = Caller(members.sidecars[0].start())
        until(lambda: again.may(10), "the slice to be in use again")
        epochs = members.sidecars[0].running.query("SELECT count(*) FROM forward_epoch")
        assert epochs == [(1,)], "a restart is no new epoch"

        def is_spent() -> bool:
            again.spend_all(10)
            two.spend_all(10)
            return one.spent + two.spent + again.spent == 500

        until(is_spent, "all of it to be spent", 30)


def test_a_hub_that_is_killed_knows_afterwards_what_it_lent(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b") as members:
        one, two = capped(members)
        assert one.spend_all(10, 5) == ""
        members.restart_hub()

        def is_spent() -> bool:
            one.spend_all(10)
            two.spend_all(10)
            return one.spent + two.spent == 500

        until(is_spent, "all of it to be spent", 40)
        members.drain()
        assert books(members.data_dir).settled == 500 * CENT_NANO
        assert {one.spend(1), two.spend(1)} == {EXCEEDED}


# -- copies ------------------------------------------------------------------------------------------------------------


def test_a_sidecar_that_is_restored_begins_anew_and_what_it_held_stays_held(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b") as members:
        one, two = capped(members)
        restored = members.sidecars[0]
        assert one.spend(10) == "allow"
        members.drain()
        restored.stop()
        shutil.copytree(restored.data_dir, tmp_path / "backup")
        later = Caller(restored.start())
        until(lambda: later.may(10), "its slice")
        assert later.spend_all(10, 3) == ""
        members.drain()
        restored.stop()
        shutil.rmtree(restored.data_dir)
        shutil.copytree(tmp_path / "backup", restored.data_dir)
        again = Caller(restored.start())
        until(lambda: again.may(10), "a slice of the new epoch", 30)
        assert restored.running.query("SELECT count(*) FROM forward_epoch") == [(2,)]

        until(lambda: again.spend_all(10) and two.spend_all(10) and again.may(1) + two.may(1) == 0, "an end", 30)
        members.drain()
        settled = books(members.data_dir).settled
        assert settled == sum(caller.spent for caller in (one, later, again, two)) * CENT_NANO
        assert settled <= 500 * CENT_NANO


def test_a_sidecar_that_is_cloned_takes_no_more_than_there_is(tmp_path: Path) -> None:
    with patient(tmp_path, "a") as members:
        (one,) = capped(members)
        original = members.sidecars[0]
        assert one.spend(10) == "allow"
        members.drain()
        original.stop()
        shutil.copytree(original.data_dir, tmp_path / "clone")
        first = Caller(original.start())
        until(lambda: first.may(10), "its slice")
        clone = Sidecar("clone", tmp_path / "clone", original.key, members.hub.grpc, *PATIENT)
        members.sidecars.append(clone)
        second = Caller(clone.start())
        until(lambda: second.may(10), "a slice of its own", 40)
        until(lambda: first.may(10), "the original to go on", 40)
        until(lambda: first.spend_all(5) and second.spend_all(5) and first.may(1) + second.may(1) == 0, "an end", 40)
        members.drain()
        until(lambda: books(members.data_dir).settled == (one.spent + first.spent + second.spent) * CENT_NANO, "all")
        assert books(members.data_dir).settled <= 500 * CENT_NANO


def test_a_source_that_is_forgotten_holds_nothing(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b") as members:
        one, two = capped(members, 100)
        assert one.spend(10) == "allow"
        members.drain()
        members.sidecars[0].kill()
        ((held,),) = query(
            members.data_dir,
            "SELECT granted_nano - returned_nano - settled_nano FROM budget_account WHERE source_id = "
            "(SELECT id FROM source WHERE name = 'a')",
        )
        assert held > 0
        # What is not a whole cent cannot be spent by cents.
        until(lambda: two.spend_all(1) == EXCEEDED and two.spent == 90 - ceil(held / CENT_NANO), "the rest", 30)
        said("sources", "forget", "a", data_dir=members.data_dir)
        until(lambda: two.may(1), "what it held", PROMISED_S)
        until(lambda: two.spend_all(1) == EXCEEDED and two.spent == 90, "all of it", 30)


def test_a_hub_that_is_restored_lends_nothing_before_all_have_told_what_they_hold(tmp_path: Path) -> None:
    with patient(tmp_path, "a", "b", "gone") as members:
        one, two, three = capped(members)
        assert [caller.spend(10) for caller in (one, two, three)] == ["allow"] * 3
        members.drain()
        backup = tmp_path / "backup.db"
        assert costd("backup", str(backup), "--data-dir", str(members.data_dir)).returncode == 0
        # Of what comes now the backup knows nothing.
        assert one.spend_all(10, 12) == ""
        assert three.spend_all(10, 3) == ""
        members.drain()
        members.sidecars[2].kill()
        members.stop_hub(kill=False)
        done = costd("restore", str(backup), "--data-dir", str(members.data_dir), "--yes")
        assert done.returncode == 0, done
        members.start_hub()
        own = Caller(members.hub)
        until(lambda: one.spend(400) == UNAVAILABLE, "the hub to be back", 20)
        assert own.spend(1) == UNAVAILABLE, "the hub does not know what the third holds"
        assert "restored" in members.sources()["gone"]["problem"]
        said("sources", "forget", "gone", data_dir=members.data_dir)
        until(lambda: own.may(1), "the hub to lend again", 20)

        until(lambda: one.spend_all(10) and two.spend_all(10) and one.may(1) + two.may(1) == 0, "an end", 60)
        for each in members.sidecars[:2]:
            drained(each.running)
        settled = books(members.data_dir).settled
        # What the third recorded after the backup is with its ledger, which is gone.
        assert settled == (one.spent + two.spent + own.spent + 10) * CENT_NANO
        assert settled <= 500 * CENT_NANO
