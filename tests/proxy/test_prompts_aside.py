"""Prompts are looked up for proxied calls beside the event loop, and beside reports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from costd.clock import Clock
from costd.services.prompts import Prompts
from costd.store.connection import DATABASE_NAME
from costd.store.orgs import OWN_ORG
from costd.store.reader import READERS, Readers
from ledger import writing


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[tuple[Readers, Readers]]:
    with writing(tmp_path, Clock()):
        made = Readers(tmp_path / DATABASE_NAME, Clock()), Readers(tmp_path / DATABASE_NAME, Clock())
        yield made
        for each in made:
            each.close()


@contextmanager
def taken(readers: Readers) -> Iterator[None]:
    """All of them are in use."""
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(readers.snapshot())
        yield


def test_reports_hold_no_proxied_call_up(pools: tuple[Readers, Readers]) -> None:
    with taken(pools[0]):
        assert asyncio.run(Prompts(*pools, Clock()).active(OWN_ORG, "greeting")) == ""


def test_the_event_loop_goes_on_while_a_prompt_is_looked_up(pools: tuple[Readers, Readers]) -> None:
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with taken(pools[1]):
            held.set()
            free.wait(60)

    async def look_up() -> None:
        looked = asyncio.create_task(Prompts(*pools, Clock()).active(OWN_ORG, "greeting"))
        done, _ = await asyncio.wait([looked], timeout=0.2)
        assert not done
        free.set()
        assert await looked == ""

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    asyncio.run(look_up())
    holder.join()
