"""What people and machines are shown: the JSON of ``/v1`` and of every ``--json``, in one place.

Each view is made from a value of the core or the engine by ``of``; its fields are the API's schema.
Instants are RFC 3339 in UTC; a field's value is a text, an address as an object, or null for blank.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from syncd.core import catalogue, decide, intent, licences, link, match, order, plan, record, values, verify, work
from syncd.core.instants import when
from syncd.engine import desk, explain, quarantine, review
from syncd.engine import licences as snapshots
from syncd.engine import status as state

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Values = dict[str, JsonValue]
"""Field to value."""


class View(BaseModel):
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class Link(View):
    crm_id: str
    ion_id: str
    state: link.LinkState
    how: link.How
    since: Instant

    @classmethod
    def of(cls, known: link.Link) -> Self:
        return cls(
            crm_id=known.crm_id, ion_id=known.ion_id, state=known.state, how=known.how, since=when(known.since)
        )


class Found(View):
    """A customer of one side, found by id, company or e-mail."""

    customer: str
    side: values.Side
    company: JsonValue
    email: JsonValue
    crm_id: str | None
    ion_id: str | None
    state: str

    @classmethod
    def of(cls, found: desk.Found) -> Self:
        one, known = found
        return cls(
            customer=one.customer_id if one.side is values.Side.CRM else f"ion:{one.customer_id}",
            side=one.side,
            company=_plain(one.value(values.Field.COMPANY)),
            email=_plain(one.value(values.Field.EMAIL)),
            crm_id=known.crm_id if known else one.customer_id if one.side is values.Side.CRM else None,
            ion_id=known.ion_id if known else one.customer_id if one.side is values.Side.ION else None,
            state=known.state.value if known else "unlinked",
        )


class Hold(View):
    subject: str
    customer: str
    kind: work.HoldKind
    reason: str
    since: Instant
    fields: list[str]

    @classmethod
    def of(cls, hold: work.Hold) -> Self:
        return cls(
            subject=hold.subject,
            customer=hold.subject.removeprefix("crm:"),
            kind=hold.kind,
            reason=hold.reason,
            since=when(hold.since),
            fields=list(hold.fields),
        )


class Conflict(View):
    id: str
    at: Instant
    crm_id: str
    ion_id: str
    field: values.Field
    winner: values.Side
    rule: str
    winning: JsonValue
    losing: JsonValue
    crm_stamp: list[Instant] | None
    ion_stamp: list[Instant] | None
    intent: str

    @classmethod
    def of(cls, conflict: work.Conflict) -> Self:
        return cls(
            id=conflict.id,
            at=when(conflict.at),
            crm_id=conflict.crm_id,
            ion_id=conflict.ion_id,
            field=conflict.field,
            winner=conflict.winner,
            rule=conflict.rule,
            winning=_plain(conflict.winning),
            losing=_plain(conflict.losing),
            crm_stamp=_stamp(conflict.crm_stamp),
            ion_stamp=_stamp(conflict.ion_stamp),
            intent=conflict.intent_id,
        )


class Divergence(View):
    """A linked customer who was not proven equal when all were last compared."""

    crm_id: str
    ion_id: str
    fields: list[str]
    standing: verify.Standing
    since: Instant
    equal_until: Instant

    @classmethod
    def of(cls, found: verify.Divergence) -> Self:
        return cls(
            crm_id=found.crm_id,
            ion_id=found.ion_id,
            fields=list(found.fields),
            standing=found.standing,
            since=when(found.since),
            equal_until=when(found.equal_until),
        )


class DeadLetter(View):
    id: int
    at: Instant
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    key: str | None
    value: str | None
    value_base64: str | None
    headers: dict[str, str]

    @classmethod
    def of(cls, letter: work.DeadLetter) -> Self:
        return cls(
            id=letter.id,
            at=when(letter.at),
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            reason=letter.reason,
            detail=letter.detail,
            key=_text(letter.key),
            value=_text(letter.value),
            value_base64=None if letter.value is None else base64.b64encode(letter.value).decode(),
            headers={name: _text(value) or "" for name, value in letter.headers},
        )


class Change(View):
    id: str
    crm_id: str | None
    ion_id: str | None
    side: values.Side
    kind: plan.ChangeKind
    state: plan.ChangeState
    set: Values
    expect: Values
    base: Values
    why: dict[str, JsonValue]
    since: Instant

    @classmethod
    def of(cls, change: plan.Change) -> Self:
        return cls(
            id=change.id,
            crm_id=change.crm_id,
            ion_id=change.ion_id,
            side=change.side,
            kind=change.kind,
            state=change.state,
            set=_values(change.set),
            expect=_values(change.expect),
            base=_values(change.base),
            why=_json(change.why),
            since=when(change.at),
        )


class Plan(View):
    digest: str
    held: bool
    reason: str
    counts: dict[str, int]
    ion_calls: int
    minutes: float
    total: int
    changes: list[Change]

    @classmethod
    def of(cls, found: plan.Plan, limit: int) -> Self:
        return cls(
            digest=found.digest,
            held=bool(found.reason),
            reason=found.reason,
            counts=found.tally._asdict(),
            ion_calls=found.ion_calls,
            minutes=round(found.minutes, 2),
            total=len(found.changes),
            changes=[Change.of(change) for change in found.changes[:limit]],
        )


class Intent(View):
    id: str
    side: values.Side
    kind: intent.Kind
    state: intent.IntentState
    at: Instant
    changed_at: Instant
    attempts: int
    set: Values
    expect: Values
    answer: str | None

    @classmethod
    def of(cls, known: intent.Intent) -> Self:
        return cls(
            id=known.id,
            side=known.side,
            kind=known.kind,
            state=known.state,
            at=when(known.at),
            changed_at=when(known.changed_at),
            attempts=known.attempts,
            set=_values(known.set),
            expect=_values(known.expect),
            answer=known.answer,
        )


class Seen(View):
    """One value that a side was seen to hold of a field."""

    field: values.Field
    side: values.Side
    value: JsonValue
    first_seen: Instant
    is_exact: bool
    last_seen: Instant

    @classmethod
    def of(cls, name: values.Field, side: values.Side, sighting: record.Sighting) -> Self:
        return cls(
            field=name,
            side=side,
            value=_plain(sighting.value),
            first_seen=when(sighting.first),
            is_exact=sighting.is_exact,
            last_seen=when(sighting.until),
        )


class SetAside(View):
    """Why a customer is set aside."""

    subject: str
    holds: list[Hold]
    seen: list[Seen]
    writes: list[Intent]

    @classmethod
    def of(cls, story: quarantine.Story) -> Self:
        return cls(
            subject=story.pair.subject,
            holds=[Hold.of(hold) for hold in story.holds],
            seen=[Seen.of(name, side, sighting) for side, name, sighting in story.seen],
            writes=[Intent.of(write) for write in story.writes],
        )


class Candidate(View):
    crm_id: str
    ion_id: str
    tier: match.Tier
    score: float
    evidence: str
    fields: Values = {}
    """What the other side holds of it."""

    @classmethod
    def of(cls, candidate: match.Candidate, other: record.Record | None = None) -> Self:
        return cls(
            crm_id=candidate.crm_id,
            ion_id=candidate.ion_id,
            tier=candidate.tier,
            score=candidate.score,
            evidence=", ".join(candidate.evidence),
            fields=_held(other),
        )


class Case(View):
    """A customer that waits to be told whom it is."""

    subject: str
    reason: str
    since: Instant
    fields: Values
    candidates: list[Candidate]

    @classmethod
    def of(cls, case: review.Case) -> Self:
        return cls(
            subject=case.hold.subject,
            reason=case.hold.reason,
            since=when(case.hold.since),
            fields=_held(case.record),
            candidates=[Candidate.of(candidate, other) for candidate, other in case.candidates],
        )


class Outcome(View):
    """What is decided of a field now."""

    rule: decide.Rule
    winner: values.Side | None
    write_to: values.Side | None
    stamps: dict[str, list[Instant]]

    @classmethod
    def of(cls, outcome: decide.Outcome) -> Self:
        stamps = {"crm": _stamp(outcome.crm_stamp), "ion": _stamp(outcome.ion_stamp)}
        return cls(
            rule=outcome.rule,
            winner=outcome.winner,
            write_to=outcome.write_to,
            stamps={side: stamp for side, stamp in stamps.items() if stamp is not None},
        )


class FieldStory(View):
    crm: list[Seen]
    ion: list[Seen]
    agreed: JsonValue
    now: Outcome | None

    @classmethod
    def of(cls, story: explain.FieldStory) -> Self:
        return cls(
            crm=[Seen.of(story.field, values.Side.CRM, sighting) for sighting in story.crm],
            ion=[Seen.of(story.field, values.Side.ION, sighting) for sighting in story.ion],
            agreed=_plain(story.agreed),
            now=Outcome.of(story.outcome) if story.outcome else None,
        )


class ImportLine(View):
    line: int
    crm_id: str
    ion_id: str
    what: str
    """``new``, ``known already``, or why it can't be linked."""

    @classmethod
    def of(cls, told: desk.ImportLine) -> Self:
        return cls(line=told.line, crm_id=told.crm_id, ion_id=told.ion_id, what=told.what)


