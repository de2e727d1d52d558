"""Customers set aside: the story of why, and letting them try again (S6, S14).

Next in the flow: ``reconcile``, which looks at a released customer as if it had just changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from syncd.core.errors import NotFound
from syncd.core.intent import Intent, IntentState
from syncd.core.record import Sighting
from syncd.core.values import Field, Millis, Side
from syncd.core.work import SET_ASIDE, DecisionEntry, Hold
from syncd.engine.pair import Pair, find_pair
from syncd.engine.ports import Unit

STORY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Story:
    """Why a customer is set aside, what each side was seen to hold, and the last day's writes."""

    pair: Pair
    holds: tuple[Hold, ...]
    writes: tuple[Intent, ...]

    @property
    def seen(self) -> list[tuple[Side, Field, Sighting]]:
        records = [record for record in (self.pair.crm, self.pair.ion) if record is not None]
        return [(r.side, name, sighting) for name in Field for r in records for sighting in r.registers.get(name, ())]


async def story(unit: Unit, customer: str, now: Millis) -> Story:
    pair = await find_pair(unit, customer)
    writes = await unit.recent_intents(pair.subject, Millis(now - STORY_MS))
    ordered = sorted(writes, key=lambda intent: intent.changed_at)
    return Story(pair, tuple(await unit.holds_of(pair.subject)), tuple(ordered))


async def release(unit: Unit, customer: str, by: str, now: Millis) -> None:
    """Let a customer that is set aside try again; raises a ``UserError`` where it isn't."""
    pair = await find_pair(unit, customer)
    holds = [hold for hold in await unit.holds_of(pair.subject) if hold.kind in SET_ASIDE]
    if not holds:
        raise NotFound(f"{customer} is not set aside: `syncd quarantine list` shows who is")
    await unit.release(pair.subject, SET_ASIDE)
    for intent in await unit.recent_intents(pair.subject, Millis(0)):
        if intent.state is IntentState.REJECTED:  # the same change may be asked for again
            await unit.save_intent(replace(intent.moved_to(IntentState.DROPPED, now, "released"), attempts=0))
        elif intent.state is IntentState.DROPPED and intent.attempts:  # a create that was lost may be tried again
            await unit.save_intent(replace(intent, attempts=0))
    if pair.link is not None and pair.link.frozen:
        await unit.save_link(replace(pair.link, frozen=frozenset(), thawed_at=now))
    detail = {"by": by, "kinds": [hold.kind.value for hold in holds]}
    await unit.log([DecisionEntry(now, pair.subject, pair.crm_id, pair.ion_id, "released", None, detail)])
    await unit.enqueue([pair.subject], now)
