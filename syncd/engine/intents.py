"""Opening and closing intents: each change is written down before its call, with who lost (S1, S4).

All methods work inside the caller's transaction and call no side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import replace

from syncd.core.decide import Decision, Outcome
from syncd.core.intent import Intent, IntentState, Kind, intent_id
from syncd.core.link import Link, LinkState
from syncd.core.plan import Change, ChangeKind, change_of
from syncd.core.policy import Policy
from syncd.core.receipt import agree_on, arrived, is_same, receive, side_label
from syncd.core.record import Stamp
from syncd.core.values import (
    Field,
    Millis,
    Side,
    Values,
    subject_of,
    value_from_json,
    values_to_json,
)
from syncd.core.work import Again, Conflict, DecisionEntry, Hold, HoldKind
from syncd.engine import spans
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
            if covers(waiting, wanted):
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
        overtaken = await self._close_undos(unit, pair, held, policy, now)
        commands = (i for i in pair.intents if i.side is Side.CRM and i.kind in (Kind.CREATE, Kind.UPDATE))
        for intent in (i for i in commands if i.id not in overtaken):
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

    async def _close_undos(self, unit: Unit, pair: Pair, held: Values, policy: Policy, now: Millis) -> set[str]:
        """Is the value back? That is no agreement: from here on it is an edit like any other.

        Returns the commands that it has overtaken: what they asked for did not come about by them.
        """
        overtaken = dict[str, Intent]()
        for intent in (i for i in pair.intents if i.kind is Kind.UNDO):
            [(name, wanted)], [was] = intent.set.items(), intent.expect.values()
            told = intent.answered is not None
            value = (intent.answered or {}).get(name, wanted) if told else held.get(name)
            if is_same(policy, name, value, was, pair.region):
                if told:
                    await self.refused(unit, intent, f"the CRM kept {name} as it was", now)
                elif _has_moved(intent, pair, policy):
                    await self.refused(unit, intent, "ION's value was edited meanwhile", now)
            elif told or is_same(policy, name, value, wanted, pair.region):
                await self.confirmed(unit, intent, now)
                await unit.archive([displaced_by(intent, name, now)])
                overtaken |= {i.id: i for i in pair.intents if i.kind is Kind.UPDATE and name in i.set}
            else:
                await self.refused(unit, intent, "the CRM's value was edited meanwhile", now)
        overtaken = {key: i for key, i in overtaken.items() if i.side is Side.CRM}
        await self.drop(unit, overtaken.values(), now, "overtaken by what a person put back")
        return set(overtaken)

    async def drop(self, unit: Unit, intents: Iterable[Intent], now: Millis, why: str | None = None) -> None:
        """These were never sent, or can't be carried out any more."""
        for intent in intents:
            await unit.save_intent(intent.moved_to(IntentState.DROPPED, now, why))

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

    async def create_in_crm(self, unit: Unit, intent: Intent, now: Millis) -> None:
        """Ask the CRM, once and under a deterministic id, to create what is new in ION."""
        earlier = (await unit.intents([intent.id])).get(intent.id)
        if earlier is not None and earlier.state is IntentState.REJECTED:
            reason = f"the CRM refused to create it: {earlier.answer}"
            await unit.hold(Hold(intent.subject, HoldKind.QUARANTINE, reason, now))
            return
        await self.open(unit, intent, (), now)
        await self._send_off(unit, intent, earlier, now)

    async def create_in_ion(self, unit: Unit, intent: Intent, attempts: int, now: Millis) -> Intent:
        """The intent of a create in ION, marked as sent: the call follows at once."""
        intent = replace(intent, state=IntentState.SENT, attempts=attempts)
        await self.open(unit, intent, (), now)
        await unit.save_intent(intent)
        return intent

    async def notice(self, unit: Unit, link: Link, what: str, now: Millis) -> None:
        """Tell the CRM of what became of the pair; it answers nothing (S10)."""
        subject = subject_of(Side.CRM, link.crm_id)
        intent = Intent(
            id=intent_id(subject, Side.CRM, Kind.NOTICE, {}, {}, f"{what} {link.since}"),
            subject=subject,
            side=Side.CRM,
            kind=Kind.NOTICE,
            set={},
            expect={},
            state=IntentState.PREPARED,
            at=now,
            crm_id=link.crm_id,
            ion_id=link.ion_id,
            why={"notice": what},
            changed_at=now,
            trace=spans.current(),
        )
        await self.open(unit, intent, (), now)
        await unit.save_intent(intent, deliver_at=now)

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


