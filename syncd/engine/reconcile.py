"""Start here: what becomes of one customer.

event or sweep → observation → record → **reconcile** → guard → intent → call → receipt → confirmed

``Reconciler.reconcile`` looks at the newest records of one customer and does what can be done
without calling ION: it links, agrees, asks the guard for what is to be written, sends commands to
the CRM, or sees that ION must be written and leaves that to ``push``, which decides once more when
it has a slot of the budget in hand.

It never calls a side, and it writes nothing outside its one transaction.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from syncd.core.decide import Decision, Rule, decide
from syncd.core.flap import FLAP_WINDOW_MS, MAX_WRITES, flapping
from syncd.core.intent import Kind
from syncd.core.link import Link, LinkState
from syncd.core.listing import MISSING_SWEEPS
from syncd.core.match import Candidate, drifted
from syncd.core.policy import Policy
from syncd.core.record import Record, settle_fields
from syncd.core.values import Millis, Side
from syncd.core.work import Again, Claim, Hold, HoldKind, Stage
from syncd.engine.facts import Facts
from syncd.engine.guard import Admission, Guard
from syncd.engine.intents import Intents, covers, link_change, wanted_changes
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair, load_pair
from syncd.engine.pairing import Pairing
from syncd.engine.ports import Clock, Store, Unit

log = structlog.get_logger()


class Reconciler:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        facts: Facts,
        pairing: Pairing,
        intents: Intents,
        book: LinkBook,
        guard: Guard,
    ) -> None:
        self._store = store
        self._clock = clock
        self._facts = facts
        self._pairing = pairing
        self._intents = intents
        self._book = book
        self._guard = guard

    async def reconcile(self, claim: Claim) -> None:
        """Look at one claimed customer; the claim is finished or put off when this returns."""
        policy, now = self._facts.known_policy(), self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            async with self._guard.admission(unit, claim.subject, now) as admission:
                if pair.subject != claim.subject:
                    await self._pass_on(unit, claim, pair, now)
                    again = None
                elif pair.unresolved is not None:  # an answer was lost: look at ION before anything else
                    again = Again(now, Stage.CALL, claim.attempts)
                elif pair.link is None:
                    again = await self._pair_up(unit, claim, pair, policy, admission, now)
                else:
                    again = await self._go_on(unit, pair, pair.link, policy, admission, now, claim.attempts)
            await unit.finish(claim, again)

    async def _pass_on(self, unit: Unit, claim: Claim, pair: Pair, now: Millis) -> None:
        """An ION customer that was linked meanwhile: the pair is looked at instead.

        Whoever made the link has the pair looked at, with all that was stored by those who did not see the link
        yet, since they hold the record until they have ended. So what is older asks for nothing more.
        """
        is_older = pair.link is not None and claim.since < pair.link.since and claim.generation == 1
        if not is_older:
            await unit.enqueue([pair.subject], now)

    async def _pair_up(
        self, unit: Unit, claim: Claim, pair: Pair, policy: Policy, admission: Admission, now: Millis
    ) -> Again | None:
        found = await self._pairing.pair_up(unit, pair, policy, admission, now, claim.attempts)
        if not isinstance(found, Link):
            return found
        pair = await load_pair(unit, claim.subject)
        if pair.subject != claim.subject:  # somebody else may be at it
            await unit.enqueue([pair.subject], now)
            return None
        return await self._go_on(unit, pair, found, policy, admission, now, claim.attempts)

    async def _go_on(
        self, unit: Unit, pair: Pair, link: Link, policy: Policy, admission: Admission, now: Millis, attempts: int
    ) -> Again | None:
        if pair.is_standing_still:
            return await self._stand_still(unit, pair, link, policy, admission, now)
        return await self._settle(unit, pair, link, policy, admission, now, attempts)

    async def _settle(
        self, unit: Unit, pair: Pair, link: Link, policy: Policy, admission: Admission, now: Millis, attempts: int
    ) -> Again | None:
        if pair.crm is None or pair.ion is None:
            return None  # a link from the links topic, ahead of its records: their arrival wakes us
        was = link
        link, waiting = await self._intents.confirm_commands(unit, pair, link, policy, now)
        link, decision = await self._decide(unit, pair, link, policy, now)
        if link != was:
            await self._book.save(unit, link, was)
        await unit.save_records(settled(pair.crm, pair.ion, decision))
        self._intents.count_kept(decision)
        await self._hold_or_release(unit, pair, link, decision, now)
        wanted = wanted_changes(link, decision, waiting, now)
        if pair.ion.missing_sweeps >= MISSING_SWEEPS:  # ``push`` asks ION whether it is gone, before it writes
            gone = link_change(link, LinkState.MISSING_IN_ION, now)
            wanted = [gone, *(change for change in wanted if change.side is Side.CRM)]
        admitted = await admission.ask(wanted, writing=Side.CRM)
        patience = None
        if Side.CRM in admitted or not decision.to_crm or covers(waiting, decision.to_crm):
            patience = await self._intents.command_crm(unit, link, decision, waiting, now)
        if Side.ION in admitted:
            # Picked up by ``workers.Workers.push``, carried out by ``push.Pusher``.
            return Again(max(now, link.writable_at), Stage.CALL, attempts)
        return patience

    async def _decide(self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis) -> tuple[Link, Decision]:
        """The decision, and the link with its new base; fields that flap are frozen first (S6)."""
        crm, ion = pair.both
        decision = decide(link, crm, ion, policy)
        wanted = {*decision.to_crm, *decision.to_ion}
        if wanted:
            since = max(link.thawed_at, now - FLAP_WINDOW_MS)
            recent = await unit.recent_intents(pair.subject, Millis(since))
            if frozen := flapping(recent, wanted):
                link = replace(link, frozen=link.frozen | frozen)
                names = tuple(sorted(name.value for name in link.frozen))
                reason = f"more than {MAX_WRITES} writes in ten minutes: the two sides keep changing each other"
                await unit.hold(Hold(pair.subject, HoldKind.FROZEN, reason, now, names))
                log.error("field_frozen", subject=pair.subject, fields=names)
                decision = decide(link, crm, ion, policy)
        return replace(link, base=decision.base), decision

    async def _stand_still(
        self, unit: Unit, pair: Pair, link: Link, policy: Policy, admission: Admission, now: Millis
    ) -> Again | None:
        """A pair that is deleted in the CRM, or gone from ION, touches neither side (S10)."""
        state, was = pair.state_seen, link
        link = await self._close_commands(unit, pair, link, policy, now)
        if state is link.state:
            if link != was:
                await self._book.save(unit, link, was)
            if state is LinkState.MISSING_IN_ION:
                await self._keep_edits(unit, pair, link, policy, now)
            return None
        if state is LinkState.DELETED_IN_CRM:
            change = link_change(link, state, now)
            if not await admission.ask([change], writing=change.side):
                return None
        await self._book.save(unit, replace(link, state=state, since=now), was)
        if state is LinkState.DELETED_IN_CRM and policy.reviews_crm_deletions:
            reason = "it was deleted in the CRM; ION has no deletion"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
        return Again(now) if state is LinkState.LINKED else None

    async def _close_commands(self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis) -> Link:
        """What the CRM was asked before may still be answered, but not by a customer that it deleted."""
        if pair.crm is not None and pair.crm.is_deleted:
            commands = [i for i in pair.intents if i.side is Side.CRM and i.kind is not Kind.NOTICE]
            await self._intents.drop(unit, commands, now, "deleted in the CRM")
            return link
        link, _ = await self._intents.confirm_commands(unit, pair, link, policy, now)
        return link

    async def _keep_edits(self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis) -> None:
        """Nothing is written to a customer that is gone, and no edit of it is lost: a person sees it."""
        if pair.crm is None or pair.ion is None:
            return
        kept = tuple(sorted(name.value for name in decide(link, pair.crm, pair.ion, policy).to_ion))
        if kept:
            reason = "it was edited in the CRM while it is gone from ION; the edit waits for it to come back"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now, kept))

    async def _hold_or_release(self, unit: Unit, pair: Pair, link: Link, decision: Decision, now: Millis) -> None:
        undecided = tuple(o.field.value for o in decision.outcomes if o.rule is Rule.REVIEW)
        over = [] if decision.to_crm else [HoldKind.QUARANTINE]
        if undecided:
            reason = "both sides hold another value and the policy leaves it to a person"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now, undecided))
        elif apart := drifted(link, *pair.both):
            if not decision.to_crm and not decision.to_ion:  # until both are at rest, it may be but a moment
                await self._doubt(unit, pair, apart, now)
        else:
            over += [HoldKind.REVIEW, HoldKind.INCOMPLETE]
        if over:
            await unit.release(pair.subject, over)

    async def _doubt(self, unit: Unit, pair: Pair, apart: Candidate, now: Millis) -> None:
        """A linked pair that drifted apart: a person says whether it is one (S8)."""
        noted = pair.both[0].noted_ion_id
        reason = "the two were linked, and hardly anything of them is alike any more"
        reason = reason if noted is None else f"the two are linked, and the CRM notes ION customer {noted}"
        await unit.save_candidates(pair.subject, [apart])
        await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))


def settled(crm: Record, ion: Record, decision: Decision) -> list[Record]:
    """The records with the history of agreed fields forgotten; only those that changed."""
    both = ((crm, settle_fields(crm, decision.agreed)), (ion, settle_fields(ion, decision.agreed)))
    return [after for before, after in both if after is not before]
