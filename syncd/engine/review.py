"""Who is whom, where a person says so: candidates accepted or rejected, links made and taken apart (S8).

Every decision can be reversed, and the log keeps each. Next in the flow: ``reconcile``, for all concerned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from syncd.core.errors import NotFound, UserError
from syncd.core.intent import IntentState
from syncd.core.link import How, Link
from syncd.core.match import Candidate
from syncd.core.record import Record
from syncd.core.values import Millis, Side, Subject, subject_of
from syncd.core.work import DecisionEntry, Hold, HoldKind
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pair import load_pair
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Unit


@dataclass(frozen=True, slots=True)
class Case:
    """A customer that waits for a person, and whom it may be."""

    hold: Hold
    record: Record | None
    candidates: tuple[tuple[Candidate, Record | None], ...]
    """Best first, each with the record of the other side."""


class Review:
    def __init__(self, pairing: Pairing, intents: Intents, book: LinkBook) -> None:
        self._pairing = pairing
        self._intents = intents
        self._book = book

    async def cases(self, unit: Unit, after: str, limit: int) -> list[Case]:
        """Who waits to be told whom it is, by subject."""
        return [await self._case(unit, hold) for hold in await unit.list_holds([HoldKind.REVIEW], after, limit)]

    async def link(self, unit: Unit, crm_id: str, ion_id: str, by: str, now: Millis) -> Link:
        """These two are one; raises a ``UserError`` where either is linked to another.

        Neither has to be known yet: a link may be ahead of its records.
        """
        if known := await self._doubted(unit, crm_id, ion_id, now):
            return await self._keep(unit, known, by, now)
        for side, number in ((Side.CRM, crm_id), (Side.ION, ion_id)):
            taken = (await unit.links(side, [number])).get(number)
            if taken is not None:
                pair = f"{taken.crm_id} and {taken.ion_id} are linked"
                raise UserError(f"{pair} already: `syncd links remove {taken.crm_id}` takes them apart")
        await self._refuse_under_way(unit, subject_of(Side.CRM, crm_id))
        await unit.unreject(crm_id, ion_id)
        both = (subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id))
        beside = [candidate for subject in both for candidate in await unit.candidates(subject)]
        await unit.enqueue([both[0], *(who for candidate in beside for who in _named(candidate))], now)
        await self._log(unit, "accepted", crm_id, ion_id, by, now)
        return await self._pairing.link_up(unit, crm_id, ion_id, How.PERSON, now)

    async def _doubted(self, unit: Unit, crm_id: str, ion_id: str, now: Millis) -> Link | None:
        """The link of two that are asked about, since they drifted apart; whoever works at it has ended."""
        subject = subject_of(Side.CRM, crm_id)
        if not any(candidate.ion_id == ion_id for candidate in await unit.candidates(subject)):
            return None
        await unit.enqueue([subject], now)
        link = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
        return link if link is not None and link.ion_id == ion_id else None

    async def _keep(self, unit: Unit, link: Link, by: str, now: Millis) -> Link:
        """They are linked, and a person says that this is right: nobody doubts it again."""
        kept = replace(link, how=How.PERSON)
        await self._book.save(unit, kept, link)
        await unit.release(subject_of(Side.CRM, link.crm_id), [HoldKind.REVIEW])
        await self._log(unit, "accepted", link.crm_id, link.ion_id, by, now)
        return kept

    async def reject(self, unit: Unit, crm_id: str, ion_id: str, by: str, now: Millis) -> None:
        """These two are not one: nobody suggests it again, and each is looked at anew."""
        if await self._doubted(unit, crm_id, ion_id, now):
            await self.part(unit, crm_id, by, now)
            return
        link = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
        if link is not None and link.ion_id == ion_id:
            raise UserError(f"{crm_id} and {ion_id} are linked: `syncd links remove {crm_id}` takes them apart")
        await unit.reject(crm_id, ion_id)
        await self._log(unit, "rejected", crm_id, ion_id, by, now)
        await unit.enqueue([subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id)], now)

    async def part(self, unit: Unit, crm_id: str, by: str, now: Millis) -> Link:
        """Take a link apart; both are customers of their own from now on. Returns the link that was.

        Raises a ``UserError`` where there is none, or while a write to ION is under way.
        """
        subject = subject_of(Side.CRM, crm_id)
        pair = await load_pair(unit, subject)
        if pair.link is None:
            raise NotFound(f"{crm_id} has no link: `syncd links list` shows who has")
        await self._refuse_under_way(unit, subject)
        await self._intents.drop(unit, pair.intents, now, "the link was taken apart")
        await unit.drop_changes([change.id for change in await unit.changes_of(subject)])
        await self._book.remove(unit, pair.link)
        await unit.reject(pair.link.crm_id, pair.link.ion_id)
        await self._log(unit, "parted", pair.link.crm_id, pair.link.ion_id, by, now)
        await unit.release(subject)
        await unit.enqueue([subject, subject_of(Side.ION, pair.link.ion_id)], now)
        return pair.link

    async def _refuse_under_way(self, unit: Unit, subject: Subject) -> None:
        """Nobody pulls the link from under a call: its answer would belong to nobody."""
        if any(i.side is Side.ION and i.state is IntentState.SENT for i in await unit.open_intents(subject)):
            raise UserError(f"a write to ION is under way for {subject}: try again in a moment")

    async def _case(self, unit: Unit, hold: Hold) -> Case:
        pair = await load_pair(unit, hold.subject)
        mine = pair.customer
        others = []
        for candidate in await unit.candidates(hold.subject):
            is_crm = mine is None or mine.side is Side.CRM
            side, number = (Side.ION, candidate.ion_id) if is_crm else (Side.CRM, candidate.crm_id)
            others.append((candidate, (await unit.records(side, [number])).get(number)))
        return Case(hold, mine, tuple(others))

    async def _log(self, unit: Unit, what: str, crm_id: str, ion_id: str, by: str, now: Millis) -> None:
        subject = subject_of(Side.CRM, crm_id)
        await unit.log([DecisionEntry(now, subject, crm_id, ion_id, what, None, {"by": by})])


def _named(candidate: Candidate) -> tuple[Subject, Subject]:
    return subject_of(Side.CRM, candidate.crm_id), subject_of(Side.ION, candidate.ion_id)
