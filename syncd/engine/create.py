"""Creating a CRM customer in ION so that it can never double (S7).

Before the call: a complete listing that is fresh, no candidate in matching, a look-up by e-mail
where the dialect has one, and the intent stored. After a lost answer nothing is created for this
customer until it is found, or proven absent by a look-up and a complete listing begun after the
settle time; then it is tried once more. An ION customer that was made at that very time and belongs
to nobody may be it, whatever it is called by now: then a person decides.
"""

from __future__ import annotations

from syncd.core.errors import OutcomeUnknown, Rejected, SideError
from syncd.core.intent import Intent, IntentState
from syncd.core.link import How
from syncd.core.lost import appeared_after
from syncd.core.match import DEFINITE, Candidate, Tier, Verdict, candidates_of, keys_of, match_key
from syncd.core.plan import change_of
from syncd.core.receipt import receive
from syncd.core.record import Reading, Record, new_record, observe_reading, observe_write
from syncd.core.values import Field, Millis, Side, Subject, subject_of
from syncd.core.work import Again, Claim, Hold, HoldKind, Stage
from syncd.engine.facts import Facts
from syncd.engine.guard import Guard
from syncd.engine.intents import Intents, create_intent
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair, load_pair
from syncd.engine.pairing import Pairing, sendable, sent_record, stranger
from syncd.engine.ports import Clock, Ion, Slots, Store, Unit

MAX_TRIES = 2
SEND_WITHIN_MS = 8_000
"""From the intent to the call: less than what is left of a lease that is renewed in time."""


