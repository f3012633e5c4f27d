"""The queue in front of the writer: whoever waits is noticed, and what nobody waits for as well."""

from __future__ import annotations

import asyncio

import pytest

from costd.store.ticket import Ticket
from costd.store.work_queue import WorkQueue

#: The writer looks by itself far more often; here only a notice ends its wait.
LONG_S = 60.0


def ticket(number: int) -> Ticket[int]:
    """Some work."""
    return Ticket(number, 1, int)


@pytest.mark.parametrize("awaited", [True, False])
def test_the_writer_is_told_of_work_whether_or_not_somebody_waits_for_it(awaited: bool) -> None:
    async def put_while_the_writer_waits() -> list[int]:
        queue = WorkQueue(10, 10)
        taking = asyncio.create_task(asyncio.to_thread(queue.take, 10, LONG_S))
        await asyncio.sleep(0)
        queue.put(ticket(1), awaited=awaited)
        return [taken.work for taken in await asyncio.wait_for(taking, LONG_S / 2)]

    assert asyncio.run(put_while_the_writer_waits()) == [1]


def test_work_that_somebody_waits_for_takes_along_what_nobody_waits_for() -> None:
    async def put_both() -> list[int]:
        queue = WorkQueue(10, 10)
        queue.put(ticket(1), awaited=False)
        queue.put(ticket(2))
        taking = asyncio.create_task(asyncio.to_thread(queue.take, 10, LONG_S))
        return [taken.work for taken in await asyncio.wait_for(taking, LONG_S / 2)]

    assert asyncio.run(put_both()) == [1, 2]
