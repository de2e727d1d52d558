"""``explain`` and ``undo``: why a customer is as it is, and putting a value back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.output import AsJson, person, print_table, print_view, shown, with_desk

if TYPE_CHECKING:
    from syncd.admin.views import FieldStory, Seen, Step

SIDES = {"crm": "the CRM", "ion": "ION"}


def explain(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    field: Annotated[str | None, typer.Argument(help="Only this field.")] = None,
    as_json: AsJson = False,
) -> None:
    """Why a customer is as it is: both sides' values, who won by which rule, and the call that carried it."""
    from syncd.admin import views

    found = views.Explanation.of(with_desk(context, lambda desk: desk.explain(customer, field)))
    if as_json:
        print_view(found)
        return
    state = "not linked" if found.state == "unlinked" else found.state
    typer.echo(f"CRM {found.crm_id or '-'} = ION {found.ion_id or '-'}, {state}")
    for hold in found.waits_for:
        typer.echo(f"waits since {hold.since} ({hold.kind}): {hold.reason}")
    rows = [_field_row(name, story) for name, story in found.fields.items()]
    print_table(("field", "CRM", "since", "ION", "since", "agreed", "now"), rows, "No field is known of it yet.")
    print_table(("when", "what", "where", "values", "why", "became"), map(_step_row, found.story), "No story yet.")


def undo(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="CUSTOMER|ID", help="A CRM id, or the id of a conflict.")],
    field: Annotated[str | None, typer.Argument(help="With a CRM id: whose newest value put aside.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a value back that lost: the CRM is asked to hold it again, and it goes to ION as a new change."""
    from syncd.admin import views

    intent = with_desk(context, lambda desk: desk.undo(what, field, person()))
    if as_json:
        print_view(views.Intent.of(intent))
        return
    for name, value in intent.set.items():
        back, held = shown(value), shown(intent.expect[name])
        typer.echo(f"The CRM is asked to hold {back!r} again as {name} of {intent.crm_id}, instead of {held!r}.")
    typer.echo(f"What becomes of it: syncd explain {intent.crm_id}")


def _field_row(name: str, story: FieldStory) -> tuple[str, ...]:
    def newest(seen: list[Seen]) -> tuple[str, str]:
        return (shown(seen[0].value), seen[0].first_seen) if seen else ("?", "")

    now = "" if story.now is None else story.now.rule.value
    if story.now is not None and story.now.write_to is not None:
        now += f": to {SIDES[story.now.write_to]}"
    return (name, *newest(story.crm), *newest(story.ion), shown(story.agreed), now)


def _step_row(step: Step) -> tuple[str, ...]:
    told = [f"{name}={shown(value)}" for name, value in step.set.items()]
    told += [f"({c.field}: {shown(c.losing)} put aside)" for c in step.put_aside]
    became = f"{step.call.state} {step.call.changed_at}" if step.call else ""
    if step.call is not None and step.call.answer:
        became += f": {step.call.answer}"
    return (step.at, step.what, SIDES[step.side] if step.side else "", "\n".join(told), _reasons(step), became)


def _reasons(step: Step) -> str:
    lines = [f"{name}: {said}" for name, said in step.detail.items()]
    for name, reason in step.why.items():
        if isinstance(reason, Mapping):
            by = f" by {reason['by']}" if "by" in reason else ""
            lines.append(f"{name}: {reason.get('rule')}, {SIDES.get(str(reason.get('winner')), 'nobody')} won{by}")
        else:
            lines.append(f"{name}: {reason}")
    return "\n".join(lines)
