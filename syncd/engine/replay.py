"""Events of the past, taken in again beside live traffic (S15).

Nothing that newer events have said is changed, and nothing is written that is so already: an event of
the past is an observation like any, with its own time and place. What does change something goes its
usual way, through reconcile and the guard. How far a replay has come is stored with the effect of its
events, so that one that was broken off goes on where it was.

``Rehearsal`` is the dry run: the same events, folded in memory, and what would be written after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from syncd.core.decide import Outcome, decide
from syncd.core.policy import Policy
from syncd.core.record import Observation, Record, new_record, observe
from syncd.core.values import Side, Subject
from syncd.core.work import DeadLetter
from syncd.engine.ingest import Ingest
from syncd.engine.intake import RawEvent
from syncd.engine.ports import Store, Unit
from syncd.engine.tries import insist

NOTE = "replay"
MAX_TOLD = 100
"""Unusable events that are told one by one; the rest is counted."""


@dataclass(slots=True)
class Replayed:
    """What became of the events."""

    events: int = 0
    changed: set[Subject] = field(default_factory=set)
    unusable: int = 0
    told: list[DeadLetter] = field(default_factory=list)


class Replay:
    """``choice``: what was asked for, as text; a replay of the same choice goes on where it was broken off."""

    def __init__(self, store: Store, ingest: Ingest, choice: str, only: str | None) -> None:
        self._store = store
        self._ingest = ingest
        self._choice = choice
        self._only = only
        self.done = Replayed()

    async def spans_left(self) -> dict[int, range] | None:
        """What a replay of this choice had left when it was broken off; ``None`` where there was none."""
        async with self._store.begin() as unit:
            noted = json.loads(await unit.note(NOTE) or "{}")
        if noted.get("choice") != self._choice:
            return None
        return {int(number): range(*span) for number, span in noted["left"].items()}

    async def take(self, events: Sequence[RawEvent], left: Mapping[int, range]) -> None:
        """``left``: by partition the offsets that are still to be read after these."""

        async def mark(unit: Unit) -> None:
            spans = {str(number): (span.start, span.stop) for number, span in left.items()}
            await unit.save_note(NOTE, json.dumps({"choice": self._choice, "left": spans}))

        taken = await insist(partial(self._ingest.take_again, events, self._only, mark))
        self.done.events += taken.events
        self.done.changed |= taken.changed
        self.done.unusable += len(taken.unusable)
        self.done.told += taken.unusable[: MAX_TOLD - len(self.done.told)]

    async def end(self) -> None:
        """The next one begins anew."""
        async with self._store.begin() as unit:
            await unit.save_note(NOTE, "{}")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a replay would do."""

    events: int
    told_anew: int
    """Customers of whom the events say something that is not known."""
    unlinked: int
    """Of those, how many have no link: they would be matched, or created."""
    writes: tuple[tuple[str, Outcome], ...]
    """By CRM id, the fields that would be written to a side."""


class Rehearsal:
    """Holds in memory the records of the customers that the events tell of."""

    def __init__(self, store: Store, ingest: Ingest, policy: Policy, only: str | None) -> None:
        self._store = store
        self._ingest = ingest
        self._policy = policy
        self._only = only
        self._before: dict[str, Record] = {}
        self._after: dict[str, Record] = {}
        self._events = 0

    async def take(self, events: Sequence[RawEvent]) -> None:
        told = dict[str, list[Observation]]()
        for seen in self._ingest.observations(events):
            if self._only in (None, seen.customer_id):
                told.setdefault(seen.customer_id, []).append(seen)
        unseen = [crm_id for crm_id in told if crm_id not in self._before]
        async with self._store.begin() as unit:
            known = await unit.records(Side.CRM, unseen)
        for crm_id in unseen:
            self._before[crm_id] = self._after[crm_id] = known.get(crm_id) or new_record(Side.CRM, crm_id)
        for crm_id, observations in told.items():
            self._after[crm_id] = observe(self._after[crm_id], observations)
            self._events += len(observations)

    async def end(self) -> Rehearsed:
        anew = [crm_id for crm_id, after in self._after.items() if not after.holds_as(self._before[crm_id])]
        writes, unlinked = list[tuple[str, Outcome]](), 0
        for crm_id in sorted(anew):
            async with self._store.begin() as unit:
                link = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
                ion = (await unit.records(Side.ION, [link.ion_id])).get(link.ion_id) if link else None
            if link is None or ion is None:
                unlinked += link is None
                continue
            decision = decide(link, self._after[crm_id], ion, self._policy)
            writes += [(crm_id, outcome) for outcome in decision.outcomes if outcome.write_to is not None]
        return Rehearsed(self._events, len(anew), unlinked, tuple(writes))
