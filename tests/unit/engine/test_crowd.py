"""S5, S11: a crowd is served by listings, however slowly it is served."""

from __future__ import annotations

from syncd.core.crowd import CROWD, GATHER_MS
from syncd.core.link import How, Link, LinkState
from syncd.core.record import Reading
from syncd.core.values import CrmId, IonId, Millis, Subject
from syncd.core.work import Again, Stage
from syncd.engine.clock import SharedClock
from syncd.engine.crowd import Crowds
from syncd.engine.facts import Facts
from syncd.ion.gate import BudgetGate
from syncd.store.memory import MemoryStore

FRESH_MS = 10_000
BEGIN = 1_000_000
MANY = 3 * CROWD


class Day:
    """A crowd of linked customers that wait to be written to; the time passes by hand."""

    def __init__(self) -> None:
        self.ms = BEGIN
        self.store = MemoryStore(clock=lambda: self.ms / 1000)
        clock = SharedClock(lambda: self.ms / 1000, Millis(BEGIN))
        self.facts = Facts(FRESH_MS, 60_000, "events")
        self.crowds = Crowds(self.store, BudgetGate(self.store, clock, 600, 10_000), clock, self.facts)

    async def wait_for_a_call(self, numbers: range) -> None:
        now = Millis(self.ms)
        async with self.store.begin() as unit:
            for n in numbers:
                await unit.add_link(Link(CrmId(f"C{n}"), IonId(f"7-{n}"), LinkState.LINKED, How.PERSON, now, {}))
            await unit.enqueue([Subject(f"crm:C{n}") for n in numbers], now)
            for claim in await unit.claim(Stage.DECIDE, now, 1_000, len(numbers)):
                await unit.finish(claim, Again(now, Stage.CALL))

    async def list_all(self) -> None:
        """A listing of one page that took a tenth of a second."""
        began = Millis(self.ms)
        self.ms += 100
        answered = Millis(self.ms)
        await self.crowds.keep([Reading(f"7-{n}", {}, began, answered, None, {}) for n in range(MANY)])
        self.facts.listed_last = began

    async def serve(self, many: int) -> list[Subject]:
        """Who goes next, as far as somebody may."""
        async with self.store.begin() as unit:
            turn = await self.crowds.turn(unit, is_full=False)
            claims = await unit.claim(Stage.CALL, Millis(self.ms), 1_000, many, turn)
            for claim in claims:
                await unit.finish(claim)
        return [claim.subject for claim in claims]


async def test_who_was_shown_twice_and_not_served_in_time_waits_for_the_next_listing() -> None:
    day = Day()
    await day.wait_for_a_call(range(MANY))
    await day.list_all()
    day.ms += 500
    await day.list_all()
    assert len(await day.serve(CROWD)) == CROWD
    day.ms += FRESH_MS - 500
    assert await day.serve(MANY) == [], "each would take a look of its own"
    assert await day.crowds.is_waiting()
    await day.list_all()
    assert len(await day.serve(MANY)) == MANY - CROWD


async def test_whom_the_last_listing_has_shown_is_served_before_the_next_one() -> None:
    day = Day()
    await day.wait_for_a_call(range(MANY - CROWD))
    assert await day.crowds.is_waiting()
    await day.list_all()
    await day.wait_for_a_call(range(MANY - CROWD, MANY))
    day.ms += GATHER_MS + 1
    assert not await day.crowds.is_waiting()
    assert len(await day.serve(MANY - CROWD)) == MANY - CROWD
    assert await day.crowds.is_waiting()
