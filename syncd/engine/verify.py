"""Are both sides equal? By a listing of its own, and by code that shares nothing with the merge (S16).

Beside the daemon's work and within the budget's own lane. It writes to neither side and decides nothing:
it publishes how many customers differ, and since when each was last proven equal. A listing that did not
come whole proves nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from syncd.core.budget import Lane
from syncd.core.errors import Transient
from syncd.core.link import Link, LinkState
from syncd.core.listing import RECENT_SWEEPS, Listing, SweepOutcome, judge
from syncd.core.plan import ChangeState
from syncd.core.policy import Policy
from syncd.core.record import Record
from syncd.core.values import BEGINNING, Millis, Side, Subject, Values, subject_of
from syncd.core.verify import PROVEN, Difference, Latest, Standing, differences, unproven
from syncd.core.work import VERIFY
from syncd.engine.ports import Clock, Ion, Store, Unit
from syncd.engine.tries import insist

AT_ONCE = 500
TRIED = "verify_tried"
"""The note of when one last began."""
MARGIN_SECONDS = 5.0
"""For a decision, after a sweep."""


@dataclass(frozen=True, slots=True)
class Verdict:
    customers: int
    """Linked pairs that were compared."""
    differences: tuple[Difference, ...]
    unseen: tuple[Link, ...]
    """Linked pairs whom ION's listing does not show."""
    standing_still: int
    """Links whose customer is gone from a side by now, or not known yet: there is nothing to compare."""
    linked: Mapping[str, Millis]
    """When those who differ or are unseen were linked."""

    @property
    def equal(self) -> int:
        return self.customers - len({d.crm_id for d in self.differences})

    @property
    def is_equal(self) -> bool:
        return not self.unseen and all(d.standing in PROVEN for d in self.differences)


class Listed(NamedTuple):
    values: Values
    asked: Millis


