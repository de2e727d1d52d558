"""``links review``, ``accept``, ``reject``, ``add`` and ``remove``: who is whom, as a person says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli import links
from syncd.cli.output import AsJson, Limit, person, print_table, print_views, shown, with_desk

if TYPE_CHECKING:
    from syncd.admin.views import Case

app = links.app  # these are commands of the same group


@app.command("review")
def review(
    context: typer.Context,
    limit: Limit = 20,
    after: Annotated[str, typer.Option(help="Subjects after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """Who waits to be told whom it is: both sides beside each other, with what speaks for and against."""
    from syncd.admin import views

    found = views.many(views.Case, with_desk(context, lambda desk: desk.cases(after, limit)))
    if as_json:
        print_views(found)
        return
    for case in found:
        _show_case(case)
    if not found:
        typer.echo("Nobody waits.")
    if len(found) >= limit:
        typer.echo(f"More: syncd links review --after {found[-1].subject}")


CrmId = Annotated[str, typer.Argument(metavar="CRM_ID", help="The CRM's id.")]
IonId = Annotated[str, typer.Argument(metavar="ION_ID", help="ION's id.")]


@app.command("accept")
def accept(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """These two are one, as suggested: link them."""
    with_desk(context, lambda desk: desk.accept(crm_id, ion_id, person()))
    typer.echo(f"{crm_id} and {ion_id} are linked.")


@app.command("reject")
def reject(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """These two are not one: it is not suggested again, and both are looked at anew."""
    with_desk(context, lambda desk: desk.reject(crm_id, ion_id, person()))
    typer.echo(f"{crm_id} and {ion_id} are not one; `syncd links add {crm_id} {ion_id}` takes it back.")


@app.command("add")
def add(context: typer.Context, crm_id: CrmId, ion_id: IonId) -> None:
    """Link two customers, whether they were suggested or not."""
    unknown = with_desk(context, lambda desk: desk.link(crm_id, ion_id, person()))
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
    was = with_desk(context, lambda desk: desk.part(crm_id, person()))
    typer.echo(f"{was.crm_id} and {was.ion_id} are two; `syncd links add {was.crm_id} {was.ion_id}` takes it back.")


def _show_case(case: Case) -> None:
    typer.echo(f"{case.subject}: {case.reason}")
    names = dict.fromkeys([*case.fields, *(name for other in case.candidates for name in other.fields)])
    columns = ("", case.subject, *(f"{c.crm_id} = {c.ion_id}, {c.score:.2f}" for c in case.candidates))
    rows = [
        (name, shown(case.fields.get(name)), *(shown(other.fields.get(name)) for other in case.candidates))
        for name in names
    ]
    rows.append(("evidence", "", *(c.evidence or c.tier.value for c in case.candidates)))
    print_table(columns, rows, "")
    for candidate in case.candidates:
        typer.echo(f"  syncd links accept {candidate.crm_id} {candidate.ion_id}   or   reject")
