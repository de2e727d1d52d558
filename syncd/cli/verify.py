"""``verify`` and ``erase``: proof that both sides are equal, and what is kept of whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.output import AsJson, person, print_json, print_table, progress, settings_of, shown, with_desk
from syncd.cli.replay import Source

if TYPE_CHECKING:
    from syncd.core.verify import Difference
    from syncd.engine.verify import Verdict
    from syncd.settings import Settings

DIFFER = 4
"""Exit code: the two sides differ."""


def verify(
    context: typer.Context,
    is_quick: Annotated[
        bool, typer.Option("--stored", help="Take the CRM's side as stored, not from the events topic anew.")
    ] = False,
    is_log: Annotated[bool, typer.Option("--log", help="Check the log of decisions instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Are both sides equal? Compared by code of its own: a fresh listing of ION, and the CRM's events anew.

    Within the shared budget; writes to neither side. Who differs for no known reason is looked at a
    second time, after the next sweep. Ends with 4 where the two sides differ.
    """
    import asyncio

    settings = settings_of(context)
    if is_log:
        _check_log(context, as_json=as_json)
        return
    found = asyncio.run(_verify(settings, is_quick=is_quick))
    told = [_difference_json(difference) for difference in found.differences]
    if as_json:
        counts = {"customers": found.customers, "equal": found.equal, "standing_still": found.standing_still}
        print_json({**counts, "unseen": [link.crm_id for link in found.unseen], "differences": told})
    else:
        rows = [(d["crm_id"], d["field"], shown(d["crm"]), shown(d["ion"]), d["standing"], d["why"]) for d in told]
        print_table(("customer", "field", "CRM", "ION", "is", "because"), rows, "")
        typer.echo(f"{found.equal} of {found.customers} linked customers are equal on both sides.")
        for link in found.unseen:
            typer.echo(f"{link.crm_id} is linked to {link.ion_id}, which ION does not list.")
        if found.standing_still:
            typer.echo(f"{found.standing_still} more links stand still: a side is gone, or not known yet.")
    if not found.is_equal:
        raise typer.Exit(DIFFER)


def _difference_json(difference: Difference) -> dict[str, Any]:
    from syncd.core.values import value_to_json

    return {
        "crm_id": difference.crm_id,
        "ion_id": difference.ion_id,
        "field": difference.field.value,
        "crm": value_to_json(difference.crm),
        "ion": value_to_json(difference.ion),
        "standing": difference.standing.value,
        "why": difference.why,
    }


async def _verify(settings: Settings, *, is_quick: bool) -> Verdict:
    from syncd.app import desk_of, ingest_of, open_ion, store_clock
    from syncd.core.verify import Latest
    from syncd.engine.verify import Verifier
    from syncd.opening import open_store

    async with open_store(settings, migrate=False) as store, open_ion(settings, store) as ion:
        policy = await (await desk_of(settings, store)).policy()
        latest = None
        if not is_quick and settings.kafka.bootstrap_servers is not None:
            ingest, source, latest = await ingest_of(settings, store), Source(settings), Latest()
            with progress("events") as step:
                async for batch in source.read(await source.spans()):
                    latest.take(ingest.observations(batch.events))
                    step(batch.read, batch.total)
        verifier = Verifier(store, ion, await store_clock(store), int(settings.poll.interval_seconds * 1000))
        return await verifier.verify(policy, latest)


def _check_log(context: typer.Context, *, as_json: bool) -> None:
    found = with_desk(context, lambda desk: desk.check_log())
    if as_json:
        print_json(found._asdict())
    else:
        typer.echo(f"{found.entries} entries, {found.erased} of them erased.")
        if found.unmarked:
            typer.echo(f"{found.unmarked} carry no mark: an older version wrote them, or somebody took it away.")
        for number in found.wrong:
            typer.echo(f"Entry {number} is not as it was written.")
    if found.wrong:
        raise typer.Exit(1)


def erase(
    context: typer.Context,
    customer: Annotated[str, typer.Argument(help="A CRM id, or an ION id as `ion:ID`.")],
    is_sure: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Erase what is kept of a customer's past: old values, what was put aside, written and answered.

    The log keeps its entries without their detail, and `syncd verify --log` can still check it. What a
    side still holds comes back with its next event or sweep: erase it there first.
    """
    if not is_sure:
        typer.confirm("This can't be taken back: `explain` and `undo` will know nothing of it. Erase?", abort=True)
    gone = with_desk(context, lambda desk: desk.erase(customer, person()))
    typer.echo(
        f"Erased of {customer}: the detail of {gone.entries} entries of the log, {gone.conflicts} values put aside,"
        f" {gone.dead_letters} dead letters."
    )
