"""What is under way, wherever it waits (S9)."""

from __future__ import annotations

from syncd.core.guard import GuardState
from syncd.core.plan import Change, ChangeKind
from syncd.core.values import Field, Millis, Side, Subject
from syncd.engine.status import survey
from syncd.store.memory import MemoryStore

NOW = Millis(1_000_000)


async def test_a_change_that_the_guard_still_counts_is_under_way_and_one_that_it_holds_waits_for_a_person() -> None:
    store = MemoryStore(clock=lambda: NOW / 1000)
    change = Change(
        "a", Subject("crm:C1"), Side.ION, ChangeKind.UPDATE, {Field.TITLE: "CEO"}, {}, {}, Millis(NOW - 4_000)
    )
    async with store.begin() as unit:
        await unit.save_change(change)
    counting = await survey(store, "customers")
    assert counting.pending == {"decide": 0, "call": 0, "guard": 1}
    assert counting.oldest_pending_seconds == 4
    assert counting.held_changes == 0
    async with store.begin() as unit:
        await unit.save_guard_state(GuardState(NOW, "too many"))
    holding = await survey(store, "customers")
    assert holding.pending == {"decide": 0, "call": 0, "guard": 0}
    assert holding.oldest_pending_seconds == 0
    assert holding.held_changes == 1