class Step(View):
    """One entry of the log of decisions, with the call that carried it and what was put aside for it."""

    at: Instant
    what: str
    side: values.Side | None
    set: Values
    why: dict[str, JsonValue]
    """By field, or by ``link``: the rule, the winner, both stamps."""
    detail: dict[str, JsonValue]
    """What else the entry says, such as who did it."""
    call: Intent | None
    put_aside: list[Conflict]

    @classmethod
    def of(cls, step: explain.Step) -> Self:
        entry = step.entry
        told, why = entry.detail.get("set"), entry.detail.get("why")
        return cls(
            at=when(entry.at),
            what=entry.what,
            side=explain.side_of(entry),
            set=_json(told) if isinstance(told, Mapping) else {},
            why=_told(why) if isinstance(why, Mapping) else {},
            detail=_json({name: said for name, said in entry.detail.items() if name not in ("side", "set", "why")}),
            call=Intent.of(step.intent) if step.intent else None,
            put_aside=[Conflict.of(conflict) for conflict in step.put_aside],
        )


class Explanation(View):
    """One customer's story."""

    crm_id: str | None
    ion_id: str | None
    state: str
    how: link.How | None
    waits_for: list[Hold]
    fields: dict[str, FieldStory]
    story: list[Step]
    """Oldest first."""
    candidates: list[Candidate]

    @classmethod
    def of(cls, found: explain.Explanation) -> Self:
        known = found.pair.link
        return cls(
            crm_id=found.pair.crm_id,
            ion_id=found.pair.ion_id,
            state=known.state.value if known else "unlinked",
            how=known.how if known else None,
            waits_for=[Hold.of(hold) for hold in found.holds],
            fields={story.field.value: FieldStory.of(story) for story in found.fields},
            story=[Step.of(step) for step in found.steps],
            candidates=[Candidate.of(candidate) for candidate in found.candidates],
        )


