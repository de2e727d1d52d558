"""Start here: what becomes of one customer.

event or sweep → observation → record → **reconcile** → intent → call → receipt → confirmed

``Reconciler.reconcile`` looks at the newest records of one customer and does what can be done
without calling ION: it links, agrees, sends commands to the CRM, or sees that ION must be written
and leaves that to ``push``, which decides once more when it has a slot of the budget in hand.

It never calls a side, and it writes nothing outside its one transaction.
"""

from __future__ import annotations

from dataclasses import replace

from syncd.core.decide import Decision, Rule, decide
from syncd.core.link import Link, LinkState
from syncd.core.policy import Policy
from syncd.core.record import Record, settle_fields
from syncd.core.values import Millis
from syncd.core.work import Again, Claim, Hold, HoldKind, Stage
from syncd.engine.facts import Facts
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair, load_pair
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Clock, Store, Unit

WRITE_SPACING_MS = 10_000
"""One customer's ION record is written at most once in this time, so that a burst of edits costs
one write at once and one at the end (S5)."""


class Reconciler:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        facts: Facts,
        pairing: Pairing,
        intents: Intents,
        book: LinkBook,
    ) -> None:
        self._store = store
        self._clock = clock
        self._facts = facts
        self._pairing = pairing
        self._intents = intents
        self._book = book

    async def reconcile(self, claim: Claim) -> None:
        """Look at one claimed customer; the claim is finished or put off when this returns."""
        policy, now = self._facts.known_policy(), self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            if pair.subject != claim.subject:  # an ION customer that was linked meanwhile
                await unit.enqueue([pair.subject], now)
                again = None
            elif pair.unresolved is not None:  # an answer was lost: look at ION before anything else
                again = Again(now, Stage.CALL, claim.attempts)
            elif pair.link is None:
                again = await self._pairing.pair_up(unit, pair, policy, now, claim.attempts)
            else:
                again = await self._settle(unit, pair, pair.link, policy, now, claim.attempts)
            await unit.finish(claim, again)

    async def _settle(
        self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis, attempts: int
    ) -> Again | None:
        if pair.crm is None or pair.ion is None:
            return None  # a link from the links topic, ahead of its records: their arrival wakes us
        if pair.crm.is_deleted or link.state is not LinkState.LINKED:
            return await self._stand_still(unit, pair, link, policy, now)
        was = link
        link, waiting = await self._intents.confirm_commands(unit, pair, link, policy, now)
        decision = decide(link, pair.crm, pair.ion, policy)
        link = replace(link, base=decision.base)
        if link != was:
            await self._book.save(unit, link, was)
        await unit.save_records(settled(pair.crm, pair.ion, decision))
        self._intents.count_kept(decision)
        await self._hold_or_release(unit, pair, decision, now)
        patience = await self._intents.command_crm(unit, link, decision, waiting, now)
        if decision.to_ion:
            # Picked up by ``workers.Workers.push``, carried out by ``push.Pusher``.
            return Again(Millis(max(now, link.written_at + WRITE_SPACING_MS)), Stage.CALL, attempts)
        return patience

    async def _stand_still(self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis) -> Again | None:
        """A pair that is deleted in the CRM, or gone from ION, touches neither side (S10)."""
        if pair.crm is not None and pair.crm.is_deleted:
            state = LinkState.DELETED_IN_CRM
        elif link.state is LinkState.DELETED_IN_CRM:
            state = LinkState.LINKED  # an edit after the deletion: the CRM has it again
        else:
            state = link.state
        if state is link.state:
            return None
        await self._book.save(unit, replace(link, state=state, since=now), link)
        if state is LinkState.DELETED_IN_CRM and policy.reviews_crm_deletions:
            reason = "it was deleted in the CRM; ION has no deletion"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
        return Again(now) if state is LinkState.LINKED else None

    async def _hold_or_release(self, unit: Unit, pair: Pair, decision: Decision, now: Millis) -> None:
        undecided = tuple(o.field.value for o in decision.outcomes if o.rule is Rule.REVIEW)
        if undecided:
            reason = "both sides hold another value and the policy leaves it to a person"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now, undecided))
        elif not decision.to_crm:
            await unit.release(pair.subject)


def settled(crm: Record, ion: Record, decision: Decision) -> list[Record]:
    """The records with the history of agreed fields forgotten; only those that changed."""
    both = ((crm, settle_fields(crm, decision.agreed)), (ion, settle_fields(ion, decision.agreed)))
    return [after for before, after in both if after is not before]
