"""Where events were lost before they were read: what the CRM holds is asked of itself (S15).

Only a CRM with a REST API can be asked; of one on Kafka alone, everyone is looked at again by what is
known, and the alert says so. A customer that the CRM does not show is left as it is: absence deletes nothing.

Next in the flow: ``reconcile``, for whoever holds something else than was known.
"""

from __future__ import annotations

import structlog

from syncd.core.record import Observation, Position, new_record, observe
from syncd.core.values import Side, subject_of
from syncd.engine.ports import Clock, CrmReader, Store

log = structlog.get_logger()

GAP = "crm_gap"
"""The note of how far everybody was asked after: ``after `` and a CRM id; empty where nothing was lost."""
BEGIN = "after "
AT_ONCE = 20


class CatchUp:
    def __init__(self, store: Store, reader: CrmReader, clock: Clock) -> None:
        self._store = store
        self._reader = reader
        self._clock = clock

    async def some(self) -> bool:
        """Ask for the next few, if events were lost; are there more? Raises a ``SideError`` of the CRM."""
        async with self._store.begin() as unit:
            noted = await unit.note(GAP) or ""
            links = await unit.list_links(None, noted.removeprefix(BEGIN), AT_ONCE) if noted else []
        if not noted:
            return False
        answers = [await self._reader.read(link.crm_id) for link in links]
        now, changed = self._clock.now(), 0
        async with self._store.begin() as unit:
            known = await unit.records(Side.CRM, [link.crm_id for link in links])
            for answer in answers:
                if answer is None:
                    continue
                before = known.get(answer.crm_id) or new_record(Side.CRM, answer.crm_id)
                seen = Observation(Side.CRM, answer.crm_id, answer.values, Position(None, answer.asked, 0), False)
                after = observe(before, [seen])
                await unit.save_records([after])
                if not after.holds_as(before):
                    changed += 1
                    await unit.enqueue([subject_of(Side.CRM, answer.crm_id)], now)
            await unit.save_note(GAP, f"{BEGIN}{links[-1].crm_id}" if len(links) == AT_ONCE else "")
        log.info("asked_the_crm", customers=len(links), changed=changed)
        return len(links) == AT_ONCE
