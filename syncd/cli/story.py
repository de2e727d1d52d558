"""``explain`` and ``undo``: why a customer is as it is, and putting a value back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.links import shown_json
from syncd.cli.looks import conflict_json
from syncd.cli.output import AsJson, person, print_json, print_table, shown, when, with_store

if TYPE_CHECKING:
    from syncd.core.decide import Outcome
    from syncd.core.intent import Intent
    from syncd.core.record import Register
    from syncd.engine.explain import Explanation, FieldStory, Step
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

SIDES = {"crm": "the CRM", "ion": "ION"}


def explain(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    field: Annotated[str | None, typer.Argument(help="Only this field.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why a customer is as it is: both sides' values, who won by which rule, and the call that carried it."""
    found = with_store(context, lambda store, settings: _explain(store, settings, customer, field))
    if as_json:
        print_json(explanation_json(found))
        return
    pair = found.pair
    state = pair.link.state.value if pair.link else "not linked"
    typer.echo(f"CRM {pair.crm_id or '-'} = ION {pair.ion_id or '-'}, {state}")
    for hold in found.holds:
        typer.echo(f"waits since {when(hold.since)} ({hold.kind}): {hold.reason}")
    rows = [_field_row(story) for story in found.fields]
    print_table(("field", "CRM", "since", "ION", "since", "agreed", "now"), rows, "No field is known of it yet.")
    print_table(("when", "what", "where", "values", "why", "became"), map(_step_row, found.steps), "No story yet.")


