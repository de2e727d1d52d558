"""One time for all replicas: the pace is the machine's, the time the store's (S11, S12)."""

from __future__ import annotations

import pytest

from syncd.core.values import Millis
from syncd.engine.clock import SharedClock
from syncd.store.memory import MemoryStore


class Machine:
    """A counter of seconds, and a store some way off; each look takes the next of ``delays``."""

    def __init__(self, *delays: float) -> None:
        self.seconds, self.true = 5.0, 1_000.0
        self.delays = list(delays)
        self.clock = SharedClock(lambda: self.seconds, Millis(77_000))
        self.store = MemoryStore(clock=self.look)

    def look(self) -> float:
        """The store's answer, given in the middle of the time that the look takes."""
        delay = self.delays.pop(0) if self.delays else 0.0
        self.passes(delay / 2)
        told = self.true
        self.passes(delay / 2)
        return told

    def passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.true += seconds

    async def follows(self) -> Millis:
        await self.clock.follow(self.store)
        return self.clock.now()


def test_until_the_store_was_asked_it_is_what_the_machine_takes_it_for() -> None:
    machine = Machine()
    machine.passes(2)
    assert machine.clock.now() == 79_000


async def test_it_is_the_stores_time_from_the_first_look_on() -> None:
    machine = Machine()
    assert await machine.follows() == 1_000_000
    machine.passes(9)
    assert machine.clock.now() == 1_009_000


async def test_the_way_to_the_store_is_halved() -> None:
    machine = Machine(0.2, 0.2, 0.2)
    assert await machine.follows() == int(machine.true * 1000)


@pytest.mark.parametrize("delays", [(0.9, 0.9, 0.01), (0.01, 0.9, 0.9)])
async def test_the_quickest_look_counts(delays: tuple[float, ...]) -> None:
    machine = Machine(*delays)
    assert abs(await machine.follows() - machine.true * 1000) <= 6


async def test_a_clock_that_runs_wrong_is_put_right() -> None:
    machine = Machine()
    await machine.follows()
    machine.seconds += 30.5
    machine.true += 30
    assert machine.clock.now() == 1_030_500
    assert await machine.follows() == 1_030_000


async def test_a_look_that_took_long_tells_nothing_new() -> None:
    machine = Machine()
    await machine.follows()
    machine.true += 3
    machine.delays = [60, 60, 60]
    assert await machine.follows() == 1_180_000


async def test_a_first_look_that_took_long_is_better_than_none() -> None:
    machine = Machine(4, 4, 4)
    assert await machine.follows() == int(machine.true * 1000)
