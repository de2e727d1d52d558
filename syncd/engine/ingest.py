"""From a batch of Kafka records to stored state, in one transaction with its offsets (S12).

event → observation → **record**; what can't be used goes to the dead letters, and the rest flows on.

Next in the flow: ``reconcile``, for the customers this batch says something new about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import structlog

from syncd.core.batches import batched
from syncd.core.intent import ANSWERED, Intent, IntentState, Kind
from syncd.core.record import ION_NOTE, Observation, Record, Sightings, fold, new_record, observe
from syncd.core.values import NO_VALUES, Field, Millis, Side, Subject, Value, Values, subject_of
from syncd.core.work import DeadLetter, Hold, HoldKind
from syncd.engine import spans
from syncd.engine.catch_up import BEGIN, GAP
from syncd.engine.intake import (
    BESIDE,
    AskOffsets,
    DescribeLetter,
    RawEvent,
    SavedEvent,
    dead_letter,
    moved_on,
    not_stored,
    take_over,
)
from syncd.engine.intents import Intents
from syncd.engine.pair import look_at_everyone
from syncd.engine.ports import Clock, Counters, Store, Unit

log = structlog.get_logger()


class Told(NamedTuple):
    """What one event says: an observation, and perhaps that it answers a command of ours."""

    form: str
    observation: Observation
    answers: str | None = None
    is_clamped: bool = False
    """Its time lay in the future and was taken as the time of receipt (S4)."""


class Refusal(NamedTuple):
    """The CRM will not do what a command asked."""

    form: str
    crm_id: str | None
    command_id: str
    reason: str
    at: Millis


class Unusable(NamedTuple):
    """An event that can't be used: why, in a word for the metrics and in a sentence for people."""

    form: str
    reason: str
    detail: str


Decoded = Told | Refusal | Unusable
Known = Callable[[str], Mapping[str, Value]]
"""What was told of a CRM customer before, in the same batch: what is repeated need not be read again."""
Decode = Callable[[RawEvent, Millis, Known], Decoded]
Mark = Callable[[Unit], Awaitable[None]]


def nobody(crm_id: str) -> Mapping[str, Value]:
    return NO_VALUES


class Taken(NamedTuple):
    """What became of events that were taken in again."""

    events: int
    changed: set[Subject]
    unusable: tuple[DeadLetter, ...]


AT_ONCE = 4_000
"""So many events are worked out together, and while they are nothing else is done."""


@dataclass(slots=True)
class Batch:
    """Events, sorted out: of each customer what they say."""

    sightings: dict[str, Sightings] = field(default_factory=dict)
    answers: dict[str, Observation] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    forms: Counter[tuple[str, str]] = field(default_factory=Counter)
    traces: dict[Subject, str] = field(default_factory=dict)

    def told_of(self, crm_id: str) -> Mapping[str, Value]:
        sightings = self.sightings.get(crm_id)
        return NO_VALUES if sightings is None else sightings.values

    @property
    def usable(self) -> int:
        return sum(sightings.count for sightings in self.sightings.values()) + len(self.refusals)

    def keep(self, crm_id: str) -> None:
        """Leave out what is told of others."""
        self.sightings = {crm_id: self.sightings[crm_id]} if crm_id in self.sightings else {}
        self.answers = {known: seen for known, seen in self.answers.items() if seen.customer_id == crm_id}
        self.refusals = [refusal for refusal in self.refusals if refusal.crm_id == crm_id]
        self.letters = [letter for letter in self.letters if letter.key == crm_id.encode()]


