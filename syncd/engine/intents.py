"""Opening and closing intents: each change is written down before its call, with who lost (S1, S4).

All methods work inside the caller's transaction and call no side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from syncd.core.decide import Decision, Outcome
from syncd.core.intent import Intent, IntentState, Kind, intent_id
from syncd.core.link import Link
from syncd.core.policy import Policy
from syncd.core.receipt import agree_on, arrived, receive, side_label
from syncd.core.record import Stamp
from syncd.core.values import (
    Field,
    Millis,
    Side,
    Values,
    subject_of,
    values_to_json,
)
from syncd.core.work import Again, Conflict, DecisionEntry, Hold, HoldKind
from syncd.engine.pair import Pair
from syncd.engine.ports import Counters, Unit

ANSWER_WAIT_MS = 60_000
"""How long a delivered command waits for the CRM's answer before it is sent again; doubles to 1 h."""


class Intents:
    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def command_crm(
        self, unit: Unit, link: Link, decision: Decision, waiting: Intent | None, now: Millis
    ) -> Again | None:
        """See to it that the CRM is asked for just what is decided now, one command at a time (S5).

        A command that is out is waited for, since it may be carried out at any moment; after a
        while it is given up as unknown, and its answer still counts if it comes late.
        """
        wanted = decision.to_crm
        if waiting is not None:
            if wanted and all(waiting.set.get(name) == value for name, value in wanted.items()):
                return None
            if waiting.state is IntentState.PREPARED:
                await self.drop(unit, [waiting], now)
            elif now < waiting.changed_at + ANSWER_WAIT_MS:
                return Again(Millis(waiting.changed_at + ANSWER_WAIT_MS))
            else:
                await unit.save_intent(waiting.moved_to(IntentState.UNKNOWN, now, "given up"))
        if not wanted:
            return None
        intent = update_intent(link, decision, Side.CRM, now)
        earlier = (await unit.intents([intent.id])).get(intent.id)
        if earlier is not None and earlier.state is IntentState.REJECTED:
            reason = f"the CRM refused the change: {earlier.answer}"
            fields = tuple(name.value for name in wanted)
            await unit.hold(Hold(intent.subject, HoldKind.QUARANTINE, reason, now, fields))
            return None
        await self.open(unit, intent, decision.outcomes, now)
        await self._send_off(unit, intent, earlier, now)
        return None

    async def _send_off(self, unit: Unit, intent: Intent, earlier: Intent | None, now: Millis) -> None:
        """Due at once; later, where the CRM sent this very command back before."""
        tries = earlier.attempts if earlier is not None else 0
        wait_ms = min(300_000, 1_000 * 2 ** min(tries, 9)) if tries else 0
        await unit.save_intent(replace(intent, attempts=tries), deliver_at=Millis(now + wait_ms))

    async def confirm_commands(
        self, unit: Unit, pair: Pair, link: Link, policy: Policy, now: Millis
    ) -> tuple[Link, Intent | None]:
        """Has the CRM done what we asked? The answer by event names the command, or the values do.

        With the link comes the command that still waits. The CRM takes a customer's commands in
        order: once one is answered, older ones that we gave up waiting for will not come any more.
        """
        older, waiting = list[Intent](), None
        held = pair.crm.values() if pair.crm else {}
        for intent in (intent for intent in pair.intents if intent.side is Side.CRM):
            if intent.answered is not None:
                receipt = receive(link, intent, intent.answered, policy, pair.region)
                link, done = receipt.link, receipt.confirmed
                if receipt.ignored:
                    kept = f"the CRM kept {named(receipt.ignored)} as it was"
                    await self.refused(unit, intent, kept, now)
                    continue
            else:
                done = arrived(intent, held, policy, pair.region)
                link = agree_on(link, {name: intent.set[name] for name in done})
            if set(done) == set(intent.set):
                await self.confirmed(unit, intent, now)
                self._counters.echo(Side.CRM)
                await self.drop(unit, older, now)
                older = []
            elif intent.state is IntentState.UNKNOWN:
                older.append(intent)
            else:
                waiting = intent
        return link, waiting

    async def drop(self, unit: Unit, intents: Iterable[Intent], now: Millis) -> None:
        """These were never sent, or can't be carried out any more."""
        for intent in intents:
            await unit.save_intent(intent.moved_to(IntentState.DROPPED, now))

    def count_kept(self, decision: Decision) -> None:
        """Differences that no rule allows to write are counted, never silent (S3)."""
        for outcome in decision.kept:
            self._counters.conflict(outcome.field, "nobody", "kept")

    async def write_ion(self, unit: Unit, link: Link, decision: Decision, now: Millis) -> Intent:
        """The intent of a write to ION, already marked as sent: the call follows at once."""
        intent = update_intent(link, decision, Side.ION, now)
        await self.open(unit, intent, decision.outcomes, now)
        intent = intent.moved_to(IntentState.SENT, now)
        await unit.save_intent(intent)
        return intent

    async def open(self, unit: Unit, intent: Intent, outcomes: Iterable[Outcome], now: Millis) -> None:
        """Archive who lost, and log the decision, in the transaction that stores the intent."""
        lost = [outcome for outcome in outcomes if outcome.is_conflict and outcome.write_to is intent.side]
        await unit.archive([conflict_of(intent, outcome, now) for outcome in lost])
        await unit.log([entry(intent, f"{intent.kind}-decided", now, intent.why)])
        for outcome in lost:
            winner = outcome.winner or intent.side.other
            self._counters.conflict(outcome.field, winner.value, outcome.rule.value)

    async def create_in_crm(self, unit: Unit, ion_id: str, values: Values, now: Millis) -> None:
        """Ask the CRM, once and under a deterministic id, to create what is new in ION."""
        subject = subject_of(Side.ION, ion_id)
        intent = Intent(
            id=intent_id(subject, Side.CRM, Kind.CREATE, {}, {}),
            subject=subject,
            side=Side.CRM,
            kind=Kind.CREATE,
            set=values,
            expect={},
            state=IntentState.PREPARED,
            at=now,
            ion_id=ion_id,
            why={"rule": "new-in-ion"},
            changed_at=now,
        )
        earlier = (await unit.intents([intent.id])).get(intent.id)
        if earlier is not None and earlier.state is IntentState.REJECTED:
            reason = f"the CRM refused to create it: {earlier.answer}"
            await unit.hold(Hold(subject, HoldKind.QUARANTINE, reason, now))
            return
        await self.open(unit, intent, (), now)
        await self._send_off(unit, intent, earlier, now)

    async def create_in_ion(self, unit: Unit, crm_id: str, values: Values, attempts: int, now: Millis) -> Intent:
        """The intent of a create in ION, already marked as sent: the call follows at once."""
        subject = subject_of(Side.CRM, crm_id)
        intent = Intent(
            id=intent_id(subject, Side.ION, Kind.CREATE, values, {}),
            subject=subject,
            side=Side.ION,
            kind=Kind.CREATE,
            set=values,
            expect={},
            state=IntentState.SENT,
            at=now,
            crm_id=crm_id,
            why={"rule": "new-in-crm"},
            attempts=attempts,
            changed_at=now,
        )
        await self.open(unit, intent, (), now)
        await unit.save_intent(intent)
        return intent

    async def confirmed(self, unit: Unit, intent: Intent, now: Millis) -> None:
        if intent.state is IntentState.PREPARED:  # the side had it before the command went out
            intent = intent.moved_to(IntentState.SENT, now)
        await unit.save_intent(intent.moved_to(IntentState.CONFIRMED, now))
        await unit.log([entry(intent, f"{intent.kind}-confirmed", now)])
        self._counters.confirmed(intent.side, max(0.0, (now - edited_at(intent)) / 1000))

    async def refused(self, unit: Unit, intent: Intent, answer: str, now: Millis) -> None:
        if intent.state is IntentState.PREPARED:
            intent = intent.moved_to(IntentState.SENT, now)
        await unit.save_intent(intent.moved_to(IntentState.REJECTED, now, answer))
        await unit.log([entry(intent, f"{intent.kind}-refused", now, {"answer": answer})])

    async def set_aside(self, unit: Unit, intent: Intent, answer: str, now: Millis) -> None:
        """Refused for good: the customer waits until its record changes or a person releases it."""
        await self.refused(unit, intent, answer, now)
        reason = f"{side_label(intent.side)} refused the {intent.kind}: {answer}"
        fields = tuple(name.value for name in intent.set)
        await unit.hold(Hold(intent.subject, HoldKind.QUARANTINE, reason, now, fields))


