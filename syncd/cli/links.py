"""``links``: the mapping table between CRM ids and ION ids."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
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
    from syncd.admin.views import Explanation, Seen
    from syncd.core.link import LinkState
    from syncd.engine.desk import Desk

app = typer.Typer(help="Which CRM customer is which ION customer.", no_args_is_help=True)


class State(StrEnum):
    LINKED = "linked"
    MISSING_IN_ION = "missing-in-ion"
    DELETED_IN_CRM = "deleted-in-crm"


@app.command("list")
def list_links(
    context: typer.Context,
    state: Annotated[State | None, typer.Option(help="Only links in this state.")] = None,
    limit: Limit = 100,
    after: Annotated[str, typer.Option(help="CRM ids after this one, for the next page.")] = "",
    as_json: AsJson = False,
) -> None:
    """The links, by CRM id."""
    from syncd.admin import views

    wanted = _link_state(state)
    found = views.many(views.Link, with_desk(context, lambda desk: desk.links(wanted, after, limit)))
    if as_json:
        print_views(found)
        return
    rows = [(link.crm_id, link.ion_id, link.state, link.how, link.since) for link in found]
    print_table(("CRM id", "ION id", "state", "how", "since"), rows, "No links.")
    if len(found) >= limit:
        typer.echo(f"More: syncd links list --after {found[-1].crm_id}")


@app.command("find")
def find_customers(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="An id, or a part of the company or the e-mail.")],
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """Customers of either side by name, linked or not."""
    from syncd.admin import views

    found = views.many(views.Found, with_desk(context, lambda desk: desk.find(text, limit)))
    if as_json:
        print_views(found)
        return
    rows = [(one.customer, shown(one.company), shown(one.email), one.crm_id, one.ion_id, one.state) for one in found]
    print_table(("customer", "company", "e-mail", "CRM id", "ION id", "state"), rows, "Nobody is called that.")


@app.command("show")
def show_link(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    as_json: AsJson = False,
) -> None:
    """One customer: both sides' values, what was agreed on, what it waits for."""
    from syncd.admin import views

    found = views.Explanation.of(with_desk(context, lambda desk: desk.explain(customer)))
    if as_json:
        print_view(found)
        return
    _show(found)


def _show(found: Explanation) -> None:
    waits = "; ".join(f"{hold.kind}: {hold.reason} {' '.join(hold.fields)}".strip() for hold in found.waits_for)
    told = {
        "crm id": found.crm_id,
        "ion id": found.ion_id,
        "state": found.state,
        "how": found.how,
        "waits for": waits,
    }
    for name, text in told.items():
        if text:
            typer.echo(f"{name}: {text}")
    rows = [(name, _held(f.crm), _held(f.ion), shown(f.agreed)) for name, f in found.fields.items()]
    print_table(("field", "CRM", "ION", "agreed"), rows, "Nothing is known of either side yet.")
    for candidate in found.candidates:
        typer.echo(
            f"may be {candidate.crm_id} = {candidate.ion_id}"
            f" ({candidate.tier}, {candidate.score}; {candidate.evidence})"
        )


def _held(seen: list[Seen]) -> str:
    return shown(seen[0].value) if seen else ""


@app.command("import")
def import_links(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV with the columns crm_id and ion_id.")
    ],
    is_meant: Annotated[
        bool, typer.Option("--apply", help="Make the links; without it they are only shown.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Links from a CSV file, such as `export` writes. Shows what it would do; `--apply` does it.

    Ends with 3 where lines can't be applied; the others are.
    """
    from syncd.admin.link_file import read_links
    from syncd.engine.desk import KNOWN_LINK, NEW_LINK, ImportLine

    with file.open(newline="", encoding="utf-8-sig") as text:
        lines = read_links(text, str(file))
    found = with_desk(context, lambda desk: desk.import_links(lines, person(), is_meant=is_meant))
    counts = Counter(line.what for line in found)
    if as_json:
        print_json({"applied": is_meant, "lines": [line._asdict() for line in found]})
    else:
        told = [line for line in found if line.what not in (NEW_LINK, KNOWN_LINK)]
        print_table(ImportLine._fields, told, "")
        typer.echo(", ".join(f"{count} {what}" for what, count in counts.most_common()) or "The file is empty.")
        if counts[NEW_LINK] and not is_meant:
            typer.echo("Nothing was changed: `--apply` makes the new links.")
    if counts.keys() - {NEW_LINK, KNOWN_LINK}:
        raise typer.Exit(HELD)


@app.command("export")
def export(context: typer.Context) -> None:
    """All links as CSV on standard output."""
    from syncd.core.instants import when

    async def write(desk: Desk) -> None:
        out = csv.writer(sys.stdout)
        out.writerow(("crm_id", "ion_id", "state", "how", "since"))
        after = ""
        while page := await desk.links(None, after, 1_000):
            out.writerows((link.crm_id, link.ion_id, link.state, link.how, when(link.since)) for link in page)
            after = page[-1].crm_id

    with_desk(context, write)


def _link_state(state: State | None) -> LinkState | None:
    from syncd.core.link import LinkState

    return None if state is None else LinkState(state.value)
