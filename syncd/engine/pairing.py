"""A customer without a link: whose is it? Match it, create it on the other side, or let it wait (S7, S8).

Next in the flow: a linked pair goes back to ``reconcile``; a create in ION goes on in ``create``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from syncd.core.intent import Intent, Kind
from syncd.core.link import How, Link, LinkState
from syncd.core.listing import MISSING_SWEEPS
from syncd.core.lost import made_between, may_be_of
from syncd.core.match import DEFINITE, Candidate, Match, Tier, Verdict, candidates_of, compare, keys_of, match
from syncd.core.plan import ChangeState, change_of
from syncd.core.policy import Policy
from syncd.core.record import Position, Record, sighted
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Value, subject_of
from syncd.core.work import Again, DecisionEntry, Hold, HoldKind, Stage
from syncd.engine.facts import Facts
from syncd.engine.guard import Admission
from syncd.engine.intents import Intents, create_intent
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair
from syncd.engine.ports import Unit


class Pairing:
    def __init__(self, facts: Facts, intents: Intents, book: LinkBook) -> None:
        self._facts = facts
        self._intents = intents
        self._book = book

    async def pair_up(
        self, unit: Unit, pair: Pair, policy: Policy, admission: Admission, now: Millis, attempts: int
    ) -> Link | Again | None:
        """The link, where it is found whose the customer is: its pair has to be looked at. Else when to come back."""
        customer = pair.customer
        if customer is None or not is_present(customer):
            await unit.release(pair.subject)
            if customer is not None:
                await self._link_the_gone(unit, customer, now)
            return None
        if not await self._is_oriented(unit):
            return Again(Millis(now + self._facts.poll_ms // 4), attempts=0)
        if customer.side is Side.ION and (create := await self._create_of(unit, customer)):
            await unit.enqueue([create.subject], now)
            if not any(hold.kind is HoldKind.REVIEW for hold in await unit.holds_of(create.subject)):
                return Again(Millis(now + 2_000))
            await self.hold_for_create(unit, customer, create, now)
            return None
        if await self._notes_somebody_else(unit, customer, now) or await self._link_the_gone(unit, customer, now):
            return None
        found = await self.judge(unit, customer)
        if found.verdict is Verdict.LINK:
            best = found.candidates[0]
            return await self.link_up(unit, best.crm_id, best.ion_id, found.how, now)
        if found.verdict is Verdict.REVIEW:
            await unit.save_candidates(pair.subject, found.candidates)
            reason = "it may be the same as a customer of the other side"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
            return None
        if await unit.links(customer.side, [customer.customer_id]):
            # Linked since we looked: a create's receipt closes its intent and makes the link at once,
            # so who no longer saw the intent sees the link now.
            return Again(now)
        if customer.side is Side.CRM:
            return await self._new_in_crm(unit, customer, policy, admission, now, attempts)
        return await self._new_in_ion(unit, pair, customer, policy, admission, now)

    async def judge(self, unit: Unit, customer: Record) -> Match:
        """Compare with the unlinked customers of the other side; by likeness only where nothing exact is clear."""
        ruled_out = await unit.rejected(customer)
        others = by_id(await unit.look_alikes(customer, customer.side.other), ruled_out)
        found = candidates_of(customer, others.values())
        if not found or found[0].tier not in DEFINITE:
            others |= by_id(await unit.neighbours(customer, customer.side.other), ruled_out)
            found = candidates_of(customer, others.values())
        rivals = dict[str, Record]()
        if found and found[0].is_definite:
            counterpart = others[found[0].ion_id if customer.side is Side.CRM else found[0].crm_id]
            rivals = by_id(await unit.look_alikes(counterpart, customer.side))
            if found[0].tier is Tier.LIKENESS:
                rivals |= by_id(await unit.neighbours(counterpart, customer.side))
        return match(customer, others.values(), rivals.values())

    async def link_up(
        self,
        unit: Unit,
        crm_id: str,
        ion_id: str,
        how: How,
        now: Millis,
        base: Mapping[Field, Value] | None = None,
    ) -> Link:
        """Make the link, and close what was under way to create the one or the other.

        Whoever asks for it has the pair looked at.
        """
        mine, theirs = subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id)
        for intent in (*await unit.open_intents(mine), *await unit.open_intents(theirs)):
            if intent.kind is not Kind.CREATE:
                continue
            is_to_ion = intent.side is Side.ION
            if is_to_ion:  # who was taken for its customer is looked at again
                likely = [*await unit.look_alikes(sent_record(intent), Side.ION), *await self.newcomers(unit, intent)]
                await unit.enqueue([subject_of(Side.ION, record.customer_id) for record in likely], now)
            is_answer = how is How.CREATED_IN_ION if is_to_ion else await self._is_noted(unit, crm_id, ion_id)
            if not is_answer:  # somebody entered it there: nothing is agreed on yet
                await self._intents.drop(
                    unit, [intent], now, f"{crm_id} and {ion_id} were linked before it was found"
                )
                continue
            await self._intents.confirmed(unit, intent, now)
            how = How.CREATED_IN_CRM if intent.side is Side.CRM else How.CREATED_IN_ION
            base = base or intent.set
        for subject in (mine, theirs):  # what was to be created is there
            waiting = [c.id for c in await unit.changes_of(subject) if c.state is not ChangeState.SPENT]
            await unit.drop_changes(waiting)
        link = Link(CrmId(crm_id), IonId(ion_id), LinkState.LINKED, how, now, base or {})
        await self._book.add(unit, link)
        await unit.log([DecisionEntry(now, mine, crm_id, ion_id, "linked", None, {"how": how.value})])
        await unit.release(mine)
        await unit.release(theirs)
        await unit.unqueue(theirs, now)
        return link

    async def _is_noted(self, unit: Unit, crm_id: str, ion_id: str) -> bool:
        """The CRM says of its customer that it belongs to this one in ION, as its answer to a create does."""
        customer = (await unit.records(Side.CRM, [crm_id])).get(crm_id)
        return customer is not None and customer.noted_ion_id == ion_id

    def missing_fields(self, customer: Record, policy: Policy) -> tuple[Field, ...]:
        """What ION requires and this CRM customer lacks."""
        missing = [name for name in policy.required_by_ion if policy.sent_value(customer.value(name), name) is None]
        return tuple(missing)

    async def _link_the_gone(self, unit: Unit, customer: Record, now: Millis) -> bool:
        """A CRM customer that was created for an ION customer, and one of them is gone by now: they are
        a pair all the same, one that stands still, so that neither side is asked to create it anew."""
        noted = customer.noted_ion_id
        ion = (await unit.records(Side.ION, [noted])).get(noted) if noted else None
        if ion is None or noted is None or await unit.links(Side.ION, [noted]):
            return False
        if is_present(customer) and is_present(ion):
            return False
        await self.link_up(unit, customer.customer_id, noted, How.CRM_NOTE, now)
        await unit.enqueue([subject_of(Side.CRM, customer.customer_id)], now)
        return True

    async def _is_oriented(self, unit: Unit) -> bool:
        """Both sides were seen whole once: before that, what looks alone may just not have come yet."""
        facts = self._facts
        if not facts.is_oriented:
            is_read = facts.has_joined and not any((await unit.places(facts.events_topic)).values())
            facts.is_oriented = is_read and facts.listed_from > 0
        return facts.is_oriented

    async def _notes_somebody_else(self, unit: Unit, customer: Record, now: Millis) -> bool:
        """The CRM notes an ION id that can't be linked: nothing is created while that stands."""
        noted = customer.noted_ion_id
        if customer.side is Side.ION or noted is None:
            return False
        taken = (await unit.links(Side.ION, [noted])).get(noted)
        is_rejected = noted in await unit.rejected(customer)
        if taken is None and not is_rejected and await unit.records(Side.ION, [noted]):
            return False
        whose = "a person said it is not" if is_rejected else "is not listed"
        whose = whose if taken is None else f"is linked to {taken.crm_id}"
        subject = subject_of(Side.CRM, customer.customer_id)
        await unit.hold(Hold(subject, HoldKind.REVIEW, f"the CRM notes ION customer {noted}, which {whose}", now))
        return True

    async def _create_of(self, unit: Unit, customer: Record) -> Intent | None:
        """The create whose answer is still out and whose customer this may be: then its owner links it."""
        keys, ruled_out = keys_of(customer), await unit.rejected(customer)
        for intent in await unit.open_creates(Side.ION):
            if intent.crm_id in ruled_out:
                continue
            theirs = keys_of(sent_record(intent))
            is_alike = (keys.email and keys.email == theirs.email) or (
                keys.company and keys.company == theirs.company
            )
            if is_alike or customer in await self.newcomers(unit, intent):
                return intent
        return None

    async def newcomers(self, unit: Unit, create: Intent) -> list[Record]:
        """Unlinked ION customers that were made when this create may have taken effect, and not seen before."""
        made = await unit.created_between(*made_between(create))
        ruled_out = await unit.rejected(sent_record(create))
        return [
            record
            for record in made
            if is_present(record) and record.customer_id not in ruled_out and may_be_of(record, create)
        ]

    async def hold_for_create(self, unit: Unit, customer: Record, lost: Intent, now: Millis) -> None:
        """An ION customer that may be what a lost create made, or somebody else's: a person can tell."""
        subject = subject_of(Side.ION, customer.customer_id)
        reason = f"it may be what the lost create of CRM customer {lost.crm_id} made"
        alike = compare(sent_record(lost), customer)
        await unit.save_candidates(subject, [alike or stranger(lost, customer)])
        await unit.hold(Hold(subject, HoldKind.REVIEW, reason, now))

    async def _new_in_crm(
        self, unit: Unit, customer: Record, policy: Policy, admission: Admission, now: Millis, attempts: int
    ) -> Again | None:
        subject = subject_of(Side.CRM, customer.customer_id)
        if not policy.creates_in_ion:
            reason = "it has no counterpart in ION, and creating there is switched off"
            await unit.hold(Hold(subject, HoldKind.REVIEW, reason, now))
            return None
        missing = self.missing_fields(customer, policy)
        if missing:
            reason = "ION requires fields that the CRM has not given"
            names = tuple(name.value for name in missing)
            await unit.hold(Hold(subject, HoldKind.INCOMPLETE, reason, now, names))
            return None
        await unit.release(subject)
        if not self._facts.has_fresh_listing(now):
            return Again(Millis(now + self._facts.poll_ms // 2))
        intent = create_intent(Side.ION, customer.customer_id, sendable(customer, policy), now)
        admitted = await admission.ask([change_of(intent, {})])
        return Again(now, Stage.CALL, attempts) if admitted else None

    async def _new_in_ion(
        self, unit: Unit, pair: Pair, customer: Record, policy: Policy, admission: Admission, now: Millis
    ) -> Again | None:
        if pair.open_intent(Side.CRM) is not None:
            return None  # asked for already; the answer wakes us
        if not policy.creates_in_crm:
            reason = "it has no counterpart in the CRM, and creating there is switched off"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
            return None
        await unit.release(pair.subject)
        values = {name: value for name, value in customer.values().items() if _flows_to_crm(policy, name)}
        intent = create_intent(Side.CRM, customer.customer_id, values, now)
        if await admission.ask([change_of(intent, {})], writing=Side.CRM):
            await self._intents.create_in_crm(unit, intent, now)
        return None


def is_present(record: Record) -> bool:
    """Neither deleted nor, as far as complete listings tell, gone: fit to be linked or created."""
    return not record.is_deleted and record.missing_sweeps < MISSING_SWEEPS


def by_id(records: Iterable[Record], but: Collection[str] = ()) -> dict[str, Record]:
    """Those that are fit, by their ids."""
    return {record.customer_id: record for record in records if is_present(record) and record.customer_id not in but}


def sendable(crm: Record, policy: Policy) -> dict[Field, Value]:
    """What a create sends: every field that ION takes and the CRM has, or the mapping has a default for."""
    found = {name: policy.sent_value(crm.value(name), name) for name in policy.writes_to_ion()}
    return {name: value for name, value in found.items() if value is not None}


def stranger(lost: Intent, customer: Record) -> Candidate:
    """Nothing speaks for it but the moment at which it was made."""
    return Candidate(lost.crm_id or "", customer.customer_id, Tier.COMPANY_ONLY)


def sent_record(intent: Intent) -> Record:
    """What a create sent, as if it were a CRM customer's record, to match by."""
    position = Position(None, intent.at, 0)
    registers = {
        name.value: (sighted(value, intent.at, False, position, intent.at),) for name, value in intent.set.items()
    }
    return Record(Side.CRM, intent.crm_id or "", registers)


def _flows_to_crm(policy: Policy, name: Field) -> bool:
    rule = policy.rules.get(name)
    return rule is not None and rule.may_write_to(Side.CRM)