class Verifier:
    def __init__(self, store: Store, ion: Ion, clock: Clock, poll_ms: int) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._poll_ms = poll_ms

    async def verify(self, policy: Policy, latest: Latest | None = None) -> Verdict:
        """Compare all linked customers; ``latest``: the CRM's side, where it was read anew from its events.

        Who differs for no known reason is looked at twice: the first time it may have been edited just
        then. Raises a ``SideError`` where ION's listing did not come whole.
        """
        started = self._clock.now()
        verdict = await self._compare(await self._list(), policy, latest, None)
        suspects = {d.crm_id for d in verdict.differences if d.standing is Standing.UNEXPLAINED}
        suspects |= {link.crm_id for link in verdict.unseen}
        if suspects:
            await self._clock.sleep(await self._sweep_seconds())
            second = await self._compare(await self._list(), policy, latest, suspects)
            clear = tuple(d for d in verdict.differences if d.crm_id not in suspects)
            verdict = replace(verdict, differences=clear + second.differences, unseen=second.unseen)
        await insist(partial(self._publish, verdict, started))
        return verdict

    async def is_due(self, interval_ms: int, again_ms: int) -> bool:
        """Everybody was last compared so long ago, and nobody has tried for a while; says that one tries now."""
        now = self._clock.now()
        async with self._store.begin() as unit:
            if now < await _noted(unit, VERIFY) + interval_ms or now < await _noted(unit, TRIED) + again_ms:
                return False
            await unit.save_note(TRIED, str(now))
        return True

    async def _sweep_seconds(self) -> float:
        """After so long a sweep has found what was edited in ION, and it was decided."""
        async with self._store.begin() as unit:
            last = await unit.measuring_sweeps(1)
        took = max((sweep.ended - sweep.started for sweep in last), default=0)
        return max(self._poll_ms, int(took * 1.25)) / 1000 + MARGIN_SECONDS

    async def _list(self) -> dict[str, Listed]:
        listed, announced, is_whole = dict[str, Listed](), None, False
        async with aclosing(self._ion.list_customers(Lane.VERIFY)) as listing:
            async for page in listing:
                listed.update({r.ion_id: Listed(r.values, r.asked) for r in page.readings})
                announced, is_whole = page.announced, page.is_last and not page.is_repeated
                if page.is_repeated:
                    break
        async with self._store.begin() as unit:
            sizes = [sweep.customers for sweep in await unit.measuring_sweeps(RECENT_SWEEPS)]
        outcome = judge(Listing(len(listed), is_whole, False, announced), sizes)
        if outcome is not SweepOutcome.COMPLETE:
            raise Transient(f"ION's listing is {outcome}, so nothing is proven: try again")
        return listed

    async def _compare(
        self,
        listed: Mapping[str, Listed],
        policy: Policy,
        latest: Latest | None,
        only: Collection[str] | None,
    ) -> Verdict:
        verdict, after = Verdict(0, (), (), 0, {}), ""
        while True:
            async with self._store.begin() as unit:
                links = await unit.list_links(None, after, AT_ONCE)
            chosen = [link for link in links if only is None or link.crm_id in only]
            some = await insist(partial(self._compare_some, chosen, listed, policy, latest))
            verdict = Verdict(
                verdict.customers + some.customers,
                verdict.differences + some.differences,
                verdict.unseen + some.unseen,
                verdict.standing_still + some.standing_still,
                {**verdict.linked, **some.linked},
            )
            if len(links) < AT_ONCE:
                return verdict
            after = links[-1].crm_id

    async def _compare_some(
        self, links: Sequence[Link], listed: Mapping[str, Listed], policy: Policy, latest: Latest | None
    ) -> Verdict:
        compared, found, unseen, still = 0, list[Difference](), list[Link](), 0
        async with self._store.begin() as unit:
            crms = await unit.records(Side.CRM, [link.crm_id for link in links])
            ions = await unit.records(Side.ION, [link.ion_id for link in links])
            for link in links:
                crm, ion, seen = crms.get(link.crm_id), ions.get(link.ion_id), listed.get(link.ion_id)
                if link.state is not LinkState.LINKED or crm is None or crm.is_deleted:
                    still += 1
                elif seen is None:
                    unseen.append(link)
                else:
                    compared += 1
                    held = crm.values() if latest is None else latest.values(crm)
                    differ = differences(link, held, seen.values, policy.rules.values())
                    found += await _explained(unit, link, differ, _has_moved(crm, ion, seen.asked))
        linked = {d.crm_id: link.since for link in links for d in found if d.crm_id == link.crm_id}
        linked |= {link.crm_id: link.since for link in unseen}
        return Verdict(compared, tuple(found), tuple(unseen), still, linked)

    async def _publish(self, verdict: Verdict, started: Millis) -> None:
        async with self._store.begin() as unit:
            proven = await _noted(unit, VERIFY)
            if proven > started:
                return  # another has looked since
            before = {known.crm_id: known for known in await unit.divergences()}
            found = unproven(verdict.differences, verdict.unseen, verdict.linked, before, proven, started)
            await unit.save_divergences(found)
            await unit.save_note(VERIFY, str(started))


async def _noted(unit: Unit, name: str) -> Millis:
    return Millis(int(await unit.note(name) or BEGINNING))


def _has_moved(crm: Record, ion: Record | None, asked: Millis) -> bool:
    """Written or edited since the listing was asked for: the listing says nothing against it."""
    if ion is None or ion.written_until >= asked:
        return True
    return any(register[0].at >= asked for register in crm.registers.values())


async def _explained(unit: Unit, link: Link, found: Sequence[Difference], has_moved: bool) -> list[Difference]:
    """With what each difference waits for."""
    if all(difference.standing in PROVEN for difference in found):
        return list(found)
    standing, why = await _standing(unit, subject_of(Side.CRM, link.crm_id))
    if has_moved and standing is Standing.UNEXPLAINED:
        standing, why = Standing.UNDER_WAY, "it moved while ION was listed"
    return [d if d.standing in PROVEN else replace(d, standing=standing, why=why) for d in found]


async def _standing(unit: Unit, subject: Subject) -> tuple[Standing, str]:
    changes = [change for change in await unit.changes_of(subject) if change.state is not ChangeState.SPENT]
    if changes or await unit.open_intents(subject) or await unit.is_queued(subject):
        return Standing.UNDER_WAY, "a change is under way"
    holds = await unit.holds_of(subject)
    if holds:
        return Standing.WAITING, "; ".join(f"{hold.kind}: {hold.reason}" for hold in holds)
    return Standing.UNEXPLAINED, ""


def by_standing(found: Sequence[Difference]) -> Mapping[str, int]:
    return {kind.value: sum(d.standing is kind for d in found) for kind in Standing if kind is not Standing.UNSEEN}
