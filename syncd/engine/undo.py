"""Putting back a value that lost: a new change, made in the CRM as a user would make it (S4).

The CRM is asked to hold the value again; what it then says it holds goes its way like any edit of a
user, to ION too, and loses like any to a later one. So undoing needs no rule of its own in ``decide``.
The value that it displaces is archived, so an undo can be undone.
"""

from __future__ import annotations

from syncd.core.errors import NotFound, UserError
from syncd.core.intent import Intent, IntentState, Kind, intent_id
from syncd.core.link import LinkState
from syncd.core.policy import Policy
from syncd.core.record import Record
from syncd.core.values import Millis, Side, field_named, value_to_json
from syncd.core.work import Conflict
from syncd.engine import spans
from syncd.engine.intents import Intents
from syncd.engine.pair import Pair, find_pair
from syncd.engine.ports import Unit


class Undo:
    def __init__(self, intents: Intents, policy: Policy) -> None:
        self._intents = intents
        self._policy = policy

    async def undo(self, unit: Unit, conflict: Conflict, by: str, now: Millis) -> Intent:
        """Ask the CRM for the value that lost. Raises a ``UserError`` where that can't be or is so already."""
        name, wanted = conflict.field, conflict.losing
        pair = await find_pair(unit, conflict.crm_id)
        crm, ion = self._refuse(pair, conflict)
        held = crm.value(name)
        why = {
            "rule": "undo",
            "by": by,
            "conflict": conflict.id,
            "winner": conflict.winner.other.value,
            "in_ion": value_to_json(ion.value(name)),
        }
        intent = Intent(
            id=intent_id(pair.subject, Side.CRM, Kind.UNDO, {name: wanted}, {name: held}, f"{conflict.id} {now}"),
            subject=pair.subject,
            side=Side.CRM,
            kind=Kind.UNDO,
            set={name: wanted},
            expect={name: held},
            state=IntentState.PREPARED,
            at=now,
            crm_id=pair.crm_id,
            ion_id=pair.ion_id,
            why={name.value: why},
            changed_at=now,
            trace=spans.current(),
        )
        await self._intents.open(unit, intent, (), now)
        await unit.save_intent(intent, deliver_at=now)
        return intent

    def _refuse(self, pair: Pair, conflict: Conflict) -> tuple[Record, Record]:
        """Both records, if the value can be put back."""
        name, who = conflict.field, f"{conflict.crm_id}.{conflict.field}"
        link, rule = pair.link, self._policy.rules.get(name)
        if link is None or link.state is not LinkState.LINKED or link.ion_id != conflict.ion_id:
            raise UserError(
                f"{conflict.crm_id} and {conflict.ion_id} are no pair any more: edit it where it is wrong"
            )
        if pair.crm is None or pair.ion is None or pair.crm.is_deleted:
            raise UserError(f"{conflict.crm_id} is not known on both sides: edit it where it is wrong")
        if rule is None or not all(rule.may_write_to(side) for side in Side):
            raise UserError(f"{name} does not flow both ways: edit it where it is wrong")
        if name in link.frozen:
            raise UserError(f"{who} is frozen: `syncd quarantine release {conflict.crm_id}` first")
        if any(intent.kind is Kind.UNDO and name in intent.set for intent in pair.intents):
            raise UserError(f"{who} is being put back already: `syncd explain {conflict.crm_id} {name}`")
        if pair.crm.value(name) == conflict.losing:
            raise UserError(f"the CRM holds that value of {who} already")
        return pair.crm, pair.ion


async def find_conflict(unit: Unit, what: str, field: str | None) -> Conflict:
    """By its id, or the newest of a customer's field."""
    if field is None:
        found = await unit.conflict(what)
        if found is None:
            raise NotFound(f"there is no conflict {what}: give an id of `syncd conflicts --json`, or CUSTOMER FIELD")
        return found
    name = field_named(field)
    mine = [known for known in await unit.list_conflicts(what, None, 10_000) if known.field is name]
    if not mine:
        raise NotFound(f"no value of {what}.{field} was put aside: see `syncd conflicts --customer {what}`")
    return mine[0]
