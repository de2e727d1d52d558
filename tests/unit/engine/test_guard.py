"""The guard of a daemon that was started before anybody was linked."""

from __future__ import annotations

from random import Random

from syncd.core.guard import Limits, Tally
from syncd.core.link import How, Link, LinkState
from syncd.core.plan import Change, ChangeKind, ChangeState
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Subject
from syncd.engine.facts import Facts
from syncd.engine.guard import TIDY_EVERY_MS, Guard
from syncd.store.memory import MemoryStore
from tests.parts.clock import HandClock


def update(number: int, at: Millis) -> Change:
    subject = Subject(f"crm:C{number}")
    set_, old = {Field.COMPANY: "New"}, {Field.COMPANY: "Old"}
    return Change(f"u{number}", subject, Side.ION, ChangeKind.UPDATE, set_, old, old, at, f"C{number}", str(number))


async def test_a_part_of_the_linked_customers_is_a_limit_also_for_those_linked_since() -> None:
    """Of 60 customers 18 may be changed in an hour, also one after the other."""
    store, clock = MemoryStore(Random(1)), HandClock()
    guard = Guard(store, clock, Facts(0, 0, "events"), Limits(Tally(0, 300, 0, 0), percent=30))
    await guard.watch()
    async with store.begin() as unit:
        for number in range(60):
            ids = CrmId(f"C{number}"), IonId(str(number))
            await unit.add_link(Link(*ids, LinkState.LINKED, How.CRM_NOTE, clock.at, {}))
    clock.at = Millis(clock.at + TIDY_EVERY_MS + 1)
    await guard.watch()
    passed = list[int]()
    for number in range(30):
        subject = Subject(f"crm:C{number}")
        async with store.begin() as unit, guard.admission(unit, subject, clock.at) as admission:
            if await admission.ask([update(number, clock.at)], writing=Side.ION):
                passed.append(number)
    assert len(passed) == 18
    async with store.begin() as unit:
        assert await unit.count_changes((ChangeState.WAITING,), 99) == 12