class Creator:
    def __init__(
        self,
        store: Store,
        ion: Ion,
        clock: Clock,
        facts: Facts,
        intents: Intents,
        book: LinkBook,
        pairing: Pairing,
        guard: Guard,
        settle_ms: int,
    ) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._facts = facts
        self._intents = intents
        self._book = book
        self._pairing = pairing
        self._guard = guard
        self._settle_ms = settle_ms

    async def create(self, claim: Claim, pair: Pair, slots: Slots) -> None:
        lost = pair.unresolved_create
        email = (lost.set if lost else pair.crm.values() if pair.crm else {}).get(Field.EMAIL)
        found = await self._ion.find_by_email(email, slots) if isinstance(email, str) else None
        if lost is not None:
            await self._resolve(claim, lost, found)
            return
        intent = await self._write_down(claim, found or [])
        if intent is None:
            return
        try:
            answer = await self._ion.create(intent.set, slots, send_by(intent))
        except SideError as error:
            await self._record_failure(claim, intent, error)
        else:
            await self._record_receipt(claim, intent, answer)

    async def _write_down(self, claim: Claim, found: list[Reading]) -> Intent | None:
        """Check once more that nobody like this is in ION, and store the intent."""
        policy, now = self._facts.known_policy(), self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            if pair.link is not None or pair.crm is None or pair.crm.is_deleted:
                await unit.finish(claim, Again(now))
                return None
            await self._observe(unit, found)
            judged = await self._pairing.judge(unit, pair.crm)
            if judged.verdict is Verdict.NEW and found:
                await self._hold_for_email(unit, pair.crm, found, now)
                await unit.finish(claim)
                return None
            missing = self._pairing.missing_fields(pair.crm, policy)
            if judged.verdict is not Verdict.NEW or missing:
                await unit.finish(claim, Again(now))
                return None
            if not self._facts.has_fresh_listing(now):  # another replica may know of one already: no ping-pong
                await unit.finish(claim, Again(Millis(now + self._facts.poll_ms // 4)))
                return None
            intent = create_intent(Side.ION, pair.crm.customer_id, sendable(pair.crm, policy), now)
            tries = await self._tries(unit, intent, now)
            if tries >= MAX_TRIES:
                await unit.finish(claim)
                return None
            async with self._guard.admission(unit, claim.subject, now) as admission:
                if not await admission.ask([change_of(intent, {})], writing=Side.ION):
                    await unit.finish(claim)
                    return None
            return await self._intents.create_in_ion(unit, intent, tries + 1, now)

    async def _tries(self, unit: Unit, intent: Intent, now: Millis) -> int:
        """How often this very create was sent and lost before; too often means a person must look."""
        earlier = (await unit.intents([intent.id])).get(intent.id)
        if earlier is None or earlier.answer is None or earlier.state is not IntentState.DROPPED:
            return 0
        if earlier.attempts >= MAX_TRIES:
            reason = "its create in ION was lost twice, and it is not there"
            await unit.hold(Hold(intent.subject, HoldKind.QUARANTINE, reason, now))
        return earlier.attempts

    async def _observe(self, unit: Unit, readings: list[Reading]) -> None:
        readings = list({reading.ion_id: reading for reading in readings}.values())
        known = await unit.records(Side.ION, [reading.ion_id for reading in readings])
        fresh = [
            observe_reading(known.get(r.ion_id) or new_record(Side.ION, r.ion_id), r, self._facts.listed_from)
            for r in readings
        ]
        await unit.save_records([record for record in fresh if record is not known.get(record.customer_id)])

    async def _hold_for_email(self, unit: Unit, crm: Record, found: list[Reading], now: Millis) -> None:
        """Another ION customer has the e-mail address: a match to look at, never a second create."""
        candidates = [Candidate(crm.customer_id, reading.ion_id, Tier.EMAIL_ONLY) for reading in found]
        subject = subject_of(Side.CRM, crm.customer_id)
        await unit.save_candidates(subject, candidates)
        reason = "its e-mail address belongs to another customer in ION"
        await unit.hold(Hold(subject, HoldKind.REVIEW, reason, now, (Field.EMAIL.value,)))

    async def _hold_for_newcomers(
        self, unit: Unit, subject: Subject, lost: Intent, newcomers: list[Record], now: Millis
    ) -> None:
        """Somebody else's new customer, or ours under another name already: a person can tell."""
        await unit.save_candidates(subject, [stranger(lost, record) for record in newcomers])
        which = ", ".join(record.customer_id for record in newcomers)
        reason = f"the answer to its create in ION was lost, and ION customer {which}, made at that time, may be it"
        await unit.hold(Hold(subject, HoldKind.REVIEW, reason, now))
        for record in newcomers:
            await self._pairing.hold_for_create(unit, record, lost, now)

    async def _record_receipt(self, claim: Claim, intent: Intent, answer: Reading) -> None:
        policy, now = self._facts.known_policy(), self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            crm_id = intent.crm_id or ""
            known = (await unit.records(Side.ION, [answer.ion_id])).get(answer.ion_id)
            before = known or new_record(Side.ION, answer.ion_id)
            # The answer may be short of fields; what was sent stands in for those that ION shows.
            readable = {name: value for name, value in intent.set.items() if policy.reads_from_ion(name)}
            ion = observe_write(observe_reading(before, answer), readable, answer)
            await unit.save_records([ion])
            taken = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
            if taken is None:
                link = await self._pairing.link_up(unit, crm_id, answer.ion_id, How.CREATED_IN_ION, now, intent.set)
                region = intent.set.get(Field.COUNTRY)
                receipt = receive(link, intent, answer.values, policy, region if isinstance(region, str) else None)
                await self._book.save(unit, receipt.link, link)
            elif taken.ion_id != answer.ion_id:
                await self._intents.confirmed(unit, intent, now)
                reason = f"it was created in ION as {answer.ion_id} while it was linked to {taken.ion_id}"
                await unit.hold(Hold(claim.subject, HoldKind.REVIEW, reason, now))
            await unit.finish(claim, Again(now))

    async def _record_failure(self, claim: Claim, intent: Intent, error: SideError) -> None:
        now = self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            if isinstance(error, OutcomeUnknown):
                await unit.save_intent(intent.moved_to(IntentState.UNKNOWN, now, error.sentence))
                await unit.finish(claim, self._facts.again_after(error, claim, now))
            elif isinstance(error, Rejected):
                await self._intents.set_aside(unit, intent, error.sentence, now)
                if error.taken_email:  # a match to look at, never a retry
                    reason = f"its e-mail address belongs to another customer in ION: {error.sentence}"
                    fields = (Field.EMAIL.value,)
                    await unit.hold(Hold(claim.subject, HoldKind.REVIEW, reason, now, fields))
                await unit.finish(claim)
            else:  # refused before it was looked at: certainly not applied
                await unit.save_intent(intent.moved_to(IntentState.DROPPED, now))
                await unit.finish(claim, self._facts.again_after(error, claim, now))

    async def _resolve(self, claim: Claim, lost: Intent, found: list[Reading] | None) -> None:
        """The answer of a create was lost: find it, or wait until its absence is proven."""
        now = self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            if lost.state is IntentState.SENT:  # whoever sent it died: the clock starts here
                lost = lost.moved_to(IntentState.UNKNOWN, now, "its sender is gone")
                await unit.save_intent(lost)
            await self._observe(unit, found or [])
            created = await self._find_created(unit, lost)
            if created is not None:
                crm_id = lost.crm_id or ""
                await self._pairing.link_up(unit, crm_id, created.customer_id, How.CREATED_IN_ION, now, lost.set)
                await unit.finish(claim, Again(now))
            elif self._facts.listed_from > lost.changed_at + self._settle_ms:
                if newcomers := await self._pairing.newcomers(unit, lost):
                    await self._hold_for_newcomers(unit, claim.subject, lost, newcomers, now)
                    await unit.finish(claim)
                    return
                await unit.save_intent(lost.moved_to(IntentState.DROPPED, now, "proven absent"))
                await unit.finish(claim, Again(now))
            else:
                await unit.finish(claim, Again(Millis(now + self._facts.poll_ms // 2), Stage.CALL, claim.attempts))

    async def _find_created(self, unit: Unit, lost: Intent) -> Record | None:
        """The unlinked ION customer that holds what the lost create sent.

        Somebody may have edited it at once: the e-mail address alone, unique in ION and first seen
        after the create was sent, is evidence enough.
        """
        sent = sent_record(lost)
        likely = await unit.look_alikes(sent, Side.ION)
        same_email = [r for r in likely if match_key(r.value(Field.EMAIL)) == keys_of(sent).email]
        exact = [c.ion_id for c in candidates_of(sent, likely) if c.tier in DEFINITE]
        best = [r for r in same_email if r.customer_id in exact or appeared_after(r, lost.at)]
        best = best or [record for record in likely if record.customer_id in exact]
        return best[0] if len(best) == 1 else None


def send_by(intent: Intent) -> Millis:
    return Millis(intent.changed_at + SEND_WITHIN_MS)
