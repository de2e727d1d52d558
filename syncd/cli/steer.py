"""``plan``, ``approve``, ``pause``, ``resume`` and ``quarantine``: what a person decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.output import (
    HELD,
    AsJson,
    Limit,
    person,
    print_json,
    print_table,
    print_view,
    print_views,
    shown,
    with_desk,
)

if TYPE_CHECKING:
    from syncd.admin.views import Change, Plan

quarantine = typer.Typer(help="Customers that a side refuses, and fields that are frozen.", no_args_is_help=True)

SIDES = {"crm": "CRM", "ion": "ION"}


def plan(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many changes to show.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What would be written now, field by field, with calls and minutes. Nothing is written.

    Ends with 3 where it is held: look at it, then let exactly it go with `syncd approve DIGEST`.
    """
    from syncd.admin import views

    found = views.Plan.of(with_desk(context, lambda desk: desk.plan()), limit)
    if as_json:
        print_view(found)
    else:
        _show(found)
    if found.held:
        raise typer.Exit(HELD)


def approve(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The digest that `syncd plan` shows.")],
    as_json: AsJson = False,
) -> None:
    """Let exactly the held plan of this digest go, once. Another plan needs its own approval."""
    count = with_desk(context, lambda desk: desk.approve(digest, person()))
    if as_json:
        print_json({"approved": count, "digest": digest})
    else:
        typer.echo(f"{count} changes may go now; `syncd status` shows how far they are.")


def pause(context: typer.Context) -> None:
    """Stop all writes, to ION and to the CRM; reading goes on. Lasts over restarts, until `resume`."""
    was_running = with_desk(context, lambda desk: desk.pause(person()))
    typer.echo("Writes are stopped; `syncd resume` lets them go on." if was_running else "They are stopped already.")


def resume(context: typer.Context) -> None:
    """Let writes go on. What has gathered meanwhile is judged as a whole by the guard first."""
    was_paused = with_desk(context, lambda desk: desk.resume(person()))
    typer.echo("Writes go on." if was_paused else "Writes were not paused.")


def _show(plan: Plan) -> None:
    rows = [row for change in plan.changes for row in _rows(change)]
    print_table(("customer", "side", "change", "field", "from", "to", "state"), rows, "Nothing is to be written.")
    if plan.total > len(plan.changes):
        typer.echo(f"and {plan.total - len(plan.changes)} more changes: --limit shows them")
    tally = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in plan.counts.items() if count)
    if plan.changes:
        typer.echo(f"{tally}; {plan.ion_calls} calls to ION, about {plan.minutes:.1f} minutes at the current rate")
    if plan.held:
        typer.echo(f"Held: {plan.reason}.")
        typer.echo(f"To let exactly this go: syncd approve {plan.digest}")


def _rows(change: Change) -> list[tuple[object, ...]]:
    """One a field; a link change has none."""
    who = change.crm_id or f"ion:{change.ion_id}"
    what = (who, SIDES[change.side], change.kind)
    if not change.set:
        return [(*what, "", "", change.why.get("link", ""), change.state)]
    return [
        (*what, name, shown(change.expect[name]) if name in change.expect else "", shown(value), change.state)
        for name, value in change.set.items()
    ]


@quarantine.command("list")
def list_quarantine(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also the incomplete and those in review.")] = False,
    limit: Limit = 100,
    after: Annotated[str, typer.Option(help="Customers after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """Who is set aside, since when and why."""
    from syncd.admin import views
    from syncd.core.work import SET_ASIDE, HoldKind

    kinds = tuple(HoldKind) if every else SET_ASIDE
    found = views.many(views.Hold, with_desk(context, lambda desk: desk.holds(kinds, after, limit)))
    if as_json:
        print_views(found)
        return
    rows = [(hold.customer, hold.kind, hold.since, ", ".join(hold.fields), hold.reason) for hold in found]
    print_table(("customer", "kind", "since", "fields", "reason"), rows, "Nobody is set aside.")
    if len(found) >= limit:
        typer.echo(f"More: syncd quarantine list --after {found[-1].subject}")


@quarantine.command("show")
def show_quarantine(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    as_json: AsJson = False,
) -> None:
    """Why this customer is set aside, what each side held and when, and what was written lately."""
    from syncd.admin import views

    found = views.SetAside.of(with_desk(context, lambda desk: desk.story(customer)))
    if as_json:
        print_view(found)
        return
    for hold in found.holds:
        typer.echo(f"{hold.kind} since {hold.since}: {hold.reason} {' '.join(hold.fields)}".rstrip())
    rows = [(s.field, SIDES[s.side], shown(s.value), s.first_seen, s.last_seen) for s in found.seen]
    print_table(("field", "side", "held", "from", "until"), rows, "Neither side was seen to hold anything.")
    writes = [(i.changed_at, SIDES[i.side], i.kind, ", ".join(i.set), i.state, i.answer) for i in found.writes]
    print_table(("when", "to", "change", "fields", "state", "answer"), writes, "Nothing was written in the last day.")


@quarantine.command("release")
def release_quarantine(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
) -> None:
    """Try this customer again now, as it is; frozen fields flow on."""
    with_desk(context, lambda desk: desk.release(customer, person()))
    typer.echo(f"{customer} is tried again now.")
