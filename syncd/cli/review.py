"""``links review``, ``accept``, ``reject``, ``add`` and ``remove``: who is whom, as a person says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli import links
from syncd.cli.links import candidate_json, review_of, shown_json
from syncd.cli.output import AsJson, Limit, person, print_json, print_table, when, with_store

if TYPE_CHECKING:
    from syncd.core.link import Link
    from syncd.core.record import Record
    from syncd.core.values import Subject
    from syncd.engine.review import Case
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

app = links.app  # these are commands of the same group


@app.command("review")
def review(
    context: typer.Context,
    limit: Limit = 20,
    after: Annotated[str, typer.Option(help="Subjects after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """Who waits to be told whom it is: both sides beside each other, with what speaks for and against."""

    async def read(store: SqlStore, settings: Settings) -> list[Case]:
        async with store.begin() as unit:
            return await review_of(store, settings).cases(unit, after, limit)

    found = with_store(context, read)
    if as_json:
        print_json([case_json(case) for case in found])
        return
    for case in found:
        _show_case(case)
    if not found:
        typer.echo("Nobody waits.")
    if len(found) == limit:
        typer.echo(f"More: syncd links review --after {found[-1].hold.subject}")


CrmId = Annotated[str, typer.Argument(metavar="CRM_ID", help="The CRM's id.")]
IonId = Annotated[str, typer.Argument(metavar="ION_ID", help="ION's id.")]


@app.command("accept")
def accept(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """These two are one, as suggested: link them."""
    with_store(context, lambda store, settings: _link(store, settings, crm_id, ion_id, as_suggested=True))
    typer.echo(f"{crm_id} and {ion_id} are linked.")


@app.command("reject")
def reject(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """These two are not one: it is not suggested again, and both are looked at anew."""

    async def say(store: SqlStore, settings: Settings) -> None:
        async with store.begin() as unit:
            await review_of(store, settings).reject(unit, crm_id, ion_id, person(), await unit.time())

    with_store(context, say)
    typer.echo(f"{crm_id} and {ion_id} are not one; `syncd links accept {crm_id} {ion_id}` takes it back.")


@app.command("add")
def add(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """Link two customers, whether they were suggested or not."""
    unknown = with_store(context, lambda store, settings: _link(store, settings, crm_id, ion_id, as_suggested=False))
    typer.echo(f"{crm_id} and {ion_id} are linked.")
    for who in unknown:
        typer.echo(f"Nothing is known of {who} yet; if that is no such customer, `syncd links remove {crm_id}`.")


@app.command("remove")
def remove(
    context: typer.Context,
    crm_id: CrmId,
    is_sure: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Take a link apart. Both are customers of their own from now on, and are matched or created as such."""
    if not is_sure:
        typer.confirm("Who has no counterpart may be created on the other side. Take the link apart?", abort=True)

    async def take(store: SqlStore, settings: Settings) -> Link:
        async with store.begin() as unit:
            return await review_of(store, settings).part(unit, crm_id, person(), await unit.time())

    was = with_store(context, take)
    typer.echo(f"{was.crm_id} and {was.ion_id} are two; `syncd links add {was.crm_id} {was.ion_id}` takes it back.")


async def _link(
    store: SqlStore, settings: Settings, crm_id: str, ion_id: str, *, as_suggested: bool
) -> list[Subject]:
    """Returns who of them is not known yet."""
    from syncd.core.errors import UserError
    from syncd.core.values import Side, subject_of

    async with store.begin() as unit:
        subjects = [subject_of(Side.CRM, crm_id), subject_of(Side.ION, ion_id)]
        suggested = [(c.crm_id, c.ion_id) for subject in subjects for c in await unit.candidates(subject)]
        if as_suggested and (crm_id, ion_id) not in suggested:
            raise UserError(
                f"nobody suggested that {crm_id} is {ion_id}: `syncd links review` shows what was,"
                " and `syncd links add` links any two"
            )
        known = [await unit.records(Side.CRM, [crm_id]), await unit.records(Side.ION, [ion_id])]
        await review_of(store, settings).link(unit, crm_id, ion_id, person(), await unit.time())
    return [subject for subject, found in zip(subjects, known, strict=True) if not found]


def case_json(case: Case) -> dict[str, Any]:
    return {
        "subject": case.hold.subject,
        "reason": case.hold.reason,
        "since": when(case.hold.since),
        "fields": _plain(case.record),
        "candidates": [{**candidate_json(c), "fields": _plain(record)} for c, record in case.candidates],
    }


def _plain(record: Record | None) -> dict[str, Any]:
    from syncd.core.values import values_to_json

    return {} if record is None else values_to_json(record.values())


def _show_case(case: Case) -> None:
    mine = _plain(case.record)
    others = [(candidate, _plain(record)) for candidate, record in case.candidates]
    typer.echo(f"{case.hold.subject}: {case.hold.reason}")
    names = [*mine, *(name for _, other in others for name in other if name not in mine)]
    columns = ("", case.hold.subject, *(f"{c.crm_id} = {c.ion_id}, {c.score:.2f}" for c, _ in others))
    rows = [
        (name, shown_json(mine.get(name)), *(shown_json(other.get(name)) for _, other in others))
        for name in dict.fromkeys(names)
    ]
    rows.append(("evidence", "", *(", ".join(c.evidence) or c.tier.value for c, _ in others)))
    print_table(columns, rows, "")
    for candidate, _ in others:
        typer.echo(f"  syncd links accept {candidate.crm_id} {candidate.ion_id}   or   reject")
