"""S5, S11: one edit beside hundreds that wait for the budget. The daemon as it is, on virtual time."""

from __future__ import annotations

import asyncio
import math

import pytest

from syncd.core.budget import SHARES, SPARE, Lane
from syncd.core.crowd import NEWCOMERS_SHARE
from syncd.sim.time import VirtualLoop
from tests.parts.virtual import VirtualDaemon

RATE, CROWD, MINUTES = 30, 400, 8


async def _edits_beside_a_crowd(loop: VirtualLoop, every_seconds: int) -> tuple[int, list[float], int]:
    """How many of the crowd were written, how long each of the edits waited, and the calls of the busiest minute."""
    beside = VirtualDaemon(loop, RATE)
    running = asyncio.create_task(beside.daemon.run())
    try:
        await beside.link(
            [f"B{number}" for number in range(CROWD)] + [f"S{number}" for number in range(MINUTES * 60)]
        )
        await asyncio.sleep(61)
        crowd = beside.edit([f"B{number}" for number in range(CROWD)])
        await asyncio.sleep(60)
        edited = list[tuple[float, str]]()
        for number in range(MINUTES * 60 // every_seconds):
            edited.append((beside.now(), beside.edit([f"S{number}"])))
            await asyncio.sleep(every_seconds)
        waited = [min(beside.writes_of(title), default=math.inf) - at for at, title in edited]
        return len(beside.writes_of(crowd)), waited, beside.account.busiest_minute()
    finally:
        beside.daemon.stop()
        await running


def test_an_edit_now_and_then_goes_before_the_hundreds_that_wait(loop: VirtualLoop) -> None:
    written, waited, busiest = loop.run_until_complete(_edits_beside_a_crowd(loop, 77))
    assert max(waited) < 5, "whenever it comes, there are two spare slots for it"
    assert written > 0.95 * (RATE - SPARE) * MINUTES
    assert busiest <= RATE


def test_edits_that_come_and_come_leave_the_crowd_its_part(loop: VirtualLoop) -> None:
    written, waited, busiest = loop.run_until_complete(_edits_beside_a_crowd(loop, 4))
    assert written > 0.8 * RATE * MINUTES
    assert sum(math.isfinite(seconds) for seconds in waited) > 0.85 * NEWCOMERS_SHARE * RATE * MINUTES / 2
    assert busiest <= RATE


def test_many_that_come_together_are_no_newcomers(loop: VirtualLoop) -> None:
    written, waited, _ = loop.run_until_complete(_edits_beside_a_crowd(loop, 1))
    assert written > 0.9 * RATE * MINUTES
    assert sum(map(math.isfinite, waited)) < 5


async def _pages_beside_edits(loop: VirtualLoop, every_seconds: float) -> float:
    """Pages a minute of a listing that never ends, while edits come one by one."""
    beside = VirtualDaemon(loop, RATE, max_page_size=10)
    running = asyncio.create_task(beside.daemon.run())
    try:
        names = [f"S{number}" for number in range(600)]
        await beside.link(names)
        began = beside.now()
        for number in range(int(MINUTES * 60 / every_seconds)):
            beside.edit([names[number]])
            await asyncio.sleep(every_seconds)
        pages = [call for call in beside.account.journal if call["operation"] == "list" and call["at"] >= began + 120]
        return len(pages) / (MINUTES - 2)
    finally:
        beside.daemon.stop()
        await running


@pytest.mark.parametrize("every_seconds", [4.2, 4.6, 5, 6])
def test_edits_that_come_one_by_one_leave_listings_their_share(loop: VirtualLoop, every_seconds: float) -> None:
    pages = loop.run_until_complete(_pages_beside_edits(loop, every_seconds))
    assert pages >= 0.9 * SHARES[Lane.SWEEP] * RATE
