"""``sim``: a world to try syncd in, without an account."""

from __future__ import annotations

from typing import Annotated

import typer

from syncd.cli.output import AsJson, DialectName, print_json, progress

app = typer.Typer(
    help="A simulated ION and a simulated CRM, as servers; and a whole world in one process.", no_args_is_help=True
)

Port = Annotated[int, typer.Option(help="Where to listen on 127.0.0.1; 0 takes a free one.")]
Seed = Annotated[int, typer.Option(help="Same seed, same customers and same accidents.")]
Customers = Annotated[int, typer.Option(help="How many customers there are at the start.")]


@app.command("ion")
def ion(
    port: Port = 8091,
    dialect: Annotated[DialectName, typer.Option(help="Which ION to be.")] = DialectName.LIVE,
    customers: Customers = 20,
    calls_per_minute: Annotated[int, typer.Option(help="More than this in 60 s answers 429.")] = 30,
    account: Annotated[str, typer.Option(help="The reseller account id.")] = "20481",
    refresh_token: Annotated[str, typer.Option(help="The first refresh token it accepts.")] = "initial-refresh-token",
    seed: Seed = 1,
    max_page_size: Annotated[int, typer.Option(help="Larger pages are refused.")] = 1000,
    products: Annotated[int, typer.Option(help="How many products there are beside a few real ones.")] = 0,
) -> None:
    """Serve ION's API with OAuth, customers, products, orders, subscriptions, carts and reports.

    Below /_sim there is a control plane: edit as an ION user would, plan faults, read the journal.
    """
    import asyncio

    from syncd.sim.ion import IonOptions, serve_ion

    options = IonOptions(
        dialect=dialect.value,
        customers=customers,
        calls_per_minute=calls_per_minute,
        account=account,
        refresh_token=refresh_token,
        seed=seed,
        max_page_size=max_page_size,
        products=products,
    )
    asyncio.run(serve_ion(options, port))


@app.command("crm")
def crm(
    port: Port = 8092,
    customers: Customers = 0,
    seed: Seed = 1,
    bootstrap_servers: Annotated[
        str | None, typer.Option(envvar="SYNCD_KAFKA__BOOTSTRAP_SERVERS", help="The brokers to speak to.")
    ] = None,
    events_topic: Annotated[str, typer.Option(envvar="SYNCD_KAFKA__EVENTS_TOPIC")] = "crm.customers",
    commands_topic: Annotated[str, typer.Option(envvar="SYNCD_KAFKA__COMMANDS_TOPIC")] = "syncd.crm.commands",
) -> None:
    """Play a CRM: apply commands from Kafka or over REST, and answer with change events.

    Without brokers it serves its REST API alone. Below /_sim edit as a CRM user would.
    """
    import asyncio

    from syncd.sim.crm import CrmOptions, serve_crm

    options = CrmOptions(customers, seed, bootstrap_servers, events_topic, commands_topic)
    asyncio.run(serve_crm(options, port))


@app.command("world")
def world(
    seed: Annotated[int | None, typer.Option(help="The first seed; a fresh one by default.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="How many seeds, one after the other.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="How many things happen in each run.")] = 500,
    dialect: Annotated[DialectName | None, typer.Option(help="One dialect only; both by default.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="How many daemons; by default one to three.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many runs side by side.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run the real daemon through accidents on virtual time, and check that every promise holds.

    Kafka repeats and rebalances, ION times out, lies and refuses, processes are killed between any
    two steps. The same seed gives the same run. A failure is one line, with the command to see it
    again; the exit code is then 1.
    """
    from syncd.sim.campaign import Campaign, fresh_seed, replay_command
    from syncd.simulation import play

    first = fresh_seed() if seed is None else seed
    dialects = [dialect.value] if dialect else [name.value for name in DialectName]
    campaign = Campaign(range(first, first + runs), dialects, steps, replicas)
    with progress("runs") as step:
        report = campaign.play(play, jobs, step)
    if as_json:
        print_json(report.as_json())
    else:
        for outcome in report.failed:
            typer.echo(f"FAILED {outcome.failures[0]}  see it again: {replay_command(outcome)}")
            if len(campaign.runs) == 1:
                typer.echo("\n".join(outcome.story))
        typer.echo(
            f"{len(campaign.runs)} runs from seed {first}, {report.steps} steps in {report.seconds:.1f} s"
            f" ({report.steps / report.seconds:.0f} a second), {len(report.failed)} failed"
        )
        typer.echo(", ".join(f"{count} {what}" for what, count in report.happened.most_common()))
    if report.failed:
        raise typer.Exit(1)
