"""Each check of the simulated world is seen to fail: on a build that was broken on purpose.

One promise is taken out, seeds are played until a check speaks, and it must be the right one. The
table in docs/mutations.md is made from this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from syncd import simulation
from syncd.core import budget
from syncd.core.errors import LostLease
from syncd.core.intent import IntentState
from syncd.core.listing import MISSING_SWEEPS, SweepOutcome
from syncd.core.record import Sightings
from syncd.core.values import Millis
from syncd.engine import create, ingest, push, reconcile, sweep
from syncd.engine.clock import SharedClock
from syncd.engine.intents import Intents
from syncd.engine.pair import load_pair
from syncd.ion import gate
from syncd.sim.campaign import Planned
from syncd.sim.world import Accidents
from syncd.simulation import play
from syncd.store.memory import MemoryUnit

Break = Callable[[pytest.MonkeyPatch], None]
MAX_RUNS = 120


def skip_the_lookup(patch: pytest.MonkeyPatch) -> None:
    """A create whose answer was lost is taken for not made."""

    async def resolve(self: Any, claim: Any, lost: Any, found: Any) -> None:
        async with self._store.begin() as unit:
            if lost.state is IntentState.SENT:
                lost = lost.moved_to(IntentState.UNKNOWN, self._clock.now())
            await unit.save_intent(lost.moved_to(IntentState.DROPPED, self._clock.now()))
            await unit.finish(claim, create.Again(self._clock.now()))

    patch.setattr(create.Creator, "_resolve", resolve)
    patch.setattr(create.Creator, "_observe", lambda *_: nothing())
    patch.setattr(create, "MAX_TRIES", 99)


def stop_before_calls(patch: pytest.MonkeyPatch) -> None:
    """No break: a process is often stopped for a minute between its intent and its call."""
    write_down = push.Pusher._write_down

    async def and_stop(self: Any, claim: Any, reading: Any) -> Any:
        written, process = await write_down(self, claim, reading), self._store._process
        if written is not None and self._store._world.rng.random() < 0.2:
            process.stop(60.0)
            await process.step()
        return written

    patch.setattr(push.Pusher, "_write_down", and_stop)


def skip_the_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever was stopped for longer than its lease goes on as if nothing had happened."""
    finish = MemoryUnit.finish

    async def finish_anyway(self: Any, claim: Any, again: Any = None) -> None:
        try:
            await finish(self, claim, again)
        except LostLease:
            pass

    async def check(self: Any, claim: Any) -> None:
        queued = self._table("queue").get(claim.subject)
        if queued is not None:
            self._put("queue", claim.subject, replace(queued, fence=claim.fence))

    stop_before_calls(patch)
    patch.setattr("syncd.engine.create.SEND_WITHIN_MS", 10**9)
    patch.setattr(push.Pusher, "_usable_until", lambda *_: 10**15)
    patch.setattr(MemoryUnit, "check", check)
    patch.setattr(MemoryUnit, "finish", finish_anyway)


def trust_a_short_sweep(patch: pytest.MonkeyPatch) -> None:
    """Whoever three listings left out is gone, though they were short, and nobody asks ION for it."""
    look = push.Pusher._look_and_push

    async def believing(self: Any, claim: Any, ion_id: Any, slots: Any) -> None:
        async with self._store.begin() as unit:
            pair = await load_pair(unit, claim.subject)
        if pair.link is not None and pair.ion is not None and pair.ion.missing_sweeps >= MISSING_SWEEPS:
            return await self._not_there(claim, pair.link.ion_id)
        return await look(self, claim, ion_id, slots)

    patch.setattr(sweep, "judge", lambda *_: SweepOutcome.COMPLETE)
    patch.setattr(push.Pusher, "_look_and_push", believing)
    patch.setattr(simulation, "Accidents", partial(Accidents, ion=0.4))


