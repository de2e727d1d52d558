"""``status``, ``conflicts`` and ``dead-letters``: looking, never changing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import AsJson, Limit, ago, print_json, print_table, shown, when, with_store

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
        from syncd.app import SystemClock
        from syncd.engine.status import survey

        return await survey(store, SystemClock().now(), settings.kafka.events_topic)

    found = with_store(context, read)
    if as_json:
        print_json(asdict(found))
        return
    sweep = found.last_sweep
    lines = [
        ("links", ", ".join(f"{count} {state}" for state, count in found.links.items()) or "none yet"),
        ("to decide", found.pending["decide"]),
        ("to write to ION", found.pending["call"]),
        ("commands the CRM has not answered", found.commands_open),
        ("oldest of these", ago(found.oldest_pending_seconds)),
        ("writes with a lost answer", found.unknown_outcomes),
        (
            "waiting for a person",
            ", ".join(f"{count} {kind}" for kind, count in found.holds.items() if count) or "none",
        ),
        ("ION calls in the last minute", f"{found.budget_used} of {found.budget_rate:.0f}"),
        ("last complete sweep", ago(found.complete_sweep_age_seconds)),
        ("last sweep", f"{sweep.outcome}, {sweep.customers} customers" if sweep else "none yet"),
        ("refresh token", found.token_problem or f"good for {ago(found.token_expires_seconds)}"),
    ]
    print_table(("what", "state"), lines, "")


def conflicts(
    context: typer.Context,
    customer: Annotated[str | None, typer.Option(help="Only this CRM id.")] = None,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option(help="Older than this instant (ms), for the next page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Values that lost to the other side: who won, by which rule, and what was put aside."""

    async def read(store: SqlStore, _: Settings) -> list[Conflict]:
        from syncd.core.values import Millis

        async with store.begin() as unit:
            return await unit.list_conflicts(customer, None if before is None else Millis(before), limit)

    found = with_store(context, read)
    if as_json:
        print_json([conflict_json(conflict) for conflict in found])
        return
    rows = [(when(c.at), c.crm_id, c.field, c.winner, shown(c.winning), shown(c.losing), c.rule) for c in found]
    print_table(("when", "customer", "field", "won", "kept", "put aside", "rule"), rows, "No conflicts.")


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
    ]
    print_table(("what", "is"), rows, "")


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
    }


def _place(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}@{letter.offset}"


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="replace")
