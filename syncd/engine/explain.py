"""One customer's story: what each side showed, what was decided by which rule, the call that carried it (S16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from syncd.core.decide import Outcome, decide
from syncd.core.intent import Intent
from syncd.core.match import Candidate
from syncd.core.policy import Policy
from syncd.core.record import Record, Register
from syncd.core.values import Field, Side, Value
from syncd.core.work import Conflict, DecisionEntry, Hold
from syncd.engine.pair import Pair, find_pair
from syncd.engine.ports import Unit

MAX_ENTRIES = 1_000
"""The newest entries of the log that a story is told from."""


@dataclass(frozen=True, slots=True)
class FieldStory:
    """Where one field stands now."""

    field: Field
    crm: Register
    """Values since both sides last agreed, newest first, each with when it was seen."""
    ion: Register
    agreed: Value
    outcome: Outcome | None
    """What is decided of it now; ``None`` without a link, or before ION's dialect is known."""


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the log, with what became of the call, and what was put aside for it."""

    entry: DecisionEntry
    intent: Intent | None
    put_aside: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    pair: Pair
    holds: tuple[Hold, ...]
    fields: tuple[FieldStory, ...]
    steps: tuple[Step, ...]
    """Oldest first."""
    candidates: tuple[Candidate, ...]


async def explain(unit: Unit, customer: str, only: Field | None, policy: Policy | None) -> Explanation:
    """Raises a ``UserError`` where nothing is known of the customer."""
    pair = await find_pair(unit, customer)
    entries = await unit.story(pair.crm_id, pair.ion_id, MAX_ENTRIES)
    intents = await unit.intents({entry.intent_id for entry in entries if entry.intent_id})
    conflicts = await unit.list_conflicts(pair.crm_id, None, MAX_ENTRIES) if pair.crm_id else []
    steps = [_step(entry, intents, conflicts) for entry in reversed(entries) if _tells_of(entry, only)]
    names = [only] if only is not None else list(Field)
    outcomes = _outcomes(pair, policy)
    fields = [_field(name, pair, outcomes.get(name)) for name in names]
    known = [story for story in fields if story.crm or story.ion or only]
    holds, candidates = await unit.holds_of(pair.subject), await unit.candidates(pair.subject)
    return Explanation(pair, tuple(holds), tuple(known), tuple(steps), tuple(candidates))


def _outcomes(pair: Pair, policy: Policy | None) -> dict[Field, Outcome]:
    if policy is None or pair.link is None or pair.crm is None or pair.ion is None:
        return {}
    return {outcome.field: outcome for outcome in decide(pair.link, pair.crm, pair.ion, policy).outcomes}


def _field(name: Field, pair: Pair, outcome: Outcome | None) -> FieldStory:
    agreed = pair.link.base.get(name) if pair.link is not None else None
    return FieldStory(name, _register(pair.crm, name), _register(pair.ion, name), agreed, outcome)


def _register(record: Record | None, name: Field) -> Register:
    return record.registers.get(name, ()) if record is not None else ()


def _tells_of(entry: DecisionEntry, only: Field | None) -> bool:
    """Entries about the customer as a whole belong to each field's story."""
    values = entry.detail.get("set")
    return only is None or not isinstance(values, dict) or not values or only.value in values


def _step(entry: DecisionEntry, intents: Mapping[str, Intent], conflicts: Sequence[Conflict]) -> Step:
    is_decision = entry.what.endswith("-decided")
    intent = intents.get(entry.intent_id or "") if is_decision else None
    aside = tuple(c for c in conflicts if is_decision and c.intent_id == entry.intent_id)
    return Step(entry, intent, aside)


def side_of(entry: DecisionEntry) -> Side | None:
    side = entry.detail.get("side")
    return Side(str(side)) if side is not None else None
