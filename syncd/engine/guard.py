"""The guard between decision and intent: may this change go out by itself? (S9)

event or sweep → observation → record → reconcile → **guard** → intent → call → receipt → confirmed

Each flow that wants to write opens an ``Admission`` in its transaction and asks. What may not go at
once is kept as waiting; ``watch`` judges all that waits together, once what has arrived is counted,
and queues the customers again whose changes may go. Nothing here calls a side.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from syncd.core.errors import Paused, UserError
from syncd.core.guard import WINDOW_MS, GuardState, Limits, Tally, breach, total_of
from syncd.core.plan import Change, ChangeState, Plan, make_plan
from syncd.core.policy import Dialect
from syncd.core.values import Millis, Side, Subject
from syncd.core.work import STEERED, SWEEP, DecisionEntry
from syncd.engine.facts import Facts
from syncd.engine.pair import look_at_everyone
from syncd.engine.ports import Clock, Outlook, Store, Unit

MAX_PLAN = 1_000_000
"""Changes read for one plan; a bound on memory, never a need."""

TIDY_EVERY_MS = 60_000

log = structlog.get_logger()


class Guard:
    def __init__(self, store: Store, clock: Clock, facts: Facts, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._facts = facts
        self._limits = limits
        self._linked: int | None = None
        """How many are linked, as ``watch`` last counted: to count them is to go through them all."""
        self._ends: dict[int, int] | None = None
        """Where Kafka's partitions ended when changes were first seen waiting: what came with them lies before."""
        self._asked: Millis | None = None
        """Since when that has been read: who was queued by then is counted."""
        self._tidied_at = Millis(0)

    @asynccontextmanager
    async def admission(self, unit: Unit, subject: Subject, now: Millis) -> AsyncIterator[Admission]:
        """Ask about one customer, within the caller's transaction.

        What was kept of this customer before, and is not asked for again, is forgotten at the end.
        """
        known = {change.id: change for change in await unit.changes_of(subject)}
        admission = Admission(self, unit, known, now)
        yield admission
        stale = [c.id for c in known.values() if c.id not in admission.wanted and c.state is not ChangeState.SPENT]
        await unit.drop_changes(stale)

    def knows(self, change: Change) -> bool:
        """It was decided under the configuration and version that run now."""
        return change.context == self._facts.context

    async def watch(self) -> bool:
        """Judge what waits, all together, if it is counted; is there still something to be judged?"""
        now = self._clock.now()
        async with self._store.begin() as unit:
            state, since = await unit.guard_state(), Millis(now - WINDOW_MS)
            if self._linked is None or now > self._tidied_at + TIDY_EVERY_MS:
                self._tidied_at, self._linked = now, await linked(unit)
                await unit.forget_spent(since)
            if not await unit.count_changes((ChangeState.WAITING,), 1):
                self._forget_question()
                if state.held_since is not None and not state.mapping_asked:
                    await unit.save_guard_state(replace(state, held_since=None, reason=""))
                    log.info("guard_open_again", reason="nothing waits any more")
                return False
            if state.is_closed:
                return False
            if await self._is_arriving(unit, now):
                return True
            self._asked = self._asked or now
            if await unit.undecided(now, self._asked, 1):
                return True
            self._forget_question()
            self._linked = await linked(unit)
            counts = await unit.tally_changes(since)
            await self._judge_together(unit, state, total_of(counts.values()), now)
        return False

    async def meet_mapping(self, fingerprint: str) -> None:
        """A mapping that differs from the one in force holds everything until its plan is approved."""
        now = self._clock.now()
        async with self._store.begin() as unit:
            state = await unit.guard_state()
            is_new_pair = not await unit.list_links(None, "", 1)
            if not state.mapping or is_new_pair:
                await unit.save_guard_state(replace(state, mapping=fingerprint, mapping_asked=""))
            elif fingerprint == state.mapping:
                if state.mapping_asked:  # put back as it was
                    await unit.save_guard_state(replace(state, mapping_asked="", held_since=None, reason=""))
            elif fingerprint != state.mapping_asked:
                await self._hold(unit, replace(state, mapping_asked=fingerprint), "the mapping has changed", now)
                await look_at_everyone(unit, now)

    async def judge_alone(self, unit: Unit, state: GuardState, change: Change, now: Millis) -> Change:
        """A change that comes alone goes at once; what may be part of a burst waits for ``watch``."""
        change = replace(change, context=self._facts.context)
        if state.is_closed or await self._may_be_burst(unit, now):
            return change
        counts = await unit.tally_changes(Millis(now - WINDOW_MS))
        if breach(total_of([change.tally, *counts.values()]), self._limits.ceilings(self._linked or 0)) is not None:
            return change
        return replace(change, state=ChangeState.PASSED)

    async def _may_be_burst(self, unit: Unit, now: Millis) -> bool:
        if self._linked is None:
            return True
        enough = self._limits.burst_from(self._linked)
        if not enough:
            return False
        # The customer at hand is one of those that are not decided yet; it alone is no burst.
        return (
            await unit.progress(SWEEP, now) > enough
            or sum(map(len, (await unit.places(self._facts.events_topic)).values())) > enough
            or await unit.undecided(now, now, enough + 1) > enough
            or await unit.count_changes((ChangeState.WAITING, ChangeState.PASSED), enough) >= enough
        )

    async def _is_arriving(self, unit: Unit, now: Millis) -> bool:
        """Of what had come when the question came up, some was not looked at yet: it may be of one burst with
        what waits. What comes later is another question, or a busy topic would put this one off for ever."""
        if self._asked is not None:
            return False
        places = await unit.places(self._facts.events_topic)
        if self._ends is None:
            self._ends = {number: place.stop for number, place in places.items()}
        enough = self._limits.burst_from(self._linked or 0)
        if enough and await unit.progress(SWEEP, now) > enough:
            return True
        return any(place.start < min(place.stop, self._ends.get(number, 0)) for number, place in places.items())

    def _forget_question(self) -> None:
        self._ends = self._asked = None

    async def _judge_together(self, unit: Unit, state: GuardState, total: Tally, now: Millis) -> None:
        passed = breach(total, self._limits.ceilings(self._linked or 0))
        if passed is None:
            await unit.enqueue(await unit.pass_changes(None, "", now), now)
        else:
            await self._hold(unit, state, str(passed), now)

    async def _hold(self, unit: Unit, state: GuardState, reason: str, now: Millis) -> None:
        await unit.withdraw_passes()
        await unit.save_guard_state(replace(state, held_since=now, reason=reason))
        log.error("guard_holds", reason=reason, advice="look at `syncd plan`, then `syncd approve DIGEST`")


