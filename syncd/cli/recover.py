"""``rebuild``: after the database was lost."""

from __future__ import annotations

from dataclasses import asdict
from random import Random
from typing import TYPE_CHECKING

import typer

from syncd.cli.output import AsJson, print_json, progress, settings_of

if TYPE_CHECKING:
    from syncd.engine.rebuild import Rebuilt
    from syncd.settings import Settings


def rebuild(context: typer.Context, as_json: AsJson = False) -> None:
    """Put a lost database together again, from the links topic, the events topic and one listing of ION.

    Nothing is created or written on either side. Start it on an empty database, with the SECRET_KEY
    of the lost one, while no daemon runs; paste a refresh token first if none is configured.
    """
    import asyncio

    from syncd.settings import require_for_run

    settings = settings_of(context)
    require_for_run(settings)
    found = asyncio.run(_rebuild(settings))
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(
        f"{found.links} links are back, {found.events} events were read, ION listed {found.ion_customers} customers."
    )
    for place in found.unusable:
        typer.echo(f"The record at {place} is no link record; it was passed over.")
    if found.without_event:
        typer.echo(
            f"{found.without_event} linked customers wait for their next event: the topic knows none of theirs."
        )
    if found.lost:
        typer.echo(f"{found.lost} agreed values are held by nobody any more: the later edit will win there.")
    typer.echo("`syncd run` may be started now.")


async def _rebuild(settings: Settings) -> Rebuilt:
    from syncd.app import ingest_of, kafka_access, only_daemon, open_ion, store_clock
    from syncd.core.errors import UserError
    from syncd.core.listing import SweepOutcome
    from syncd.crm.kafka import read_spans, spans_of
    from syncd.daemon import make_facts, make_gate
    from syncd.engine import rebuild
    from syncd.engine.crowd import Crowds
    from syncd.engine.sweep import Sweeper
    from syncd.metrics import Metrics
    from syncd.opening import open_store

    rebuilt, remembered = rebuild.Rebuilt(), dict[str, rebuild.Remembered]()
    kafka, access = settings.kafka, kafka_access(settings)
    async with only_daemon(settings.sqlite_file), open_store(settings) as store:
        clock = await store_clock(store)
        await rebuild.begin(store)
        with progress("links") as step:
            async for batch in read_spans(access, kafka.links_topic, await spans_of(access, kafka.links_topic)):
                rebuild.take_links(remembered, batch.events, rebuilt)
                step(batch.read, batch.total)
        ingest = await ingest_of(settings, store)
        with progress("events") as step:
            spans = await spans_of(access, kafka.events_topic)
            ends = {number: span.stop for number, span in spans.items()}
            async for batch in read_spans(access, kafka.events_topic, spans):
                await ingest.ingest(kafka.events_topic, batch.events, ends)
                rebuilt.events += len(batch.events)
                step(batch.read, batch.total)
        async with open_ion(settings, store) as ion:
            facts, gate = make_facts(settings, Random()), make_gate(settings, store, clock)
            sweeper = Sweeper(store, ion, clock, facts, Metrics(), Crowds(store, gate, clock, facts))
            sweep = await sweeper.sweep()
        if sweep.outcome is not SweepOutcome.COMPLETE:
            raise UserError(f"the listing of ION was {sweep.outcome}: run `syncd rebuild` again")
        rebuilt.ion_customers = sweep.customers
        with progress("bases") as step:
            await rebuild.restore(store, remembered, store.fingerprints, rebuilt, step)
        await rebuild.end(store)
    return rebuilt
