"""``links``: the mapping table between CRM ids and ION ids."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import HELD, AsJson, Limit, person, print_json, print_table, shown, when, with_store

if TYPE_CHECKING:
    from syncd.core.link import Link, LinkState
    from syncd.core.match import Candidate
    from syncd.core.record import Record
    from syncd.core.work import Hold
    from syncd.engine.review import Review
    from syncd.settings import Settings
    from syncd.store.sql import SqlStore

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
    found = with_store(context, lambda store, _: _read(store, state, after, limit))
    if as_json:
        print_json([link_json(link) for link in found])
        return
    rows = [(link.crm_id, link.ion_id, link.state, link.how, when(link.since)) for link in found]
    print_table(("CRM id", "ION id", "state", "how", "since"), rows, "No links.")
    if len(found) == limit:
        typer.echo(f"More: syncd links list --after {found[-1].crm_id}")


@app.command("show")
def show_link(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    as_json: AsJson = False,
) -> None:
    """One customer: both sides' values, what was agreed on, what it waits for."""
    found = with_store(context, lambda store, _: _customer(store, customer))
    if as_json:
        print_json(found)
        return
    for name in ("crm_id", "ion_id", "state", "how", "waits_for"):
        if found[name]:
            typer.echo(f"{name.replace('_', ' ')}: {found[name]}")
    rows = [(name, *(shown_json(part) for part in parts.values())) for name, parts in found["fields"].items()]
    print_table(("field", "CRM", "ION", "agreed"), rows, "Nothing is known of either side yet.")
    for candidate in found["candidates"]:
        typer.echo("may be {crm_id} = {ion_id} ({tier}, {score}; {evidence})".format(**candidate))


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
    lines = _read_csv(file)
    found = with_store(context, lambda store, settings: _import(store, settings, lines, is_meant))
    counts = Counter(what for _, _, _, what in found)
    if as_json:
        print_json({"applied": is_meant, "lines": [dict(zip(IMPORTED, row, strict=True)) for row in found]})
    else:
        told = [row for row in found if row[3] not in (NEW_LINK, KNOWN_LINK)]
        print_table(IMPORTED, told, "")
        typer.echo(", ".join(f"{count} {what}" for what, count in counts.most_common()) or "The file is empty.")
        if counts[NEW_LINK] and not is_meant:
            typer.echo("Nothing was changed: `--apply` makes the new links.")
    if counts.keys() - {NEW_LINK, KNOWN_LINK}:
        raise typer.Exit(HELD)


@app.command("export")
def export(context: typer.Context) -> None:
    """All links as CSV on standard output."""

    async def write(store: SqlStore, _: Settings) -> None:
        out = csv.writer(sys.stdout)
        out.writerow(("crm_id", "ion_id", "state", "how", "since"))
        after = ""
        while page := await _read(store, None, after, 1_000):
            out.writerows((link.crm_id, link.ion_id, link.state, link.how, when(link.since)) for link in page)
            after = page[-1].crm_id

    with_store(context, write)


async def _read(store: SqlStore, state: State | None, after: str, limit: int) -> list[Link]:
    async with store.begin() as unit:
        return await unit.list_links(_link_state(state), after, limit)


def _link_state(state: State | None) -> LinkState | None:
    from syncd.core.link import LinkState

    return None if state is None else LinkState(state.value)


def link_json(link: Link) -> dict[str, Any]:
    return {
        "crm_id": link.crm_id,
        "ion_id": link.ion_id,
        "state": link.state.value,
        "how": link.how.value,
        "since": when(link.since),
    }


async def _customer(store: SqlStore, customer: str) -> dict[str, Any]:
    from syncd.core.values import value_to_json
    from syncd.engine.pair import find_pair

    async with store.begin() as unit:
        pair = await find_pair(unit, customer)
        holds = await unit.holds_of(pair.subject)
        candidates = await unit.candidates(pair.subject)
    link = pair.link
    names = [*_fields(pair.crm), *(name for name in _fields(pair.ion) if name not in _fields(pair.crm))]
    return {
        "crm_id": pair.crm_id,
        "ion_id": pair.ion_id,
        "state": link.state.value if link else "unlinked",
        "how": link.how.value if link else None,
        "waits_for": "; ".join(_said(hold) for hold in holds) or None,
        "fields": {
            name: {
                "crm": value_to_json(pair.crm.value(name)) if pair.crm else None,
                "ion": value_to_json(pair.ion.value(name)) if pair.ion else None,
                "agreed": value_to_json(link.base.get(name)) if link else None,
            }
            for name in names
        },
        "candidates": [candidate_json(candidate) for candidate in candidates],
    }


def _said(hold: Hold) -> str:
    return f"{hold.kind}: {hold.reason} {' '.join(hold.fields)}".strip()


def _fields(record: Record | None) -> list[Any]:
    return [] if record is None else list(record.values())


def shown_json(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(str(part) for part in value.values() if part)
    return shown(value)


IMPORTED = ("line", "crm_id", "ion_id", "what")
NEW_LINK, KNOWN_LINK = "new", "known already"


def _read_csv(file: Path) -> list[tuple[int, str, str]]:
    from syncd.core.errors import UserError

    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            if not {"crm_id", "ion_id"} <= set(reader.fieldnames or ()):
                raise UserError(f"{file} needs a first line with the columns crm_id and ion_id")
            return [(reader.line_num, (row["crm_id"] or "").strip(), (row["ion_id"] or "").strip()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} can't be read as CSV in UTF-8: {error}") from None


async def _import(
    store: SqlStore, settings: Settings, lines: list[tuple[int, str, str]], is_meant: bool
) -> list[tuple[int, str, str, str]]:
    from syncd.core.values import Side

    told, review = list[tuple[int, str, str, str]](), review_of(store, settings)
    by_crm, by_ion = dict[str, str](), dict[str, str]()
    """What the lines before have linked."""
    for number, crm_id, ion_id in lines:
        async with store.begin() as unit:
            mine = (await unit.links(Side.CRM, [crm_id])).get(crm_id)
            theirs = (await unit.links(Side.ION, [ion_id])).get(ion_id)
            its_ion = mine.ion_id if mine else by_crm.get(crm_id)
            its_crm = theirs.crm_id if theirs else by_ion.get(ion_id)
            if not crm_id or not ion_id:
                what = "an id is missing"
            elif its_ion == ion_id:
                what = KNOWN_LINK
            elif its_ion is not None:
                what = f"{crm_id} is linked to {its_ion}"
            elif its_crm is not None:
                what = f"{ion_id} is linked to {its_crm}"
            else:
                what = NEW_LINK
                by_crm[crm_id], by_ion[ion_id] = ion_id, crm_id
                if is_meant:
                    await review.link(unit, crm_id, ion_id, person(), await unit.time())
        told.append((number, crm_id, ion_id, what))
    return told


def review_of(store: SqlStore, settings: Settings) -> Review:
    from syncd.daemon import make_review

    return make_review(settings, store.fingerprint)


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "crm_id": candidate.crm_id,
        "ion_id": candidate.ion_id,
        "tier": candidate.tier.value,
        "score": candidate.score,
        "evidence": ", ".join(candidate.evidence),
    }