def undo(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="CUSTOMER|ID", help="A CRM id, or the id of a conflict.")],
    field: Annotated[str | None, typer.Argument(help="With a CRM id: whose newest value put aside.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a value back that lost: the CRM is asked to hold it again, and it goes to ION as a new change."""
    intent = with_store(context, lambda store, settings: _undo(store, settings, what, field))
    if as_json:
        print_json(_intent_json(intent))
        return
    for name, value in intent.set.items():
        back, held = shown(value), shown(intent.expect[name])
        typer.echo(f"The CRM is asked to hold {back!r} again as {name} of {intent.crm_id}, instead of {held!r}.")
    typer.echo(f"What becomes of it: syncd explain {intent.crm_id}")


async def _explain(store: SqlStore, settings: Settings, customer: str, field: str | None) -> Explanation:
    from syncd.core.errors import UserError
    from syncd.core.policy import Dialect
    from syncd.core.values import Field
    from syncd.daemon import policy_of
    from syncd.engine import explain as story
    from syncd.mapping import load_mapping

    if field is not None and field not in list(Field):
        raise UserError(f"there is no field {field}: it is one of {', '.join(Field)}")
    async with store.begin() as unit:
        dialect = await unit.note("ion_dialect")
        policy = policy_of(settings, load_mapping(settings.mapping_file), Dialect(dialect)) if dialect else None
        return await story.explain(unit, customer, None if field is None else Field(field), policy)


async def _undo(store: SqlStore, settings: Settings, what: str, field: str | None) -> Intent:
    from syncd.core.errors import UserError
    from syncd.core.policy import Dialect
    from syncd.daemon import make_undo
    from syncd.engine.undo import find_conflict

    async with store.begin() as unit:
        conflict = await find_conflict(unit, what, field)
        dialect = await unit.note("ion_dialect")
        if dialect is None:
            raise UserError("ION's dialect is not known yet: start `syncd run` first")
        undo = make_undo(settings, Dialect(dialect))
        return await undo.undo(unit, conflict, person(), await unit.time())


def explanation_json(found: Explanation) -> dict[str, Any]:
    pair = found.pair
    return {
        "crm_id": pair.crm_id,
        "ion_id": pair.ion_id,
        "state": pair.link.state.value if pair.link else "unlinked",
        "waits_for": [
            {"kind": hold.kind.value, "reason": hold.reason, "since": when(hold.since), "fields": list(hold.fields)}
            for hold in found.holds
        ],
        "fields": {story.field.value: _field_json(story) for story in found.fields},
        "story": [_step_json(step) for step in found.steps],
    }


def _field_json(story: FieldStory) -> dict[str, Any]:
    from syncd.core.values import value_to_json

    return {
        "crm": _register_json(story.crm),
        "ion": _register_json(story.ion),
        "agreed": value_to_json(story.agreed),
        "now": _outcome_json(story.outcome),
    }


def _register_json(register: Register) -> list[dict[str, Any]]:
    from syncd.core.values import value_to_json

    return [
        {
            "value": value_to_json(sighting.value),
            "first_seen": when(sighting.first),
            "is_exact": sighting.is_exact,
            "last_seen": when(sighting.until),
        }
        for sighting in register
    ]


def _outcome_json(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    stamps = {"crm": outcome.crm_stamp, "ion": outcome.ion_stamp}
    return {
        "rule": outcome.rule.value,
        "winner": outcome.winner.value if outcome.winner else None,
        "write_to": outcome.write_to.value if outcome.write_to else None,
        "stamps": {side: [when(stamp.earliest), when(stamp.latest)] for side, stamp in stamps.items() if stamp},
    }


def _step_json(step: Step) -> dict[str, Any]:
    entry = step.entry
    return {
        "at": when(entry.at),
        "what": entry.what,
        **{name: value for name, value in entry.detail.items() if name != "why"},
        "why": _why_json(entry.detail.get("why")),
        "call": _intent_json(step.intent) if step.intent else None,
        "put_aside": [conflict_json(conflict) for conflict in step.put_aside],
    }


def _why_json(why: object) -> object:
    """Instants as the rest of the output tells them."""
    if not isinstance(why, Mapping):
        return why
    told = dict[str, object]()
    for name, value in why.items():
        if name in ("crm", "ion") and isinstance(value, list):
            told[name] = [when(at) for at in value]
        elif name == "edited" and isinstance(value, int):
            told[name] = when(value)
        else:
            told[name] = _why_json(value)
    return told


def _intent_json(intent: Intent) -> dict[str, Any]:
    from syncd.core.values import values_to_json

    return {
        "id": intent.id,
        "side": intent.side.value,
        "kind": intent.kind.value,
        "state": intent.state.value,
        "at": when(intent.at),
        "changed_at": when(intent.changed_at),
        "attempts": intent.attempts,
        "set": values_to_json(intent.set),
        "expect": values_to_json(intent.expect),
        "answer": intent.answer,
    }


def _field_row(story: FieldStory) -> tuple[str, ...]:
    def newest(register: Register) -> tuple[str, str]:
        return (shown(register[0].value), when(register[0].first)) if register else ("?", "")

    outcome = story.outcome
    now = "" if outcome is None else outcome.rule.value
    if outcome is not None and outcome.write_to is not None:
        now += f": to {SIDES[outcome.write_to.value]}"
    return (story.field.value, *newest(story.crm), *newest(story.ion), shown(story.agreed), now)


def _step_row(step: Step) -> tuple[str, ...]:
    from syncd.engine.explain import side_of

    detail, side = step.entry.detail, side_of(step.entry)
    values = detail.get("set")
    told = [f"{name}={shown_json(value)}" for name, value in values.items()] if isinstance(values, Mapping) else []
    told += [f"({c.field}: {shown(c.losing)} put aside)" for c in step.put_aside]
    became = f"{step.intent.state} {when(step.intent.changed_at)}" if step.intent else ""
    if step.intent is not None and step.intent.answer:
        became += f": {step.intent.answer}"
    where = SIDES[side.value] if side else ""
    return (when(step.entry.at), step.entry.what, where, "\n".join(told), _reasons(detail), became)


def _reasons(detail: Mapping[str, object]) -> str:
    why = detail.get("why", {name: value for name, value in detail.items() if name not in ("side", "set")})
    if not isinstance(why, Mapping):
        return str(why)
    lines = []
    for name, reason in why.items():
        if isinstance(reason, Mapping):
            by = f" by {reason['by']}" if "by" in reason else ""
            lines.append(f"{name}: {reason.get('rule')}, {SIDES.get(str(reason.get('winner')), 'nobody')} won{by}")
        else:
            lines.append(f"{name}: {reason}")
    return "\n".join(lines)
