"""S5, S11: a crowd is served by listings, however slowly it is served."""

from __future__ import annotations

from syncd.core.budget import Lane
from syncd.core.crowd import CROWD, GATHER_MS, LATE_MS
from syncd.core.link import How, Link, LinkState
from syncd.core.record import Reading
from syncd.core.values import CrmId, IonId, Millis, Subject
from syncd.core.work import Again, Stage
from syncd.engine.crowd import Crowds
from syncd.engine.facts import Facts
from syncd.ion.gate import BudgetGate
from syncd.store.memory import MemoryStore

FRESH_MS = 10_000
BEGIN = 1_000_000
RATE = 600
MANY = 3 * CROWD


class Day:
    """A crowd of linked customers that wait to be written to; the time passes by hand."""

    def __init__(self) -> None:
        self.ms = BEGIN
        self.store = MemoryStore(clock=lambda: self.ms / 1000)
        self.facts = Facts(FRESH_MS, 60_000, "events")
        self.gate = BudgetGate(self.store, self, RATE, 10_000)
        self.crowds = Crowds(self.store, self.gate, self, self.facts)

    def now(self) -> Millis:
        return Millis(self.ms)

    async def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)

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


async def test_who_waits_for_long_is_no_less_one_of_the_crowd_while_listings_show_him() -> None:
    day = Day()
    await day.wait_for_a_call(range(MANY))
    for _ in range(2 * LATE_MS // 60_000):
        day.ms += 60_000
        await day.list_all()
    day.ms += FRESH_MS
    assert await day.serve(MANY) == [], "each would take a look of its own"
    day.ms += LATE_MS
    assert len(await day.serve(MANY)) == MANY, "whatever keeps listings from coming"


async def test_the_last_page_of_many_waits_for_slots_like_the_others() -> None:
    day = Day()
    day.facts.pages = 30
    await day.wait_for_a_call(range(4 * MANY))
    await day.gate.take(Lane.WRITE, RATE, goes_first=True)
    for pages_read in (0, 29):
        began = day.ms
        await day.crowds.wait_for_slots(pages_read, Millis(day.ms + 20_000))
        assert day.ms >= began + 20_000, "its readings would grow old unused"


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