class Admission:
    """What one customer's decision wants to write, put to the guard."""

    def __init__(self, guard: Guard, unit: Unit, known: Mapping[str, Change], now: Millis) -> None:
        self._guard = guard
        self._unit = unit
        self._known = known
        self._now = now
        self.wanted = set[str]()

    async def ask(self, changes: Collection[Change], writing: Side | None = None) -> set[Side]:
        """The sides that may be written to now.

        ``writing``: the side whose intent is stored in this very transaction, so that what may go
        there is spent.
        """
        admitted = set[Side]()
        if not changes:
            return admitted
        state = await self._unit.guard_state()
        for change in changes:
            self.wanted.add(change.id)
            before = self._known.get(change.id)
            after = before if before is not None and self._guard.knows(before) else None
            after = after or await self._guard.judge_alone(self._unit, state, change, self._now)
            if after.state is not ChangeState.WAITING and state.paused_since is None:
                admitted.add(change.side)
                if change.side is writing and after.state is ChangeState.PASSED:
                    after = replace(after, state=ChangeState.SPENT, at=self._now)
            if after is not before:
                await self._unit.save_change(after)
        return admitted


async def linked(unit: Unit) -> int:
    return sum((await unit.count_links()).values())


# -- what a person does; from the command line, and later from the console


async def plan_now(outlook: Outlook, dialect: Dialect | None) -> Plan:
    """What would be written now. ``Outlook`` can read and nothing else."""
    state = await outlook.guard_state()
    ledger = await outlook.ledger()
    changes = [
        change
        for change in await outlook.list_changes("", MAX_PLAN)
        if change.state in (ChangeState.WAITING, ChangeState.PASSED)
    ]
    reason = state.reason if state.held_since is not None else "writes are paused" if state.paused_since else ""
    rate = ledger.rate if ledger else 0.0
    return make_plan(changes, reason=reason, mapping=state.mapping_asked, dialect=dialect, rate=rate)


async def approve(unit: Unit, digest: str, by: str, now: Millis) -> int:
    """Let exactly the plan of this digest go; how many changes that are.

    Raises a ``UserError`` where nothing is held, or the plan is another one by now.
    """
    state = await unit.guard_state()
    if state.held_since is None:
        raise UserError("nothing is held: `syncd plan` shows what waits for its call")
    plan = await plan_now(unit, None)
    if plan.digest != digest:
        raise UserError(f"the plan is another one by now: look at `syncd plan` again (its digest is {plan.digest})")
    waiting = [change.id for change in plan.changes if change.state is ChangeState.WAITING]
    subjects = await unit.pass_changes(waiting, by, now)
    mapping = state.mapping_asked or state.mapping
    await unit.save_guard_state(replace(state, held_since=None, reason="", mapping=mapping, mapping_asked=""))
    detail = {"digest": digest, "changes": len(waiting), "by": by, "reason": state.reason}
    await unit.log([DecisionEntry(now, STEERED, None, None, "plan-approved", None, detail)])
    await unit.enqueue(subjects, now)
    return len(waiting)


async def pause(unit: Unit, by: str, now: Millis) -> bool:
    """Stop all writes, to both sides; reading goes on. ``False``: they were stopped already."""
    state = await unit.guard_state()
    if state.paused_since is not None:
        return False
    await unit.withdraw_passes()
    await unit.save_guard_state(replace(state, paused_since=now))
    await unit.log([DecisionEntry(now, STEERED, None, None, "paused", None, {"by": by})])
    return True


async def by_hand(unit: Unit, what: str, ion_id: str | None, by: str, now: Millis) -> None:
    """A person is about to write to ION by a command of their own, which no limit counts.

    Raises ``Paused`` while writes are.
    """
    if (await unit.guard_state()).paused_since is not None:
        raise Paused
    await unit.log([DecisionEntry(now, STEERED, None, ion_id, "sent-by-hand", None, {"by": by, "what": what})])


async def resume(unit: Unit, by: str, now: Millis) -> bool:
    """Let writes go on; what has gathered is judged as a whole first."""
    state = await unit.guard_state()
    if state.paused_since is None:
        return False
    await unit.save_guard_state(replace(state, paused_since=None))
    await unit.log([DecisionEntry(now, STEERED, None, None, "resumed", None, {"by": by})])
    return True
