"""``status``, ``conflicts`` and ``dead-letters``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.output import (
    AsJson,
    Limit,
    ago,
    person,
    print_json,
    print_table,
    print_view,
    print_views,
    shown,
    with_desk,
)

if TYPE_CHECKING:
    from syncd.admin.views import DeadLetter
    from syncd.engine.status import Status

letters = typer.Typer(help="Events that could not be used, with the reason.", no_args_is_help=True)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Lag each way, the budget of calls, who waits for a person, the token, the last sweep."""
    from syncd.admin import views

    found = with_desk(context, lambda desk: desk.status())
    if as_json:
        print_view(views.Status.of(found))
        return
    sweep = found.last_sweep
    holds = ", ".join(f"{count} {kind}" for kind, count in found.holds.items() if count)
    lines = [
        ("links", ", ".join(f"{count} {state}" for state, count in found.links.items()) or "none yet"),
        ("towards ION", _lag(sum(found.pending.values()), found.oldest_pending_seconds, "customers")),
        ("towards the CRM", _lag(found.commands_open, found.oldest_command_seconds, "unanswered commands")),
        ("writes with a lost answer", found.unknown_outcomes),
        ("the guard", _guard(found)),
        ("waiting for people or data", holds or "none"),
        ("orders from the CRM", _orders(found)),
        ("ION calls in the last minute", f"{found.budget_used} of {found.budget_rate:.0f}"),
        ("last complete sweep", ago(found.complete_sweep_age_seconds)),
        ("last sweep", f"{sweep.outcome}, {sweep.customers} customers" if sweep else "none yet"),
        ("both sides equal", _equal(found)),
        ("refresh token", found.token_problem or _token(found)),
    ]
    print_table(("what", "state"), lines, "")


def _lag(count: int, oldest_seconds: float, what: str) -> str:
    return f"{count} {what}, the oldest for {ago(oldest_seconds)}" if count else "nothing waits"


def _guard(found: Status) -> str:
    if found.held_reason:
        return f"holds {found.held_changes} changes: {found.held_reason}; see `syncd plan`"
    if found.is_paused:
        return f"writes are paused, {found.held_changes} changes wait; `syncd resume` lets them go"
    return "open"


def _orders(found: Status) -> str:
    counts = {name: count for name, count in found.orders.items() if count}
    held = "; see `syncd ion orders incoming --state held`" if counts.get("held") else ""
    return ", ".join(f"{count} {name}" for name, count in counts.items()) + held or "none"


def _equal(found: Status) -> str:
    if found.verified_age_seconds is None:
        return "not verified yet"
    asked = f"verified {ago(found.verified_age_seconds)} ago"
    return f"{asked}: {found.divergent} customers differ; see `syncd verify`" if found.divergent else f"{asked}: yes"


def _token(found: Status) -> str:
    if found.token_expires_seconds is None:
        return "none yet"
    return f"{ago(found.token_age_seconds)} old, good for {ago(found.token_expires_seconds)}"


def conflicts(
    context: typer.Context,
    customer: Annotated[str | None, typer.Option(help="Only this CRM id.")] = None,
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="Older than this time, as the list shows it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Values that lost to the other side: who won, by which rule, and what was put aside."""
    from syncd.admin import views
    from syncd.core.instants import instant

    until = None if before is None else instant(before)
    found = views.many(views.Conflict, with_desk(context, lambda desk: desk.conflicts(customer, until, limit)))
    if as_json:
        print_views(found)
        return
    rows = [(c.at, c.crm_id, c.field, c.winner, shown(c.winning), shown(c.losing), c.rule) for c in found]
    print_table(("when", "customer", "field", "winner", "won with", "put aside", "rule"), rows, "No conflicts.")
    if found:
        typer.echo("Why: syncd explain CUSTOMER FIELD. To put the newest one back: syncd undo CUSTOMER FIELD")
    if len(found) >= limit:
        typer.echo(f"More: syncd conflicts --before {found[-1].at}")


@letters.command("list")
def list_letters(
    context: typer.Context,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option(help="Ids below this one, for the next page.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest events set aside."""
    from syncd.admin import views

    found = views.many(views.DeadLetter, with_desk(context, lambda desk: desk.letters(before, limit)))
    if as_json:
        print_views(found)
        return
    rows = [(item.id, item.at, _place(item), item.reason, item.detail) for item in found]
    print_table(("id", "when", "where", "reason", "detail"), rows, "No dead letters.")
    if len(found) >= limit:
        typer.echo(f"More: syncd dead-letters list --before {found[-1].id}")


@letters.command("show")
def show_letter(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="The id that `list` shows.", metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """One event as it came."""
    from syncd.admin import views

    found = views.DeadLetter.of(with_desk(context, lambda desk: desk.letter(number)))
    if as_json:
        print_view(found)
        return
    rows = [
        ("where", _place(found)),
        ("when", found.at),
        ("reason", found.reason),
        ("detail", found.detail),
        ("key", found.key),
        ("value", found.value),
        ("headers", ", ".join(f"{name}={value}" for name, value in found.headers.items())),
    ]
    print_table(("what", "is"), rows, "")


@letters.command("redrive")
def redrive_letters(
    context: typer.Context,
    numbers: Annotated[list[int] | None, typer.Argument(help="The ids that `list` shows.", metavar="ID")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try events again that were set aside, for example after a change of the mapping.

    An event that is still unusable stays where it is; the exit code is then 1.
    """
    from syncd.core.errors import UserError

    if bool(numbers) == every:
        raise UserError("name the ids that `syncd dead-letters list` shows, or --all")
    told = with_desk(context, lambda desk: desk.redrive(numbers or None, person()))
    refused = {number: why for number, why in told.items() if why}
    if as_json:
        print_json({"redriven": [number for number in told if number not in refused], "refused": refused})
    else:
        typer.echo(f"{len(told) - len(refused)} of {len(told)} events are stored now.")
        for number, why in refused.items():
            typer.echo(f"{number} is still unusable: {why}")
    if refused:
        raise typer.Exit(1)


def _place(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}@{letter.offset}"