def update_intent(link: Link, decision: Decision, side: Side, now: Millis) -> Intent:
    """What is decided for one side, as an intent that the same decision always names alike."""
    outcomes = [outcome for outcome in decision.outcomes if outcome.write_to is side]
    values = {outcome.field: outcome.value for outcome in outcomes}
    expect = {outcome.field: outcome.loser for outcome in outcomes}
    subject = subject_of(Side.CRM, link.crm_id)
    salt = repr([(outcome.field, _winning_stamp(outcome)) for outcome in outcomes])
    return Intent(
        id=intent_id(subject, side, Kind.UPDATE, values, expect, salt),
        subject=subject,
        side=side,
        kind=Kind.UPDATE,
        set=values,
        expect=expect,
        state=IntentState.PREPARED,
        at=now,
        crm_id=link.crm_id,
        ion_id=link.ion_id,
        why={outcome.field.value: _reason(outcome) for outcome in outcomes},
        changed_at=now,
    )


def conflict_of(intent: Intent, outcome: Outcome, now: Millis) -> Conflict:
    return Conflict(
        id=f"{intent.id}-{outcome.field}",
        crm_id=intent.crm_id or "",
        ion_id=intent.ion_id or "",
        field=outcome.field,
        rule=outcome.rule.value,
        winner=outcome.winner or intent.side.other,
        winning=outcome.value,
        losing=outcome.loser,
        crm_stamp=outcome.crm_stamp,
        ion_stamp=outcome.ion_stamp,
        intent_id=intent.id,
        at=now,
    )


def entry(intent: Intent, what: str, now: Millis, detail: object = None) -> DecisionEntry:
    body: dict[str, object] = {"side": intent.side.value, "set": values_to_json(intent.set)}
    if detail:
        body["why"] = detail
    return DecisionEntry(now, intent.subject, intent.crm_id, intent.ion_id, what, intent.id, body)


def edited_at(intent: Intent) -> Millis:
    """When the newest of the edits that this intent carries happened, as well as we know."""
    reasons = (reason for reason in intent.why.values() if isinstance(reason, dict))
    return max((Millis(int(reason["edited"])) for reason in reasons if "edited" in reason), default=intent.at)


def named(fields: Collection[Field]) -> str:
    return ", ".join(sorted(name.value for name in fields))


def _winning_stamp(outcome: Outcome) -> Stamp | None:
    return outcome.ion_stamp if outcome.winner is Side.ION else outcome.crm_stamp


def _reason(outcome: Outcome) -> dict[str, object]:
    reason: dict[str, object] = {"rule": outcome.rule.value, "winner": str(outcome.winner)}
    for side, stamp in ((Side.CRM, outcome.crm_stamp), (Side.ION, outcome.ion_stamp)):
        if stamp is not None:
            reason[side.value] = list(stamp)
    stamp = _winning_stamp(outcome)
    if stamp is not None:
        reason["edited"] = stamp.latest
    return reason