class Sweep(View):
    started: Instant
    ended: Instant
    pages: int
    customers: int
    changed: int
    outcome: str

    @classmethod
    def of(cls, sweep: work.Sweep) -> Self:
        return cls(
            started=when(sweep.started),
            ended=when(sweep.ended),
            pages=sweep.pages,
            customers=sweep.customers,
            changed=sweep.changed,
            outcome=sweep.outcome.value,
        )


class Order(View):
    """An order of the CRM's. What its items' attributes held, nobody is shown."""

    id: str
    customer: str
    state: order.OrderState
    reason: str
    since: Instant
    value: str | None
    """A decimal number as text."""
    currency: str | None
    ion_order: str | None
    ion_status: str | None
    items: list[str]

    @classmethod
    def of(cls, known: order.Order) -> Self:
        return cls(
            id=known.id,
            customer=known.customer,
            state=known.state,
            reason=known.reason,
            since=when(known.changed_at),
            value=_money(known.value),
            currency=known.currency,
            ion_order=known.ion_order,
            ion_status=known.ion_status,
            items=[
                " ".join(filter(None, (f"{item.quantity} ×", item.product, item.sku, item.plan, item.subscription)))
                for item in known.items
            ],
        )


class Roll(View):
    """One SKU over all customers. Money is a decimal number as text, for one billing cycle; null: not known."""

    vendor: str
    sku: str
    name: str
    customers: int
    seats: int
    cost: str | None
    revenue: str | None
    margin: str | None
    currency: str | None

    @classmethod
    def of(cls, roll: licences.Roll) -> Self:
        plain = {name: getattr(roll, name) for name in ("vendor", "sku", "name", "customers", "seats", "currency")}
        return cls(**plain, cost=_money(roll.cost), revenue=_money(roll.revenue), margin=_money(roll.margin))


