"""A customer without a link: whose is it? Match it, create it on the other side, or let it wait (S7, S8).

Next in the flow: a linked pair goes back to ``reconcile``; a create in ION goes on in ``create``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncd.core.intent import Intent, Kind
from syncd.core.link import How, Link, LinkState
from syncd.core.match import Match, Verdict, keys_of, match
from syncd.core.policy import Policy
from syncd.core.record import Position, Record, Sighting
from syncd.core.values import CrmId, Field, IonId, Millis, Side, Value, subject_of
from syncd.core.work import Again, DecisionEntry, Hold, HoldKind, Stage
from syncd.engine.facts import Facts
from syncd.engine.intents import Intents
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair
from syncd.engine.ports import Unit


class Pairing:
    def __init__(self, facts: Facts, intents: Intents, book: LinkBook) -> None:
        self._facts = facts
        self._intents = intents
        self._book = book

    async def pair_up(self, unit: Unit, pair: Pair, policy: Policy, now: Millis, attempts: int) -> Again | None:
        customer = pair.customer
        if customer is None or customer.is_deleted:
            await unit.release(pair.subject)
            return None
        if not self._is_oriented():
            return Again(Millis(now + self._facts.poll_ms // 4), attempts=0)
        if customer.side is Side.ION and await self._is_being_created(unit, customer, now):
            return Again(Millis(now + 2_000))
        if await self._notes_somebody_else(unit, customer, now):
            return None
        found = await self.judge(unit, customer)
        if found.verdict is Verdict.LINK:
            best = found.candidates[0]
            await self.link_up(unit, best.crm_id, best.ion_id, found.how, now)
            return None
        if found.verdict is Verdict.REVIEW:
            await unit.save_candidates(pair.subject, found.candidates)
            reason = "it may be the same as a customer of the other side: see `syncd links show`"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
            return None
        if await unit.links(customer.side, [customer.customer_id]):
            # Linked since we looked: a create's receipt closes its intent and makes the link at once,
            # so who no longer saw the intent sees the link now.
            return Again(now)
        if customer.side is Side.CRM:
            return await self._new_in_crm(unit, customer, policy, now, attempts)
        return await self._new_in_ion(unit, pair, customer, policy, now)

    async def judge(self, unit: Unit, customer: Record) -> Match:
        """Compare with the unlinked customers of the other side that share a key with this one."""
        others = await unit.look_alikes(
            customer.side.other,
            keys_of(customer),
            customer.customer_id if customer.side is Side.ION else customer.noted_ion_id,
        )
        rivals: list[Record] = []
        for other in others:
            noted = other.customer_id if other.side is Side.ION else other.noted_ion_id
            rivals += await unit.look_alikes(customer.side, keys_of(other), noted)
        return match(customer, present(others), present(rivals))

    async def link_up(
        self,
        unit: Unit,
        crm_id: str,
        ion_id: str,
        how: How,
        now: Millis,
        base: Mapping[Field, Value] | None = None,
    ) -> Link:
        """Make the link, and close what was under way to create the one or the other."""
        mine, theirs = subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id)
        for intent in (*await unit.open_intents(mine), *await unit.open_intents(theirs)):
            if intent.kind is Kind.CREATE:
                await self._intents.confirmed(unit, intent, now)
                how = How.CREATED_IN_CRM if intent.side is Side.CRM else How.CREATED_IN_ION
                base = base or intent.set
        link = Link(CrmId(crm_id), IonId(ion_id), LinkState.LINKED, how, now, base or {})
        await self._book.add(unit, link)
        await unit.log([DecisionEntry(now, mine, crm_id, ion_id, "linked", None, {"how": how.value})])
        await unit.release(mine)
        await unit.release(theirs)
        await unit.enqueue([mine], now)
        return link

    def missing_fields(self, customer: Record, policy: Policy) -> tuple[Field, ...]:
        """What ION requires and this CRM customer lacks."""
        missing = [name for name in policy.required_by_ion if policy.sent_value(customer.value(name), name) is None]
        return tuple(missing)

    def _is_oriented(self) -> bool:
        """Both sides were seen whole once: before that, what looks alone may just not have come yet."""
        return self._facts.listed_from > 0 and self._facts.crm_caught_up_at is not None

    async def _notes_somebody_else(self, unit: Unit, customer: Record, now: Millis) -> bool:
        """The CRM notes an ION id that can't be linked: nothing is created while that stands."""
        noted = customer.noted_ion_id
        if customer.side is Side.ION or noted is None:
            return False
        taken = (await unit.links(Side.ION, [noted])).get(noted)
        if taken is None and await unit.records(Side.ION, [noted]):
            return False
        whose = "is not listed" if taken is None else f"is linked to {taken.crm_id}"
        subject = subject_of(Side.CRM, customer.customer_id)
        await unit.hold(Hold(subject, HoldKind.REVIEW, f"the CRM notes ION customer {noted}, which {whose}", now))
        return True

    async def _is_being_created(self, unit: Unit, customer: Record, now: Millis) -> bool:
        """Is this the customer of a create whose answer is still out? Then its owner links it."""
        keys = keys_of(customer)
        for intent in await unit.open_creates(Side.ION):
            theirs = keys_of(sent_record(intent))
            if (keys.email and keys.email == theirs.email) or (keys.company and keys.company == theirs.company):
                await unit.enqueue([intent.subject], now)
                return True
        return False

    async def _new_in_crm(
        self, unit: Unit, customer: Record, policy: Policy, now: Millis, attempts: int
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
        return Again(now, Stage.CALL, attempts)

    async def _new_in_ion(
        self, unit: Unit, pair: Pair, customer: Record, policy: Policy, now: Millis
    ) -> Again | None:
        if pair.open_intent(Side.CRM) is not None:
            return None  # asked for already; the answer wakes us
        if not policy.creates_in_crm:
            reason = "it has no counterpart in the CRM, and creating there is switched off"
            await unit.hold(Hold(pair.subject, HoldKind.REVIEW, reason, now))
            return None
        await unit.release(pair.subject)
        values = {name: value for name, value in customer.values().items() if _flows_to_crm(policy, name)}
        await self._intents.create_in_crm(unit, customer.customer_id, values, now)
        return None


def present(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if not record.is_deleted]


def sent_record(intent: Intent) -> Record:
    """What a create sent, as if it were a CRM customer's record, to match by."""
    position = Position(None, intent.at, 0)
    registers = {
        name.value: (Sighting(value, intent.at, False, position, intent.at),) for name, value in intent.set.items()
    }
    return Record(Side.CRM, intent.crm_id or "", registers)


def _flows_to_crm(policy: Policy, name: Field) -> bool:
    rule = policy.rules.get(name)
    return rule is not None and rule.may_write_to(Side.CRM)