class Ingest:
    def __init__(
        self,
        store: Store,
        clock: Clock,
        counters: Counters,
        intents: Intents,
        decode: Decode,
        describe_letter: DescribeLetter,
    ) -> None:
        self._store = store
        self._clock = clock
        self._counters = counters
        self._intents = intents
        self._decode = decode
        self._describe_letter = describe_letter

    async def ingest(
        self,
        topic: str,
        events: Sequence[RawEvent],
        ends: Mapping[int, int],
        positions: Mapping[int, int] = MappingProxyType({}),
    ) -> int:
        """Store what the events say, and where they end; how many customers changed."""
        now = self._clock.now()
        changed, forms, reasons = set[Subject](), Counter[tuple[str, str]](), list[str]()
        async with self._store.begin() as unit:
            known = await unit.offsets(topic)
            new = not_stored(events, known)
            for some in _parts_of(new):
                batch = self._sort(some, now)
                changed |= await self._take_in(unit, batch, now)
                await self._bury(unit, batch.letters)
                forms.update(batch.forms)
                reasons += [letter.reason for letter in batch.letters]
            await unit.save_offsets(topic, moved_on(known, new, positions), ends)
        for (form, outcome), count in forms.items():
            self._counters.event(form, outcome, count)
        for reason in reasons:
            self._counters.dead_letter(reason)
        return len(changed)

    async def take_over(self, topic: str, ask: AskOffsets) -> dict[int, int]:
        """Events that retention took before they were read are gone; then everyone is looked at again, by what
        both sides are known to hold."""

        async def on_gap(unit: Unit, missed: int, now: Millis) -> None:
            await look_at_everyone(unit, now)
            if missed:
                await unit.save_note(GAP, BEGIN)

        positions, missed = await take_over(self._store, self._clock, topic, ask, on_gap)
        if missed:
            self._counters.missed(missed)
        return positions

    async def redrive(self, letter: DeadLetter) -> str | None:
        """Try an event again that was set aside; what is still wrong with it, or ``None`` when it is stored.

        Its own time and place in the topic order it among the customer's events, so that newer ones
        keep the upper hand.
        """
        if letter.reason.startswith(BESIDE):  # it would be taken for a customer's, and an empty one for a deletion
            return f"{letter.detail}; only events of customers can be tried again: send it anew on {letter.topic}"
        now = self._clock.now()
        event = SavedEvent(
            letter.topic, letter.partition, letter.offset, letter.at, letter.key, letter.value, letter.headers
        )
        batch = self._sort([event], now)
        if batch.letters:
            return batch.letters[0].detail
        async with self._store.begin() as unit:
            await self._take_in(unit, batch, now)
            await unit.unbury(letter.id)
        return None

    async def take_again(self, events: Sequence[RawEvent], only: str | None, mark: Mark) -> Taken:
        """Store what events of the past say, as far as nothing newer is known; ``mark`` goes into the same unit.

        The offsets stay as they are, and what can't be used is told and not buried: it was when it came.
        ``only``: nobody but this customer.
        """
        now = self._clock.now()
        batch = self._sort(events, now, is_past=True)
        if only is not None:
            batch.keep(only)
        async with self._store.begin() as unit:
            await self._pass_over_old_answers(unit, batch)
            changed = await self._take_in(unit, batch, now)
            await mark(unit)
        return Taken(batch.usable, changed, tuple(batch.letters))

    async def _pass_over_old_answers(self, unit: Unit, batch: Batch) -> None:
        """A command may be asked for again under its old id: what was said before that answers nothing now."""
        asked = await unit.intents([*batch.answers, *(refusal.command_id for refusal in batch.refusals)])
        batch.refusals = [r for r in batch.refusals if r.command_id in asked and r.at >= asked[r.command_id].at]
        batch.answers = {
            known: seen
            for known, seen in batch.answers.items()
            if known in asked and seen.position.at >= asked[known].at
        }

    def observations(self, events: Sequence[RawEvent]) -> Iterator[Observation]:
        """What events of the past say, and nothing stored."""
        now = self._clock.now()
        for event in events:
            told = self._decode(event, _then(event, now), nobody)
            if isinstance(told, Told):
                yield told.observation

    async def _take_in(self, unit: Unit, batch: Batch, now: Millis) -> set[Subject]:
        """Store what a batch says, and queue the customers that it says something new about."""
        changed = await self._observe(unit, batch)
        changed |= await self._take_refusals(unit, batch.refusals, now)
        await unit.enqueue(sorted(changed), now, batch.traces)
        return changed

    def _sort(self, events: Sequence[RawEvent], now: Millis, *, is_past: bool = False) -> Batch:
        """``is_past``: they came before; what lay in the future then is taken as the time when it came, as then."""
        batch, is_traced = Batch(), spans.is_on()
        sightings, told_of, forms = batch.sightings, batch.told_of, batch.forms
        for event in events:
            told = self._decode(event, _then(event, now) if is_past else now, told_of)
            if isinstance(told, Told):
                form, observation, answers, is_clamped = told
                known = sightings.get(observation.customer_id)
                if known is None:
                    known = sightings[observation.customer_id] = Sightings()
                known.take(observation)
                if answers is not None:
                    batch.answers.setdefault(answers, observation)  # later rows may still name it
                if is_traced:
                    batch.traces.update(_trace(event, form, observation.customer_id))
                forms[form, "clamped" if is_clamped else "stored"] += 1
            elif isinstance(told, Refusal):
                batch.refusals.append(told)
                forms[told.form, "stored"] += 1
            else:
                batch.letters.append(dead_letter(event, told.reason, told.detail, now))
                forms[told.form, "dead-letter"] += 1
        return batch

    async def _observe(self, unit: Unit, batch: Batch) -> set[Subject]:
        crm_ids, told = sorted(batch.sightings), set[Subject]()
        await unit.reserve([subject_of(Side.CRM, crm_id) for crm_id in crm_ids])
        answered = await unit.intents(list(batch.answers))
        unsaid = dict[str, list[Observation]]()
        for intent in answered.values():
            answer = batch.answers[intent.id]
            unsaid.setdefault(answer.customer_id, []).append(_unsaid(answer, intent))
        known = await unit.records(Side.CRM, crm_ids)
        changed: list[Record] = []
        for crm_id in crm_ids:
            before = known.get(crm_id)
            after = fold(before or new_record(Side.CRM, crm_id), batch.sightings[crm_id])
            if crm_id in unsaid:
                after = observe(after, unsaid[crm_id])
            if after is not before:
                changed.append(after)
            if before is None or not after.holds_as(before):  # an older value decides nothing anew
                told.add(subject_of(Side.CRM, crm_id))
        await unit.save_records(changed)
        await self._take_answers(unit, batch, answered)
        return told | {intent.subject for intent in answered.values() if intent.state.is_open}

    async def _take_answers(self, unit: Unit, batch: Batch, intents: Mapping[str, Intent]) -> None:
        for intent in intents.values():
            if intent.state.is_open and intent.kind in ANSWERED and intent.answered is None:
                await unit.save_intent(replace(intent, answered=field_values(batch.answers[intent.id])))

    async def _take_refusals(self, unit: Unit, refusals: Sequence[Refusal], now: Millis) -> set[Subject]:
        known = await unit.intents([refusal.command_id for refusal in refusals])
        subjects: set[Subject] = set()
        for refusal in refusals:
            intent = known.get(refusal.command_id)
            if intent is None or not intent.state.is_open or intent.side is not Side.CRM:
                continue
            if intent.state is IntentState.PREPARED:
                intent = intent.moved_to(IntentState.SENT, now)
            await self._intents.refused(unit, intent, refusal.reason, now)
            await unit.hold(
                Hold(intent.subject, HoldKind.QUARANTINE, f"the CRM refused the {intent.kind}: {refusal.reason}", now)
            )
            subjects.add(intent.subject)
        return subjects

    async def _bury(self, unit: Unit, letters: Sequence[DeadLetter]) -> None:
        await unit.bury(letters)
        await unit.post([self._describe_letter(letter) for letter in letters])