class Drift(View):
    """How one subscription's active seats moved."""

    at: Instant
    kind: licences.DriftKind
    subscription: str
    customer: str | None
    """The CRM's id, where the customer is linked."""
    ion_customer: str
    company: str
    vendor: str
    sku: str
    was: int
    seats: int


class Gap(View):
    """Seats in ION that are not what the CRM has under contract."""

    customer: str | None
    ion_customer: str | None
    company: str
    sku: str
    contracted: int
    seats: int


class Licences(View):
    """The newest snapshot, what moved, and what is not under contract."""

    at: Instant
    before: Instant | None
    subscriptions: int
    seats: int
    skus: list[Roll]
    drift: list[Drift]
    gaps: list[Gap]

    @classmethod
    def of(cls, found: snapshots.Change) -> Self:
        return cls(
            at=when(found.snapshot.at),
            before=when(found.before.at) if found.before else None,
            subscriptions=found.snapshot.subscriptions,
            seats=found.snapshot.seats,
            skus=many(Roll, found.snapshot.rolls),
            drift=[
                Drift(
                    at=when(one.at),
                    kind=one.kind,
                    subscription=one.subscription.id,
                    customer=found.names.get(one.subscription.ion_customer),
                    ion_customer=one.subscription.ion_customer,
                    company=found.companies.get(one.subscription.ion_customer, ""),
                    vendor=one.subscription.vendor or "",
                    sku=one.subscription.sku,
                    was=one.was,
                    seats=one.seats,
                )
                for one in found.drift
            ],
            gaps=[
                Gap(
                    customer=gap.customer,
                    ion_customer=gap.ion_customer,
                    company=found.companies.get(gap.ion_customer or "", ""),
                    sku=gap.sku,
                    contracted=gap.contracted,
                    seats=gap.seats,
                )
                for gap in found.gaps
            ],
        )


class Status(View):
    at: Instant
    links: dict[str, int]
    pending: dict[str, int]
    oldest_pending_seconds: float
    commands_open: int
    oldest_command_seconds: float
    unknown_outcomes: int
    holds: dict[str, int]
    held_changes: int
    held_reason: str
    is_paused: bool
    budget_limit: int
    budget_rate: float
    budget_used: int
    budget_closed_seconds: float
    last_sweep: Sweep | None
    complete_sweep_age_seconds: float | None
    token_age_seconds: float | None
    token_expires_seconds: float | None
    token_problem: str | None
    verified_age_seconds: float | None
    divergent: int
    oldest_unverified_seconds: float | None
    offsets: dict[str, dict[int, int]]
    orders: dict[str, int]
    licence_seats: dict[str, int]
    licence_drift: dict[str, int]
    snapshot_age_seconds: float | None

    @classmethod
    def of(cls, found: state.Status) -> Self:
        plain = {name: getattr(found, name) for name in cls.model_fields if name not in ("at", "last_sweep")}
        return cls(at=when(found.at), last_sweep=Sweep.of(found.last_sweep) if found.last_sweep else None, **plain)


def many(view: Any, found: Iterable[Any]) -> list[Any]:
    return [view.of(one) for one in found]


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else catalogue.money(amount)


def _plain(value: values.Value) -> JsonValue:
    return values.value_to_json(value)  # type: ignore[return-value]


def _values(held: values.Values) -> Values:
    return values.values_to_json(held)  # type: ignore[return-value]


def _held(known: record.Record | None) -> Values:
    return {} if known is None else _values(known.values())


def _json(told: Mapping[str, object]) -> dict[str, JsonValue]:
    return dict(told)  # type: ignore[arg-type]


def _stamp(stamp: record.Stamp | None) -> list[str] | None:
    return None if stamp is None else [when(stamp.earliest), when(stamp.latest)]


def _told(why: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Instants inside a reason, as the rest of the output tells them."""
    told = dict[str, JsonValue]()
    for name, value in why.items():
        if name in ("crm", "ion") and isinstance(value, list):
            told[name] = [when(at) for at in value]
        elif name == "edited" and isinstance(value, int):
            told[name] = when(value)
        else:
            told[name] = _told(value) if isinstance(value, Mapping) else value
    return told


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")