def commit_offsets_early(patch: pytest.MonkeyPatch) -> None:
    """Offsets are stored in a transaction of their own, before the effect."""
    whole = ingest.Ingest.ingest

    async def early(self: Any, topic: str, events: Any, ends: Any) -> int:
        offsets = {event.partition: event.offset + 1 for event in events}
        async with self._store.begin() as unit:
            known = await unit.offsets(topic)
            await unit.save_offsets(topic, {p: max(o, known.get(p, 0)) for p, o in offsets.items()}, ends)
        return await whole(self, topic, events, ends)

    patch.setattr(ingest.Ingest, "ingest", early)


def forget_the_archive(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryUnit, "archive", lambda *_: nothing())


def count_the_budget_from_send_time(patch: pytest.MonkeyPatch) -> None:
    """A slot is free again 60 s after it was taken, however long its call takes."""
    patch.setattr(gate, "end", lambda ledger, slot, now: ledger)
    patch.setattr(budget, "_free_at", lambda ledger, slot: slot.taken + budget.WINDOW_MS)


def trust_the_machines_clock(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks the store what time it is."""
    patch.setattr(SharedClock, "follow", lambda *_: nothing())


def agree_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The base becomes what was asked for, whatever the side says."""

    def confirm(self: Any, unit: Any, pair: Any, link: Any, policy: Any, now: Any) -> Any:
        return confirmed(self, unit, pair, link, policy, now)

    async def confirmed(self: Any, unit: Any, pair: Any, link: Any, policy: Any, now: Any) -> Any:
        for intent in pair.intents:
            link = replace(link, base={**link.base, **{name: f"{value}?" for name, value in intent.set.items()}})
        return await honest(self, unit, pair, link, policy, now)

    honest = Intents.confirm_commands
    patch.setattr(Intents, "confirm_commands", confirm)


def forget_an_edit(patch: pytest.MonkeyPatch) -> None:
    """Of two events of one customer in one batch only the first is taken."""
    take = Sightings.take
    patch.setattr(Sightings, "take", lambda self, seen: None if self.count else take(self, seen))


def forget_the_order(patch: pytest.MonkeyPatch) -> None:
    """The value that was seen first stays, whatever is newer."""
    patch.setattr("syncd.core.record._sorted", tuple)


def let_deleted_customers_be(patch: pytest.MonkeyPatch) -> None:
    """A command under way is never closed: something is left over at the end."""

    async def keep(self: Any, unit: Any, pair: Any, link: Any, policy: Any, now: Millis) -> Any:
        return link

    patch.setattr(reconcile.Reconciler, "_close_commands", keep)


async def nothing() -> None:
    """Done."""


BROKEN = [
    pytest.param(skip_the_lookup, "second create", id="skip the lookup"),
    pytest.param(skip_the_fence, "needless", id="skip the fence"),
    pytest.param(trust_a_short_sweep, "absence", id="trust a short sweep"),
    pytest.param(commit_offsets_early, "offsets", id="commit offsets early"),
    pytest.param(forget_the_archive, "lost edit", id="forget the archive"),
    pytest.param(count_the_budget_from_send_time, "budget", id="count the budget from send time"),
    pytest.param(trust_the_machines_clock, "budget", id="trust the machine's clock"),
    pytest.param(agree_before_the_answer, "base", id="agree before the answer"),
    pytest.param(forget_an_edit, "offsets", id="forget an edit"),
    pytest.param(forget_the_order, "offsets", id="forget the order"),
    pytest.param(let_deleted_customers_be, "at rest", id="leave commands open"),
]


@pytest.mark.parametrize(("broken", "spoke"), BROKEN)
def test_a_broken_build_is_caught(broken: Break, spoke: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    said = []
    for seed in range(1_000, 1_000 + MAX_RUNS):
        outcome = play(Planned(seed, ("live", "seed")[seed % 2], 500, 1 + seed % 3))
        said += outcome.failures
        if any(failure.startswith(spoke) for failure in outcome.failures):
            return
    raise AssertionError(f"{spoke!r} was never said, only {said[:5]}")


def test_who_is_stopped_before_its_calls_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accident that shows a missing fence, on a build that has one."""
    stop_before_calls(monkeypatch)
    for seed in range(1_000, 1_010):
        assert play(Planned(seed, ("live", "seed")[seed % 2], 500, 1 + seed % 3)).failures == []