def _then(event: RawEvent, now: Millis) -> Millis:
    """When an event of the past came, as far as that is known."""
    return min(now, event.timestamp) if event.timestamp > 0 else now


def _parts_of(events: Sequence[RawEvent]) -> Iterator[Sequence[RawEvent]]:
    """So many events at a time; of a backlog, what is told of one customer together, in its order.

    Who is worked out is in the processor's caches then, and whoever comes after is locked after, in each batch.
    """
    if len(events) > AT_ONCE:
        events = sorted(events, key=_key)
    return batched(events, AT_ONCE)


def _key(event: RawEvent) -> bytes:
    return event.key or b""


def _unsaid(answer: Observation, intent: Intent) -> Observation:
    """What an answer leaves unsaid. To a create: whom it created, as good as the CRM's own note of
    the ION id. To an update: that the fields it doesn't mention hold what was asked."""
    unsaid: dict[str, Value] = {}
    if intent.kind is Kind.CREATE and intent.ion_id is not None:
        unsaid[ION_NOTE] = intent.ion_id
    elif intent.state.is_open and intent.side is Side.CRM:
        unsaid.update({name.value: value for name, value in intent.set.items()})
    return answer._replace(values={name: value for name, value in unsaid.items() if name not in answer.values})


def field_values(observation: Observation) -> Values:
    return {name: observation.values[name] for name in Field if name in observation.values}


def _trace(event: RawEvent, form: str, crm_id: str) -> Mapping[Subject, str]:
    """What comes of an event goes on its trace, if it brought one."""
    brought = next((value for name, value in event.headers if name.lower() == spans.HEADER), b"")
    with spans.span("event", (brought or b"").decode("ascii", "replace"), form=form, partition=event.partition):
        return spans.carry([subject_of(Side.CRM, crm_id)])
