"""What goes out to the CRM and to Kafka: commands, link records, dead letters.

A command is an intent that stays due until the CRM has answered; it is sent again under the same
id with growing distance. Other messages wait in the store until the broker has them. Both may be
sent twice, neither can be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from syncd.core.circuit import Circuit
from syncd.core.errors import DecideAgain, Rejected, SideError, SideUnavailable, StoreConflict, Transient
from syncd.core.intent import ANSWERED, Intent, IntentState, Kind
from syncd.core.record import ION_NOTE, Observation, Position, new_record, observe
from syncd.core.values import Millis, Side, subject_of
from syncd.engine import spans
from syncd.engine.facts import Facts
from syncd.engine.ingest import field_values
from syncd.engine.intents import ANSWER_WAIT_MS, Intents
from syncd.engine.ports import Clock, Command, CrmAnswer, CrmSink, Posts, Store, Unit
from syncd.engine.tries import insist

UNANSWERED_MS, FORGET_EVERY_MS = 3_600_000, 60_000
HAND_OVER_MS = 30_000
"""A command that was about to be handed over when its process died is handed over again after so long (S12)."""
SHUT_MS = 30_000
"""The longest that a topic is let alone which takes no messages."""


class _Shut(NamedTuple):
    until: Millis
    failures: int


class Deliver:
    def __init__(
        self, store: Store, sink: CrmSink, posts: Posts, clock: Clock, facts: Facts, intents: Intents
    ) -> None:
        self._store = store
        self._sink = sink
        self._posts = posts
        self._clock = clock
        self._facts = facts
        self._intents = intents
        self._circuit = Circuit()
        self._shut: dict[str, _Shut] = {}
        self._forgot_at = Millis(0)

    async def commands(self, limit: int = 100) -> Millis | None:
        """Deliver the commands that are due, unless writes are paused; when the next one is."""
        now = self._clock.now()
        if wait_ms := self._circuit.wait_ms(now):
            return Millis(now + wait_ms)
        async with self._store.begin() as unit:
            if (await unit.guard_state()).paused_since is not None:
                return None
            await self._forget_unanswered(unit, now)
            due = await unit.commands_due(now, limit)
            for intent in due:
                await unit.save_intent(intent.sent_again(now), deliver_at=Millis(now + HAND_OVER_MS))
            next_due = await unit.next_command_due()
        handed = list[str]()
        for intent in due:
            with suppress(StoreConflict):  # what became of this one can't be noted: it goes again, under its id
                if await self._deliver(intent.sent_again(now)):
                    handed.append(intent.id)
        await insist(partial(self._wait_for_answers, handed))
        return next_due

    async def _wait_for_answers(self, ids: Sequence[str]) -> None:
        """What the CRM has got is sent again only when no answer comes: with growing distance."""
        if not ids:
            return
        now = self._clock.now()
        async with self._store.begin() as unit:
            for intent in (await unit.intents(ids)).values():
                if intent.state is IntentState.SENT:
                    wait_ms = min(3_600_000, ANSWER_WAIT_MS * 2 ** min(intent.attempts - 1, 6))
                    await unit.save_intent(intent, deliver_at=Millis(now + wait_ms))

    async def _forget_unanswered(self, unit: Unit, now: Millis) -> None:
        """A command that was given up, and not answered in an hour, will not be any more."""
        if now < self._forgot_at + FORGET_EVERY_MS:
            return
        self._forgot_at = now
        await self._intents.drop(
            unit, await unit.unknown_commands(Millis(now - UNANSWERED_MS)), now, "never answered"
        )

    async def messages(self, limit: int = 500) -> int:
        """Hand waiting messages to Kafka, topic by topic; how many there were.

        A topic that takes none, since it is missing or may not be written to, is let alone for a while: it must
        not hold up the others.
        """
        now = self._clock.now()
        shut = [topic for topic, door in self._shut.items() if door.until > now]
        async with self._store.begin() as unit:
            waiting = await unit.posted(limit, shut)
        for topic in dict.fromkeys(message.topic for message in waiting):
            mine = [message for message in waiting if message.topic == topic]
            try:
                await self._posts.send(mine)
            except SideError as error:
                failures = self._shut[topic].failures + 1 if topic in self._shut else 1
                wait_ms = min(SHUT_MS, 1_000 * 2**failures)
                self._shut[topic] = _Shut(Millis(self._clock.now() + wait_ms), failures)
                raise Transient(f"{topic}: {error.sentence}") from None
            self._shut.pop(topic, None)
            async with self._store.begin() as unit:
                await unit.unpost([message.id for message in mine])
        return len(waiting)

    async def _deliver(self, intent: Intent) -> bool:
        """``False``: it did not get there, or was refused; what may work later is due by then.

        The CRM's event about it is often stored at the very same moment: then what became of it is noted once more,
        since all that were to be handed over with it would wait for ``HAND_OVER_MS``.
        """
        answer: object = None
        try:
            if self._circuit.wait_ms(self._clock.now()):
                raise SideUnavailable("the CRM does not answer; it is tried again soon")
            with spans.span("command", intent.trace, kind=intent.kind.value, attempts=intent.attempts):
                answer = await self._sink.deliver(Command(intent, intent.at))
        except SideError as error:
            if isinstance(error, SideUnavailable):
                self._circuit = self._circuit.failed(self._clock.now())
            await insist(partial(self._take_failure, intent, error))
            answer = error.answer if isinstance(error, DecideAgain) else None
            is_there = False
        else:
            is_there = True
            self._circuit = Circuit()
            if intent.kind is Kind.NOTICE:
                await insist(partial(self._noticed, intent))
        if isinstance(answer, CrmAnswer):
            await insist(partial(self._take_answer, intent, answer))
        return is_there

    async def _noticed(self, intent: Intent) -> None:
        """A notice is answered by nobody: delivered is done."""
        async with self._store.begin() as unit:
            await self._intents.confirmed(unit, intent, self._clock.now())

    async def _take_failure(self, sent: Intent, error: SideError) -> None:
        """The CRM said no, or nothing. An event may have answered the command meanwhile: then it stands."""
        now = self._clock.now()
        async with self._store.begin() as unit:
            intent = (await unit.intents([sent.id])).get(sent.id)
            if intent is None or intent.state is not IntentState.SENT:
                return
            if isinstance(error, Rejected):
                await self._intents.set_aside(unit, intent, error.sentence, now)
            elif isinstance(error, DecideAgain):
                await unit.save_intent(intent.moved_to(IntentState.DROPPED, now, error.sentence))
                await unit.enqueue([intent.subject], now)
            else:
                wait_ms = self._facts.back_off_ms(intent.attempts)
                await unit.save_intent(intent, deliver_at=Millis(now + wait_ms))

    async def _take_answer(self, intent: Intent, answer: CrmAnswer) -> None:
        """The CRM answered at once: what it says it holds is an observation like any other."""
        now = self._clock.now()
        values = dict(answer.values)
        if intent.kind is Kind.CREATE and intent.ion_id is not None:
            values[ION_NOTE] = intent.ion_id
        seen = Observation(Side.CRM, answer.crm_id, values, Position(None, answer.asked, 0), is_edit=False)
        async with self._store.begin() as unit:
            known = (await unit.records(Side.CRM, [answer.crm_id])).get(answer.crm_id)
            record = observe(known or new_record(Side.CRM, answer.crm_id), [seen])
            if record is not known:
                await unit.save_records([record])
            current = (await unit.intents([intent.id])).get(intent.id)
            if current is not None and current.state.is_open and intent.kind in ANSWERED:
                await unit.save_intent(replace(current, answered=field_values(seen)))
            await unit.enqueue([subject_of(Side.CRM, answer.crm_id)], now)
