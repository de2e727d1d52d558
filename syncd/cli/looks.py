"""``status``, ``conflicts`` and ``dead-letters``."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import AsJson, Limit, ago, instant, print_json, print_table, shown, when, with_store

if TYPE_CHECKING:
    from syncd.core.record import Stamp
    from syncd.core.work import Conflict, DeadLetter
    from syncd.engine.status import Status
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

letters = typer.Typer(help="Events that could not be used, with the reason.", no_args_is_help=True)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Lag each way, the budget of calls, who waits for a person, the token, the last sweep."""

    async def read(store: SqlStore, settings: Settings) -> Status:
        from syncd.engine.status import survey

        return await survey(store, settings.kafka.events_topic)

    found = with_store(context, read)
    if as_json:
        print_json(asdict(found))
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
        ("ION calls in the last minute", f"{found.budget_used} of {found.budget_rate:.0f}"),
        ("last complete sweep", ago(found.complete_sweep_age_seconds)),
        ("last sweep", f"{sweep.outcome}, {sweep.customers} customers" if sweep else "none yet"),
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

    async def read(store: SqlStore, _: Settings) -> list[Conflict]:
        async with store.begin() as unit:
            return await unit.list_conflicts(customer, None if before is None else instant(before), limit)

    found = with_store(context, read)
    if as_json:
        print_json([conflict_json(conflict) for conflict in found])
        return
    rows = [(when(c.at), c.crm_id, c.field, c.winner, shown(c.winning), shown(c.losing), c.rule) for c in found]
    print_table(("when", "customer", "field", "winner", "won with", "put aside", "rule"), rows, "No conflicts.")
    if found:
        typer.echo("Why: syncd explain CUSTOMER FIELD. To put the newest one back: syncd undo CUSTOMER FIELD")
    if len(found) == limit:
        typer.echo(f"More: syncd conflicts --before {when(found[-1].at)}")


def conflict_json(conflict: Conflict) -> dict[str, Any]:
    from syncd.core.values import value_to_json

    return {
        "id": conflict.id,
        "at": when(conflict.at),
        "crm_id": conflict.crm_id,
        "ion_id": conflict.ion_id,
        "field": conflict.field.value,
        "winner": conflict.winner.value,
        "rule": conflict.rule,
        "winning": value_to_json(conflict.winning),
        "losing": value_to_json(conflict.losing),
        "crm_stamp": _stamp(conflict.crm_stamp),
        "ion_stamp": _stamp(conflict.ion_stamp),
        "intent": conflict.intent_id,
    }


def _stamp(stamp: Stamp | None) -> list[str] | None:
    return None if stamp is None else [when(stamp.earliest), when(stamp.latest)]


@letters.command("list")
def list_letters(
    context: typer.Context,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option(help="Ids below this one, for the next page.")] = None,
    as_json: AsJson = False,
) -> None:
    """The newest events set aside."""

    async def read(store: SqlStore, _: Settings) -> list[DeadLetter]:
        async with store.begin() as unit:
            return await unit.list_dead_letters(before, limit)

    found = with_store(context, read)
    if as_json:
        print_json([letter_json(letter) for letter in found])
        return
    rows = [(item.id, when(item.at), _place(item), item.reason, item.detail) for item in found]
    print_table(("id", "when", "where", "reason", "detail"), rows, "No dead letters.")
    if len(found) == limit:
        typer.echo(f"More: syncd dead-letters list --before {found[-1].id}")


@letters.command("show")
def show_letter(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="The id that `list` shows.", metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """One event as it came."""

    async def read(store: SqlStore, _: Settings) -> DeadLetter | None:
        async with store.begin() as unit:
            return await unit.dead_letter(number)

    found = with_store(context, read)
    if found is None:
        from syncd.core.errors import UserError

        raise UserError(f"there is no dead letter {number}: `syncd dead-letters list` shows their ids")
    if as_json:
        print_json(letter_json(found))
        return
    rows = [
        ("where", _place(found)),
        ("when", when(found.at)),
        ("reason", found.reason),
        ("detail", found.detail),
        ("key", _text(found.key)),
        ("value", _text(found.value)),
        ("headers", ", ".join(f"{name}={_text(value)}" for name, value in found.headers)),
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
    told = with_store(context, lambda store, settings: _redrive(store, settings, numbers or []))
    refused = {number: why for number, why in told.items() if why}
    if as_json:
        print_json({"redriven": [number for number in told if number not in refused], "refused": refused})
    else:
        typer.echo(f"{len(told) - len(refused)} of {len(told)} events are stored now.")
        for number, why in refused.items():
            typer.echo(f"{number} is still unusable: {why}")
    if refused:
        raise typer.Exit(1)


async def _redrive(store: SqlStore, settings: Settings, numbers: list[int]) -> dict[int, str]:
    """What became of each: empty when stored, else why not."""
    from syncd.app import store_clock
    from syncd.core.errors import UserError
    from syncd.daemon import make_ingest
    from syncd.mapping import load_mapping
    from syncd.metrics import Metrics

    clock = await store_clock(store)
    ingest = make_ingest(settings, load_mapping(settings.mapping_file), store, clock, Metrics())
    chosen = numbers or [letter.id for letter in await _all_letters(store)]
    told = {}
    for number in chosen:
        async with store.begin() as unit:
            letter = await unit.dead_letter(number)
        if letter is None:
            raise UserError(f"there is no dead letter {number}: `syncd dead-letters list` shows their ids")
        told[number] = await ingest.redrive(letter) or ""
    return told


async def _all_letters(store: SqlStore) -> list[DeadLetter]:
    """Oldest first, as they came."""
    found: list[DeadLetter] = []
    before: int | None = None
    while True:
        async with store.begin() as unit:
            page = await unit.list_dead_letters(before, 1_000)
        if not page:
            return found[::-1]
        found += page
        before = page[-1].id


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at": when(letter.at),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "key": _text(letter.key),
        "value": _text(letter.value),
        "value_base64": None if letter.value is None else base64.b64encode(letter.value).decode(),
        "headers": {name: _text(value) for name, value in letter.headers},
    }


def _place(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}@{letter.offset}"


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")