def covers(waiting: Intent | None, wanted: Values) -> bool:
    """A command that is out asks for all of this already."""
    return (
        waiting is not None and bool(wanted) and all(waiting.set.get(name) == value for name, value in wanted.items())
    )


def wanted_changes(link: Link, decision: Decision, waiting: Intent | None, now: Millis) -> list[Change]:
    """What a decision wants to write and no command under way asks for already, one change a side."""
    changes = []
    if decision.to_crm and not covers(waiting, decision.to_crm):
        changes.append(change_of(update_intent(link, decision, Side.CRM, now), link.base))
    if decision.to_ion:
        changes.append(change_of(update_intent(link, decision, Side.ION, now), link.base))
    return changes


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
        trace=spans.current(),
    )


def link_change(link: Link, state: LinkState, now: Millis) -> Change:
    """The pair is to stand still, because of the side where the customer is gone: for the guard to count."""
    side = Side.CRM if state is LinkState.DELETED_IN_CRM else Side.ION
    subject = subject_of(Side.CRM, link.crm_id)
    name = hashlib.sha256(f"{subject} {state} {link.since}".encode()).hexdigest()[:32]
    why = {"link": state.value}
    return Change(name, subject, side, ChangeKind.LINK, {}, {}, link.base, now, link.crm_id, link.ion_id, why)


def create_intent(side: Side, customer_id: str, values: Values, now: Millis) -> Intent:
    """A create on ``side`` of the customer that the other side has as ``customer_id``.

    What is sent to the CRM has no part in the id: it is asked once for each ION customer, whatever
    has become of its values.
    """
    subject = subject_of(side.other, customer_id)
    is_crm = side is Side.CRM
    return Intent(
        id=intent_id(subject, side, Kind.CREATE, {} if is_crm else values, {}),
        subject=subject,
        side=side,
        kind=Kind.CREATE,
        set=values,
        expect={},
        state=IntentState.PREPARED,
        at=now,
        crm_id=None if is_crm else customer_id,
        ion_id=customer_id if is_crm else None,
        why={"rule": f"new-in-{side.other}"},
        changed_at=now,
        trace=spans.current(),
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


def _has_moved(undo: Intent, pair: Pair, policy: Policy) -> bool:
    """ION shows another value than when a person asked for the undo."""
    return any(
        pair.ion is not None
        and isinstance(why, dict)
        and not is_same(policy, name, pair.ion.value(name), value_from_json(why["in_ion"]), pair.region)
        for name in undo.set
        if (why := undo.why.get(name.value))
    )


def displaced_by(undo: Intent, name: Field, now: Millis) -> Conflict:
    """The value that gave way to one that was put back."""
    why = undo.why[name.value]
    return Conflict(
        id=f"{undo.id}-{name}",
        crm_id=undo.crm_id or "",
        ion_id=undo.ion_id or "",
        field=name,
        rule="undo",
        winner=Side(why["winner"]) if isinstance(why, dict) else Side.CRM,
        winning=undo.set[name],
        losing=undo.expect[name],
        crm_stamp=None,
        ion_stamp=None,
        intent_id=undo.id,
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
    reason: dict[str, object] = {"rule": outcome.rule.value, "winner": outcome.winner and outcome.winner.value}
    for side, stamp in ((Side.CRM, outcome.crm_stamp), (Side.ION, outcome.ion_stamp)):
        if stamp is not None:
            reason[side.value] = list(stamp)
    stamp = _winning_stamp(outcome)
    if stamp is not None:
        reason["edited"] = stamp.latest
    return reason
