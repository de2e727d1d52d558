"""Carrying a decision to ION: reading → decide once more → guard → intent → call → receipt (S5, S7).

The caller holds the claim and the slots of the budget. The intent is stored, with what it expects,
in a transaction that ends before the call begins; the receipt is stored in one that checks the
fence. A lost answer leaves the intent unknown, and the next push looks before it does anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from syncd.core.budget import Lane
from syncd.core.decide import decide
from syncd.core.errors import OutcomeUnknown, Rejected, SideError, Transient
from syncd.core.intent import Intent, IntentState
from syncd.core.link import Link, LinkState
from syncd.core.listing import MISSING_SWEEPS
from syncd.core.receipt import agree_on, arrived, receive
from syncd.core.record import Reading, Record, is_stale, is_superseded, new_record, observe_reading, observe_write
from syncd.core.values import Field, Millis, Side, Subject, Value, Values
from syncd.core.work import Again, Claim, Stage
from syncd.engine.create import Creator, send_by
from syncd.engine.facts import Facts
from syncd.engine.guard import Guard
from syncd.engine.intents import Intents, link_change, named, wanted_changes
from syncd.engine.links import LinkBook
from syncd.engine.pair import Pair, load_pair
from syncd.engine.ports import Clock, Ion, Slots, Store, Unit

CALL_MS = 1_000
"""What lies between a slot for a listed reading that is just fresh enough and the write that is built on it."""


log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Need:
    """What a push takes: slots, in which lane, whom to ask ION for, and the reading that a page left for it."""

    slots: int = 2
    lane: Lane = Lane.WRITE
    ion_id: str | None = None
    reading: Reading | None = None
    not_after: Millis | None = None


class Pusher:
    def __init__(
        self,
        store: Store,
        ion: Ion,
        clock: Clock,
        facts: Facts,
        intents: Intents,
        book: LinkBook,
        creator: Creator,
        guard: Guard,
    ) -> None:
        self._store = store
        self._ion = ion
        self._clock = clock
        self._facts = facts
        self._intents = intents
        self._book = book
        self._creator = creator
        self._guard = guard

    async def needs(self, subject: Subject) -> Need:
        """What a push of this customer will take, as things stand."""
        async with self._store.begin() as unit:
            pair = await load_pair(unit, subject)
            reading = await unit.reading_of(subject)
        is_idle = pair.subject != subject or (pair.is_standing_still and pair.unresolved is None)
        ion_id = None if pair.link is None or is_idle else pair.link.ion_id
        if pair.ion is not None and pair.ion.missing_sweeps >= MISSING_SWEEPS:
            return Need(1, Lane.VERIFY, ion_id)
        look = Need(ion_id=ion_id)
        if reading is None or pair.ion is None or pair.unresolved is not None or pair.ion_id != reading.ion_id:
            return look
        if is_stale(pair.ion, reading) or is_superseded(pair.ion, reading):
            return look
        not_after = Millis(reading.asked + self._facts.fresh_ms)
        return look if self._clock.now() > not_after else Need(1, Lane.WRITE, ion_id, reading, not_after)

    async def push(self, claim: Claim, slots: Slots, need: Need) -> None:
        """Do what the claimed customer needs done in ION; the claim is finished or put off after."""
        try:
            if need.reading is not None:
                await self._update(claim, need.reading, slots)
            elif need.ion_id is not None:  # whatever has become of it meanwhile, is seen after the look
                await self._look_and_push(claim, need.ion_id, slots)
            else:
                await self._begin(claim, slots)
        except SideError as error:  # before any intent: nothing was written
            await self._put_off(claim, self._facts.again_after(error, claim, self._clock.now()))

    async def _look_and_push(self, claim: Claim, ion_id: str, slots: Slots) -> None:
        if reading := await self._ion.get(ion_id, slots):
            await self._update(claim, reading, slots)
        else:
            await self._not_there(claim, ion_id)

    async def _begin(self, claim: Claim, slots: Slots) -> None:
        """Nobody in ION is known to be asked for: create, or decide anew."""
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
        if pair.customer is None or pair.link is not None:
            await self._put_off(claim, Again(self._clock.now()))
        else:
            await self._creator.create(claim, pair, slots)

    async def _update(self, claim: Claim, reading: Reading, slots: Slots) -> None:
        written = await self._write_down(claim, reading)
        if written is None:
            return
        intent, changes = written
        try:
            not_after = min(send_by(intent), self._usable_until(reading))
            answer = await self._ion.update(reading, changes, slots, not_after)
        except SideError as error:
            await self._record_failure(claim, intent, error)
        else:
            await self._record_receipt(claim, intent, reading, answer)

    def _usable_until(self, reading: Reading) -> Millis:
        return Millis(reading.asked + self._facts.fresh_ms + CALL_MS)

    async def _write_down(self, claim: Claim, reading: Reading) -> tuple[Intent, Values] | None:
        """Fold the reading in, decide with the newest records, and store the intent.

        With it come the changes to put into the reading: what is decided, and what ION holds but
        never shows. ``None``: nothing is to be written, and the claim is finished.
        """
        policy, now = self._facts.known_policy(), self._clock.now()
        if now > self._usable_until(reading):
            raise Transient("ION's answer came too late to build a write on it")
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            if pair.link is None or pair.crm is None:
                await unit.finish(claim, Again(now))
                return None
            link = pair.link
            before = pair.ion or new_record(Side.ION, reading.ion_id)
            if link.ion_id != reading.ion_id or is_superseded(before, reading):
                await unit.finish(claim, Again(now))
                return None
            if is_stale(before, reading):
                raise Transient("ION answered with an older state than it showed before")
            ion = observe_reading(before, reading, self._facts.listed_from)
            link, waiting = await self._intents.confirm_commands(unit, pair, link, policy, now)
            if pair.unresolved is not None:
                link = await self._resolve(unit, pair, link, pair.unresolved, ion, now)
            if ion is not before:
                await unit.save_records([ion])
            decision = decide(link, pair.crm, ion, policy)
            if not decision.to_ion or pair.crm.is_deleted or link.state is not LinkState.LINKED:
                if link is not pair.link:
                    await self._book.save(unit, link, pair.link)
                await unit.finish(claim, Again(now))
                return None
            if pair.unresolved is not None and now < link.writable_at:  # it may still arrive
                await self._book.save(unit, link, pair.link)
                await unit.finish(claim, Again(link.writable_at, Stage.CALL))
                return None
            wanted = wanted_changes(link, decision, waiting, now)
            async with self._guard.admission(unit, claim.subject, now) as admission:
                if Side.ION not in await admission.ask(wanted, writing=Side.ION):
                    await self._book.save(unit, link, pair.link)
                    await unit.finish(claim)
                    return None
            await self._book.save(unit, replace(link, written_at=now), pair.link)
            hidden = {name: link.base[name] for name in policy.hidden_in_ion() if link.base.get(name) is not None}
            return await self._intents.write_ion(unit, link, decision, now), {**hidden, **decision.to_ion}

    async def _not_there(self, claim: Claim, ion_id: str) -> None:
        """ION says that it has no such customer. Believed only where complete listings miss it too (S10)."""
        now = self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            if pair.link is None or pair.ion is None or pair.ion.missing_sweeps < MISSING_SWEEPS:
                raise Transient(f"ION has no customer {ion_id} at present")
            if pair.unresolved is not None:
                await self._intents.drop(unit, [pair.unresolved], now, "the customer is gone from ION")
            if pair.link.state is LinkState.LINKED:
                await self._part(unit, pair.link, now)
            await unit.finish(claim, Again(now))

    async def _part(self, unit: Unit, link: Link, now: Millis) -> None:
        """The pair stands still from now on, if the guard lets it, and the CRM is told."""
        change = link_change(link, LinkState.MISSING_IN_ION, now)
        async with self._guard.admission(unit, change.subject, now) as admission:
            if not await admission.ask([change], writing=Side.ION):
                return
        gone = replace(link, state=LinkState.MISSING_IN_ION, since=now)
        await self._book.save(unit, gone, link)
        await self._intents.notice(unit, gone, "gone-from-ion", now)
        log.warning("customer_gone_from_ion", crm_id=link.crm_id, ion_id=link.ion_id)

    async def _resolve(self, unit: Unit, pair: Pair, link: Link, intent: Intent, ion: Record, now: Millis) -> Link:
        """The answer of an update was lost: the reading says which of its fields ION holds now."""
        if intent.state is IntentState.SENT:
            intent = intent.moved_to(IntentState.UNKNOWN, now)
        done = arrived(intent, ion.values(), self._facts.known_policy(), pair.region)
        unreadable = [name for name in intent.set if not ion.knows(name)]
        if done and len(done) + len(unreadable) == len(intent.set):
            await self._intents.confirmed(unit, intent, now)
            done = (*done, *unreadable)  # ION takes a record whole or not at all
        else:
            await unit.save_intent(intent.moved_to(IntentState.DROPPED, now, "not found applied"))
        return agree_on(link, {name: intent.set[name] for name in done})

    async def _record_receipt(self, claim: Claim, intent: Intent, reading: Reading, answer: Reading) -> None:
        policy, now = self._facts.known_policy(), self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            pair = await load_pair(unit, claim.subject)
            if pair.link is None or pair.ion is None:
                raise RuntimeError(f"the link of {claim.subject} went away under its own lease")
            held = {name: value for name, value in answer.values.items() if name in intent.set}
            receipt = receive(pair.link, intent, held, policy, pair.region)
            written: dict[Field, Value] = {name: intent.set[name] for name in intent.set if pair.ion.knows(name)}
            others = {name: value for name, value in answer.values.items() if name not in intent.set}
            ion = observe_reading(pair.ion, answer._replace(values=others, modified=None), self._facts.listed_from)
            ion = observe_write(ion, written, answer)
            await unit.save_records([ion])
            await self._book.save(unit, replace(receipt.link, written_at=now), pair.link)
            if receipt.ignored:
                reason = f"ION kept {named(receipt.ignored)} as it was"
                await self._intents.set_aside(unit, intent, reason, now)
                await unit.finish(claim)
                return
            await self._intents.confirmed(unit, intent, now)
            await unit.finish(claim, Again(now))

    async def _record_failure(self, claim: Claim, intent: Intent, error: SideError) -> None:
        now = self._clock.now()
        async with self._store.begin() as unit:
            await unit.check(claim)
            match error:
                case OutcomeUnknown():
                    await unit.save_intent(intent.moved_to(IntentState.UNKNOWN, now, error.sentence))
                case Rejected():
                    await self._intents.set_aside(unit, intent, error.sentence, now)
                    await unit.finish(claim)
                    return
                case _:  # refused before it was looked at: certainly not applied
                    await unit.save_intent(intent.moved_to(IntentState.DROPPED, now, error.sentence))
            await unit.finish(claim, self._facts.again_after(error, claim, self._clock.now()))

    async def _put_off(self, claim: Claim, again: Again) -> None:
        async with self._store.begin() as unit:
            await unit.finish(claim, again)
