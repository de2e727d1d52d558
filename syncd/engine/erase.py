"""Erasing one customer: what syncd keeps of its past, on request of whom the data is about (S16).

Gone are past values, archived ones, what was written and answered, and its dead letters; of a side that
holds the customer no more, the last values too. Of its orders what was ordered stays; one that is neither
placed nor dropped still needs what it holds, and keeps its customer from being erased. The log keeps its
entries, without their detail, and can still be checked. What a side shows is not erased by this: the next
sweep and the next event bring it back.
"""

from __future__ import annotations

from dataclasses import replace

from syncd.core.errors import UserError
from syncd.core.listing import MISSING_SWEEPS
from syncd.core.order import SETTLED
from syncd.core.plan import ChangeState
from syncd.core.record import ION_NOTE, PRESENCE, Record, settle
from syncd.core.values import Millis
from syncd.core.work import DecisionEntry, Erased
from syncd.engine.pair import Pair, find_pair
from syncd.engine.ports import Unit

KEPT = (PRESENCE, ION_NOTE)
"""What is no data of the customer: that it is there, and its number."""


async def erase(unit: Unit, customer: str, by: str, now: Millis) -> Erased:
    """Raises a ``UserError`` while something is under way: its values are still needed."""
    pair = await find_pair(unit, customer)
    changes = [change for change in await unit.changes_of(pair.subject) if change.state is not ChangeState.SPENT]
    if pair.intents or changes or await unit.is_queued(pair.subject):
        raise UserError(f"a change is under way for {customer}: try again in a moment, or `syncd explain {customer}`")
    orders = await unit.orders_of(pair.crm_id) if pair.crm_id is not None else []
    if unsettled := next((order for order in orders if order.state not in SETTLED), None):
        raise UserError(
            f"order {unsettled.id} of {customer} is {unsettled.state}, and may hold what its vendor wants to know:"
            f" wait until it is placed, or `syncd ion orders drop {unsettled.id}`"
        )
    erased = await unit.erase(pair.subject, pair.crm_id, pair.ion_id)
    await unit.save_records([after for before, after in _trimmed(pair) if after != before])
    if pair.link is not None and all(is_gone for _, is_gone in _sides(pair)):
        await unit.save_link(replace(pair.link, base={}, spellings={}))
    await unit.enqueue([pair.subject], now)
    detail = {"by": by, **erased._asdict()}
    await unit.log([DecisionEntry(now, pair.subject, pair.crm_id, pair.ion_id, "erased", None, detail)])
    return erased


def _sides(pair: Pair) -> list[tuple[Record, bool]]:
    """The records that there are, and whether their side holds the customer no more."""
    crm = [(pair.crm, pair.crm.is_deleted)] if pair.crm is not None else []
    ion = [(pair.ion, pair.ion.missing_sweeps >= MISSING_SWEEPS)] if pair.ion is not None else []
    return [*crm, *ion]


def _trimmed(pair: Pair) -> list[tuple[Record, Record]]:
    return [(record, _without_past(record, is_gone=is_gone)) for record, is_gone in _sides(pair)]


def _without_past(record: Record, *, is_gone: bool) -> Record:
    kept = {name: settle(register) for name, register in record.registers.items() if name in KEPT or not is_gone}
    return replace(record, registers=kept)
