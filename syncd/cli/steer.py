"""``plan``, ``approve``, ``pause``, ``resume`` and ``quarantine``: what a person decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import HELD, AsJson, Limit, person, print_json, print_table, shown, when, with_store

if TYPE_CHECKING:
    from syncd.core.plan import Change, Plan
    from syncd.core.work import Hold
    from syncd.engine.quarantine import Story
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

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

    async def read(store: SqlStore, _: Settings) -> Plan:
        from syncd.core.policy import Dialect
        from syncd.engine.guard import plan_now

        async with store.begin() as unit:
            dialect = await unit.note("ion_dialect")
            return await plan_now(unit, Dialect(dialect) if dialect else None)

    found = with_store(context, read)
    if as_json:
        print_json(plan_json(found, limit))
    else:
        _show(found, limit)
    if found.reason:
        raise typer.Exit(HELD)


def approve(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The digest that `syncd plan` shows.")],
    as_json: AsJson = False,
) -> None:
    """Let exactly the held plan of this digest go, once. Another plan needs its own approval."""

    async def release(store: SqlStore, _: Settings) -> int:
        from syncd.engine.guard import approve as let_go

        async with store.begin() as unit:
            return await let_go(unit, digest, person(), await unit.time())

    count = with_store(context, release)
    if as_json:
        print_json({"approved": count, "digest": digest})
    else:
        typer.echo(f"{count} changes may go now; `syncd status` shows how far they are.")


def pause(context: typer.Context) -> None:
    """Stop all writes, to ION and to the CRM; reading goes on. Lasts over restarts, until `resume`."""
    was_running = with_store(context, lambda store, _: _set_paused(store, True))
    typer.echo("Writes are stopped; `syncd resume` lets them go on." if was_running else "They are stopped already.")


def resume(context: typer.Context) -> None:
    """Let writes go on. What has gathered meanwhile is judged as a whole by the guard first."""
    was_paused = with_store(context, lambda store, _: _set_paused(store, False))
    typer.echo("Writes go on." if was_paused else "Writes were not paused.")


async def _set_paused(store: SqlStore, paused: bool) -> bool:
    from syncd.engine import guard

    async with store.begin() as unit:
        return await (guard.pause if paused else guard.resume)(unit, person(), await unit.time())


def _show(plan: Plan, limit: int) -> None:
    rows = [row for change in plan.changes[:limit] for row in _rows(change)]
    print_table(("customer", "side", "change", "field", "from", "to", "state"), rows, "Nothing is to be written.")
    if len(plan.changes) > limit:
        typer.echo(f"and {len(plan.changes) - limit} more changes: --limit shows them")
    tally = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in plan.tally._asdict().items() if count)
    if plan.changes:
        typer.echo(f"{tally}; {plan.ion_calls} calls to ION, about {plan.minutes:.1f} minutes at the current rate")
    if plan.reason:
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


def plan_json(plan: Plan, limit: int) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "held": bool(plan.reason),
        "reason": plan.reason,
        "counts": plan.tally._asdict(),
        "ion_calls": plan.ion_calls,
        "minutes": round(plan.minutes, 2),
        "total": len(plan.changes),
        "changes": [change_json(change) for change in plan.changes[:limit]],
    }


def change_json(change: Change) -> dict[str, Any]:
    from syncd.core.values import values_to_json

    return {
        "id": change.id,
        "crm_id": change.crm_id,
        "ion_id": change.ion_id,
        "side": change.side.value,
        "kind": change.kind.value,
        "state": change.state.value,
        "set": values_to_json(change.set),
        "expect": values_to_json(change.expect),
        "base": values_to_json(change.base),
        "why": change.why,
        "since": when(change.at),
    }


@quarantine.command("list")
def list_quarantine(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also the incomplete and those in review.")] = False,
    limit: Limit = 100,
    after: Annotated[str, typer.Option(help="Customers after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """Who is set aside, since when and why."""

    async def read(store: SqlStore, _: Settings) -> list[Hold]:
        from syncd.core.work import SET_ASIDE, HoldKind

        kinds = tuple(HoldKind) if every else SET_ASIDE
        async with store.begin() as unit:
            return await unit.list_holds(kinds, after, limit)

    found = with_store(context, read)
    if as_json:
        print_json([hold_json(hold) for hold in found])
        return
    rows = [(_customer(hold), hold.kind, when(hold.since), ", ".join(hold.fields), hold.reason) for hold in found]
    print_table(("customer", "kind", "since", "fields", "reason"), rows, "Nobody is set aside.")
    if len(found) == limit:
        typer.echo(f"More: syncd quarantine list --after {found[-1].subject}")


@quarantine.command("show")
def show_quarantine(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    as_json: AsJson = False,
) -> None:
    """Why this customer is set aside, what each side held and when, and what was written lately."""

    async def read(store: SqlStore, _: Settings) -> Story:
        from syncd.engine.quarantine import story

        async with store.begin() as unit:
            return await story(unit, customer, await unit.time())

    found = with_store(context, read)
    if as_json:
        print_json(story_json(found))
        return
    for hold in found.holds:
        typer.echo(f"{hold.kind} since {when(hold.since)}: {hold.reason} {' '.join(hold.fields)}".rstrip())
    rows = [
        (name, SIDES[side], shown(seen.value), when(seen.first), when(seen.until)) for side, name, seen in found.seen
    ]
    print_table(("field", "side", "held", "from", "until"), rows, "Neither side was seen to hold anything.")
    writes = [(when(i.changed_at), SIDES[i.side], i.kind, ", ".join(i.set), i.state, i.answer) for i in found.writes]
    print_table(("when", "to", "change", "fields", "state", "answer"), writes, "Nothing was written in the last day.")


@quarantine.command("release")
def release_quarantine(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
) -> None:
    """Try this customer again now, as it is; frozen fields flow on."""

    async def release(store: SqlStore, _: Settings) -> None:
        from syncd.engine.quarantine import release as let_go

        async with store.begin() as unit:
            await let_go(unit, customer, person(), await unit.time())

    with_store(context, release)
    typer.echo(f"{customer} is tried again now.")


def story_json(found: Story) -> dict[str, Any]:
    from syncd.core.values import value_to_json, values_to_json

    return {
        "subject": found.pair.subject,
        "holds": [hold_json(hold) for hold in found.holds],
        "seen": [
            {
                "field": name.value,
                "side": side.value,
                "value": value_to_json(seen.value),
                "from": when(seen.first),
                "until": when(seen.until),
            }
            for side, name, seen in found.seen
        ],
        "writes": [
            {
                "id": intent.id,
                "at": when(intent.changed_at),
                "side": intent.side.value,
                "kind": intent.kind.value,
                "set": values_to_json(intent.set),
                "state": intent.state.value,
                "answer": intent.answer,
            }
            for intent in found.writes
        ],
    }


def hold_json(hold: Hold) -> dict[str, Any]:
    return {**asdict(hold), "kind": hold.kind.value, "since": when(hold.since), "customer": _customer(hold)}


def _customer(hold: Hold) -> str:
    return hold.subject.removeprefix("crm:")
