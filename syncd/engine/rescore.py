"""Old links and open questions are looked at again by and by (S8).

Who is queued, is decided anew by ``reconcile``: a linked pair whose two customers nobody would suggest
today, and who waits to be told whom it is while somebody new may be it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from syncd.core.match import Verdict, drifted
from syncd.core.values import BEGINNING, Side, Subject, subject_of
from syncd.core.work import RESCORE, HoldKind
from syncd.engine.pair import load_pair
from syncd.engine.pairing import Pairing, is_present
from syncd.engine.ports import Clock, Store
from syncd.engine.tries import insist

AT_ONCE = 100

Some = tuple[str, list[Subject]]
"""The last one of a page, and who of it is to be looked at again."""


class Rescorer:
    def __init__(self, store: Store, clock: Clock, pairing: Pairing) -> None:
        self._store = store
        self._clock = clock
        self._pairing = pairing

    async def is_due(self, interval_ms: int) -> bool:
        async with self._store.begin() as unit:
            last = int(await unit.note(RESCORE) or BEGINNING)
        return self._clock.now() >= last + interval_ms

    async def rescore(self) -> int:
        """How many were queued to be looked at again."""
        queued = await self._all(self._some_links) + await self._all(self._some_questions)
        async with self._store.begin() as unit:
            await unit.save_note(RESCORE, str(self._clock.now()))
        return queued

    async def _all(self, some: Callable[[str], Awaitable[Some | None]]) -> int:
        queued, after = 0, ""
        while page := await insist(partial(some, after)):
            after, doubted = page
            if doubted:  # in a unit of its own: workers lock the queue before the records
                async with self._store.begin() as unit:
                    await unit.enqueue(doubted, self._clock.now())
            queued += len(doubted)
        return queued

    async def _some_links(self, after: str) -> Some | None:
        async with self._store.begin() as unit:
            links = await unit.list_links(None, after, AT_ONCE)
            crms = await unit.records(Side.CRM, [link.crm_id for link in links])
            ions = await unit.records(Side.ION, [link.ion_id for link in links])
        both = [(link, crms.get(link.crm_id), ions.get(link.ion_id)) for link in links]
        doubted = [
            subject_of(Side.CRM, link.crm_id) for link, crm, ion in both if crm and ion and drifted(link, crm, ion)
        ]
        return (links[-1].crm_id, doubted) if links else None

    async def _some_questions(self, after: str) -> Some | None:
        async with self._store.begin() as unit:
            holds = await unit.list_holds([HoldKind.REVIEW], after, AT_ONCE)
        asked = [hold.subject for hold in holds if await self._is_news(hold.subject)]
        return (holds[-1].subject, asked) if holds else None

    async def _is_news(self, subject: Subject) -> bool:
        """Somebody may be this unlinked customer who was not suggested yet, or one is it for certain by now."""
        async with self._store.begin() as unit:
            pair = await load_pair(unit, subject)
            if pair.link is not None or pair.customer is None or not is_present(pair.customer):
                return False
            found = await self._pairing.judge(unit, pair.customer)
            known = {(c.crm_id, c.ion_id) for c in await unit.candidates(subject)}
        return found.verdict is Verdict.LINK or any((c.crm_id, c.ion_id) not in known for c in found.candidates)
